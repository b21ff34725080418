//! One case: contenders that run in turn, and aims.

use crate::{Spread, Took};

/// A contender: its name, and how to run it once.
type Contender<'c> = (String, Box<dyn FnMut() -> Took + 'c>);

/// Contenders that do the same work. The first one is the plain way to do it.
pub struct Case<'c> {
    pub(crate) name: String,
    pub(crate) contenders: Vec<Contender<'c>>,
    pub(crate) aims: Vec<Aim>,
}

/// How a contender shall stand to another one, or to a number.
pub(crate) struct Aim {
    pub(crate) contender: String,
    pub(crate) factor: f64,
    pub(crate) of: Of,
}

pub(crate) enum Of {
    /// Records a second at least, as a factor of another's.
    Rate(String),
    /// CPU a record at most, as a factor of another's.
    Cpu(String),
    /// Records a second at least.
    RecordsPerSecond,
}

impl<'c> Case<'c> {
    /// A case without contenders.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), contenders: Vec::new(), aims: Vec::new() }
    }

    /// Adds one.
    pub fn contender(mut self, name: impl Into<String>, run: impl FnMut() -> Took + 'c) -> Self {
        self.contenders.push((name.into(), Box::new(run)));
        self
    }

    /// Aims at so many times another's records a second.
    pub fn at_least(self, contender: &str, factor: f64, other: &str) -> Self {
        self.aim(contender, factor, Of::Rate(other.to_owned()))
    }

    /// Aims at so many times another's CPU a record, or less.
    pub fn cpu_at_most(self, contender: &str, factor: f64, other: &str) -> Self {
        self.aim(contender, factor, Of::Cpu(other.to_owned()))
    }

    /// Aims at so many records a second.
    pub fn records_per_second(self, contender: &str, rate: f64) -> Self {
        self.aim(contender, rate, Of::RecordsPerSecond)
    }

    fn aim(mut self, contender: &str, factor: f64, of: Of) -> Self {
        self.aims.push(Aim { contender: contender.to_owned(), factor, of });
        self
    }

    /// Runs all contenders in turn, so many rounds, with the order rotated. A warm-up is round 0,
    /// which does not count.
    pub(crate) fn run(&mut self, rounds: usize, warm_up: bool) -> Vec<Vec<Took>> {
        let contenders = &mut self.contenders;
        let mut all = vec![Vec::new(); contenders.len()];
        for round in usize::from(!warm_up)..=rounds {
            for place in 0..contenders.len() {
                let index = (place + round) % contenders.len();
                let (name, run) = &mut contenders[index];
                let took = run();
                let (rate, cpu) = (took.rate(), took.cpu_ns());
                eprintln!("  {}, round {round}, {name}: {rate:.0} records/s, {cpu:.0} ns CPU", self.name);
                if round > 0 {
                    all[index].push(took);
                }
            }
        }
        all
    }

    /// Leaves out those whose name does not have this in it.
    pub(crate) fn retain(&mut self, part: &str) {
        self.contenders.retain(|(name, _)| name.contains(part));
    }

    pub(crate) fn place(&self, contender: &str) -> Option<usize> {
        self.contenders.iter().position(|(name, _)| name == contender)
    }
}

/// A value's ratio to another contender's, round by round.
pub(crate) fn ratio(ours: &[Took], theirs: &[Took], value: fn(&Took) -> f64) -> Spread {
    Spread::of(ours.iter().zip(theirs).map(|(ours, theirs)| value(ours) / value(theirs)))
}
