//! The types of `x-query-lifecycle`, `x-query-events` and X_LIFECYCLE.

use qmp::{qapi_enum, qapi_struct};

use crate::commands::{PanicAction, RebootAction, RunState, ShutdownAction, WatchdogAction};
use crate::events::ShutdownCause;

qapi_enum! {
    /// What the guest did to itself.
    XGuestPower {
        /// Its harts execute whenever nothing holds the machine.
        Awake = "awake",
        /// Suspended to RAM.
        Asleep = "asleep",
        /// Powered down; only a reset or a snapshot leads out.
        Off = "off",
        /// A hart cannot go on; only a reset or a snapshot leads out.
        Broken = "broken",
    }
}

qapi_enum! {
    /// Who holds the machine.
    XHoldOwner {
        /// Nobody has started it yet, or it was reset while it was held.
        Boot = "boot",
        /// A manager's `stop`.
        Manager = "manager",
        /// The debugger.
        Debugger = "debugger",
        /// A device that met an error.
        Device = "device",
        /// The watchdog.
        Watchdog = "watchdog",
        /// A panic of the guest.
        Panic = "panic",
        /// The guest has gone to another host.
        Moved = "moved",
        /// The guest is off.
        Off = "off",
        /// A hart cannot go on.
        Fault = "fault",
        /// An incoming migration.
        Incoming = "incoming",
        /// An outgoing migration.
        Outgoing = "outgoing",
        /// A memory dump.
        Dump = "dump",
        /// A snapshot that is saved.
        Save = "save",
        /// A snapshot that is loaded.
        Load = "load",
        /// A background snapshot.
        Background = "background",
    }
}

qapi_enum! {
    /// The mouth that a request comes from.
    XOrigin {
        /// The program, when it made the machine.
        Start = "start",
        /// A manager, an operator, a debugger, a signal.
        Management = "management",
        /// The guest.
        Guest = "guest",
        /// A device, or the host's side of a hart.
        Device = "device",
        /// A job.
        Job = "job",
        /// The engine, which could not carry out a step.
        Engine = "engine",
    }
}

qapi_enum! {
    /// A longer undertaking.
    XJob {
        /// A memory dump.
        Dump = "dump",
        /// A snapshot is saved.
        Save = "save",
        /// A snapshot is loaded.
        Load = "load",
        /// A background snapshot.
        Background = "background",
        /// An outgoing migration.
        Outgoing = "outgoing",
        /// An incoming migration.
        Incoming = "incoming",
    }
}

qapi_struct! {
    /// A moment on three clocks, in nanoseconds.
    XMoment {
        /// Guest time, which stands while the machine is held.
        guest_ns: u64 = "guest-ns",
        /// The host's monotonic time, since a moment that is fixed for the life of the process.
        host_ns: u64 = "host-ns",
        /// The host's wall clock, since 1970-01-01 UTC.
        wall_ns: u64 = "wall-ns",
    }
}

qapi_struct! {
    /// What led to something.
    XCause {
        /// The mouth that the request came from.
        origin: XOrigin = "origin",
        /// The request; for management the name of the command.
        request: String = "request",
        /// Who made it, as far as that is known: a monitor, a hart, a device, a wake source.
        by: Option<String> = "by",
    }
}

qapi_struct! {
    /// A reason why the machine does not run.
    XHold {
        /// Who holds it.
        owner: XHoldOwner = "owner",
        /// Which device it is, where the owner is one.
        device: Option<u32> = "device",
        /// The state that this hold alone would show as.
        state: RunState = "state",
    }
}

qapi_struct! {
    /// A hold with its history.
    XHeld {
        /// Who holds the machine.
        owner: XHoldOwner = "owner",
        /// Which device it is, where the owner is one.
        device: Option<u32> = "device",
        /// The state that this hold alone would show as.
        state: RunState = "state",
        /// Since when.
        since: XMoment = "since",
        /// What led to it.
        cause: XCause = "cause",
    }
}

qapi_struct! {
    /// The actions in force.
    XActions {
        /// On a reset.
        reboot: RebootAction = "reboot",
        /// On a power-off.
        shutdown: ShutdownAction = "shutdown",
        /// On a panic of the guest.
        panic: PanicAction = "panic",
        /// On an expired watchdog.
        watchdog: WatchdogAction = "watchdog",
    }
}

qapi_struct! {
    /// The situation that a record comes from.
    XOldSituation {
        /// The state.
        state: RunState = "state",
        /// Guest power.
        power: XGuestPower = "power",
        /// The holds, the earliest first.
        holds: Vec<XHold> = "holds",
    }
}

