//! `cargo xtask bench`: the project's figures, each beside QEMU's from the same run.
//!
//! Runs of the two programs take turns, so that what the machine does beside them strikes both. Printed is the median
//! of the runs with the least and the greatest, the ratio of the medians, and whether the aim is met. An aim is relative
//! wherever it can be: an absolute time says more about the machine than about the program.

mod fanout;
mod figures;
mod forks;
mod life;
mod migration;
mod monitor;
mod qmp;
mod snapshot;
mod vm;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use self::figures::quantile;
use self::vm::Peer;
use crate::guest::{self, Fetched};
use crate::host;

/// What the measurements share.
pub struct Bench {
    /// Where sockets are made.
    folder: PathBuf,
    /// Cores that this process may use.
    cores: usize,
}

impl Bench {
    /// Busy harts that leave one core free, when there is more than one.
    fn spare(&self) -> usize {
        self.cores.saturating_sub(1).max(1)
    }
}

/// One measured value.
pub struct Value {
    name: String,
    value: f64,
    unit: &'static str,
}

impl Value {
    fn new(name: &str, value: f64, unit: &'static str) -> Value {
        Value { name: name.to_owned(), value, unit }
    }
}

/// A measurement: a machine is started, values come out.
type Measure = fn(&Bench, &Peer) -> Result<Vec<Value>>;

/// Name, measurement, and whether it needs the Debian guest.
const MEASURES: [(&str, Measure, bool); 22] = [
    ("boot", figures::boot, true),
    ("cpu", figures::cpu, true),
    ("greeting", life::greeting, false),
    ("connect", monitor::connect, false),
    ("query", monitor::query, false),
    ("pipeline", monitor::pipeline, false),
    ("unknown", monitor::unknown, false),
    ("schema", monitor::schema, false),
    ("stop", life::stop, false),
    ("resting", life::resting, false),
    ("weighted", life::weighted, false),
    ("crowded", life::crowded, false),
    ("events", fanout::events, false),
    ("busy-events", fanout::busy_events, false),
    ("reset", life::reset, false),
    ("quit", life::quit, false),
    ("idle", life::idle, false),
    ("migrate-zero-1g", migration::zero_1g, false),
    ("migrate-zero-4g", migration::zero_4g, false),
    ("migrate-busy", migration::working_set, false),
    ("snapshot", snapshot::save_and_restore, false),
    ("forks", forks::forks, false),
];

/// What a value should be.
enum Aim {
    /// At most so many times QEMU's.
    TimesAtMost(f64),
    /// At least so many times QEMU's.
    TimesAtLeast(f64),
    /// Less than QEMU's.
    Below,
    /// More than QEMU's.
    Above,
    /// At most so much.
    Limit(f64),
}

