//! What the engine must do, as data, in the order in which it must happen.
//!
//! The contract is in the crate's documentation, section "Effects".

use crate::{Event, JobKind, Lifecycle, Sleep, WakeFate, WakeSource};

/// One step for the engine. Steps on harts, clock, timers and devices are idempotent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Make the value that came with this list the answer to every query from now on.
    PublishState,
    /// Guest time stands from here: *the* moment of the stop.
    FreezeClock,
    /// No hart executes guest code when this is done.
    ParkHarts,
    /// No timer callback runs, and none starts, when this is done.
    QuiesceTimers,
    /// Every device stops: drains what is in flight, starts nothing new.
    StopDevices,
    /// Tell clients. Nothing after the first event of a list may fail.
    Emit(Event),
    /// Flush the disks, on a worker. A failure is kept for the query and fails a save or a move; it is not reported here.
    Flush,
    /// Everything about starting that may fail (images, `prepare` of devices). Always last in its list;
    /// answered by [`EngineReport::Prepared`](crate::EngineReport) or `PrepareFailed`.
    Prepare,
    /// Every device starts and judges its host-time deadlines. Always last in its list; answered by
    /// [`EngineReport::DevicesStarted`](crate::EngineReport) with the first wake that is due.
    StartDevices,
    /// Guest time advances, and timers may fire, from here.
    ThawClock,
    /// Every hart that is started executes.
    UnparkHarts,
    /// Only this hart executes, for one instruction, after which it makes a
    /// [`GuestRequest::DebugStop`](crate::GuestRequest).
    UnparkOne {
        /// Hart id.
        hart: u32,
    },
    /// The hart that called SUSP is suspended; none executes.
    SleepHart(Sleep),
    /// Devices go to sleep: timers of class "awake" stand. Then every wake source is asked whether it is already due;
    /// each that is becomes a [`DeviceRequest::Wake`](crate::DeviceRequest), handled next.
    SleepDevices,
    /// The hart is set up to resume as SBI says: pc, `a0`, `a1`, S-mode, translation and interrupts off.
    WakeHart(Sleep),
    /// Devices wake, and learn why.
    WakeDevices(WakeSource),
    /// Harts and devices to power-on, boot images copied again. The clock is left as it is.
    ResetMachine,
    /// The guest part that a load or an arrival has staged is swapped in, as a whole. Cannot fail.
    AdoptGuest,
    /// The power button's device is told, in every state.
    PressPowerButton,
    /// The operator allows a source that was forbidden: every allowed one is asked whether it is already due; each that is
    /// becomes a [`DeviceRequest::Wake`](crate::DeviceRequest), handled next.
    AskWakeSources,
    /// A wake that is not delivered now: counted and logged, once a sleep for each source and fate.
    NoteWake {
        /// What would have woken the guest.
        source: WakeSource,
        /// Why it does not.
        fate: WakeFate,
    },
    /// The halt is done: the job may capture, load or send.
    BeginJob(JobKind),
    /// The job must end soon; it reports its end by a request.
    CancelJob(JobKind),
    /// The process ends with this status, after the reply of the request that caused it.
    Exit {
        /// Exit status of the process.
        code: i32,
    },
}

impl Effect {
    /// Whether the engine must answer with an [`EngineReport`](crate::EngineReport) before anything else.
    pub const fn awaits_report(&self) -> bool {
        matches!(self, Effect::Prepare | Effect::StartDevices)
    }
}

/// Effects in order. Short: no list has more than about fifteen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Effects(Vec<Effect>);

impl Effects {
    pub(crate) fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    /// The events alone, in order.
    pub fn events(&self) -> impl Iterator<Item = Event> + '_ {
        self.0.iter().filter_map(|effect| match effect {
            Effect::Emit(event) => Some(*event),
            _ => None,
        })
    }

    /// Whether the list ends in an effect that asks for a report.
    pub fn awaits_report(&self) -> bool {
        self.0.last().is_some_and(Effect::awaits_report)
    }
}

impl std::ops::Deref for Effects {
    type Target = [Effect];
    fn deref(&self) -> &[Effect] {
        &self.0
    }
}

impl IntoIterator for Effects {
    type Item = Effect;
    type IntoIter = std::vec::IntoIter<Effect>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Effects {
    type Item = &'a Effect;
    type IntoIter = std::slice::Iter<'a, Effect>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// What a request led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The value from now on.
    pub next: Lifecycle,
    /// What the engine must do, in this order.
    pub effects: Effects,
    /// True when a guest's or a device's request came too late to mean anything: it was made before a reset or
    /// a load, or the guest cannot have meant it in this state. `next` is then unchanged and `effects` empty.
    /// A hart that waits for the answer to a dropped SUSP of this epoch is told "denied".
    pub dropped: bool,
}
