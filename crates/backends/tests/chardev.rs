//! Character devices from the outside: flow control, pause, sockets and their files.
#![allow(clippy::missing_panics_doc)]

use backends::stream::{Connection, StreamSource};
use backends::{Backend, BindError, CharDev, CharEvent, CharSpec, FdSets, Frontend, Notice, OpenError, open};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Bytes(Vec<u8>),
    Event(CharEvent),
    Writable,
}

/// A device with as much room as the test gives it.
struct Device {
    room: AtomicUsize,
    seen: Mutex<Sender<Seen>>,
}

impl Device {
    fn new(room: usize) -> (Arc<Self>, Receiver<Seen>) {
        let (sender, receiver) = channel();
        (Arc::new(Self { room: AtomicUsize::new(room), seen: Mutex::new(sender) }), receiver)
    }

    fn say(&self, what: Seen) {
        // The test may be over.
        let _ = self.seen.lock().unwrap().send(what);
    }
}

impl Frontend for Device {
    fn can_receive(&self) -> usize {
        self.room.load(Ordering::SeqCst)
    }
    fn receive(&self, bytes: &[u8]) {
        let before = self.room.fetch_sub(bytes.len(), Ordering::SeqCst);
        assert!(bytes.len() <= before, "more than there was room for");
        self.say(Seen::Bytes(bytes.to_vec()));
    }
    fn event(&self, event: CharEvent) {
        self.say(Seen::Event(event));
    }
    fn writable(&self) {
        self.say(Seen::Writable);
    }
}

fn opened(spec: &str) -> Arc<CharDev> {
    try_open(spec).unwrap().unwrap()
}

fn try_open(spec: &str) -> Result<Option<Arc<CharDev>>, OpenError> {
    open(&CharSpec::parse_short(spec).unwrap(), "serial0", &FdSets::default(), &mut |_| {})
}

fn server(directory: &Path) -> (Arc<CharDev>, std::path::PathBuf) {
    let path = directory.join("s");
    (opened(&format!("unix:{},server=on,wait=off", path.display())), path)
}

/// Until the device says that it saw this.
fn until(seen: &Receiver<Seen>, what: &Seen) {
    while seen.recv_timeout(Duration::from_secs(60)).unwrap() != *what {}
}

fn bytes(seen: &Receiver<Seen>) -> Vec<u8> {
    loop {
        if let Seen::Bytes(bytes) = seen.recv_timeout(Duration::from_secs(60)).unwrap() {
            return bytes;
        }
    }
}

#[test]
fn input_comes_as_there_is_room_and_none_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (host, path) = server(directory.path());
    let (device, seen) = Device::new(3);
    host.attach(Arc::clone(&device) as Arc<dyn Frontend>);
    let mut client = UnixStream::connect(path).unwrap();
    client.write_all(b"abcdefgh").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(bytes(&seen), b"abc");
    device.room.store(4, Ordering::SeqCst);
    host.poll_input();
    assert_eq!(bytes(&seen), b"defg");
    device.room.store(9, Ordering::SeqCst);
    host.poll_input();
    // The end comes after the last byte.
    assert_eq!(seen.recv().unwrap(), Seen::Bytes(b"h".to_vec()));
    assert_eq!(seen.recv().unwrap(), Seen::Event(CharEvent::Closed));
}

#[test]
fn a_paused_device_gets_nothing_and_then_everything() {
    let directory = tempfile::tempdir().unwrap();
    let (host, path) = server(directory.path());
    let (device, seen) = Device::new(1000);
    host.attach(Arc::clone(&device) as Arc<dyn Frontend>);
    let mut client = UnixStream::connect(path).unwrap();
    client.write_all(b"1").unwrap();
    assert_eq!(bytes(&seen), b"1");
    host.pause(true);
    client.write_all(b"held").unwrap();
    // Room changes nothing while paused; another client of the same thread's work shows that it looked.
    host.poll_input();
    assert!(seen.try_recv().is_err());
    host.pause(false);
    assert_eq!(bytes(&seen), b"held");
}

