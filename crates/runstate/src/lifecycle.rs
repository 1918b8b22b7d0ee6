//! The value itself: what it consists of, how it is viewed, and what makes a value from outside acceptable.

use crate::hold::HoldKind;
use crate::{
    Actions, Epoch, Hold, Holds, IncomingStage, Job, Owner, Phase, Power, Refusal, RunState, ShutdownCause,
    WakePolicy, WakeSource,
};
use serde::{Deserialize, Serialize};

/// What is fixed when the machine is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// Whether the machine offers suspend (false for `suspend=off` and for `-bios` firmware).
    pub wakeup_supported: bool,
    /// The actions of the command line.
    pub actions: Actions,
    /// Which wake sources the operator allows.
    pub wake_policy: WakePolicy,
    /// `-incoming`: the machine waits for a guest.
    pub incoming: bool,
    /// False with `-S`. With `incoming` it decides whether the guest starts on arrival; without, the program gives
    /// the first `cont` itself when it is true, and the value does not keep it.
    pub autostart: bool,
}

impl Default for Config {
    /// Suspend offered, default actions, every wake allowed, no incoming migration, autostart.
    fn default() -> Config {
        Config {
            wakeup_supported: true,
            actions: Actions::default(),
            wake_policy: WakePolicy::ALL,
            incoming: false,
            autostart: true,
        }
    }
}

/// The life of one machine. See the crate's documentation for the picture.
///
/// Invariants, held by every constructor, [`apply`](Lifecycle::apply) and deserialization:
/// an `off` hold exactly while the power is `Off`, a `fault` hold exactly while it is `Broken`; `latched` only while
/// asleep; the job's hold exactly when [`Job::hold`] says so; at most one of each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct Lifecycle {
    pub(crate) power: Power,
    pub(crate) holds: Holds,
    pub(crate) latched: Option<WakeSource>,
    pub(crate) epoch: Epoch,
    pub(crate) pending_reset: Option<ShutdownCause>,
    pub(crate) job: Option<Job>,
    pub(crate) phase: Phase,
    pub(crate) actions: Actions,
    pub(crate) wake_policy: WakePolicy,
    pub(crate) wakeup_supported: bool,
    pub(crate) exit_code: i32,
    pub(crate) exiting: bool,
}

impl Lifecycle {
    /// A machine that has not started: held by `boot` (prelaunch), or by `incoming` and, without autostart, the manager.
    pub fn new(config: Config) -> Lifecycle {
        let mut holds = Holds::new();
        let mut job = None;
        if config.incoming {
            job = Some(Job::Incoming { stage: IncomingStage::Waiting });
            holds.add(Hold::of(Owner::Incoming));
            if !config.autostart {
                holds.add(Hold::of(Owner::Manager));
            }
        } else {
            holds.add(Hold::of(Owner::Boot));
        }
        Lifecycle {
            power: Power::Awake,
            holds,
            latched: None,
            epoch: 0,
            pending_reset: None,
            job,
            phase: Phase::Settled,
            actions: config.actions,
            wake_policy: config.wake_policy,
            wakeup_supported: config.wakeup_supported,
            exit_code: 0,
            exiting: false,
        }
    }

    /// The name that QMP shows (lifecycle rules, section 1): a migration's own hold first, then postmigrate, then what
    /// needs a reset, then the earliest other hold, then what the guest does.
    pub fn view(&self) -> RunState {
        let held_by = |wanted: &[Owner]| self.holds.iter().find(|hold| wanted.contains(&hold.owner));
        let first = held_by(&[Owner::Incoming, Owner::Outgoing])
            .or_else(|| held_by(&[Owner::Moved]))
            .or_else(|| held_by(&[Owner::Off, Owner::Fault]))
            .or_else(|| self.holds.iter().next());
        match (first, self.power) {
            (Some(hold), _) => hold.cause,
            (None, Power::Asleep(_)) => RunState::Suspended,
            (None, _) => RunState::Running,
        }
    }

    /// What the guest did to itself.
    pub fn power(&self) -> Power {
        self.power
    }