qapi_struct! {
    /// The situation that a record leads to.
    XSituation {
        /// The state.
        state: RunState = "state",
        /// Guest power.
        power: XGuestPower = "power",
        /// Why the guest is off or broken.
        power_reason: Option<String> = "power-reason",
        /// The holds, the earliest first; none exactly while the machine is live.
        holds: Vec<XHold> = "holds",
        /// Whether `cont` is refused until a reset.
        needs_reset: bool = "needs-reset",
        /// The wake that came while the guest slept and the machine was held; it is delivered when the last hold goes.
        latched_wake: Option<String> = "latched-wake",
        /// The reset that waits for the end of a job, by its cause.
        pending_reset: Option<ShutdownCause> = "pending-reset",
        /// The job under way.
        job: Option<XJob> = "job",
        /// Counts resets and loads: another epoch, another guest.
        epoch: u64 = "epoch",
        /// The exit status that the process will have.
        exit_code: i64 = "exit-code",
        /// Whether the process is ending.
        exiting: bool = "exiting",
        /// The actions in force.
        actions: XActions = "actions",
        /// Whether the guest can suspend to RAM and be woken.
        wakeup_suspend_support: bool = "wakeup-suspend-support",
    }
}

qapi_struct! {
    /// A wake that was not delivered.
    XRefusedWake {
        /// What would have woken the guest.
        source: String = "source",
        /// Why it did not: forbidden or masked.
        fate: String = "fate",
    }
}

qapi_struct! {
    /// How a flush of the disks went.
    XFlush {
        /// Whether all went well.
        ok: bool = "ok",
        /// What did not.
        error: Option<String> = "error",
    }
}

qapi_struct! {
    /// One change of the machine's life, or one event told, or both.
    XLifecycleRecord {
        /// Its number: 1 for the machine's beginning, then one more for each record.
        sequence: u64 = "sequence",
        /// When it was made.
        time: XMoment = "time",
        /// What led to it.
        cause: XCause = "cause",
        /// The event that goes with it.
        event: Option<String> = "event",
        /// The situation before.
        old: XOldSituation = "old",
        /// The situation from it on.
        new: XSituation = "new",
        /// What woke the guest.
        woken_by: Option<String> = "woken-by",
        /// A wake that was not delivered.
        refused_wake: Option<XRefusedWake> = "refused-wake",
        /// The end of a flush, if it is news.
        flush: Option<XFlush> = "flush",
    }
}

qapi_struct! {
    /// Records, and where they stand.
    XLifecycleRecords {
        /// The records, by ascending number without a gap.
        records: Vec<XLifecycleRecord> = "records",
        /// How many of those asked for are not kept any more; they came before these.
        dropped: u64 = "dropped",
        /// The number to ask from next time.
        next: u64 = "next",
    }
}

qapi_struct! {
    /// Where the events of a connection begin.
    XLifecycleEvents {
        /// The number of the first record that comes, or would come, as an event.
        next: u64 = "next",
    }
}

qapi_struct! {
    /// Host time spent in a state.
    XStateTime {
        /// The state.
        state: RunState = "state",
        /// Nanoseconds.
        host_ns: u64 = "host-ns",
    }
}

qapi_struct! {
    /// Host time spent at a guest power, held or not.
    XPowerTime {
        /// The power.
        power: XGuestPower = "power",
        /// Nanoseconds.
        host_ns: u64 = "host-ns",
    }
}

qapi_struct! {
    /// The guest's clock at this moment.
    XGuestClock {
        /// Whether guest time advances.
        advances: bool = "advances",
        /// Guest time in nanoseconds.
        guest_ns: u64 = "guest-ns",
        /// The part of it that the guest was awake.
        awake_ns: u64 = "awake-ns",
    }
}

qapi_struct! {
    /// The last guest that came into this machine, by a load or a migration.
    XArrival {
        /// Guest time that it came with, in nanoseconds.
        guest_ns: u64 = "guest-ns",
        /// The wall clock in nanoseconds when its time last advanced where it came from. Missing if it never ran, or is of a
        /// program that did not say.
        left_wall_ns: Option<u64> = "left-wall-ns",
        /// When its time first advanced here. Missing while it stands.
        resumed: Option<XMoment> = "resumed",
        /// How long its time stood between the two, in nanoseconds of the wall clocks; below 0 where those of two hosts do not
        /// agree. The real-time clock makes up for it, unless it follows guest time (`-rtc clock=vm`).
        downtime_ns: Option<i64> = "downtime-ns",
        /// What of that was added to the guest's own time: 0.
        applied_ns: Option<i64> = "applied-ns",
    }
}

