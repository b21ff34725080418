//! Processes of their own, to be killed and looked at.

use crate::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::future::ready;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};

/// A process that dies with the test.
#[derive(Debug)]
pub struct Program(Child);

impl Program {
    /// Starts one that runs an ignored test of the program that calls this, with these variables.
    pub fn start(test: &str, variables: &[(&str, &str)]) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        Self::start_in(Command::new(program), test, variables)
    }

    /// The same with no more than so many KiB of memory (`ulimit -v`).
    pub fn start_within(kilobytes: u64, test: &str, variables: &[(&str, &str)]) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new("bash");
        command.args(["-c", &format!("ulimit -v {kilobytes}; exec \"$0\" \"$@\"")]).arg(program);
        Self::start_in(command, test, variables)
    }

    fn start_in(mut command: Command, test: &str, variables: &[(&str, &str)]) -> Self {
        command.args(["--exact", test, "--ignored", "--nocapture"]).envs(variables.iter().copied());
        Self(command.spawn().expect("the program starts"))
    }

    /// Starts a command, and adds what it prints to a file.
    pub fn logged(mut command: Command, log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).expect("a log");
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        Self(command.spawn().expect("the program starts"))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send(signal, self.0.id());
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("it is our child").is_some()
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the program ends", || ready(self.has_ended())).await;
        self.0.wait().expect("it is our child")
    }

    /// Waits until it has ended by itself, without an error.
    pub async fn succeeds(mut self) {
        assert!(self.ended().await.success());
    }

    /// Ends it as an orchestrator does.
    pub async fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended().await
    }

    /// The bytes of memory that are its own, without what it maps from files.
    pub fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux tells");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
    }
}

/// Sends a process a signal. Not by the program `kill`, which a bare Debian does not have.
pub(crate) fn send(signal: Signal, pid: u32) {
    let pid = Pid::from_raw(pid.try_into().expect("a process id"));
    kill(pid, signal).expect("the process is there");
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