#[test]
fn a_sent_break_comes_at_once_or_once_when_the_pause_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let (host, _path) = server(directory.path());
    let (device, seen) = Device::new(0);
    host.attach(Arc::clone(&device) as Arc<dyn Frontend>);
    host.send_break();
    assert_eq!(seen.try_recv(), Ok(Seen::Event(CharEvent::Break)));
    host.pause(true);
    (0..1000).for_each(|_| host.send_break());
    assert!(seen.try_recv().is_err());
    host.pause(false);
    assert_eq!(seen.try_recv(), Ok(Seen::Event(CharEvent::Break)));
    assert!(seen.try_recv().is_err());
}

#[test]
fn a_break_sent_to_a_multiplexer_reaches_the_serial_port_without_the_focus() {
    let directory = tempfile::tempdir().unwrap();
    let (host, path) = server(directory.path());
    let mux = backends::Mux::new(Arc::clone(&host), Box::new(|| {}));
    let (monitor, serial) = (mux.port(), mux.port());
    let (device, seen) = Device::new(10);
    serial.attach(Arc::clone(&device) as Arc<dyn Frontend>);
    let (person, _) = Device::new(10);
    monitor.attach(person);
    let _client = UnixStream::connect(path).unwrap();
    (0..1000).for_each(|_| host.send_break());
    until(&seen, &Seen::Event(CharEvent::Break));
}

#[test]
fn a_slow_reader_fills_the_queue_and_room_is_announced() {
    let directory = tempfile::tempdir().unwrap();
    let (host, path) = server(directory.path());
    let (device, seen) = Device::new(0);
    host.attach(Arc::clone(&device) as Arc<dyn Frontend>);
    let mut client = UnixStream::connect(path).unwrap();
    until(&seen, &Seen::Event(CharEvent::Opened));
    // Before the queue is full: the writer may free it at any moment.
    host.pause(true);
    let chunk = [b'x'; 4096];
    let mut sent = 0;
    // Ends because every buffer on the way is bounded; no call blocks.
    loop {
        let taken = host.try_write(&chunk);
        sent += taken;
        if taken < chunk.len() {
            break;
        }
    }
    assert!(sent < 16 << 20);
    let mut got = vec![0; sent];
    client.read_exact(&mut got).unwrap();
    assert!(host.flush(Duration::from_secs(60)));
    assert!(!seen.try_iter().any(|seen| seen == Seen::Writable), "told while paused");
    host.pause(false);
    until(&seen, &Seen::Writable);
    assert_eq!(host.try_write(b"y"), 1);
    client.read_exact(&mut got[..1]).unwrap();
    assert_eq!(got[0], b'y');
}

#[test]
fn a_client_that_goes_makes_room_for_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let (host, path) = server(directory.path());
    let (device, seen) = Device::new(1000);
    host.attach(device);
    let first = UnixStream::connect(&path).unwrap();
    until(&seen, &Seen::Event(CharEvent::Opened));
    assert!(host.filename().starts_with("unix:"));
    // Waits in the kernel.
    let mut second = UnixStream::connect(&path).unwrap();
    drop(first);
    until(&seen, &Seen::Event(CharEvent::Closed));
    until(&seen, &Seen::Event(CharEvent::Opened));
    second.write_all(b"2").unwrap();
    assert_eq!(bytes(&seen), b"2");
    assert_eq!(host.try_write(b"for two"), 7);
    let mut text = [0; 7];
    second.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"for two");
}

#[test]
fn without_a_client_output_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let (host, _) = server(directory.path());
    assert!(host.filename().starts_with("disconnected:unix:"));
    for _ in 0..100 {
        assert_eq!(host.try_write(&[0; 65536]), 65536);
    }
    assert!(host.flush(Duration::ZERO));
}

