//! Snapshots in the directory of `-x-snapshots`. Programs save, load and delete them as jobs; people wait for the end.

use std::time::{SystemTime, UNIX_EPOCH};

use migration::snapshot::{LoadOptions, SaveOptions, SnapshotContent, SnapshotError, SnapshotInfo};
use qmp::schema::{Type, arg, opt};
use qmp::{Args, QmpError, qapi_struct};

use super::{Command, Env, command};
use crate::hmp::{HmpError, Human, Screen, Words};

qapi_struct! {
    /// A snapshot.
    XSnapshotInfo {
        /// Its name.
        name: String = "name",
        /// Bytes that it takes on the disk.
        size: i64 = "size",
        /// What was said of it when it was saved.
        description: Option<String> = "description",
        /// When it was begun, in seconds since 1970 by the host's clock.
        date_sec: Option<i64> = "date-sec",
        /// The program that wrote it.
        program: Option<String> = "program",
        /// Bytes of the machine's memory.
        memory: Option<i64> = "memory",
        /// The machine's state, as `query-status` would have named it.
        state: Option<String> = "state",
        /// The guest's power.
        power: Option<String> = "power",
        /// Guest time in ns.
        guest_ns: Option<i64> = "guest-ns",
        /// The snapshot that it is the difference from.
        parent: Option<String> = "parent",
        /// Whether it is compressed: then it is read as a whole before the machine goes on.
        compressed: Option<bool> = "compressed",
        /// Why it cannot be loaded.
        error: Option<String> = "error",
    }
}

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// Saves the machine as a job. It is held only while its state is taken; memory is written while it runs. The
        /// reply comes when it goes on, the snapshot is there when the job has concluded.
        "x-snapshot-save" [
            arg("job-id", Type::Str, "The job's id."),
            arg("name", Type::Str, "The name, which no other snapshot has."),
            opt("description", Type::Str, "What to say of it."),
            opt("compress", Type::Bool, "Whether to make it smaller; it is read as a whole then."),
            opt("incremental", Type::Bool, "Whether to save only what has changed since the last one that was loaded, or saved so. Without such a one all is saved."),
        ] -> () = save
    }
    .human(
        Human::new(&["savevm"], "save a snapshot of the machine, in place of one with the same name", save_for_people)
            .words("[NAME]", Words::Any(0, 1)),
    ),
    command! {
        /// Loads a snapshot into the machine as a job. All that can be wrong with it is looked at first, and a machine that
        /// was not to be loaded is left as it was; memory is read when the guest needs it. A guest that slept sleeps on.
        "x-snapshot-load" [
            arg("job-id", Type::Str, "The job's id."),
            arg("name", Type::Str, "Which snapshot."),
            opt("prefault", Type::Bool, "Whether to read all memory first."),
        ] -> () = load
    }
    .human(
        Human::new(&["loadvm"], "load a snapshot; a guest that slept is woken if the machine was running", load_for_people)
            .words("NAME", Words::Any(1, 1)),
    ),
    command! {
        /// Makes the machine one of many that begin from a snapshot, as a job. As `x-snapshot-load`, but that what the guest
        /// does not write is not copied: machines that began from one snapshot share its pages on the host. Each gets an
        /// identity of its own: `x-query-identity`.
        "x-snapshot-fork" [
            arg("job-id", Type::Str, "The job's id."),
            arg("name", Type::Str, "Which snapshot."),
        ] -> () = fork
    },
    command! {
        /// Deletes a snapshot as a job. One that others are the difference from stays.
        "x-snapshot-delete" [
            arg("job-id", Type::Str, "The job's id."),
            arg("name", Type::Str, "Which snapshot."),
        ] -> () = |env: &Env<'_>, args: &Args| {
            let name = args.str("name").to_owned();
            env.config().snapshots.begin_delete(args.str("job-id"), name).map_err(refused)
        }
    }
    .human(Human::new(&["delvm"], "delete a snapshot", delete_for_people).words("NAME", Words::Any(1, 1))),
    command! {
        /// All snapshots, by name.
        "x-snapshot-list" [] -> Vec<XSnapshotInfo> = |env: &Env<'_>, _: &Args| {
            let all = env.config().snapshots.list().map_err(refused)?;
            Ok(all.into_iter().map(XSnapshotInfo::from).collect())
        }
    }
    .human(Human::info(&["snapshots"], "show the snapshots", info_snapshots)),
];

fn refused(error: SnapshotError) -> QmpError {
    QmpError::generic(error.to_string())
}

fn save(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    let flag = |name: &str| args.opt_bool(name).unwrap_or(false);
    let options = SaveOptions {
        name: args.str("name").to_owned(),
        description: args.opt_str("description").unwrap_or_default().to_owned(),
        compress: flag("compress"),
        incremental: flag("incremental"),
        replace: false,
    };
    env.config().snapshots.begin_save(env.by(), args.str("job-id"), options).map_err(refused)
}

fn save_for_people(screen: &mut Screen<'_>, words: &[&str]) -> Result<(), HmpError> {
    let name = words.first().map_or_else(|| format!("vm-{}", now().compact()), |&name| name.to_owned());
    let options = SaveOptions { name, replace: true, ..SaveOptions::default() };
    let env = screen.env;
    Ok(env.config().snapshots.save(env.by(), &options).map_err(refused)?)
}