/// The aims.
const AIMS: [(&str, Aim); 54] = [
    ("boot CPU time", Aim::TimesAtMost(3.0)),
    ("MIPS geometric mean", Aim::TimesAtLeast(1.0 / 6.0)),
    ("start to greeting", Aim::Limit(5.0)),
    ("start to greeting", Aim::TimesAtMost(1.0 / 3.0)),
    ("start to first reply", Aim::TimesAtMost(1.0 / 3.0)),
    ("connect to greeting p50", Aim::Below),
    ("connect to greeting p99", Aim::Below),
    ("connect to negotiated p50", Aim::Below),
    ("connect to negotiated p99", Aim::Below),
    ("query-status p50", Aim::TimesAtMost(1.0 / 3.0)),
    ("query-status p99", Aim::Below),
    ("synchronous commands", Aim::Above),
    ("pipelined by 1000", Aim::TimesAtLeast(5.0)),
    ("unknown commands", Aim::Above),
    ("query-qmp-schema p50", Aim::Below),
    ("stop p50", Aim::Below),
    ("stop p99", Aim::TimesAtMost(1.0 / 3.0)),
    ("stop to event p50", Aim::Below),
    ("stop to event p99", Aim::TimesAtMost(1.0 / 3.0)),
    ("cont p50", Aim::Below),
    ("cont p99", Aim::TimesAtMost(1.0 / 3.0)),
    ("cont to event p50", Aim::Below),
    ("cont to event p99", Aim::TimesAtMost(1.0 / 3.0)),
    ("resting stop p50", Aim::Below),
    ("resting stop p99", Aim::Below),
    ("resting stop to event p50", Aim::Below),
    ("resting stop to event p99", Aim::Below),
    ("resting cont p50", Aim::Below),
    ("resting cont p99", Aim::Below),
    ("resting cont to event p50", Aim::Below),
    ("resting cont to event p99", Aim::Below),
    ("crowded stop p99", Aim::TimesAtMost(1.0 / 3.0)),
    ("crowded cont p99", Aim::TimesAtMost(1.0 / 3.0)),
    ("events of request p50", Aim::Below),
    ("events of request p99", Aim::Limit(1000.0)),
    ("events of request p99", Aim::Below),
    ("events after first p99", Aim::Limit(1000.0)),
    ("busy events of request p50", Aim::Below),
    ("busy events of request p99", Aim::Limit(1000.0)),
    ("busy events of request p99", Aim::Below),
    ("busy events after first p99", Aim::Limit(1000.0)),
    ("system_reset p50", Aim::Below),
    ("system_reset p99", Aim::Below),
    ("quit to process gone", Aim::Below),
    ("idle resident memory", Aim::Below),
    ("idle anonymous memory", Aim::Limit(8.0)),
    ("idle anonymous memory", Aim::Below),
    ("idle CPU per second", Aim::Limit(0.5)),
    ("migrate 1G of zeros", Aim::TimesAtMost(1.0)),
    ("migrate 4G of zeros", Aim::TimesAtMost(1.0)),
    ("migration rate", Aim::TimesAtLeast(2.0)),
    ("downtime", Aim::TimesAtMost(0.5)),
    ("stopped for a snapshot", Aim::Limit(5.0)),
    ("restore to first output", Aim::Limit(10.0)),
];

/// All values of one name: a list of runs for each peer.
struct Series {
    name: String,
    unit: &'static str,
    runs: Vec<Vec<f64>>,
}

/// Measures what is asked for (all, when nothing is named) and prints the figures.
pub fn all(words: &[&str]) -> Result<()> {
    let (runs, names) = options(words)?;
    let mut peers = vec![Peer { name: "dormouse", program: host::build_dormouse()? }];
    match host::find("qemu-system-riscv64") {
        Some(program) => peers.push(Peer { name: "QEMU", program }),
        None => println!("qemu-system-riscv64 is not installed: no comparison"),
    }
    let bench = Bench {
        folder: std::env::temp_dir().join(format!("dormouse-bench-{}", std::process::id())),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
    };
    std::fs::create_dir_all(&bench.folder)
        .with_context(|| format!("cannot make {}", bench.folder.display()))?;
    let outcome = measure_all(&bench, &peers, runs, &names);
    std::fs::remove_dir_all(&bench.folder)
        .with_context(|| format!("cannot remove {}", bench.folder.display()))?;
    outcome
}

fn options<'a>(words: &[&'a str]) -> Result<(usize, Vec<&'a str>)> {
    let (mut runs, mut names, mut words) = (5, Vec::new(), words.iter());
    while let Some(&word) = words.next() {
        if word == "--runs" {
            let count = words.next().and_then(|count| count.parse().ok()).filter(|&count| count > 0);
            runs = count.context("--runs takes a number")?;
        } else if MEASURES.iter().any(|(name, ..)| *name == word) {
            names.push(word);
        } else {
            bail!("no such figure: {word}");
        }
    }
    Ok((runs, names))
}

fn measure_all(bench: &Bench, peers: &[Peer], runs: usize, names: &[&str]) -> Result<()> {
    let chosen = |name: &str| names.is_empty() || names.contains(&name);
    let debian = MEASURES.iter().any(|&(name, _, debian)| debian && chosen(name))
        && matches!(guest::fetch_debian()?, Fetched::Ready);
    println!("{} cores, {runs} runs each, medians (least to greatest)", bench.cores);
    let mut failures = 0;
    for (name, measure, needs_debian) in MEASURES {
        if !chosen(name) {
            continue;
        }
        if needs_debian && !debian {
            println!("{name}: SKIPPED, the Debian guest cannot be fetched here");
            continue;
        }
        match collect(bench, peers, runs, measure) {
            Ok(series) => series.iter().for_each(|series| print_series(series, peers)),
            Err(error) => {
                println!("{name}: FAILED, {error:#}");
                failures += 1;
            }
        }
    }
    if failures > 0 {
        bail!("{failures} figures could not be taken");
    }
    Ok(())
}

