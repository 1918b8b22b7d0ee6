//! Migrations: begun, followed, steered and cancelled. What they are set to is in [`settings`], how they stand in [`info`],
//! where they go in [`place`].

mod info;
mod place;
mod settings;

use backends::FdSets;
use migration::{Lent, MigrationError};
use qmp::schema::{Qapi, QapiEnum, Type, arg, opt};
use qmp::{Args, QmpError, qapi_enum};
use serde_json::Value;

use super::{Command, Env, command};
use crate::hmp::{HmpError, Human, Screen, Words};
use info::MigrationInfo;
use place::MigrationChannel;

qapi_enum! {
    /// How a migration stands.
    MigrationStatus {
        /// There was none.
        None = "none",
        /// It connects and prepares.
        Setup = "setup",
        /// It was asked to end.
        Cancelling = "cancelling",
        /// It was cancelled.
        Cancelled = "cancelled",
        /// Memory is copied.
        Active = "active",
        /// The guest runs over there and its memory follows.
        PostcopyActive = "postcopy-active",
        /// The connection was lost after the guest began to run over there.
        PostcopyPaused = "postcopy-paused",
        /// About to connect again after that.
        PostcopyRecoverSetup = "postcopy-recover-setup",
        /// Connects again after that.
        PostcopyRecover = "postcopy-recover",
        /// It is done.
        Completed = "completed",
        /// It has failed.
        Failed = "failed",
        /// Two machines run in lockstep; never here.
        Colo = "colo",
        /// The machine is held; waits for `migrate-continue`.
        PreSwitchover = "pre-switchover",
        /// The devices' state is sent.
        Device = "device",
        /// Waits for a device to be unplugged; never here.
        WaitUnplug = "wait-unplug",
    }
}

impl From<runstate::MigrationStatus> for MigrationStatus {
    fn from(status: runstate::MigrationStatus) -> Self {
        // Both sides list the same names, which the tests hold.
        Self::from_name(status.as_str()).unwrap_or(Self::None)
    }
}

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// Begins to send the machine away, while it runs. `query-migrate` and the event MIGRATION tell how it goes.
        "migrate" [
            opt("uri", Type::Str, "Where to: unix:PATH, tcp:HOST:PORT, fd:NAME, exec:COMMAND or file:PATH[,offset=BYTES]."),
            opt("channels", <Vec<MigrationChannel>>::TYPE, "The same in parts."),
            opt("detach", Type::Bool, "Accepted; the command never waits for the end."),
            opt("resume", Type::Bool, "Connect anew after a connection was lost in postcopy."),
        ] -> () = migrate
    }
    .human(
        Human::new(&["migrate"], "send the machine away, to unix:, tcp:, fd:, exec: or file:", migrate_for_people)
            .words("[-d] [-r] URI", Words::Any(1, usize::MAX)),
    ),
    command! {
        /// Begins to take in a machine. The program has to wait for one (`-incoming defer`).
        "migrate-incoming" [
            opt("uri", Type::Str, "Where from: unix:PATH, tcp:HOST:PORT, fd:NAME, exec:COMMAND or file:PATH[,offset=BYTES]."),
            opt("channels", <Vec<MigrationChannel>>::TYPE, "The same in parts."),
            opt("exit-on-error", Type::Bool, "Whether the process ends if it fails, as it does by default. If not another one may be begun."),
        ] -> () = migrate_incoming
    }
    .human(
        Human::new(&["migrate_incoming"], "take in a machine, from unix:, tcp:, fd:, exec: or file:", incoming_for_people)
            .words("URI", Words::Any(1, usize::MAX)),
    ),
    command! {
        /// Cancels the migration under way; nothing if there is none. The machine goes on here.
        "migrate_cancel" [] -> () = |env: &Env<'_>, _: &Args| cancel(env)
    }
    .human(Human::new(&["migrate_cancel"], "cancel the migration under way", |screen, _| Ok(cancel(screen.env)?))),
    command! {
        /// Goes on with a migration that waits before the switch-over (capability `pause-before-switchover`).
        "migrate-continue" [arg("state", MigrationStatus::TYPE, "Where it waits: `pre-switchover`.")] -> () = go_on
    }
    .human(
        Human::new(&["migrate_continue"], "go on with a migration that waits", continue_for_people)
            .words("STATE", Words::One(&["pre-switchover"])),
    ),
    command! {
        /// Pauses a migration in postcopy by cutting its connection.
        oob "migrate-pause" [] -> () = |env: &Env<'_>, _: &Args| pause(env)
    }
    .human(Human::new(&["migrate_pause"], "cut the connection of a migration in postcopy", |screen, _| {
        Ok(pause(screen.env)?)
    })),
    command! {
        /// The destination listens anew after the connection was lost in postcopy.
        oob "migrate-recover" [arg("uri", Type::Str, "Where: unix:PATH, tcp:HOST:PORT or fd:NAME.")] -> () = recover
    }
    .human(
        Human::new(&["migrate_recover"], "listen anew for a migration in postcopy", recover_for_people)
            .words("URI", Words::Any(1, 1)),
    ),
    command! {
        /// Has the guest run over there from now on, its memory following.
        "migrate-start-postcopy" [] -> () = |env: &Env<'_>, _: &Args| start_postcopy(env)
    }
    .human(Human::new(&["migrate_start_postcopy"], "have the guest run over there from now on", |screen, _| {
        Ok(start_postcopy(screen.env)?)
    })),
    command! {
        /// How the migration under way stands, or how the last one ended.
        "query-migrate" [] -> MigrationInfo = |env: &Env<'_>, _: &Args| Ok(info::now(env))
    }
    .human(Human::info(&["migrate"], "show how the migration stands", info::show)),
    settings::QUERY_CAPABILITIES,
    settings::SET_CAPABILITIES,
    settings::QUERY_PARAMETERS,
    settings::SET_PARAMETERS,
];

