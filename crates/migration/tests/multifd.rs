//! Memory over several connections: it arrives whole, older never over newer; whoever is not invited is sent away; and a
//! connection that is lost anywhere leaves one machine at most.

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/links.rs"]
mod links;
#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use certificates::{Authority, Folder, Odd, equip};
use links::{Links, WHOLE, frame_ends};
use migration::{Address, Capability, Change, Compression, Endpoint, Listening, Number, Text};
use runstate::{ManagementRequest as Ask, RunState};
use stream::{Control, FileId, Header, Item, Limits};
use support::{PATIENCE, World, unix};
use vmcore::testing::Step;

const RAM: u64 = 0x8000_0000;
const CHUNK: u64 = 64 << 10;

fn set(world: &World, numbers: &[(Number, u64)]) {
    world.migrations.set_parameters(&Change { numbers: numbers.to_vec(), ..Change::default() }).unwrap();
}

/// Has `world` migrate over so many connections beside the main one.
fn spread(world: &World, channels: u64) {
    world.migrations.set_capabilities(&[(Capability::Multifd, true)]).unwrap();
    set(world, &[(Number::MultifdChannels, channels)]);
}

/// Something in every chunk but every fifth, which nothing compresses.
fn fill(world: &World) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for chunk in (0..world.ram().size() / CHUNK).filter(|chunk| chunk % 5 != 4) {
        let mut bytes = vec![0; CHUNK as usize];
        for word in bytes.as_chunks_mut::<8>().0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *word = (state & 0x7f7f_7f7f_7f7f_7f7f).to_le_bytes();
        }
        world.ram().write(RAM + chunk * CHUNK, &bytes).unwrap();
    }
}

fn pair(channels: u64) -> (World, World) {
    let (here, there) = (World::running(), World::waiting(true));
    for world in [&here, &there] {
        spread(world, channels);
    }
    fill(&here);
    (here, there)
}

fn all(world: &World) -> Vec<u8> {
    let mut bytes = vec![0; world.ram().size() as usize];
    world.ram().read(RAM, &mut bytes).unwrap();
    bytes
}

#[track_caller]
fn same_memory(here: &World, there: &World) {
    let (left, right) = (all(here), all(there));
    let differs = left.iter().zip(&right).position(|(left, right)| left != right);
    assert_eq!(differs, None, "the first byte that is not the same");
}

fn error(world: &World) -> Option<String> {
    world.migrations.report().and_then(|report| report.error).map(|error| error.to_string())
}

#[track_caller]
fn arrives(here: &World, there: &World, arriving: engine::Job, place: &Address) {
    assert!(here.migrate(place).unwrap().wait() && arriving.wait());
    assert_eq!((error(here), error(there)), (None, None));
    assert_eq!((here.state(), there.state()), (RunState::PostMigrate, RunState::Running));
    same_memory(here, there);
}

#[test]
fn memory_arrives_whole_over_any_number_of_channels() {
    for channels in [1, 2, 4, 17] {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = pair(channels);
        let place = unix(folder.path());
        let arriving = there.take_in(&place).unwrap();
        arrives(&here, &there, arriving, &place);
        let ram = here.migrations.report().unwrap().ram;
        assert!(ram.multifd_bytes > here.ram().size() / 2 && ram.transferred > ram.multifd_bytes, "{ram:?}");
        assert_eq!((ram.remaining, ram.duplicate + ram.normal), (0, here.ram().size() / 4096));
    }
}