qapi_struct! {
    /// A wake source at this moment.
    XWakeSource {
        /// Its name.
        source: String = "source",
        /// Whether it is armed.
        armed: bool = "armed",
        /// By whom: always, device, interrupt-controller.
        armed_by: Option<String> = "armed-by",
        /// Whether the operator's policy allows it.
        allowed: bool = "allowed",
        /// Whether what it waits for has happened, so that it would wake the guest as soon as that sleeps and nothing
        /// holds the machine.
        due: bool = "due",
        /// How often it woke the guest.
        delivered: u64 = "delivered",
        /// How often it came while the machine was held, and waited.
        latched: u64 = "latched",
        /// How often the policy forbade it.
        forbidden: u64 = "forbidden",
        /// How often the guest had masked it.
        masked: u64 = "masked",
    }
}

qapi_struct! {
    /// The last wake.
    XLastWake {
        /// What woke the guest.
        source: String = "source",
        /// When.
        time: XMoment = "time",
    }
}

qapi_struct! {
    /// The last wake that was not delivered.
    XLastRefusedWake {
        /// What would have woken the guest.
        source: String = "source",
        /// Why it did not: forbidden or masked.
        fate: String = "fate",
        /// When.
        time: XMoment = "time",
    }
}

qapi_struct! {
    /// The last reset.
    XLastReset {
        /// What led to it.
        cause: XCause = "cause",
        /// When.
        time: XMoment = "time",
    }
}

qapi_struct! {
    /// The last flush that failed, if none has succeeded since.
    XFlushError {
        /// What went wrong.
        error: String = "error",
        /// When.
        time: XMoment = "time",
    }
}

qapi_struct! {
    /// The whole life of the machine at this moment.
    XLifecycle {
        /// The number of the record that this answer ends with.
        sequence: u64 = "sequence",
        /// This moment.
        time: XMoment = "time",
        /// The state.
        state: RunState = "state",
        /// Since when it has that name.
        state_since: XMoment = "state-since",
        /// Guest power.
        power: XGuestPower = "power",
        /// Since when.
        power_since: XMoment = "power-since",
        /// Why the guest is off or broken.
        power_reason: Option<String> = "power-reason",
        /// The holds, the earliest first; none exactly while the machine is live.
        holds: Vec<XHeld> = "holds",
        /// Whether nothing holds the machine.
        live: bool = "live",
        /// Whether the guest is suspended to RAM, also while it is held.
        asleep: bool = "asleep",
        /// Whether `cont` is refused until a reset.
        needs_reset: bool = "needs-reset",
        /// The wake that came while the guest slept and the machine was held; it is delivered when the last hold goes.
        latched_wake: Option<String> = "latched-wake",
        /// The reset that waits for the end of a job, by its cause.
        pending_reset: Option<ShutdownCause> = "pending-reset",
        /// The job under way.
        job: Option<XJob> = "job",
        /// Counts resets and loads: another epoch, another guest.
        epoch: u64 = "epoch",
        /// The exit status that the process will have.
        exit_code: i64 = "exit-code",
        /// Whether the process is ending.
        exiting: bool = "exiting",
        /// The actions in force.
        actions: XActions = "actions",
        /// Whether the guest can suspend to RAM and be woken.
        wakeup_suspend_support: bool = "wakeup-suspend-support",
        /// How many wakes were delivered.
        wakes: u64 = "wakes",
        /// The last of them.
        last_wake: Option<XLastWake> = "last-wake",
        /// The last wake that was not delivered.
        last_refused_wake: Option<XLastRefusedWake> = "last-refused-wake",
        /// The last reset.
        last_reset: Option<XLastReset> = "last-reset",
        /// The last flush, if it failed.
        flush_error: Option<XFlushError> = "flush-error",
        /// Host time in each state.
        state_times: Vec<XStateTime> = "state-times",
        /// Host time at each guest power.
        power_times: Vec<XPowerTime> = "power-times",
        /// The guest's clock. Not folded: looked at now.
        guest_clock: XGuestClock = "guest-clock",
        /// The last guest that came into this machine, by a load or a migration. Not folded: looked at now.
        arrival: Option<XArrival> = "arrival",
        /// The wake sources. Not folded: looked at now.
        wake_sources: Vec<XWakeSource> = "wake-sources",
    }
}
