//! What may be asked of the machine, told apart by the mouth it comes from.
//!
//! Management and jobs speak in the present. A guest's or a device's request was made at some moment before it is
//! handled, so it carries the epoch of that moment; one from before a reset or a load does nothing after it.

use crate::{
    ActionChange, DeviceId, Fault, IoErrorAction, MigrationStatus, SavedLifecycle, ShutdownCause, Sleep,
    WakeChange, WakeSource,
};

/// Counts resets and loads: the guest of one epoch is not the guest of the next.
pub type Epoch = u64;

/// Anything that may be asked.
#[expect(
    clippy::large_enum_variant,
    reason = "two rare variants carry a saved value; a copy is cheaper than a box"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// From a manager, an operator or a debugger.
    Management(ManagementRequest),
    /// From a hart.
    Guest(Stamped<GuestRequest>),
    /// From a device or from the host's side of a hart.
    Device(Stamped<DeviceRequest>),
    /// From a job: dump, save, load, background snapshot, outgoing or incoming migration.
    Migration(MigrationRequest),
    /// From the engine, about an effect.
    Engine(EngineReport),
}

/// A request with the epoch in which it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamped<T> {
    /// [`Lifecycle::epoch`](crate::Lifecycle::epoch) when it was made.
    pub epoch: Epoch,
    /// What is asked.
    pub request: T,
}

/// What managers, operators and debuggers ask (lifecycle rules 2.1 and 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ManagementRequest {
    /// `stop`.
    Stop,
    /// `cont`.
    Cont,
    /// `system_wakeup`.
    SystemWakeup,
    /// `system_reset`.
    SystemReset,
    /// `system_powerdown`.
    SystemPowerdown,
    /// `quit`, a signal, a closed window.
    Quit {
        /// `HostQmpQuit`, `HostSignal` or `HostUi`.
        cause: ShutdownCause,
    },
    /// `set-action`.
    SetActions(ActionChange),
    /// `x-set-wake-policy`.
    SetWakePolicy(WakeChange),
    /// `inject-nmi`.
    InjectNmi,
    /// `dump-guest-memory`.
    DumpStart {
        /// Answer at once and tell the end with DUMP_COMPLETED.
        detached: bool,
    },
    /// `savevm`, `snapshot-save`.
    SaveStart,
    /// `loadvm`, `snapshot-load`: only after name, format, sections and sizes have been checked.
    LoadStart {
        /// `x-snapshot-load`: a snapshot taken asleep stays asleep even when the machine was running.
        keep_asleep: bool,
    },
    /// `migrate` with capability `background-snapshot`.
    BackgroundStart,
    /// `migrate`.
    MigrateStart,
    /// `migrate_cancel`.
    MigrateCancel,
    /// `-incoming URI` or `migrate-incoming`: the stream is about to be loaded.
    MigrateIncoming,
    /// The debugger attaches or interrupts.
    DebugInterrupt,
    /// The debugger continues.
    DebugContinue,
    /// The debugger steps one hart by one instruction.
    DebugStep {
        /// Hart id.
        hart: u32,
    },
    /// The debugger detaches. The engine has removed its breakpoints.
    DebugDetach,
    /// The debugger's connection is lost. The engine has removed its breakpoints.
    DebugLost,
}

/// What the guest does to the machine (lifecycle rules 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GuestRequest {
    /// SBI SUSP, all its checks passed.
    Suspend(Sleep),
    /// SBI SRST shutdown, the test finisher.
    ShutDown {
        /// `GuestShutdown`, or `GuestPanic` for a failure told to the test finisher.
        cause: ShutdownCause,
        /// Exit status; anything but 0 sticks.
        exit_code: i32,
    },
    /// SBI SRST reboot, the test finisher.
    Reset,
    /// The panic device: panicked.
    Panic,
    /// The panic device: a crash kernel was loaded.
    CrashLoaded,
    /// The panic device: shut down.
    PvShutdown,
    /// A breakpoint or watchpoint was hit, or a step is done.
    DebugStop,
}