#[test]
fn it_does_so_packed_by_tcp_and_sealed() {
    let authority = Authority::new(&Odd::default());
    for level in [0, 20] {
        let (here, there) = pair(3);
        equip(&here, Folder::of(&authority, Endpoint::Client).load(Endpoint::Client).unwrap());
        equip(&there, Folder::of(&authority, Endpoint::Server).load(Endpoint::Server).unwrap());
        let packed = Change { compression: Some(Compression::Zstd), ..Change::default() };
        here.migrations.set_parameters(&packed).unwrap();
        set(&here, &[(Number::MultifdZstdLevel, level)]);
        let arriving = there.take_in(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
        let Some(Listening::Tcp(address)) = there.migrations.report().unwrap().listening else {
            panic!("no port")
        };
        arrives(&here, &there, arriving, &format!("tcp:{address}").parse().unwrap());
        let ram = here.migrations.report().unwrap().ram;
        assert!(ram.transferred < here.ram().size() * 7 / 8, "{ram:?}");
    }
}

/// The guest writes all the while, to every page more than once.
#[test]
fn what_a_guest_writes_meanwhile_arrives_too() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = pair(3);
    set(&here, &[(Number::MaxBandwidth, 48 << 20), (Number::DowntimeLimit, 1)]);
    let over = Arc::new(AtomicBool::new(false));
    let (script, seen, size) = (here.scripts[0].clone(), Arc::clone(&over), here.ram().size());
    let guest = thread::spawn(move || {
        let mut at = 12345_u64;
        let mut writes = 0_u64;
        while !seen.load(Ordering::SeqCst) && writes < 200_000 {
            at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            script.then(Step::Write(RAM + (at >> 20) % size, None));
            writes += 1;
            while !script.is_done() && !seen.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        }
    });
    let place = unix(folder.path());
    let arriving = there.take_in(&place).unwrap();
    let going = here.migrate(&place).unwrap();
    here.until("MIGRATION{active}");
    // Some rounds with as much as it writes, then it has to fit.
    here.until("MIGRATION_PASS{3}");
    set(&here, &[(Number::MaxBandwidth, 0), (Number::DowntimeLimit, 2000)]);
    assert!(going.wait() && arriving.wait());
    over.store(true, Ordering::SeqCst);
    guest.join().unwrap();
    assert_eq!((error(&here), here.state(), there.state()), (None, RunState::PostMigrate, RunState::Running));
    same_memory(&here, &there);
}

#[test]
fn both_sides_have_to_want_it_and_the_same_number() {
    let folder = tempfile::tempdir().unwrap();
    let place = unix(folder.path());
    let cases: [(&[u64], &[u64], &str); 3] = [
        (&[2], &[], "Capability multifd is off, but received capability is on"),
        (&[], &[2], "Capability multifd is on, but received capability is off"),
        (&[3], &[2], "the source sends over 3 channels (multifd-channels), here 2 are expected"),
    ];
    for (ours, theirs, text) in cases {
        let (here, there) = (World::running(), World::waiting(true));
        ours.iter().for_each(|channels| spread(&here, *channels));
        theirs.iter().for_each(|channels| spread(&there, *channels));
        let arriving = there.take_in(&place).unwrap();
        assert!(here.migrate(&place).unwrap().wait() && arriving.wait());
        assert_eq!(error(&here).unwrap(), text);
        assert_eq!(error(&there).unwrap(), format!("load of migration failed: {text}"));
        assert_eq!((here.state(), there.state()), (RunState::Running, RunState::InMigrate));
    }
}

#[test]
fn what_has_one_connection_is_refused() {
    let (here, there) = pair(2);
    let text = "Migration requires multi-channel URIs (e.g. tcp)";
    for place in ["file:/nonexistent/f", "exec:cat", "fd:x"] {
        let place: Address = place.parse().unwrap();
        assert_eq!(here.migrate(&place).unwrap_err().to_string(), text);
        assert_eq!(there.take_in(&place).unwrap_err().to_string(), text);
    }
}

/// In a file in which each page has its place it changes nothing. libvirt always asks for both.
#[test]
fn a_mapped_file_is_written_and_read_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = pair(2);
    for world in [&here, &there] {
        world.migrations.set_capabilities(&[(Capability::MappedRam, true)]).unwrap();
    }
    let place = Address::File { path: folder.path().join("f"), offset: 4096 };
    assert!(here.migrate(&place).unwrap().wait());
    assert_eq!((error(&here), here.state()), (None, RunState::PostMigrate));
    let arriving = there.take_in(&place).unwrap();
    assert!(arriving.wait());
    assert_eq!((error(&there), there.state()), (None, RunState::Running));
    same_memory(&here, &there);
}

/// A header, and what is answered to it, if it is.
fn introduce(place: &Path, header: &Header) -> Option<Control> {
    let socket = UnixStream::connect(place).unwrap();
    let mut writer = stream::Writer::new(socket.try_clone().unwrap(), header).unwrap();
    writer.flush().unwrap();
    control(&mut stream::Reader::new(socket, &Limits::default()).ok()?)
}