    /// Why the host holds the machine, earliest first.
    pub fn holds(&self) -> &Holds {
        &self.holds
    }

    /// The wake that came while the machine was asleep and held, to be delivered when the last hold goes.
    pub fn latched(&self) -> Option<WakeSource> {
        self.latched
    }

    /// Which guest this is; grows with every reset and load.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Nothing holds the machine: guest time advances (once a lift under way is done).
    pub fn is_live(&self) -> bool {
        self.holds.is_empty()
    }

    /// Suspended to RAM, live or held.
    pub fn is_asleep(&self) -> bool {
        matches!(self.power, Power::Asleep(_))
    }

    /// Whether harts are to execute: live, awake and not in the middle of a lift.
    pub fn executes(&self) -> bool {
        self.is_live() && self.power == Power::Awake && self.phase == Phase::Settled
    }

    /// The actions in force.
    pub fn actions(&self) -> Actions {
        self.actions
    }

    /// Whether `cont` would be refused until a reset or a load.
    pub fn needs_reset(&self) -> bool {
        matches!(self.power, Power::Off { .. } | Power::Broken { .. })
    }

    /// The answer to `query-current-machine`: whether the machine offers suspend.
    pub fn wakeup_supported(&self) -> bool {
        self.wakeup_supported
    }

    /// Which wake sources the operator allows.
    pub fn wake_policy(&self) -> WakePolicy {
        self.wake_policy
    }

    /// The reset that waits for the end of a job, by its cause.
    pub fn pending_reset(&self) -> Option<ShutdownCause> {
        self.pending_reset
    }

    /// The job under way.
    pub fn job(&self) -> Option<Job> {
        self.job
    }

    /// Where the machine is within a lift.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the engine owes a report, so that other requests have to wait.
    pub fn awaits_report(&self) -> bool {
        self.phase != Phase::Settled
    }

    /// The exit status that the process will have. A guest's failure sticks to a later `quit`.
    pub fn exit_code(&self) -> i32 {
        self.exit_code
    }

    /// Whether the process is ending.
    pub fn is_exiting(&self) -> bool {
        self.exiting
    }

    /// What a snapshot or a migration stream carries of this value: its last section.
    ///
    /// Without what belongs to this host (`moved`, the job's hold, actions, policy); a debugger's hold goes as the
    /// manager's, because there is no debugger there to lift it.
    pub fn saved(&self) -> SavedLifecycle {
        let mut holds = Holds::new();
        for hold in &self.holds {
            match (hold.owner, hold.owner.kind()) {
                (Owner::Moved, _) | (_, HoldKind::Job) => {}
                (Owner::Debugger, _) => {
                    holds.add(Hold::of(Owner::Manager));
                }
                _ => {
                    holds.add(*hold);
                }
            }
        }
        SavedLifecycle { power: self.power, holds, latched: self.latched, pending_reset: self.pending_reset }
    }

    /// Whether a saved value may come into this machine. To be asked before COMMIT and before a load begins.
    ///
    /// # Errors
    /// [`Refusal::SavedAsleep`] when it sleeps and this machine could not wake it.
    pub fn accepts(&self, saved: &SavedLifecycle) -> Result<(), Refusal> {
        match saved.power {
            Power::Asleep(_) if !self.wakeup_supported => Err(Refusal::SavedAsleep),
            _ => Ok(()),
        }
    }
}

/// The part of a [`Lifecycle`] that travels. Every value of this type is consistent: deserialization checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "SavedParts")]
pub struct SavedLifecycle {
    pub(crate) power: Power,
    pub(crate) holds: Holds,
    pub(crate) latched: Option<WakeSource>,
    pub(crate) pending_reset: Option<ShutdownCause>,
}

impl SavedLifecycle {
    /// Guest power when it was saved.
    pub fn power(&self) -> Power {
        self.power
    }

    /// Liftable and power holds when it was saved.
    pub fn holds(&self) -> &Holds {
        &self.holds
    }
}

