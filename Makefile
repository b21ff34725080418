SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test faults check stack-up stack-down mutants fuzz bench bench-smoke structure fmt

# Those that change our own code; the others only pass on to librdkafka.
FEATURES = json macros postgres postgres-tls avro protobuf json-schema schemas-tls otel otlp testing faults

# The files that the promises rest on.
CORE = framework/src/worker/offsets.rs 'framework/src/consumer/commit*.rs' framework/src/consumer/assignment.rs 'framework/src/consumer/assignment/*.rs' \
       'framework/src/dedupe/*.rs'

# What takes bytes from anywhere: the programs in fuzz/fuzz_targets.
FUZZ_TARGETS = wire avro_datum avro_schema avro_resolution protobuf_datum json_datum
FUZZ_SECONDS = 600

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13

demo: ## see it work, with an embedded Kafka; needs a compiler only
	@stack/install --demo
	cargo run --quiet -p demo

test: ## all tests, against real servers that it installs, starts and stops
	@stack/install
# Tests run the examples' programs. With the same features as the tests, librdkafka is built only once.
	cargo build --workspace --bins
	cargo test --workspace --no-run
	STACK_REQUIRED=1 stack/ctl run cargo test --workspace --no-fail-fast

check: ## format, lints, docs, each feature alone, licences
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps
	cargo check -p onceward --no-default-features
	for feature in $(FEATURES); do cargo check -p onceward --no-default-features --features "$$feature"; done
	@if command -v cargo-deny >/dev/null; then cargo deny check; \
	else echo "Left out: cargo deny check. To have it: cargo install --locked cargo-deny"; fi
# Hints for the guides; without files it lists those of the code's doc comments too.
	@stack/words $$(git ls-files '*.md')

stack-up: ## start Kafka, PostgreSQL and a schema registry, and leave them running
	@stack/install
	@stack/ctl up
	@echo "Now: source target/stack/env"

stack-down: ## stop them
	@stack/ctl down

mutants: ## break the core on purpose and see that a test notices
	@stack/install
	@command -v cargo-mutants >/dev/null || cargo install --locked cargo-mutants
	STACK_REQUIRED=1 stack/ctl run cargo mutants --test-package onceward --test-package onceward-tests $(addprefix --file ,$(CORE))

# cargo-fuzz needs flags that are not stable. The stack is that of tokio's threads; what is new is kept
# beside the corpus, until `cargo fuzz cmin` takes it in.
fuzz: ## try odd bytes for FUZZ_SECONDS=600 each; TARGET=wire picks one
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	for target in $(or $(TARGET),$(FUZZ_TARGETS)); do \
		mkdir -p "fuzz/target/found/$$target"; \
		(ulimit -s 2048; RUSTC_BOOTSTRAP=1 cargo fuzz run "$$target" "fuzz/target/found/$$target" "fuzz/corpus/$$target" -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=256) || exit 1; \
	done

faults: ## the fault matrix; FAULTS_RUNS=50 for more runs than 30, FAULTS_SEED=7 for one again
	@stack/install
	cargo build --workspace --bins
	cargo test -p onceward-tests --test faults --no-run
	STACK_REQUIRED=1 FAULTS_RUNS=$${FAULTS_RUNS:-$(if $(FAULTS_SEED),1,30)} \
	stack/ctl run cargo test -p onceward-tests --test faults -- --nocapture

bench: ## measure against others; CASES="engine dedupe" for a part, ROUNDS=15 to publish, ALLOCATOR=mimalloc
	@stack/install
# The others bring a librdkafka of their own, which is built by CMake.
	@if command -v cmake >/dev/null; then \
	cargo build --release --manifest-path benches/contenders/Cargo.toml --target-dir target/contenders \
	$(ALLOCATOR:%=--features %); \
	else echo "Left out: ruststream and arroyo. To have them: apt-get install cmake"; fi
	cargo bench -p benches --no-run $(ALLOCATOR:%=--features %)
	stack/ctl run cargo bench -p benches $(ALLOCATOR:%=--features %) -- $(CASES)

bench-smoke: ## see that all of it runs, with few records; part of make test
	@stack/install
	STACK_REQUIRED=1 stack/ctl run cargo test --workspace --bench speed

structure: ## print which folder of framework/src uses which
	@cargo test --quiet --workspace --test structure circle -- --nocapture

fmt: ## format the code
	cargo fmt --all
