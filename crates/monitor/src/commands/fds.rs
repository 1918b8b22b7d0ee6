//! Descriptors that a client passes over its unix socket, and the sets that paths `/dev/fdset/N` name.

use backends::{FdInfo, FdSetError};
use qmp::schema::{Type, arg, opt};
use qmp::{Args, ErrorClass, QmpError, qapi_struct};

use super::{Command, Env, command};

qapi_struct! {
    /// Where a descriptor was put.
    AddfdInfo {
        /// The set.
        fdset_id: i64 = "fdset-id",
        /// The number that names the descriptor in the set.
        fd: i64 = "fd",
    }
}

qapi_struct! {
    /// A descriptor of a set.
    FdsetFdInfo {
        /// The number that names it.
        fd: i64 = "fd",
        /// What the manager calls it.
        opaque: Option<String> = "opaque",
    }
}

qapi_struct! {
    /// A set of descriptors.
    FdsetInfo {
        /// Its number, the N of `/dev/fdset/N`.
        fdset_id: i64 = "fdset-id",
        /// Its descriptors.
        fds: Vec<FdsetFdInfo> = "fds",
    }
}

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// Names the oldest descriptor that this connection has sent along with its bytes and that no command has taken yet.
        /// It is closed when the connection ends, unless a command has used it up.
        "getfd" [arg("fdname", Type::Str, "The name, which does not begin with a digit.")] -> () = getfd
    },
    command! {
        /// Closes a descriptor that `getfd` has named.
        "closefd" [arg("fdname", Type::Str, "The name.")] -> () = closefd
    },
    command! {
        /// Puts the oldest descriptor that this connection has sent, and that no command has taken yet, into a set.
        "add-fd" [
            opt("fdset-id", Type::Int, "The set, made if need be; the first free one if absent."),
            opt("opaque", Type::Str, "What to call the descriptor."),
        ] -> AddfdInfo = add_fd
    },
    command! {
        /// Takes a descriptor, or all of them, out of a set. What has been opened from it stays open.
        "remove-fd" [
            arg("fdset-id", Type::Int, "The set."),
            opt("fd", Type::Int, "The descriptor; all if absent."),
        ] -> () = remove_fd
    },
    command! {
        /// The sets of descriptors.
        "query-fdsets" [] -> Vec<FdsetInfo> = query_fdsets
    },
];

fn none_sent() -> QmpError {
    QmpError::generic("No file descriptor supplied via SCM_RIGHTS")
}

fn getfd(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    let name = args.str("fdname");
    // In QEMU's order: the descriptor first, so that a refused name uses it up.
    let fd = env.client.take_waiting().ok_or_else(none_sent)?;
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(QmpError::expects("fdname", "a name not starting with a digit"));
    }
    env.client.name(name, fd).map_err(|error| QmpError::generic(error.to_string()))
}

fn closefd(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    let name = args.str("fdname");
    let found = env.client.take_named(name);
    found.map(drop).ok_or_else(|| no_such(&name.chars().take(80).collect::<String>()))
}

fn no_such(name: &str) -> QmpError {
    QmpError::generic(format!("File descriptor named '{name}' not found"))
}

fn add_fd(env: &Env<'_>, args: &Args) -> Result<AddfdInfo, QmpError> {
    let fd = env.client.take_waiting().ok_or_else(none_sent)?;
    let set = match args.opt_i64("fdset-id") {
        None => None,
        Some(set) => {
            let expected = if set < 0 { "a non-negative value" } else { "a value of at most 4294967295" };
            Some(u32::try_from(set).map_err(|_| QmpError::expects("fdset-id", expected))?)
        }
    };
    let opaque = args.opt_str("opaque").map(|opaque| opaque.chars().take(1024).collect());
    let (set, fd) = env.config().fdsets.add(set, fd, opaque).map_err(refused)?;
    Ok(AddfdInfo { fdset_id: set.into(), fd: fd.into() })
}

fn refused(error: FdSetError) -> QmpError {
    QmpError::new(ErrorClass::GenericError, error.to_string())
}

fn remove_fd(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    let set = args.opt_i64("fdset-id").unwrap_or_default();
    let fd = args.opt_i64("fd");
    let removed = match (u32::try_from(set), fd.map(i32::try_from).transpose()) {
        (Ok(set), Ok(fd)) => env.config().fdsets.remove(set, fd),
        // No set or descriptor has such a number.
        _ => false,
    };
    if removed {
        return Ok(());
    }
    Err(match fd {
        Some(fd) => no_such(&format!("fdset-id:{set}, fd:{fd}")),
        None => no_such(&format!("fdset-id:{set}")),
    })
}

fn query_fdsets(env: &Env<'_>, _: &Args) -> Result<Vec<FdsetInfo>, QmpError> {
    let mut sets: Vec<FdsetInfo> = Vec::new();
    for FdInfo { set, fd, opaque } in env.config().fdsets.list() {
        let info = FdsetFdInfo { fd: fd.into(), opaque };
        match sets.last_mut().filter(|last| last.fdset_id == i64::from(set)) {
            Some(last) => last.fds.push(info),
            None => sets.push(FdsetInfo { fdset_id: set.into(), fds: vec![info] }),
        }
    }
    Ok(sets)
}