fn control(answers: &mut stream::Reader<UnixStream>) -> Option<Control> {
    match answers.read() {
        Ok(Item::Control(control)) => Some(control),
        _ => None,
    }
}

fn refused(control: Option<Control>) -> String {
    match control {
        Some(Control::Refused { text }) => text,
        other => panic!("not refused: {other:?}"),
    }
}

/// A source by hand, as far as HELLO; gives its stream, the answers, and its header.
fn greeted(here: &World, place: &Path) -> (stream::Writer<UnixStream>, stream::Reader<UnixStream>, Header) {
    let header = Header { two_way: true, ..Header::new(FileId([7; 16]), here.ram().size()) };
    let socket = UnixStream::connect(place).unwrap();
    let mut writer = stream::Writer::new(socket.try_clone().unwrap(), &header).unwrap();
    let board = here.engine.board();
    let board = [&board.version.to_le_bytes()[..], &board.data].concat();
    writer.control(&Control::Hello { board, features: vec!["multifd=2".to_owned()] }).unwrap();
    let mut reader = stream::Reader::new(socket, &Limits::default()).unwrap();
    let accepted = Item::Control(Control::Accepted { features: vec!["multifd=2".to_owned()] });
    assert_eq!(reader.read().unwrap(), accepted);
    (writer, reader, header)
}

/// A channel that is taken.
fn joined(place: &Path, header: &Header, channel: u16) -> (stream::Writer<UnixStream>, UnixStream) {
    let socket = UnixStream::connect(place).unwrap();
    let header = Header { channel, ..header.clone() };
    let mut writer = stream::Writer::new(socket.try_clone().unwrap(), &header).unwrap();
    writer.flush().unwrap();
    let mut reader = stream::Reader::new(socket.try_clone().unwrap(), &Limits::default()).unwrap();
    assert_eq!(reader.read().unwrap(), Item::Control(Control::Accepted { features: vec![] }));
    (writer, socket)
}

#[test]
fn whoever_is_not_invited_is_sent_away_and_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = pair(2);
    let place = folder.path().join("m");
    let arriving = there.take_in(&Address::Unix(place.clone())).unwrap();
    let (main, answers, header) = greeted(&here, &place);
    let with = |channel| Header { channel, ..header.clone() };
    let other = Header { id: FileId([8; 16]), ..with(1) };
    assert_eq!(refused(introduce(&place, &other)), "this is not the migration that comes in here");
    for channel in [0, 3, 999] {
        let text = format!("there is no channel {channel}, there are 2");
        assert_eq!(refused(introduce(&place, &with(channel))), text);
    }
    let small = Header { memory: 4096, ..with(1) };
    assert_eq!(refused(introduce(&place, &small)), "the channel is not of the machine that comes in here");
    let first = joined(&place, &header, 1);
    assert_eq!(refused(introduce(&place, &with(1))), "channel 1 is there already");
    // Nonsense is closed, silence keeps nobody waiting.
    let mut nonsense = UnixStream::connect(&place).unwrap();
    nonsense.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    nonsense.read_to_end(&mut Vec::new()).unwrap();
    let _silent: Vec<_> = (0..30).map(|_| UnixStream::connect(&place).unwrap()).collect();
    let second = joined(&place, &header, 2);
    // A source that leaves costs the attempt, and the next one may come.
    drop((main, answers, first, second));
    assert!(arriving.wait());
    assert_eq!(there.state(), RunState::InMigrate);
    let arriving = there.take_in(&Address::Unix(place.clone())).unwrap();
    arrives(&here, &there, arriving, &Address::Unix(place));
}