/// What devices and the host's side of harts report (lifecycle rules 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceRequest {
    /// A wake that the guest has armed is due.
    Wake(WakeSource),
    /// What would be a wake has happened at a source that the guest has masked.
    MaskedWake(WakeSource),
    /// The watchdog expired.
    Watchdog,
    /// A request of a device failed on the host's side.
    IoError {
        /// Which device.
        device: DeviceId,
        /// What the device's policy says about it.
        action: IoErrorAction,
    },
    /// A hart cannot go on.
    HartFailed {
        /// What failed.
        what: Fault,
    },
}

/// What jobs report (lifecycle rules 2.4). They begin by a [`ManagementRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MigrationRequest {
    /// The dump ended.
    DumpEnd {
        /// Whether it succeeded.
        ok: bool,
    },
    /// The snapshot is saved, or saving failed.
    SaveEnd,
    /// The snapshot is staged as a whole.
    LoadDone {
        /// The lifecycle value in it.
        saved: SavedLifecycle,
    },
    /// Loading failed; nothing was replaced.
    LoadFailed,
    /// The place that the background snapshot goes to is open: the machine is to be held for the capture of its state.
    BackgroundHold,
    /// The background snapshot has captured the device state.
    BackgroundCaptured,
    /// The background snapshot ended.
    BackgroundEnd {
        /// Whether it succeeded; a cancelled one did not.
        ok: bool,
    },
    /// A MIGRATION event that changes nothing else, such as `active` or `device`.
    Announce(MigrationStatus),
    /// Outgoing: memory is gone through for the so-manieth time, from 1. Changes nothing.
    Pass(u32),
    /// Outgoing: few pages are left, hold the machine.
    SwitchOver,
    /// Outgoing: device capture begins.
    Seal,
    /// Outgoing: COMMIT (postcopy: RUN) has been sent, or the end mark of a file flushed. The lifecycle value that
    /// went out just before it is [`Lifecycle::saved`](crate::Lifecycle::saved), taken in the same turn.
    Commit {
        /// Pages still follow.
        postcopy: bool,
    },
    /// Outgoing: all is over there, and the destination has confirmed (or the file is closed).
    OutgoingDone,
    /// Outgoing: failed, or was cancelled and has stopped.
    OutgoingFailed,
    /// The link was lost after the destination started: out or in, a postcopy waits for recovery; an outgoing
    /// precopy ends, the destination's answer unknown.
    LinkLost,
    /// Incoming: everything is staged and COMMIT (postcopy: RUN) was seen.
    IncomingLoaded {
        /// The lifecycle value that arrived.
        saved: SavedLifecycle,
        /// Pages still follow.
        postcopy: bool,
    },
    /// Incoming, postcopy: the last page is here.
    IncomingDone,
    /// Incoming: failed before the guest arrived.
    IncomingFailed {
        /// `exit-on-error`: end the process.
        exit: bool,
    },
}

/// What the engine reports about an effect that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineReport {
    /// [`Effect::Prepare`](crate::Effect::Prepare) succeeded.
    Prepared,
    /// [`Effect::Prepare`](crate::Effect::Prepare) failed, and what it had done is undone.
    PrepareFailed,
    /// [`Effect::StartDevices`](crate::Effect::StartDevices) is done.
    DevicesStarted {
        /// The first wake that a device found due, if any.
        due: Option<WakeSource>,
    },
    /// An effect that has no way back could not be carried out. The machine becomes `Broken`.
    EffectFailed,
}

impl Request {
    /// What is asked, in a word that records and logs use; the QMP command's name where there is one.
    pub const fn name(&self) -> &'static str {
        match self {
            Request::Management(request) => request.name(),
            Request::Guest(stamped) => stamped.request.name(),
            Request::Device(stamped) => stamped.request.name(),
            Request::Migration(request) => request.name(),
            Request::Engine(request) => request.name(),
        }
    }
}