#[test]
fn socket_files_are_private_and_go_with_the_device() {
    let directory = tempfile::tempdir().unwrap();
    let (host, path) = server(directory.path());
    let meta = std::fs::metadata(&path).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
    drop(host);
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_is_replaced_and_nothing_else_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let spec = format!("unix:{},server=on,wait=off", path.display());

    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let host = opened(&spec);
    UnixStream::connect(&path).unwrap();

    let error = try_open(&spec).unwrap_err();
    assert!(matches!(&error, OpenError::Bind(BindError::InUse { .. })), "{error}");
    // The first is untouched by the refusal.
    UnixStream::connect(&path).unwrap();
    drop(host);

    std::fs::write(&path, "precious").unwrap();
    let error = try_open(&spec).unwrap_err();
    assert!(matches!(&error, OpenError::Bind(BindError::NotASocket { .. })), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn sockets_that_cannot_be_are_one_line_each() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("none/s");
    let long = "x".repeat(200);
    for spec in [
        format!("unix:{},server=on,wait=off", nowhere.display()),
        format!("unix:{}", nowhere.display()),
        format!("unix:/tmp/{long},server=on,wait=off"),
        format!("file:{}", nowhere.display()),
    ] {
        let text = try_open(&spec).unwrap_err().to_string();
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn a_waiting_server_says_so_and_waits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let spec = CharSpec::parse_short(&format!("unix:{},server=on", path.display())).unwrap();
    let (tell, told) = channel();
    let waiter = std::thread::spawn(move || {
        open(&spec, "serial0", &FdSets::default(), &mut |notice| tell.send(notice.clone()).unwrap())
            .unwrap()
            .unwrap()
    });
    let notice = told.recv().unwrap();
    let text = notice.to_string();
    assert!(matches!(notice, Notice::Waiting { .. }));
    assert_eq!(
        text,
        format!("info: QEMU waiting for connection on: disconnected:unix:{},server=on", path.display())
    );
    let mut client = UnixStream::connect(&path).unwrap();
    let host = waiter.join().unwrap();
    let (device, seen) = Device::new(10);
    host.attach(device);
    client.write_all(b"hi").unwrap();
    assert_eq!(bytes(&seen), b"hi");
}

#[test]
fn a_file_gets_the_output_and_append_keeps_what_was_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    std::fs::write(&path, "old ").unwrap();
    let (_, spec) = CharSpec::parse_long(&format!("file,id=a,path={},append=on", path.display())).unwrap();
    let host = open(&spec, "a", &FdSets::default(), &mut |_| {}).unwrap().unwrap();
    // At once: nothing is lost before the device's threads run.
    assert_eq!(host.try_write(b"new"), 3);
    assert!(host.flush(Duration::from_secs(60)));
    assert_eq!(std::fs::read(&path).unwrap(), b"old new");
}

#[test]
fn a_pseudo_terminal_opens_and_closes() {
    let mut path = String::new();
    let spec = CharSpec::parse_short("pty").unwrap();
    let host = open(&spec, "serial0", &FdSets::default(), &mut |notice| {
        assert_eq!(notice.to_string().split(" (").nth(1), Some("label serial0)"));
        if let Notice::Redirected { path: made, .. } = notice {
            path.clone_from(made);
        }
    })
    .unwrap()
    .unwrap();
    let (device, seen) = Device::new(1000);
    host.attach(device);
    for _ in 0..3 {
        let mut slave = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        until(&seen, &Seen::Event(CharEvent::Opened));
        slave.write_all(b"in").unwrap();
        assert_eq!(bytes(&seen), b"in");
        assert_eq!(host.try_write(b"out\n"), 4);
        let mut text = [0; 4];
        slave.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"out\n");
        drop(slave);
        until(&seen, &Seen::Event(CharEvent::Closed));
    }
}

#[test]
fn null_takes_everything() {
    let host = opened("null");
    assert_eq!(host.try_write(&[1; 100_000]), 100_000);
    assert!(host.flush(Duration::ZERO));
    assert!(try_open("none").unwrap().is_none());
}