/// A value from outside that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistent {
    /// `shutdown` and `internal-error` go with the power, and with nothing else.
    #[error("the power and the holds that stand for it disagree")]
    Power,
    /// Only a sleeping guest has a wake to wait for.
    #[error("a wake is latched although the guest does not sleep")]
    Latched,
    /// A job's hold without that job, the other way round, or a hold that does not travel.
    #[error("a hold does not belong to the job under way")]
    Job,
    /// A lift that does not fit holds and job.
    #[error("the lift under way does not fit the holds")]
    Phase,
    /// The process is ending, yet the machine is not off.
    #[error("the process is ending, yet the machine is not off")]
    Exiting,
}

fn check_power(power: Power, holds: &Holds, latched: Option<WakeSource>) -> Result<(), Inconsistent> {
    if holds.has(Owner::Off) != matches!(power, Power::Off { .. })
        || holds.has(Owner::Fault) != matches!(power, Power::Broken { .. })
    {
        return Err(Inconsistent::Power);
    }
    if latched.is_some() && power.sleep().is_none() {
        return Err(Inconsistent::Latched);
    }
    Ok(())
}

/// [`SavedLifecycle`] as it arrives, before it is checked.
#[derive(Deserialize)]
struct SavedParts {
    power: Power,
    holds: Holds,
    latched: Option<WakeSource>,
    pending_reset: Option<ShutdownCause>,
}

impl TryFrom<SavedParts> for SavedLifecycle {
    type Error = Inconsistent;
    fn try_from(parts: SavedParts) -> Result<SavedLifecycle, Inconsistent> {
        let SavedParts { power, holds, latched, pending_reset } = parts;
        check_power(power, &holds, latched)?;
        let stays = |hold: &Hold| {
            matches!(hold.owner, Owner::Moved | Owner::Debugger) || hold.owner.kind() == HoldKind::Job
        };
        if holds.iter().any(stays) {
            return Err(Inconsistent::Job);
        }
        Ok(SavedLifecycle { power, holds, latched, pending_reset })
    }
}

/// [`Lifecycle`] as it arrives, before it is checked.
#[derive(Deserialize)]
struct Parts {
    power: Power,
    holds: Holds,
    latched: Option<WakeSource>,
    epoch: Epoch,
    pending_reset: Option<ShutdownCause>,
    job: Option<Job>,
    phase: Phase,
    actions: Actions,
    wake_policy: WakePolicy,
    wakeup_supported: bool,
    exit_code: i32,
    exiting: bool,
}

impl TryFrom<Parts> for Lifecycle {
    type Error = Inconsistent;
    fn try_from(parts: Parts) -> Result<Lifecycle, Inconsistent> {
        let value = Lifecycle {
            power: parts.power,
            holds: parts.holds,
            latched: parts.latched,
            epoch: parts.epoch,
            pending_reset: parts.pending_reset,
            job: parts.job,
            phase: parts.phase,
            actions: parts.actions,
            wake_policy: parts.wake_policy,
            wakeup_supported: parts.wakeup_supported,
            exit_code: parts.exit_code,
            exiting: parts.exiting,
        };
        value.check()?;
        Ok(value)
    }
}

impl Lifecycle {
    /// Checks the type's invariants. Every value that this crate hands out passes.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn check(&self) -> Result<(), Inconsistent> {
        check_power(self.power, &self.holds, self.latched)?;
        let expected = self.job.and_then(|job| job.hold());
        let found = self.holds.iter().find(|hold| hold.owner.kind() == HoldKind::Job).map(|hold| hold.owner);
        if expected != found
            || (self.pending_reset.is_some() && !self.job.is_some_and(|job| job.delays_reset()))
        {
            return Err(Inconsistent::Job);
        }
        match self.phase {
            Phase::Preparing(_) if self.holds.is_empty() => return Err(Inconsistent::Phase),
            Phase::Starting(_) if !self.holds.is_empty() => return Err(Inconsistent::Phase),
            _ => {}
        }
        if self.exiting
            && (!matches!(self.power, Power::Off { .. }) || self.awaits_report() || self.job.is_some())
        {
            return Err(Inconsistent::Exiting);
        }
        Ok(())
    }
}
