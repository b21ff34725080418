//! The demo, as it is run.

use std::process::Command;

#[test]
fn the_logbook_is_right_in_the_end() {
    let output = Command::new(env!("CARGO_BIN_EXE_demo")).output().expect("the demo starts");
    assert!(output.status.success(), "{output:?}");
}
