//! The machine and the versions of a measurement.

use std::process::Command;

/// The machine and the versions, as a table in Markdown. The server says its own version.
pub fn environment(postgres: &str, librdkafka: &str) -> String {
    let git = |words: &[&str]| output("git", words).unwrap_or_default();
    let changed = if git(&["status", "--porcelain"]).is_empty() { "" } else { ", with changes" };
    let rows = [
        ("CPU", field("/proc/cpuinfo", "model name")),
        ("cores", std::thread::available_parallelism().ok().map(|cores| cores.to_string())),
        ("memory", field("/proc/meminfo", "MemTotal")),
        ("kernel", output("uname", &["-sr"])),
        ("Kafka", kafka()),
        ("PostgreSQL", Some(postgres.to_owned())),
        ("librdkafka", Some(librdkafka.to_owned())),
        ("allocator", Some(allocator())),
        ("rustc", output("rustc", &["--version"])),
        ("date", output("date", &["--utc", "+%F"])),
        ("commit", Some(git(&["rev-parse", "--short", "HEAD"]) + changed)),
    ];
    let mut table = String::from("| | |\n|---|---|\n");
    for (name, value) in rows {
        table += &format!("| {name} | {} |\n", value.as_deref().unwrap_or("unknown"));
    }
    table
}

/// Whose `malloc` it is.
fn allocator() -> String {
    let libc = || output("getconf", &["GNU_LIBC_VERSION"]).unwrap_or("the system's".to_owned());
    if cfg!(feature = "mimalloc") { "mimalloc".to_owned() } else { libc() }
}

/// What a file in /proc says behind a name and a colon.
fn field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn output(program: &str, words: &[&str]) -> Option<String> {
    let here = env!("CARGO_MANIFEST_DIR");
    let output = Command::new(program).args(words).current_dir(here).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The broker tells no version; the stack's file names do.
fn kafka() -> Option<String> {
    let libs = std::path::Path::new(&std::env::var_os("STACK_DIR")?).join("kafka/libs");
    let names = std::fs::read_dir(libs).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let version = |name: String| Some(name.strip_prefix("kafka-server-")?.strip_suffix(".jar")?.to_owned());
    names.filter_map(version).find(|version| version.starts_with(|first: char| first.is_ascii_digit()))
}
