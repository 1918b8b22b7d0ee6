use super::*;
use crate::reader::Transport;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};

fn keys(bytes: &[u8]) -> Vec<Key> {
    let mut escape = Escape::default();
    bytes.iter().map(|&byte| escape.key(byte)).collect()
}

#[test]
fn escape_keys() {
    let byte = |b| Key::Input(Input::Byte(b));
    assert_eq!(keys(b"a\x01cb"), [byte(b'a'), Key::Nothing, Key::Next, byte(b'b')]);
    assert_eq!(keys(b"\x01\x01x"), [Key::Nothing, byte(1), byte(b'x')]);
    assert_eq!(keys(b"\x01x"), [Key::Nothing, Key::Quit]);
    assert_eq!(keys(b"\x01b"), [Key::Nothing, Key::Input(Input::Break)]);
    assert_eq!(keys(b"\x01h\x01?"), [Key::Nothing, Key::Help, Key::Nothing, Key::Help]);
    assert_eq!(keys(b"\x01zc"), [Key::Nothing, Key::Nothing, byte(b'c')]);
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Bytes(Vec<u8>),
    Event(CharEvent),
}

/// A frontend with endless room that reports what it gets.
struct Reporter(Sender<Seen>);

impl Frontend for Reporter {
    fn can_receive(&self) -> usize {
        usize::MAX
    }
    fn receive(&self, bytes: &[u8]) {
        self.0.send(Seen::Bytes(bytes.to_vec())).unwrap();
    }
    fn event(&self, event: CharEvent) {
        self.0.send(Seen::Event(event)).unwrap();
    }
    fn writable(&self) {}
}

/// What comes next, the events of the connection itself left out.
fn next(seen: &Receiver<Seen>) -> Seen {
    loop {
        match seen.recv().unwrap() {
            Seen::Event(CharEvent::Opened) => {}
            other => return other,
        }
    }
}

struct Rig {
    terminal: UnixStream,
    _mux: Mux,
    ports: [Arc<MuxPort>; 2],
    seen: [Receiver<Seen>; 2],
    quit: Receiver<()>,
}

fn rig() -> Rig {
    let (terminal, ours) = UnixStream::pair().unwrap();
    let ours: OwnedFd = ours.into();
    let transport = Transport::Duplex { input: ours.try_clone().unwrap(), output: Arc::new(ours) };
    let device = CharDev::start("mux", "stdio".into(), transport, crate::chardev::Belongings::default());
    let (quit_in, quit) = channel();
    let mux = Mux::new(device.unwrap(), Box::new(move || quit_in.send(()).unwrap()));
    let ports = [mux.port(), mux.port()];
    let seen = ports.each_ref().map(|port| {
        let (sender, receiver) = channel();
        port.attach(Arc::new(Reporter(sender)));
        receiver
    });
    assert_eq!(next(&seen[0]), Seen::Event(CharEvent::FocusIn));
    Rig { terminal, _mux: mux, ports, seen, quit }
}

#[test]
fn the_focus_moves_and_comes_back() {
    let mut rig = rig();
    rig.terminal.write_all(b"a\x01cb\x01cd").unwrap();
    assert_eq!(next(&rig.seen[1]), Seen::Event(CharEvent::FocusIn));
    assert_eq!(next(&rig.seen[1]), Seen::Event(CharEvent::FocusOut));
    assert_eq!(next(&rig.seen[1]), Seen::Bytes(b"b".to_vec()));
    let mut serial = vec![];
    let mut events = vec![];
    while serial != b"ad" {
        match next(&rig.seen[0]) {
            Seen::Bytes(bytes) => serial.extend(bytes),
            Seen::Event(event) => events.push(event),
        }
    }
    assert_eq!(events, [CharEvent::FocusOut, CharEvent::FocusIn]);
}

#[test]
fn a_held_serial_line_keeps_its_input_and_the_keys_still_work() {
    let mut rig = rig();
    rig.ports[0].pause(true);
    rig.terminal.write_all(b"for the guest\x01b!\x01cinfo\x01x").unwrap();
    rig.quit.recv().unwrap();
    let mut monitor = vec![];
    while monitor != b"info" {
        if let Seen::Bytes(bytes) = next(&rig.seen[1]) {
            monitor.extend(bytes);
        }
    }
    assert_eq!(rig.seen[0].try_iter().find(|seen| matches!(seen, Seen::Bytes(_))), None);
    rig.ports[0].pause(false);
    let mut got = vec![];
    while got.len() < 3 {
        match next(&rig.seen[0]) {
            Seen::Event(CharEvent::FocusOut) => {}
            other => got.push(other),
        }
    }
    let bytes = |text: &[u8]| Seen::Bytes(text.to_vec());
    assert_eq!(got, [bytes(b"for the guest"), Seen::Event(CharEvent::Break), bytes(b"!")]);
}

#[test]
fn everybody_writes_and_help_is_shown() {
    let mut rig = rig();
    assert_eq!(rig.ports[0].try_write(b"serial "), 7);
    assert_eq!(rig.ports[1].try_write(b"monitor"), 7);
    let mut text = [0; 14];
    rig.terminal.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"serial monitor");
    rig.terminal.write_all(b"\x01h").unwrap();
    let mut help = vec![0; HELP.len()];
    rig.terminal.read_exact(&mut help).unwrap();
    assert_eq!(help, HELP);
}

#[test]
fn a_full_buffer_makes_the_typist_wait_and_loses_nothing() {
    let mut rig = rig();
    rig.ports[0].pause(true);
    let sent: Vec<u8> = (0..CAPACITY * 3).map(|n| b'a' + u8::try_from(n % 26).unwrap()).collect();
    let copy = sent.clone();
    let mut terminal = rig.terminal.try_clone().unwrap();
    let typist = std::thread::spawn(move || terminal.write_all(&copy).unwrap());
    rig.ports[0].pause(false);
    let mut got = vec![];
    while got.len() < sent.len() {
        if let Seen::Bytes(bytes) = next(&rig.seen[0]) {
            got.extend(bytes);
        }
    }
    typist.join().unwrap();
    assert!(got == sent);
    rig.terminal.flush().unwrap();
}