#[test]
fn monitors_serve_one_client_after_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("qmp");
    let spec = CharSpec::parse_short(&format!("unix:{},server=on,wait=off", path.display())).unwrap();
    let source = Arc::new(StreamSource::open(&spec, "qmp", &FdSets::default(), &mut |_| {}).unwrap());
    for word in [b"one", b"two"] {
        let mut client = UnixStream::connect(&path).unwrap();
        let mut connection = source.accept().unwrap().unwrap();
        client.write_all(word).unwrap();
        let mut got = [0; 3];
        connection.read_exact(&mut got).unwrap();
        (&connection).write_all(&got).unwrap();
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, word);
        // A read that waits ends when another thread shuts the connection down.
        let clone = connection.clone();
        let reader = std::thread::spawn(move || connection.read(&mut [0]).unwrap());
        clone.shutdown();
        assert_eq!(reader.join().unwrap(), 0);
    }
    let waiter = {
        let source = Arc::clone(&source);
        std::thread::spawn(move || source.accept().unwrap().is_none())
    };
    source.close();
    assert!(waiter.join().unwrap());
    drop(source);
    assert!(!path.exists());
}

#[test]
fn a_monitor_in_client_mode_connects_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wrapper");
    let listener = UnixListener::bind(&path).unwrap();
    let spec = CharSpec::parse_short(&format!("unix:{}", path.display())).unwrap();
    let source = StreamSource::open(&spec, "qmp", &FdSets::default(), &mut |_| {}).unwrap();
    let (mut wrapper, _) = listener.accept().unwrap();
    let mut connection = source.accept().unwrap().unwrap();
    connection.write_all(b"greeting").unwrap();
    let mut text = [0; 8];
    wrapper.read_exact(&mut text).unwrap();
    assert!(source.accept().unwrap().is_none());
}

#[test]
fn a_stream_on_a_device_reads_and_writes_past_every_bound() {
    let directory = tempfile::tempdir().unwrap();
    let (host, path) = server(directory.path());
    let mut connection = Connection::on_backend(host, None);
    let mut client = UnixStream::connect(path).unwrap();
    let text: Vec<u8> = (0..400_000_u32).flat_map(|n| n.to_le_bytes()).collect();

    let (mut writer, copy) = (client.try_clone().unwrap(), text.clone());
    let sender = std::thread::spawn(move || writer.write_all(&copy).unwrap());
    let mut got = vec![0; text.len()];
    connection.read_exact(&mut got).unwrap();
    sender.join().unwrap();
    assert!(got == text);

    let clone = connection.clone();
    let copy = text.clone();
    let sender = std::thread::spawn(move || (&clone).write_all(&copy).unwrap());
    client.read_exact(&mut got).unwrap();
    sender.join().unwrap();
    assert!(got == text);

    let clone = connection.clone();
    let reader = std::thread::spawn(move || connection.read(&mut [0]).unwrap());
    clone.shutdown();
    assert_eq!(reader.join().unwrap(), 0);
}

#[test]
fn tcp_in_both_modes() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let host = opened(&format!("tcp:127.0.0.1:{}", listener.local_addr().unwrap().port()));
    let (mut peer, _) = listener.accept().unwrap();
    let (device, seen) = Device::new(10);
    host.attach(device);
    peer.write_all(b"t").unwrap();
    assert_eq!(bytes(&seen), b"t");

    let spec = CharSpec::parse_short("tcp:127.0.0.1:0,server=on,wait=off").unwrap();
    let source = StreamSource::open(&spec, "qmp", &FdSets::default(), &mut |_| {}).unwrap();
    let address = source.name().strip_prefix("tcp:").unwrap().split(',').next().unwrap();
    let mut client = std::net::TcpStream::connect(address).unwrap();
    source.accept().unwrap().unwrap().write_all(b"x").unwrap();
    let mut byte = [0];
    client.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}
