//! QMP commands, one by one, onto the engine.

use engine::{ManageError, Status};
use qmp::schema::Qapi;
use qmp::types::{
    CpuInfoFast, CpuInstanceProperties, CurrentMachineParams, KvmInfo, NameInfo, SysEmuTarget, TargetInfo,
    UuidInfo,
};
use qmp::{Args, Call, Command, QmpError};
use runstate::{ActionChange, ManagementRequest, ShutdownCause};
use serde_json::Value;
use std::str::FromStr;

use crate::context::{Context, TestClock};
use crate::{convert, hmp};

type Answer = Result<Value, QmpError>;

/// Whether the command only looks at the status, so that it can be run again when that has changed before its reply was
/// queued.
pub(crate) fn is_lifecycle_query(call: &Call) -> bool {
    match call.command {
        Command::QueryStatus | Command::QueryCurrentMachine => true,
        Command::HumanMonitorCommand => hmp::is_lifecycle_query(call.args.str("command-line")),
        _ => false,
    }
}

/// Runs a command. `status` is what the connection's client knows.
pub(crate) fn execute(context: &Context, status: &Status, call: &Call) -> Answer {
    match call.command {
        // The session answers it itself.
        Command::QmpCapabilities => done(),
        Command::QueryVersion => Ok(context.version.to_value()),
        Command::QueryCommands => Ok(context.commands.query_commands()),
        Command::QueryQmpSchema => Ok(context.schema().clone()),
        Command::QueryStatus => Ok(convert::status_info(status).to_value()),
        Command::QueryCurrentMachine => {
            Ok(CurrentMachineParams { wakeup_suspend_support: status.wakeup_supported }.to_value())
        }
        Command::QueryCpusFast => Ok(cpus(context).to_value()),
        Command::QueryName => Ok(NameInfo { name: context.config.name.clone() }.to_value()),
        Command::QueryUuid => Ok(UuidInfo { uuid: context.uuid().to_owned() }.to_value()),
        Command::QueryKvm => Ok(KvmInfo { enabled: false, present: false }.to_value()),
        Command::QueryTarget => Ok(TargetInfo { arch: SysEmuTarget::Riscv64 }.to_value()),
        Command::QueryChardev => Ok((context.config.chardevs)().to_value()),
        Command::QueryMachines => Ok(context.config.machines.to_value()),
        Command::QueryCommandLineOptions => options(context, &call.args),
        Command::Stop => manage(context, ManagementRequest::Stop),
        Command::Cont => manage(context, ManagementRequest::Cont),
        Command::SystemWakeup => manage(context, ManagementRequest::SystemWakeup),
        Command::SystemReset => manage(context, ManagementRequest::SystemReset),
        Command::SystemPowerdown => manage(context, ManagementRequest::SystemPowerdown),
        Command::SetAction => manage(context, ManagementRequest::SetActions(action_change(&call.args)?)),
        Command::Quit => manage(context, ManagementRequest::Quit { cause: ShutdownCause::HostQmpQuit }),
        Command::InjectNmi => manage(context, ManagementRequest::InjectNmi),
        Command::HumanMonitorCommand => human(context, status, &call.args),
        Command::XTestClockAdvance => advance(context, &call.args),
    }
}

fn done() -> Answer {
    Ok(().to_value())
}

fn manage(context: &Context, request: ManagementRequest) -> Answer {
    context.engine().manage(request).map_err(refused)?;
    done()
}

/// A refusal's own words are what clients see (`spec/run-state.md` section 3).
fn refused(error: ManageError) -> QmpError {
    QmpError::generic(error.to_string())
}

fn cpus(context: &Context) -> Vec<CpuInfoFast> {
    let none = CpuInstanceProperties {
        node_id: None,
        socket_id: None,
        cluster_id: None,
        core_id: None,
        thread_id: None,
    };
    let cpu = |hart: engine::HartInfo| {
        let index = i64::from(hart.id);
        CpuInfoFast {
            cpu_index: index,
            qom_path: format!("/machine/soc0/harts[{index}]"),
            thread_id: hart.thread_id.into(),
            props: Some(CpuInstanceProperties { core_id: Some(index), ..none.clone() }),
            target: SysEmuTarget::Riscv64,
        }
    };
    context.engine().harts().into_iter().map(cpu).collect()
}

fn options(context: &Context, args: &Args) -> Answer {
    let all = &context.config.options;
    let Some(name) = args.opt_str("option") else { return Ok(all.to_value()) };
    match all.iter().find(|option| option.option == name) {
        Some(option) => Ok(Value::Array(vec![option.to_value()])),
        None => Err(QmpError::generic(format!(
            "invalid option name: {}",
            name.chars().take(80).collect::<String>()
        ))),
    }
}

fn action_change(args: &Args) -> Result<ActionChange, QmpError> {
    Ok(ActionChange {
        reboot: action(args, "reboot")?,
        shutdown: action(args, "shutdown")?,
        panic: action(args, "panic")?,
        watchdog: action(args, "watchdog")?,
    })
}

/// An optional action. Its name has passed the checks of the protocol, which lists the same names.
fn action<T: FromStr>(args: &Args, name: &str) -> Result<Option<T>, QmpError> {
    let parse = |value: &str| value.parse().map_err(|_| QmpError::bad_value(name, value));
    args.opt_str(name).map(parse).transpose()
}

fn human(context: &Context, status: &Status, args: &Args) -> Answer {
    let index = args.opt_i64("cpu-index").unwrap_or(0);
    let harts = context.engine().harts();
    let hart = u32::try_from(index).ok().filter(|index| harts.iter().any(|hart| hart.id == *index));
    let Some(hart) = hart else { return Err(QmpError::expects("cpu-index", "a CPU number")) };
    Ok(Value::String(hmp::run_line(context, status, hart, &[], args.str("command-line"))))
}

/// Lets time pass on the host's clocks as the machine sees them. When it returns, every timer that is now due has fired
/// (if the machine's present mode lets it), and what those timers posted to the machine thread has been handled, with its
/// events queued. What goes by way of a hart, an interrupt's handler for instance, is under way.
fn advance(context: &Context, args: &Args) -> Answer {
    let Some(TestClock { clock, timers }) = &context.config.test_clock else {
        return Err(QmpError::command_not_found("x-test-clock-advance"));
    };
    let monotonic = args.opt_i64("monotonic-ns").unwrap_or(0);
    let realtime = args.opt_i64("realtime-ns").unwrap_or(0);
    let Ok(forward) = u64::try_from(monotonic) else {
        return Err(QmpError::expects("monotonic-ns", "a time that does not go back"));
    };
    if monotonic == realtime {
        clock.advance(forward);
    } else {
        if monotonic != 0 {
            clock.advance_monotonic(forward);
        }
        if realtime != 0 {
            clock.step_realtime(realtime);
        }
    }
    timers.run_due();
    // Asked of a hart that does not exist it only takes its turn behind what the timers posted.
    let _ = context.engine().describe_hart(u32::MAX);
    done()
}
