//! What `#[handler]` says of misuse, word for word. `TRYBUILD=overwrite` writes
//! what it says now.

use std::path::Path;

#[test]
fn misuse_of_handler_is_explained() {
    leave_out_c_libraries();
    // With one that has to pass, all dependencies would be compiled a second time, and not only checked.
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

/// Has cargo not build librdkafka and zlib a second time: what is only checked is linked to nothing.
fn leave_out_c_libraries() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    let folder = target.join("tests/trybuild/.cargo");
    // For a library named here, cargo does not run the build script. Elsewhere it does, which only takes longer.
    let hosts = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];
    let libraries = hosts.map(|host| format!("[target.{host}.rdkafka]\n[target.{host}.z]\n"));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("config.toml"), libraries.concat()).expect("a file");
}