/// A page over one channel, and an older version of it over another that is later: the newer one counts.
#[test]
fn what_is_older_never_comes_over_what_is_newer() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = pair(2);
    let place = folder.path().join("m");
    let arriving = there.take_in(&Address::Unix(place.clone())).unwrap();
    let (mut main, answers, header) = greeted(&here, &place);
    let [(mut slow, one), (mut fast, two)] = [1, 2].map(|channel| joined(&place, &header, channel));
    let sockets = [one, two];
    let (older, newer) = (vec![1; CHUNK as usize], vec![2; CHUNK as usize]);
    fast.control(&Control::Round { number: 1 }).unwrap();
    fast.memory(0, &newer).unwrap();
    fast.control(&Control::Round { number: 2 }).unwrap();
    main.zero(16, here.ram().size() / 4096 - 16).unwrap();
    main.control(&Control::Round { number: 1 }).unwrap();
    let byte = || {
        let mut byte = [0];
        there.ram().read(RAM, &mut byte).unwrap();
        byte[0]
    };
    assert_eq!(byte(), 0, "nobody goes on before all have ended the round");
    slow.memory(0, &older).unwrap();
    slow.control(&Control::Round { number: 1 }).unwrap();
    slow.control(&Control::Round { number: 2 }).unwrap();
    main.control(&Control::Round { number: 2 }).unwrap();
    // That it is heard means that all before it has been put where it belongs.
    main.control(&Control::Round { number: 3 }).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while there.migrations.report().unwrap().ram.dirty_sync_count < 3 {
        assert!(Instant::now() < deadline, "the rounds do not end");
        thread::yield_now();
    }
    assert_eq!(byte(), 2);
    drop((main, answers, fast, slow, sockets));
    assert!(arriving.wait());
    assert_eq!((there.state(), byte()), (RunState::InMigrate, 0), "nothing of it stays");
}

/// What a source that goes astray on a channel, or on the main one, is told.
#[test]
fn channels_that_go_astray_fail_the_attempt_and_hang_nothing() {
    type Astray = fn(&mut stream::Writer<UnixStream>, &mut [stream::Writer<UnixStream>; 2]);
    let cases: [(Astray, &str); 6] = [
        (
            |_, [first, _]| first.control(&Control::Ready).unwrap(),
            "channel 1: what is neither memory nor the end of a round does not belong here",
        ),
        (
            |_, [_, second]| second.control(&Control::Round { number: 2 }).unwrap(),
            "channel 2: what is neither memory nor the end of a round does not belong here",
        ),
        (
            |_, [first, _]| {
                first.memory(0, &[1; 4096]).unwrap();
                first.flush().unwrap();
            },
            "channel 1: a part of a chunk that has not come does not belong here",
        ),
        (
            |main, [first, second]| {
                first.finish().unwrap();
                second.finish().unwrap();
                main.control(&Control::Round { number: 1 }).unwrap();
            },
            "a round out of turn does not belong here",
        ),
        (
            |main, [first, second]| {
                first.control(&Control::Round { number: 1 }).unwrap();
                second.finish().unwrap();
                main.control(&Control::Ready).unwrap();
            },
            "READY before a round's end does not belong here",
        ),
        (
            |main, lanes| {
                lanes.iter_mut().for_each(|lane| lane.control(&Control::Round { number: 1 }).unwrap());
                main.control(&Control::Round { number: 7 }).unwrap();
            },
            "a round out of turn does not belong here",
        ),
    ];
    for (astray, text) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = pair(2);
        let place = folder.path().join("m");
        let arriving = there.take_in(&Address::Unix(place.clone())).unwrap();
        let (mut main, mut answers, header) = greeted(&here, &place);
        let [(first, one), (second, two)] = [1, 2].map(|channel| joined(&place, &header, channel));
        let mut lanes = [first, second];
        astray(&mut main, &mut lanes);
        if text.starts_with("channel") {
            // It is told on its own channel, too.
            let mut told = Vec::new();
            (if text.starts_with("channel 1") { one } else { two }).read_to_end(&mut told).unwrap();
            assert!(!told.is_empty());
        }
        assert!(arriving.wait());
        assert_eq!(error(&there).unwrap(), format!("load of migration failed: {text}"));
        assert_eq!(there.state(), RunState::InMigrate);
        assert_eq!(refused(control(&mut answers)), text);
    }
}