impl ManagementRequest {
    const fn name(&self) -> &'static str {
        match self {
            ManagementRequest::Stop => "stop",
            ManagementRequest::Cont => "cont",
            ManagementRequest::SystemWakeup => "system_wakeup",
            ManagementRequest::SystemReset => "system_reset",
            ManagementRequest::SystemPowerdown => "system_powerdown",
            ManagementRequest::Quit { .. } => "quit",
            ManagementRequest::SetActions(_) => "set-action",
            ManagementRequest::SetWakePolicy(_) => "set-wake-policy",
            ManagementRequest::InjectNmi => "inject-nmi",
            ManagementRequest::DumpStart { .. } => "dump-guest-memory",
            ManagementRequest::SaveStart => "snapshot-save",
            ManagementRequest::LoadStart { .. } => "snapshot-load",
            ManagementRequest::BackgroundStart => "background-snapshot",
            ManagementRequest::MigrateStart => "migrate",
            ManagementRequest::MigrateCancel => "migrate_cancel",
            ManagementRequest::MigrateIncoming => "migrate-incoming",
            ManagementRequest::DebugInterrupt => "debug-interrupt",
            ManagementRequest::DebugContinue => "debug-continue",
            ManagementRequest::DebugStep { .. } => "debug-step",
            ManagementRequest::DebugDetach => "debug-detach",
            ManagementRequest::DebugLost => "debug-lost",
        }
    }
}

impl MigrationRequest {
    const fn name(&self) -> &'static str {
        match self {
            MigrationRequest::DumpEnd { .. } => "dump-end",
            MigrationRequest::SaveEnd => "save-end",
            MigrationRequest::LoadDone { .. } => "load-done",
            MigrationRequest::LoadFailed => "load-failed",
            MigrationRequest::BackgroundHold => "background-hold",
            MigrationRequest::BackgroundCaptured => "background-captured",
            MigrationRequest::BackgroundEnd { .. } => "background-end",
            MigrationRequest::Announce(_) => "announce",
            MigrationRequest::Pass(_) => "pass",
            MigrationRequest::SwitchOver => "switch-over",
            MigrationRequest::Seal => "seal",
            MigrationRequest::Commit { .. } => "commit",
            MigrationRequest::OutgoingDone => "outgoing-done",
            MigrationRequest::OutgoingFailed => "outgoing-failed",
            MigrationRequest::LinkLost => "link-lost",
            MigrationRequest::IncomingLoaded { .. } => "incoming-loaded",
            MigrationRequest::IncomingDone => "incoming-done",
            MigrationRequest::IncomingFailed { .. } => "incoming-failed",
        }
    }
}

impl EngineReport {
    const fn name(&self) -> &'static str {
        match self {
            EngineReport::Prepared => "prepared",
            EngineReport::PrepareFailed => "prepare-failed",
            EngineReport::DevicesStarted { .. } => "devices-started",
            EngineReport::EffectFailed => "effect-failed",
        }
    }
}

impl From<ManagementRequest> for Request {
    fn from(request: ManagementRequest) -> Request {
        Request::Management(request)
    }
}

impl From<MigrationRequest> for Request {
    fn from(request: MigrationRequest) -> Request {
        Request::Migration(request)
    }
}

impl From<EngineReport> for Request {
    fn from(report: EngineReport) -> Request {
        Request::Engine(report)
    }
}

impl GuestRequest {
    const fn name(&self) -> &'static str {
        match self {
            GuestRequest::Suspend(_) => "suspend",
            GuestRequest::ShutDown { .. } => "shutdown",
            GuestRequest::Reset => "reset",
            GuestRequest::Panic => "panic",
            GuestRequest::CrashLoaded => "crash-loaded",
            GuestRequest::PvShutdown => "pvshutdown",
            GuestRequest::DebugStop => "debug-stop",
        }
    }

    /// This request as made in `epoch`.
    pub const fn at(self, epoch: Epoch) -> Request {
        Request::Guest(Stamped { epoch, request: self })
    }
}

impl DeviceRequest {
    const fn name(&self) -> &'static str {
        match self {
            DeviceRequest::Wake(_) => "wake",
            DeviceRequest::MaskedWake(_) => "masked-wake",
            DeviceRequest::Watchdog => "watchdog",
            DeviceRequest::IoError { .. } => "io-error",
            DeviceRequest::HartFailed { .. } => "hart-failed",
        }
    }

    /// This request as made in `epoch`.
    pub const fn at(self, epoch: Epoch) -> Request {
        Request::Device(Stamped { epoch, request: self })
    }
}
