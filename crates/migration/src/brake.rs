//! `auto-converge`: by how much a guest is slowed down that writes faster than is sent.

use engine::Throttle;

use crate::parameters::{Number, Parameters};

/// Rounds in which the guest has to write too much before it is slowed down (further).
const PATIENCE: u32 = 2;

/// What was decided so far.
#[derive(Debug, Default)]
pub(crate) struct Brake {
    /// Rounds in which it wrote too much, since the last decision.
    rounds: u32,
    percent: u64,
    /// There once it is used.
    pub(crate) throttle: Option<Throttle>,
}

impl Brake {
    /// After a round in which `sent` bytes went and the guest wrote `written`: the percent that its harts rest.
    pub(crate) fn look(&mut self, parameters: &Parameters, written: u64, sent: u64) -> u64 {
        let number = |number| parameters.number(number);
        let allowed = sent / 100 * number(Number::ThrottleTriggerThreshold);
        if written <= allowed {
            return self.percent;
        }
        self.rounds += 1;
        if self.rounds < PATIENCE {
            return self.percent;
        }
        self.rounds = 0;
        let most = number(Number::MaxCpuThrottle);
        let increment = number(Number::CpuThrottleIncrement);
        self.percent = match self.percent {
            0 => number(Number::CpuThrottleInitial),
            // The last steps small: no more than what would just do, if writes went with the time to execute.
            now if parameters.tailslow() => {
                let runs = 100 - now;
                let would_do = runs as f64 * allowed as f64 / written as f64;
                now + ((runs as f64 - would_do) as u64).clamp(1, increment)
            }
            now => now + increment,
        }
        .min(most);
        self.percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Change;

    #[test]
    fn it_is_pressed_further_every_other_round_that_is_too_much() {
        let parameters = Parameters::default();
        let mut brake = Brake::default();
        let mut look = |written| brake.look(&parameters, written, 1000);
        assert_eq!([look(500), look(501)], [0, 0], "half of what was sent may be written anew");
        assert_eq!([look(900), look(900), look(100), look(900)], [20, 20, 20, 30]);
        let last = (0..40).map(|_| look(900)).last();
        assert_eq!(last, Some(99));
    }

    #[test]
    fn the_last_steps_are_small_if_that_is_wanted() {
        let change = Change { tailslow: Some(true), ..Change::default() };
        let parameters = Parameters::default().with(&change).unwrap();
        let mut brake = Brake { percent: 80, ..Brake::default() };
        brake.look(&parameters, 600, 1000);
        assert_eq!(brake.look(&parameters, 600, 1000), 83, "20 in 100 less 500 of 600 of it");
    }
}
