# shellcheck shell=bash disable=SC2034
# Sourced by install and ctl: where things are.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# A test that runs in a copy of the tree (cargo mutants makes one) still means the stack that is up.
dir=${ONCEWARD_STACK:-${STACK_DIR:-$(dirname "$here")/target/stack}}

say() { printf 'stack: %s\n' "$*"; }

die() {
  printf 'stack: %s\n' "$*" >&2
  exit 1
}

# Kafka 4 needs Java 17. The release file tells the version without the cost of starting a JVM.
java_bin() {
  local java home version
  for java in ${JAVA_HOME:+"$JAVA_HOME/bin/java"} "$(command -v java)" /usr/lib/jvm/*/bin/java; do
    [[ -x $java ]] || continue
    home=$(dirname "$(dirname "$(readlink -f "$java")")")
    version=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$home/release" 2>/dev/null)
    if ((${version:-0} >= 17)); then
      echo "$java"
      return
    fi
  done
  return 1
}

# Debian keeps the server's programs off the PATH, in one folder a version; the newest is taken.
postgres_bin() {
  local bin
  for bin in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV) "$(dirname "$(command -v initdb)")"; do
    if [[ -x $bin/initdb && -x $bin/pg_ctl && -x $bin/createdb && -x $bin/pg_isready ]]; then
      echo "$bin"
      return
    fi
  done
  return 1
}
