//! Fuzzers of what takes bytes from anywhere. What they try is in `framework/src/schemas/fuzzing.rs`.

use onceward::__private::fuzzing::Target;
use std::sync::Once;

/// Runs it, and panics where it takes more memory than it may.
pub fn check(target: Target, bytes: &[u8]) {
    // libFuzzer's hook ends the process at panics that are caught, too; that of std takes memory for
    // what was called.
    static HOOK: Once = Once::new();
    HOOK.call_once(|| std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))));
    let memory = allocation_counter::measure(|| (target.run)(bytes)).bytes_max;
    let most = target.most_memory(bytes);
    assert!(memory <= most, "it takes {memory} bytes of memory, more than {most}");
}
