//! A process belongs to whoever wrote its `main`: what signals do to it while an application runs, and after.

use super::*;
use onceward::testing::{TestBroker, TestRecord, run_until};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// What the program of a test does.
const MODE: &str = "TEST_MODE";
const FILE: &str = "TEST_FILE";

/// A file by which the program says how far it is.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique(name))
}

fn start(mode: &str, file: &Path) -> Program {
    Program::start("signals::program_with_signals", &[(MODE, mode), (FILE, file.to_str().unwrap())])
}

async fn is_there(file: &Path) {
    eventually("the program is so far", || std::future::ready(file.exists())).await;
    std::fs::remove_file(file).unwrap();
}

/// Says that it begins with a record, and takes its time.
#[handler(topic = "signals", group = "signals")]
async fn slow(State(begun): State<PathBuf>) -> HandlerResult {
    std::fs::write(begun, "")?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    Ok(())
}

/// Stops at a record of no type.
#[handler(topic = "signals", group = "signals", event = "known")]
async fn strict() {}

#[tokio::test]
#[ignore = "a program that another test starts"]
async fn program_with_signals() {
    let (Ok(mode), Ok(file)) = (std::env::var(MODE), std::env::var(FILE)) else { return };
    let broker = TestBroker::start().unwrap();
    broker.topic("signals", 1).unwrap();
    broker.produce("signals", [TestRecord::new("x")]).await.unwrap();
    let app = broker.app().state(PathBuf::from(&file));
    let caught_up = || broker.caught_up("signals", "signals");
    let own = || signal(SignalKind::terminate()).unwrap();
    match &*mode {
        "drains" => app.handler(slow {}).run().await.unwrap(),
        "leaves signals alone" => app.handler(slow {}).without_signals().run().await.unwrap(),
        "listens before" => {
            let mut own = own();
            run_until(app.handler(slow {}), caught_up()).await.unwrap();
            std::fs::write(&file, "").unwrap();
            own.recv().await;
            std::process::exit(7);
        }
        "listens meanwhile" => {
            let (mut listener, begun) = (None, PathBuf::from(&file));
            let listens = async {
                eventually("a record is in hand", || std::future::ready(begun.exists())).await;
                listener = Some(own());
                caught_up().await
            };
            run_until(app.handler(slow {}), listens).await.unwrap();
            std::fs::write(begun.with_extension("ended"), "").unwrap();
            listener.unwrap().recv().await;
            std::process::exit(7);
        }
        "ends by an error" => {
            app.handler(strict {}).run().await.unwrap_err();
            std::fs::write(&file, "").unwrap();
            std::future::pending::<()>().await;
        }
        mode => panic!("no mode is called {mode}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_comes_twice_at_once_lets_the_work_in_hand_finish() {
    let file = file("drains");
    let mut program = start("drains", &file);
    is_there(&file).await;
    program.signal(Signal::SIGTERM);
    program.signal(Signal::SIGINT);
    assert!(program.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_end_a_signal_is_for_whoever_else_listens() {
    let before = file("before");
    let mut program = start("listens before", &before);
    is_there(&before).await;
    // That was the record's; the end comes after it.
    is_there(&before).await;
    program.signal(Signal::SIGTERM);
    assert_eq!(program.ended().await.code(), Some(7));

    let meanwhile = file("meanwhile");
    let mut program = start("listens meanwhile", &meanwhile);
    is_there(&meanwhile.with_extension("ended")).await;
    program.signal(Signal::SIGTERM);
    assert_eq!(program.ended().await.code(), Some(7));
    std::fs::remove_file(meanwhile).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_end_by_an_error_ctrl_c_ends_the_process_again() {
    let file = file("error");
    let mut program = start("ends by an error", &file);
    is_there(&file).await;
    program.signal(Signal::SIGINT);
    assert_eq!(program.ended().await.signal(), Some(Signal::SIGINT as i32));
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_are_left_alone_do_what_they_always_do() {
    let file = file("alone");
    let mut program = start("leaves signals alone", &file);
    is_there(&file).await;
    program.signal(Signal::SIGTERM);
    assert_eq!(program.ended().await.signal(), Some(Signal::SIGTERM as i32));
}
