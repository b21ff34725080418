//! What `#[handler]` says of misuse, word for word. `TRYBUILD=overwrite` writes
//! what it says now.

#[test]
fn misuse_of_handler_is_explained() {
    let tests = trybuild::TestCases::new();
    tests.compile_fail("tests/ui/*.rs");
    tests.pass("tests/ui/pass/*.rs");
}
