//! Rounds, medians and tables.

use std::time::{Duration, Instant};

/// What one run of a contender took.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// Records.
    pub records: u64,
    /// From the first assignment to the last record.
    pub time: Duration,
    /// CPU of the whole process in that time.
    pub cpu: Duration,
}

impl Took {
    /// Records a second.
    pub fn rate(&self) -> f64 {
        self.records as f64 / self.time.as_secs_f64()
    }

    /// CPU nanoseconds a record.
    pub fn cpu_ns(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.records as f64
    }
}

/// A moment, on the clock and in CPU time of this process.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    clock: Instant,
    cpu: Duration,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        // SAFETY: a zeroed rusage is valid, and getrusage fills it.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_SELF, &mut usage);
            usage
        };
        let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
        Self { clock: Instant::now(), cpu: time(usage.ru_utime) + time(usage.ru_stime) }
    }

    /// What so many records took since.
    pub fn took(self, records: u64) -> Took {
        let now = Self::now();
        Took { records, time: now.clock - self.clock, cpu: now.cpu - self.cpu }
    }
}

/// A contender of a case: its name, and how to run it once.
pub type Contender<'c> = (&'static str, Box<dyn FnMut() -> Took + 'c>);

/// Runs all contenders in turn, `rounds` times, with the order rotated, and prints a
/// table whose ratios are taken round by round against the first one.
pub fn compare(case: &str, rounds: usize, mut contenders: Vec<Contender<'_>>) -> String {
    if let Ok(only) = std::env::var("ONLY") {
        contenders.retain(|(name, _)| name.contains(&only));
    }
    let mut all: Vec<Vec<Took>> = vec![Vec::new(); contenders.len()];
    for (_, run) in &mut contenders {
        run(); // Warm-up.
    }
    for round in 0..rounds {
        for place in 0..contenders.len() {
            let index = (place + round) % contenders.len();
            let took = contenders[index].1();
            eprintln!(
                "  {case} round {round} {}: {:.0} records/s, {:.0} ns CPU",
                contenders[index].0,
                took.rate(),
                took.cpu_ns()
            );
            all[index].push(took);
        }
    }
    let mut table = format!(
        "\n### {case} ({rounds} rounds)\n\n| contender | records/s | CPU ns a record | records/s, ratio to `{first}` | CPU, ratio to `{first}` |\n|---|---|---|---|---|\n",
        first = contenders[0].0
    );
    let mut json = Vec::new();
    for (index, (name, _)) in contenders.iter().enumerate() {
        let of = |value: fn(&Took) -> f64| spread(all[index].iter().map(value).collect());
        let ratio = |value: fn(&Took) -> f64| {
            spread(all[index].iter().zip(&all[0]).map(|(took, first)| value(took) / value(first)).collect())
        };
        let (rate, cpu) = (of(Took::rate), of(Took::cpu_ns));
        let (rate_ratio, cpu_ratio) = (ratio(Took::rate), ratio(Took::cpu_ns));
        table += &format!(
            "| {name} | {:.0} [{:.0}..{:.0}] | {:.0} [{:.0}..{:.0}] | {:.2} [{:.2}..{:.2}] | {:.2} [{:.2}..{:.2}] |\n",
            rate.0,
            rate.1,
            rate.2,
            cpu.0,
            cpu.1,
            cpu.2,
            rate_ratio.0,
            rate_ratio.1,
            rate_ratio.2,
            cpu_ratio.0,
            cpu_ratio.1,
            cpu_ratio.2,
        );
        json.push(format!(
            "{{\"case\":\"{case}\",\"contender\":\"{name}\",\"records_per_s\":{:.0},\"spread\":[{:.0},{:.0}],\"cpu_ns_per_record\":{:.1},\"ratio_to_first\":{:.3}}}",
            rate.0, rate.1, rate.2, cpu.0, rate_ratio.0
        ));
    }
    println!("{table}");
    json.join(",\n")
}

/// Median, least, most.
pub fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}