fn load(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    let options = LoadOptions {
        name: args.str("name").to_owned(),
        prefault: args.opt_bool("prefault").unwrap_or(false),
        keep_asleep: true,
        ..LoadOptions::default()
    };
    env.config().snapshots.begin_load(env.by(), args.str("job-id"), options).map_err(refused)
}

fn fork(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    let name = args.str("name").to_owned();
    let options = LoadOptions { name, keep_asleep: true, fork: true, ..LoadOptions::default() };
    env.config().snapshots.begin_load(env.by(), args.str("job-id"), options).map_err(refused)
}

fn load_for_people(screen: &mut Screen<'_>, words: &[&str]) -> Result<(), HmpError> {
    let name = words.first().copied().unwrap_or_default().to_owned();
    let env = screen.env;
    let options = LoadOptions { name, ..LoadOptions::default() };
    Ok(env.config().snapshots.load(env.by(), &options).map_err(refused)?)
}

fn delete_for_people(screen: &mut Screen<'_>, words: &[&str]) -> Result<(), HmpError> {
    let name = words.first().copied().unwrap_or_default();
    Ok(screen.env.config().snapshots.delete(name).map_err(refused)?)
}

/// The table that QEMU prints.
fn info_snapshots(screen: &mut Screen<'_>, _: &[&str]) -> Result<(), HmpError> {
    let all = screen.env.config().snapshots.list().map_err(refused)?;
    if all.is_empty() {
        screen.print("There is no snapshot available.");
        return Ok(());
    }
    screen.print("List of snapshots present on all disks:");
    screen.print(&row(["ID", "TAG", "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT"]));
    for SnapshotInfo { name, content, error, size } in all {
        let (date, clock) = match &content {
            Some(content) => (date_of(content).to_string(), clock(content.guest_ns.unwrap_or_default())),
            None => ("cannot be read".to_owned(), String::new()),
        };
        let date = if content.is_some() && error.is_some() { "cannot be loaded".to_owned() } else { date };
        screen.print(&row(["--", &name, &readable(size), &date, &clock, "--"]));
    }
    Ok(())
}

fn row([id, tag, size, date, clock, icount]: [&str; 6]) -> String {
    format!("{id:<7} {tag:<16} {size:>8} {date:>19} {clock:>15} {icount:>10}")
}

/// Bytes for people: `12.3 MiB`.
fn readable(bytes: u64) -> String {
    let (mut size, mut unit) = (bytes as f64, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, larger);
    }
    let digits = match size {
        size if size >= 100.0 || unit == "B" => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{size:.digits$} {unit}")
}

/// Guest time for people: `0000:01:02.345`.
fn clock(guest_ns: u64) -> String {
    let ms = guest_ns / 1_000_000;
    let (seconds, hours) = (ms / 1000, ms / 3_600_000);
    format!("{hours:04}:{:02}:{:02}.{:03}", seconds / 60 % 60, seconds % 60, ms % 1000)
}

/// A moment of the host's wall clock, in UTC.
struct Date {
    days: u64,
    second: u64,
}

fn date_of(content: &SnapshotContent) -> Date {
    Date::at(content.created_ms / 1000)
}

fn now() -> Date {
    Date::at(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()))
}

impl Date {
    fn at(seconds: u64) -> Self {
        Self { days: seconds / 86_400, second: seconds % 86_400 }
    }

    /// Year, month and day of the Gregorian calendar.
    fn civil(&self) -> (u64, u64, u64) {
        // Years begin in March, so that the odd day is the last one of a year: it is a plain division then.
        let days = self.days + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
        let march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march + 2) / 5 + 1;
        let month = if march < 10 { march + 3 } else { march - 9 };
        (year + era * 400 + u64::from(month <= 2), month, day)
    }

    /// `20261126204500`.
    fn compact(&self) -> String {
        self.to_string().chars().filter(char::is_ascii_digit).collect()
    }
}

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ((year, month, day), second) = (self.civil(), self.second);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

impl From<SnapshotInfo> for XSnapshotInfo {
    fn from(info: SnapshotInfo) -> Self {
        let number = |value| i64::try_from(value).unwrap_or(i64::MAX);
        let of = info.content.as_ref();
        Self {
            name: info.name,
            size: number(info.size),
            description: of.map(|content| content.description.clone()),
            date_sec: of.map(|content| number(content.created_ms / 1000)),
            program: of.map(|content| content.program.clone()),
            memory: of.map(|content| number(content.memory)),
            state: of.and_then(|content| content.state.clone()),
            power: of.and_then(|content| content.power.clone()),
            guest_ns: of.and_then(|content| content.guest_ns).map(number),
            parent: of.and_then(|content| content.parent.clone()),
            compressed: of.map(|content| content.compressed),
            error: info.error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_sizes_and_clocks_are_written_as_people_read_them() {
        // From `date -u -d @SECONDS`.
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_795_725_900, "2026-11-26 20:45:00"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(Date::at(seconds).to_string(), text);
        }
        assert_eq!(Date::at(1_795_725_900).compact(), "20261126204500");
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (12_900_000, "12.3 MiB")] {
            assert_eq!(readable(bytes), text);
        }
        assert_eq!(clock(3_723_004_999_999), "0001:02:03.004");
    }
}