/// Moves through links of which one is cut; what became of both, and what went over each link.
fn cut(which: usize, limits: [usize; 2]) -> ([RunState; 2], Option<String>, Vec<[Vec<u8>; 2]>) {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("m")).unwrap();
    let behind = folder.path().join("behind");
    let (here, there) = pair(2);
    let before = all(&here);
    let arriving = there.take_in(&Address::Unix(behind.clone())).unwrap();
    let links = Links::between(listener, &behind, move |number| if number == which { limits } else { WHOLE });
    assert!(here.migrate(&unix(folder.path())).unwrap().wait() && arriving.wait());
    let went = links.end();
    let states = [here.state(), there.state()];
    match states {
        // Before COMMIT: as it was.
        [RunState::Running, RunState::InMigrate] => {
            assert!(error(&here).is_some() && error(&there).is_some());
            assert!(all(&here) == before);
        }
        // It has arrived, and the source may not know.
        [RunState::PostMigrate, RunState::Running] => same_memory(&here, &there),
        // COMMIT was lost: nobody runs, and the source says why.
        [RunState::PostMigrate, RunState::InMigrate] => {
            let error = error(&here).unwrap();
            assert!(error.starts_with("whether the destination runs the machine is unknown"), "{error}");
        }
        other => panic!("link {which} cut after {limits:?}: {other:?}"),
    }
    (states, error(&here), went)
}

#[test]
fn a_channel_cut_at_any_frame_leaves_one_machine_at_most() {
    let (states, _, went) = cut(0, WHOLE);
    assert_eq!((states, went.len()), ([RunState::PostMigrate, RunState::Running], 3));
    for (which, [out, back]) in went.iter().enumerate() {
        let ends = |bytes: &[u8]| frame_ends(bytes).into_iter().map(|(_, end)| end).collect::<Vec<_>>();
        let (outs, backs) = (ends(out), ends(back));
        // At the end of a frame, inside it, and before all.
        let some = |ends: Vec<usize>| {
            let step = ends.len().div_ceil(12).max(1);
            let last = ends.len().saturating_sub(2);
            let picked: Vec<_> = ends.iter().step_by(step).chain(&ends[last..]).copied().collect();
            picked.into_iter().flat_map(|end| [end - 1, end]).chain([0, 8])
        };
        for out in some(outs) {
            let (states, error, _) = cut(which, [out, usize::MAX]);
            if which > 0 && states[0] == RunState::Running {
                // Whichever is heard first: this channel, or what it made of the main one.
                assert!(error.is_some());
            }
        }
        for back in some(backs) {
            cut(which, [usize::MAX, back]);
        }
    }
}

#[test]
fn a_cancel_ends_it_wherever_it_waits() {
    // Nobody takes what is sent: over the main connection, or over a channel.
    for taken in [0, 1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("m")).unwrap();
        let behind = folder.path().join("behind");
        let (here, there) = pair(2);
        let _arriving = there.take_in(&Address::Unix(behind.clone())).unwrap();
        let links = Links::stalled(listener, &behind, taken);
        let going = here.migrate(&unix(folder.path())).unwrap();
        links.wait_until_stalled();
        here.migrations.cancel(engine::By::Unnamed).unwrap();
        assert!(going.wait());
        assert_eq!(here.take().last().unwrap(), "MIGRATION{cancelled} running");
        links.end();
        there.ask(Ask::Quit { cause: runstate::ShutdownCause::HostQmpQuit });
    }
}

#[test]
fn a_channel_needs_its_certificate_as_the_main_one_does() {
    let authority = Authority::new(&Odd::default());
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = pair(2);
    equip(&here, Folder::of(&authority, Endpoint::Client).load(Endpoint::Client).unwrap());
    equip(&there, Folder::of(&authority, Endpoint::Server).load(Endpoint::Server).unwrap());
    here.set(Text::TlsHostname, "localhost");
    let listener = UnixListener::bind(folder.path().join("m")).unwrap();
    let behind = folder.path().join("behind");
    let arriving = there.take_in(&Address::Unix(behind.clone())).unwrap();
    // Before each channel somebody comes who speaks in the clear, as if he knew what to say.
    let clear = Header { two_way: true, channel: 1, ..Header::new(FileId([7; 16]), here.ram().size()) };
    let door = behind.clone();
    let links = Links::between(listener, &behind, move |number| {
        if number > 0 {
            let mut stranger = UnixStream::connect(&door).unwrap();
            stream::Writer::new(stranger.try_clone().unwrap(), &clear).unwrap().flush().unwrap();
            let mut told = Vec::new();
            stranger.read_to_end(&mut told).unwrap();
            assert!(!told.windows(8).any(|window| window == b"DORMOUSE"));
        }
        WHOLE
    });
    arrives(&here, &there, arriving, &unix(folder.path()));
    links.end();
}
