//! What `#[handler]` says of misuse, word for word. `TRYBUILD=overwrite` writes
//! what it says now.

#[test]
fn misuse_of_handler_is_explained() {
    // With one that has to pass, all dependencies would be compiled a second time, and not only checked.
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
