//! What the human monitor's commands do.

use runstate::{ActionChange, ManagementRequest, RunState, ShutdownCause, WatchdogAction};

use super::table::{self, COMMANDS, Entry, Run};
use super::{Env, HmpError, shorten};

type Done = Result<(), HmpError>;

fn manage(env: &Env<'_>, request: ManagementRequest) -> Done {
    Ok(env.context.engine().manage(request)?)
}

pub(super) fn cont(env: &mut Env<'_>, _: &[&str]) -> Done {
    manage(env, ManagementRequest::Cont)
}

pub(super) fn nmi(env: &mut Env<'_>, _: &[&str]) -> Done {
    manage(env, ManagementRequest::InjectNmi)
}

pub(super) fn quit(env: &mut Env<'_>, _: &[&str]) -> Done {
    manage(env, ManagementRequest::Quit { cause: ShutdownCause::HostQmpQuit })
}

pub(super) fn stop(env: &mut Env<'_>, _: &[&str]) -> Done {
    manage(env, ManagementRequest::Stop)
}

pub(super) fn system_powerdown(env: &mut Env<'_>, _: &[&str]) -> Done {
    manage(env, ManagementRequest::SystemPowerdown)
}

pub(super) fn system_reset(env: &mut Env<'_>, _: &[&str]) -> Done {
    manage(env, ManagementRequest::SystemReset)
}

pub(super) fn system_wakeup(env: &mut Env<'_>, _: &[&str]) -> Done {
    manage(env, ManagementRequest::SystemWakeup)
}

pub(super) fn watchdog_action(env: &mut Env<'_>, words: &[&str]) -> Done {
    let word = words.first().copied().unwrap_or_default();
    let action: WatchdogAction = word.parse().map_err(|_| HmpError::BadValue(shorten(word)))?;
    manage(
        env,
        ManagementRequest::SetActions(ActionChange { watchdog: Some(action), ..ActionChange::default() }),
    )
}

/// `name [args] -- description`: the form that qmp-shell reads the commands from.
fn describe(env: &mut Env<'_>, before: &str, entry: &Entry) {
    env.print(&format!("{before}{} {} -- {}", entry.names(), entry.params, entry.help));
}

/// Lists the commands of a table; `before` is the command that they belong to.
pub(super) fn list(env: &mut Env<'_>, before: &str, table: &[Entry]) {
    let before = if before.is_empty() { String::new() } else { format!("{before} ") };
    table.iter().for_each(|entry| describe(env, &before, entry));
}

pub(super) fn help(env: &mut Env<'_>, words: &[&str]) -> Done {
    let (mut sub, mut before) = (COMMANDS, String::new());
    for word in words {
        match table::find(sub, word) {
            Some(Entry { run: Run::Table(inner), names, .. }) => {
                sub = inner;
                before = names.first().copied().unwrap_or_default().to_owned();
            }
            Some(entry) => {
                let before = if before.is_empty() { before } else { format!("{before} ") };
                describe(env, &before, entry);
                return Ok(());
            }
            None => {
                let typed = if before.is_empty() { (*word).to_owned() } else { format!("{before} {word}") };
                env.print(&format!("unknown command: '{}'", shorten(&typed)));
                return Ok(());
            }
        }
    }
    list(env, &before, sub);
    Ok(())
}

pub(super) fn info_chardev(env: &mut Env<'_>, _: &[&str]) -> Done {
    for device in (env.context.config.chardevs)() {
        env.print(&format!("{}: filename={}", device.label, device.filename));
    }
    Ok(())
}

pub(super) fn info_cpus(env: &mut Env<'_>, _: &[&str]) -> Done {
    for hart in env.context.engine().harts() {
        let mark = if hart.id == env.cpu { '*' } else { ' ' };
        env.print(&format!("{mark} CPU #{}: thread_id={}", hart.id, hart.thread_id));
    }
    Ok(())
}

pub(super) fn info_history(env: &mut Env<'_>, _: &[&str]) -> Done {
    for (at, line) in env.history.iter().enumerate() {
        env.print(&format!("{at}: '{line}'"));
    }
    Ok(())
}

pub(super) fn info_kvm(env: &mut Env<'_>, _: &[&str]) -> Done {
    env.print("kvm support: not compiled");
    Ok(())
}

pub(super) fn info_name(env: &mut Env<'_>, _: &[&str]) -> Done {
    let context = env.context;
    if let Some(name) = &context.config.name {
        env.print(name);
    }
    Ok(())
}

pub(super) fn info_registers(env: &mut Env<'_>, words: &[&str]) -> Done {
    let harts = env.context.engine().harts();
    let wanted: Vec<u32> = match words.first() {
        None => vec![env.cpu],
        Some(&"-a") => harts.iter().map(|hart| hart.id).collect(),
        Some(word) => vec![word.parse().map_err(|_| HmpError::NoCpu(shorten(word)))?],
    };
    for id in wanted {
        let text = env.context.engine().describe_hart(id).ok_or_else(|| HmpError::NoCpu(id.to_string()))?;
        env.print(&format!("\nCPU#{id}\n{}", text.trim_end()));
    }
    Ok(())
}

/// `VM status: ...`, in the words of `spec/run-state.md` 1.4.
pub(super) fn info_status(env: &mut Env<'_>, _: &[&str]) -> Done {
    let text = match env.status.state {
        RunState::Running => "VM status: running".to_owned(),
        RunState::Paused => "VM status: paused".to_owned(),
        other => format!("VM status: paused ({other})"),
    };
    env.print(&text);
    Ok(())
}

pub(super) fn info_uuid(env: &mut Env<'_>, _: &[&str]) -> Done {
    let context = env.context;
    env.print(context.uuid());
    Ok(())
}

pub(super) fn info_version(env: &mut Env<'_>, _: &[&str]) -> Done {
    let context = env.context;
    env.print(&format!("{} ({})", context.qemu_version(), context.config.program));
    Ok(())
}