fn collect(bench: &Bench, peers: &[Peer], runs: usize, measure: Measure) -> Result<Vec<Series>> {
    let mut all: Vec<Series> = Vec::new();
    for _ in 0..runs {
        for (index, peer) in peers.iter().enumerate() {
            for value in measure(bench, peer).with_context(|| peer.name)? {
                let at = all.iter().position(|series| series.name == value.name).unwrap_or_else(|| {
                    all.push(Series {
                        name: value.name.clone(),
                        unit: value.unit,
                        runs: vec![Vec::new(); peers.len()],
                    });
                    all.len() - 1
                });
                if let Some(runs) = all.get_mut(at).and_then(|series| series.runs.get_mut(index)) {
                    runs.push(value.value);
                }
            }
        }
    }
    Ok(all)
}

fn print_series(series: &Series, peers: &[Peer]) {
    let mut line = format!("{:28}", series.name);
    let mut medians = Vec::new();
    for (peer, runs) in peers.iter().zip(&series.runs) {
        if runs.is_empty() {
            // It has nothing like that.
            continue;
        }
        let mut runs = runs.clone();
        let median = quantile(&mut runs, 0.5);
        let (least, greatest) = (quantile(&mut runs, 0.0), quantile(&mut runs, 1.0));
        let unit = series.unit;
        line += &format!("  {} {median:.2} {unit} ({least:.2} to {greatest:.2})", peer.name);
        medians.push(median);
    }
    let ratio = match medians.as_slice() {
        [ours, theirs] if *theirs > 0.0 => {
            line += &format!("  ratio {:.3}", ours / theirs);
            Some(ours / theirs)
        }
        _ => None,
    };
    for (_, aim) in AIMS.iter().filter(|(name, _)| *name == series.name) {
        line += &verdict(aim, medians.first().copied().unwrap_or(f64::NAN), ratio);
    }
    println!("{line}");
}

/// Says what was aimed at and whether it is met.
fn verdict(aim: &Aim, value: f64, ratio: Option<f64>) -> String {
    let (text, met) = match *aim {
        Aim::Limit(limit) => (format!("at most {limit}"), Some(value <= limit)),
        Aim::Below => ("below QEMU's".to_owned(), ratio.map(|ratio| ratio < 1.0)),
        Aim::Above => ("above QEMU's".to_owned(), ratio.map(|ratio| ratio > 1.0)),
        Aim::TimesAtMost(limit) => (format!("at most {limit:.2} times"), ratio.map(|ratio| ratio <= limit)),
        Aim::TimesAtLeast(limit) => (format!("at least {limit:.2} times"), ratio.map(|ratio| ratio >= limit)),
    };
    match met {
        Some(true) => format!("  [{text}: met]"),
        Some(false) => format!("  [{text}: MISSED]"),
        None => format!("  [{text}: no peer]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let mut values = [5.0, 1.0, 3.0, 2.0, 4.0];
        assert_eq!(quantile(&mut values, 0.0), 1.0);
        assert_eq!(quantile(&mut values, 0.5), 3.0);
        assert_eq!(quantile(&mut values, 1.0), 5.0);
        assert!(quantile(&mut [], 0.5).is_nan());
    }

    #[test]
    fn options_are_checked() {
        assert!(options(&["--runs", "0"]).is_err());
        assert!(options(&["nonsense"]).is_err());
        let (runs, names) = options(&["--runs", "7", "idle", "boot"]).unwrap_or_default();
        assert_eq!((runs, names), (7, vec!["idle", "boot"]));
    }

    #[test]
    fn an_aim_without_a_peer_is_neither_met_nor_missed() {
        assert!(verdict(&Aim::TimesAtMost(1.0), 1.0, None).contains("no peer"));
        assert!(verdict(&Aim::TimesAtMost(1.0), 1.0, Some(1.1)).contains("MISSED"));
        assert!(verdict(&Aim::TimesAtLeast(5.0), 1.0, Some(6.0)).contains("met"));
        assert!(verdict(&Aim::Below, 1.0, Some(1.0)).contains("MISSED"));
        assert!(verdict(&Aim::Above, 1.0, Some(1.1)).contains("met"));
        assert!(verdict(&Aim::Limit(5.0), 6.0, Some(0.1)).contains("MISSED"));
    }
}
