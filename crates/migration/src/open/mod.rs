//! Addresses, opened. What can be refused at once is opened before the job begins; connecting and waiting for the other side
//! is the job's.

mod reception;
mod source;
mod target;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backends::{FdSetError, FdSets};
use rustix::process::Pid;

use crate::channel::{Channel, Cutter, Program};
use crate::tls::Failure;
pub(crate) use reception::Reception;
pub(crate) use source::Doors;
pub use source::{Listening, Source};
pub use target::Target;

/// Why a place cannot be opened. The texts are QEMU's where it has them.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No descriptor of that name.
    #[error("File descriptor named '{0}' has not been found")]
    NoSuchName(String),
    /// No descriptor of that number, or not one to take.
    #[error("file descriptor {number} cannot be used: {source}")]
    BadNumber {
        /// The number.
        number: i32,
        /// Why.
        source: sys::AdoptError,
    },
    /// The set of `/dev/fdset/N`.
    #[error(transparent)]
    FdSet(#[from] FdSetError),
    /// The other side cannot be reached.
    #[error("Failed to connect to '{address}': {}", reason(source))]
    Connect {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The host has no such name.
    #[error("address resolution failed for {address}: {}", reason(source))]
    Resolve {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Cannot be listened on.
    #[error("Failed to bind socket to {address}: {reason}")]
    Bind {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// The file cannot be opened.
    #[error("Unable to open {}: {}", path.display(), reason(source))]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The program cannot be started.
    #[error("Unable to run '{program}': {}", reason(source))]
    Program {
        /// Which.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// The other side is not who it should be, or does not take us for who we are.
    #[error(transparent)]
    Tls(#[from] Failure),
    /// What was passed cannot be used.
    #[error("the channel cannot be used: {}", reason(.0))]
    Channel(#[from] io::Error),
}

/// What the host said, in its own words (as `strerror` has them).
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}

/// Where descriptors come from that the user names.
pub struct Lent<'a> {
    /// Takes the descriptor of that name, as `getfd` has named it.
    pub named: &'a dyn Fn(&str) -> Option<OwnedFd>,
    /// What `/dev/fdset/N` names.
    pub fdsets: &'a FdSets,
}

impl fmt::Debug for Lent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").finish_non_exhaustive()
    }
}

impl Lent<'_> {
    /// `fd:NAME` or `fd:NUMBER`. Either way it is used up.
    fn take(&self, name: &str) -> Result<OwnedFd, OpenError> {
        if !name.starts_with(|c: char| c.is_ascii_digit()) {
            return (self.named)(name).ok_or_else(|| OpenError::NoSuchName(name.to_owned()));
        }
        let number = name.parse().map_err(|_| OpenError::NoSuchName(name.to_owned()))?;
        sys::adopt_fd(number).map_err(|source| OpenError::BadNumber { number, source })
    }

    fn open(&self, path: &Path, writing: bool) -> Result<File, OpenError> {
        if let Some(set) = path.to_str().and_then(FdSets::number_in) {
            let fd =
                if writing { self.fdsets.open_for_writing(set) } else { self.fdsets.open_for_reading(set) };
            return Ok(fd?.into());
        }
        let mut options = OpenOptions::new();
        // Only the owner may read what a guest had in its memory. What the file had goes when the job begins. A pipe that
        // nobody reads must not make us wait.
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        options.read(!writing || is_file(path)).write(writing).create(writing).truncate(false).mode(0o600);
        options.custom_flags(nonblocking);
        options.open(path).map_err(|source| OpenError::File { path: path.to_owned(), source })
    }
}

/// Whether a mapped file can be there: what is no regular file may not be open for both.
fn is_file(path: &Path) -> bool {
    path.metadata().map_or(true, |metadata| metadata.is_file())
}

/// A place that is open.
#[derive(Debug)]
pub enum Opened {
    /// A stream.
    Channel(Channel),
    /// A regular file, from `offset` on.
    File {
        /// The file.
        file: File,
        /// Where our part of it begins.
        offset: u64,
    },
}

/// A regular file, or else a stream, for which an offset means nothing.
fn opened(fd: OwnedFd, offset: u64, cutter: &Cutter) -> Result<Opened, OpenError> {
    let file = File::from(fd);
    if file.metadata()?.is_file() {
        return Ok(Opened::File { file, offset });
    }
    Ok(Opened::Channel(Channel::new(file.into(), cutter)?))
}

/// A descriptor that was passed: a regular file is ours from where it stands, for whoever passed it may have put something
/// of its own before.
fn passed(fd: OwnedFd, cutter: &Cutter) -> Result<Opened, OpenError> {
    let mut file = File::from(fd);
    let offset = if file.metadata()?.is_file() { file.stream_position()? } else { 0 };
    opened(file.into(), offset, cutter)
}

fn run(words: &[String], writing: bool, cutter: &Cutter) -> Result<Channel, OpenError> {
    let program = words.first().cloned().unwrap_or_default();
    let failed = |source| OpenError::Program { program: program.clone(), source };
    let mut command = Command::new(&program);
    command.args(words.get(1..).unwrap_or_default()).process_group(0);
    let (reader, writer) = io::pipe()?;
    let ours: OwnedFd = if writing {
        command.stdin(reader).stdout(Stdio::null());
        writer.into()
    } else {
        command.stdin(Stdio::null()).stdout(writer);
        reader.into()
    };
    let child = command.spawn().map_err(failed)?;
    // Its own end of the pipe is closed with the command.
    drop(command);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the program has no process number"))?;
    let program = Program::new(pid);
    Ok(Channel::new(ours, cutter)?.with_program(program))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    struct World {
        folder: tempfile::TempDir,
        fdsets: FdSets,
        cutter: Cutter,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { folder, fdsets: FdSets::default(), cutter: Cutter::new().unwrap() }
        }

        fn uri(&self, kind: &str, name: &str) -> Address {
            format!("{kind}:{}", self.folder.path().join(name).display()).parse().unwrap()
        }

        fn target(&self, address: &Address) -> Result<Opened, OpenError> {
            let lent = Lent { named: &|_| None, fdsets: &self.fdsets };
            Target::prepare(address, &lent, &self.cutter)?.open(&self.cutter)
        }

        fn source(&self, address: &Address) -> Result<Source, OpenError> {
            let lent = Lent { named: &|_| None, fdsets: &self.fdsets };
            Source::prepare(address, &lent, &self.cutter)
        }
    }

    fn channel(opened: Opened) -> Channel {
        match opened {
            Opened::Channel(channel) => channel,
            Opened::File { .. } => panic!("a file"),
        }
    }

    /// Sends a word from `target` to `source`, which waits for it already.
    #[track_caller]
    fn pass(world: &World, to: &Address, mut source: Source) {
        let mut sender = channel(world.target(to).unwrap());
        sender.take_writer().unwrap().write_all(b"word").unwrap();
        let mut receiver = channel(source.open(&world.cutter).unwrap());
        let mut word = [0; 4];
        receiver.take_reader().unwrap().read_exact(&mut word).unwrap();
        assert_eq!(&word, b"word");
    }

    #[test]
    fn sockets_meet() {
        let world = World::new();
        let path = world.uri("unix", "s");
        let source = world.source(&path).unwrap();
        pass(&world, &path, source);
        let Address::Unix(file) = path else { unreachable!() };
        assert!(!file.exists(), "the socket's file goes with the source");
    }

    #[test]
    fn a_port_that_the_system_chose_is_told() {
        let world = World::new();
        for host in ["127.0.0.1", "0", ""] {
            let source = world.source(&format!("tcp:{host}:0").parse().unwrap()).unwrap();
            let Some(Listening::Tcp(address)) = source.address().cloned() else { panic!("not told") };
            assert_ne!(address.port(), 0);
            pass(&world, &format!("tcp:localhost:{}", address.port()).parse().unwrap(), source);
        }
    }

    #[test]
    fn what_cannot_be_reached_is_told_in_qemus_words() {
        let world = World::new();
        let unix = |error: OpenError| error.to_string();
        let missing: Address = "unix:/nonexistent/x".parse().unwrap();
        assert_eq!(
            unix(world.target(&missing).unwrap_err()),
            "Failed to connect to '/nonexistent/x': No such file or directory"
        );
        assert_eq!(
            unix(world.source(&missing).unwrap_err()),
            "Failed to bind socket to /nonexistent/x: No such file or directory"
        );
        // A port that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let refused = world.target(&format!("tcp:127.0.0.1:{port}").parse().unwrap()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("Failed to connect to '127.0.0.1:{port}': Connection refused")
        );
        let nobody = world.target(&"fd:nobody".parse().unwrap()).unwrap_err();
        assert_eq!(nobody.to_string(), "File descriptor named 'nobody' has not been found");
        let file = world.source(&world.uri("file", "none")).unwrap_err();
        assert!(file.to_string().ends_with("none: No such file or directory"), "{file}");
        let set = world.target(&"file:/dev/fdset/7".parse().unwrap()).unwrap_err();
        assert_eq!(set.to_string(), "file descriptor set 7 does not exist");
    }

    #[test]
    fn a_program_takes_and_gives_and_its_end_counts() {
        let world = World::new();
        let path = world.folder.path().join("out");
        let command = |text: String| Address::Exec(["/bin/sh".into(), "-c".into(), text].into());
        let mut sender = channel(world.target(&command(format!("cat > {}", path.display()))).unwrap());
        sender.take_writer().unwrap().write_all(b"word").unwrap();
        sender.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"word");

        let mut source = world.source(&command(format!("cat {}", path.display()))).unwrap();
        let mut text = String::new();
        channel(source.open(&world.cutter).unwrap())
            .take_reader()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "word");

        let mut failing = channel(world.target(&command("cat > /dev/null; exit 3".to_owned())).unwrap());
        drop(failing.take_writer());
        assert_eq!(failing.finish().unwrap_err().to_string(), "the program ended with exit status 3");
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_all_that_it_has_started() {
        let world = World::new();
        let mut source = world
            .source(&Address::Exec(["/bin/sh", "-c", "cat /dev/zero | cat"].map(str::to_owned).into()))
            .unwrap();
        let mut channel = channel(source.open(&world.cutter).unwrap());
        let mut reader = channel.take_reader().unwrap();
        reader.read_exact(&mut [0; 100]).unwrap();
        drop(channel);
        // Both programs held the pipe's other end.
        std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
    }

    #[test]
    fn waiting_for_the_other_side_ends_with_the_cut() {
        let world = World::new();
        let mut source = world.source(&world.uri("unix", "s")).unwrap();
        world.cutter.cut();
        let OpenError::Channel(error) = source.open(&world.cutter).unwrap_err() else { panic!("not cut") };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }

    #[test]
    fn a_file_keeps_what_it_has_until_the_job_begins() {
        let world = World::new();
        let path = world.folder.path().join("f");
        std::fs::write(&path, b"header and more").unwrap();
        let opened = world.target(&format!("file:{},offset=4", path.display()).parse().unwrap()).unwrap();
        assert!(matches!(opened, Opened::File { offset: 4, .. }));
        assert_eq!(std::fs::read(&path).unwrap(), b"header and more");
    }

    #[test]
    fn a_file_that_is_passed_is_ours_from_where_it_stands() {
        let world = World::new();
        let path = world.folder.path().join("f");
        std::fs::write(&path, b"header and more").unwrap();
        let named = |_: &str| {
            let mut file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            file.read_exact(&mut [0; 6]).unwrap();
            Some(file.into())
        };
        let lent = Lent { named: &named, fdsets: &world.fdsets };
        let address = "fd:saved".parse().unwrap();
        let mut source = Source::prepare(&address, &lent, &world.cutter).unwrap();
        assert!(matches!(source.open(&world.cutter).unwrap(), Opened::File { offset: 6, .. }));
        let target = Target::prepare(&address, &lent, &world.cutter).unwrap();
        assert!(matches!(target.open(&world.cutter).unwrap(), Opened::File { offset: 6, .. }));
    }
}
