//! Runs cases on both sides, compares, and makes the first case that differs small.

use std::fmt::Write;
use std::time::Duration;

use crate::asm;
use crate::case::{Case, Mode};
use crate::image::{self, Record, TooLarge};
use crate::layout::{self, record};
use crate::ours::{self, OursError};
use crate::qemu::{self, QemuError};

/// Most cases in one image.
pub const BATCH: usize = 200;
/// Rounds of taking groups out; each starts QEMU once.
const MOST_ROUNDS: usize = 40;
/// Most values that a report shows.
const MOST_LINES: usize = 24;
/// Instructions that a case may retire on average.
const CASE_LIMIT: u64 = 400_000;

/// Why two sides could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The cases do not fit.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// QEMU's side.
    #[error(transparent)]
    Qemu(#[from] QemuError),
    /// Our side.
    #[error(transparent)]
    Ours(#[from] OursError),
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Cases.
    pub cases: usize,
    /// Instructions in them.
    pub instructions: usize,
    /// Traps that they took.
    pub traps: u64,
    /// Instructions that our hart retired, the runtime's included.
    pub retired: u64,
}

/// Records of both sides, QEMU's first.
type Pair = (Option<Record>, Option<Record>);

fn run_both(cases: &[Case], allowed: Duration) -> Result<(Vec<Pair>, u64), CompareError> {
    let image = image::build(cases)?;
    let bytes = cases.len() * record::WORDS * 8;
    let theirs = qemu::run(&image, layout::RESULTS, bytes, allowed)?;
    let limit = CASE_LIMIT * cases.len() as u64;
    let (ours, retired) = ours::run(&image, layout::RESULTS, bytes, limit)?;
    let pair = |index| (Record::read(&theirs.memory, index), Record::read(&ours.memory, index));
    Ok(((0..cases.len()).map(pair).collect(), retired))
}

/// Runs `cases` and returns the numbers of those that differ.
pub fn differing(cases: &[Case], totals: &mut Totals) -> Result<Vec<usize>, CompareError> {
    differing_within(cases, totals, Duration::from_secs(30))
}

fn differing_within(
    cases: &[Case],
    totals: &mut Totals,
    allowed: Duration,
) -> Result<Vec<usize>, CompareError> {
    let mut differ = Vec::new();
    for (batch, chunk) in cases.chunks(BATCH).enumerate() {
        let (pairs, retired) = run_both(chunk, allowed)?;
        totals.retired += retired;
        for (index, ((theirs, ours), case)) in pairs.iter().zip(chunk).enumerate() {
            totals.cases += 1;
            totals.instructions += case.instructions();
            totals.traps += theirs.as_ref().map_or(0, |record| record.word(record::TRAPS));
            if theirs != ours || theirs.is_none() {
                differ.push(batch * BATCH + index);
            }
            if theirs.is_none() || ours.is_none() {
                // A case did not end; those behind it did not begin.
                break;
            }
        }
    }
    Ok(differ)
}

/// Takes groups out of a case that differs for as long as it still does.
pub fn shrink(case: &Case) -> Result<Case, CompareError> {
    let differs = |candidates: &[Case]| -> Result<Option<usize>, CompareError> {
        let mut totals = Totals::default();
        Ok(differing_within(candidates, &mut totals, Duration::from_secs(3))?.first().copied())
    };
    // The shortest beginning that differs ends with the culprit.
    let prefixes: Vec<Case> = (1..=case.groups.len()).map(|len| case.with_groups(|at| at < len)).collect();
    let Some(shortest) = differs(&prefixes)? else { return Ok(case.clone()) };
    let mut best = prefixes[shortest].clone();
    // Then whatever is not needed before it, halves first.
    for _ in 0..MOST_ROUNDS {
        let count = best.groups.len();
        let mut candidates = Vec::new();
        let mut size = count / 2;
        while size > 0 {
            for start in (0..count).step_by(size) {
                candidates.push(best.with_groups(|at| !(start..start + size).contains(&at)));
            }
            size /= 2;
        }
        match differs(&candidates)? {
            Some(at) => best = candidates[at].clone(),
            None => break,
        }
    }
    Ok(best)
}

/// A report on a case that differs: where it comes from, its program, and what differs.
pub fn report(case: &Case) -> Result<String, CompareError> {
    let (pairs, _) = run_both(std::slice::from_ref(case), Duration::from_secs(5))?;
    let mut text = String::new();
    let mode = match case.mode {
        Mode::User => 'U',
        Mode::Supervisor => 'S',
        Mode::Machine => 'M',
    };
    // Writing into a String does not fail.
    let _ = writeln!(
        text,
        "{:?} seed {}: starts in {mode}, satp {:#x}, medeleg {:#x}, mideleg {:#x}, fcsr {:#x}",
        case.class, case.seed, case.satp, case.medeleg, case.mideleg, case.fcsr
    );
    for group in &case.groups {
        for line in asm::disassemble(group) {
            let _ = writeln!(text, "    {line}");
        }
        let _ = writeln!(text, "    --");
    }
    match &pairs[0] {
        (Some(theirs), Some(ours)) => {
            let (theirs, ours) = (theirs.fields(), ours.fields());
            let differ = theirs.iter().zip(&ours).filter(|(theirs, ours)| theirs != ours);
            for ((name, theirs), (_, ours)) in differ.take(MOST_LINES) {
                let _ = writeln!(text, "  {name}: QEMU {theirs:#x}, ours {ours:#x}");
            }
        }
        (theirs, ours) => {
            let ended = |record: &Option<Record>| if record.is_some() { "ended" } else { "did not end" };
            let _ = writeln!(text, "  QEMU {}, ours {}", ended(theirs), ended(ours));
        }
    }
    Ok(text)
}
