//! The rule table: which request does what, when. One file for each mouth, and `steps` for what they share.

mod debugger;
mod guest;
mod jobs;
mod management;
mod report;
mod steps;

use crate::{EngineReport, Lifecycle, ManagementRequest, Outcome, Refusal, Request};
use steps::Step;

impl Lifecycle {
    /// Carries out one request on the value, which itself stays as it is: a refusal changes nothing because there is
    /// nothing that it could have changed.
    ///
    /// Total: every request in every value gives an outcome or a refusal.
    ///
    /// # Errors
    /// A [`Refusal`], whose text is the one that QMP clients see.
    pub fn apply(&self, request: &Request) -> Result<Outcome, Refusal> {
        let stale = match request {
            Request::Guest(stamped) => stamped.epoch != self.epoch,
            Request::Device(stamped) => stamped.epoch != self.epoch,
            _ => false,
        };
        if stale {
            return Ok(self.dropped());
        }
        if self.exiting {
            return self.apply_exiting(request);
        }
        let mut step = Step::new(self);
        match request {
            Request::Engine(report) => step.report(*report)?,
            Request::Management(ManagementRequest::Quit { cause }) => step.quit(*cause)?,
            _ if self.awaits_report() => return Err(Refusal::AwaitingReport),
            Request::Management(request) => step.management(*request)?,
            Request::Migration(request) => step.migration(*request)?,
            Request::Guest(stamped) => {
                if !step.guest(stamped.request) {
                    return Ok(self.dropped());
                }
            }
            Request::Device(stamped) => {
                if !step.device(stamped.request) {
                    return Ok(self.dropped());
                }
            }
        }
        Ok(step.outcome())
    }

    /// Once the process is ending nothing else happens: late words of the guest, its devices and jobs are dropped.
    fn apply_exiting(&self, request: &Request) -> Result<Outcome, Refusal> {
        match request {
            Request::Management(ManagementRequest::Quit { .. }) => {
                Ok(Outcome { next: self.clone(), effects: Default::default(), dropped: false })
            }
            Request::Management(_) | Request::Engine(EngineReport::EffectFailed) => Err(Refusal::Exiting),
            Request::Guest(_) | Request::Device(_) | Request::Migration(_) | Request::Engine(_) => {
                Ok(self.dropped())
            }
        }
    }

    fn dropped(&self) -> Outcome {
        Outcome { next: self.clone(), effects: Default::default(), dropped: true }
    }
}