/// A refusal in its own words, which are QEMU's where it has them.
fn refused(error: MigrationError) -> QmpError {
    QmpError::generic(error.to_string())
}

/// The descriptors that an address may name.
fn with_lent<T>(env: &Env<'_>, run: impl FnOnce(&Lent<'_>) -> T) -> T {
    let named = |name: &str| env.client.take_named(name);
    let fdsets: &FdSets = &env.config().fdsets;
    run(&Lent { named: &named, fdsets })
}

fn migrate(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    let address = place::address(args)?;
    if args.opt_bool("resume").unwrap_or(false) {
        return resume(env, &address);
    }
    begin(env, &address).map(drop)
}

fn begin(env: &Env<'_>, address: &migration::Address) -> Result<engine::Job, QmpError> {
    with_lent(env, |lent| env.context.migrations.migrate(env.by(), address, lent)).map_err(refused)
}

/// Hands the migration that waits a place for a new connection; what becomes of it is told by the migration's status.
fn resume(env: &Env<'_>, address: &migration::Address) -> Result<(), QmpError> {
    with_lent(env, |lent| env.context.migrations.resume(address, lent)).map_err(refused)
}

fn migrate_for_people(screen: &mut Screen<'_>, words: &[&str]) -> Result<(), HmpError> {
    let flags = words.iter().take_while(|word| matches!(**word, "-d" | "-r")).count();
    let (flags, uri) = words.split_at_checked(flags).unwrap_or_default();
    let address = place::parse(&uri.join(" "))?;
    if flags.contains(&"-r") {
        return Ok(resume(screen.env, &address)?);
    }
    let job = begin(screen.env, &address)?;
    if flags.contains(&"-d") {
        return Ok(());
    }
    let control = job.control().clone();
    if job.wait()
        && let Some(error) = control.report().error
    {
        return Err(QmpError::generic(error.to_string()).into());
    }
    Ok(())
}

fn migrate_incoming(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    let address = place::address(args)?;
    take_in(env, &address, args.opt_bool("exit-on-error").unwrap_or(true))
}

fn incoming_for_people(screen: &mut Screen<'_>, words: &[&str]) -> Result<(), HmpError> {
    let address = place::parse(&words.join(" "))?;
    Ok(take_in(screen.env, &address, true)?)
}

fn take_in(env: &Env<'_>, address: &migration::Address, exit: bool) -> Result<(), QmpError> {
    let begun = with_lent(env, |lent| env.context.migrations.take_in(env.by(), address, lent, exit));
    begun.map(drop).map_err(refused)
}

fn cancel(env: &Env<'_>) -> Result<(), QmpError> {
    env.context.migrations.cancel(env.by()).map_err(refused)
}

fn go_on(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    go_on_from(env, args.str("state"))
}

fn continue_for_people(screen: &mut Screen<'_>, words: &[&str]) -> Result<(), HmpError> {
    Ok(go_on_from(screen.env, words.first().copied().unwrap_or_default())?)
}

fn go_on_from(env: &Env<'_>, state: &str) -> Result<(), QmpError> {
    // A state that the machine does not know is not where it is.
    let known = runstate::MigrationStatus::ALL.iter().copied().find(|status| status.as_str() == state);
    env.context.migrations.go_on(known).map_err(refused)
}

fn pause(env: &Env<'_>) -> Result<(), QmpError> {
    env.context.migrations.pause().map_err(refused)
}

fn recover(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    recover_from(env, args.str("uri"))
}

fn recover_for_people(screen: &mut Screen<'_>, words: &[&str]) -> Result<(), HmpError> {
    Ok(recover_from(screen.env, words.first().copied().unwrap_or_default())?)
}

fn recover_from(env: &Env<'_>, uri: &str) -> Result<(), QmpError> {
    let address = place::parse(uri)?;
    with_lent(env, |lent| env.context.migrations.recover(&address, lent)).map_err(refused)
}

fn start_postcopy(env: &Env<'_>) -> Result<(), QmpError> {
    env.context.migrations.start_postcopy().map_err(refused)
}

/// A member of a JSON object that has passed the checks, as a text.
fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_name() {
        for &status in runstate::MigrationStatus::ALL {
            assert_eq!(MigrationStatus::from(status).name(), status.as_str());
        }
    }
}
