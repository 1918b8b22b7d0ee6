//! The UART as a driver and its back end see it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::test_support::{Act, Bench, act_out, acts};

/// A back end that takes as many bytes as it has room for.
struct Port {
    room: AtomicUsize,
    out: Mutex<Vec<u8>>,
    held: AtomicBool,
    resumed: AtomicUsize,
}

impl SerialPort for Port {
    fn try_write(&self, bytes: &[u8]) -> usize {
        let taken = self.room.load(Ordering::SeqCst).min(bytes.len());
        self.room.fetch_sub(taken, Ordering::SeqCst);
        lock(&self.out).extend_from_slice(&bytes[..taken]);
        taken
    }

    fn resume_input(&self) {
        self.resumed.fetch_add(1, Ordering::SeqCst);
    }

    fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }
}

struct Set {
    bench: Bench,
    port: Arc<Port>,
    uart: Uart,
}

impl Set {
    fn new(room: usize) -> Self {
        let bench = Bench::new();
        let port = Arc::new(Port {
            room: AtomicUsize::new(room),
            out: Mutex::default(),
            held: AtomicBool::new(false),
            resumed: AtomicUsize::new(0),
        });
        let uart = Uart::new("serial0", bench.line(), Arc::clone(&port) as _);
        Self { bench, port, uart }
    }

    fn read(&self, offset: u64) -> u8 {
        self.uart.read(offset, AccessSize::Byte) as u8
    }

    fn write(&self, offset: u64, value: u8) {
        assert_eq!(self.uart.write(offset, AccessSize::Byte, value.into()), None);
    }

    fn out(&self) -> Vec<u8> {
        lock(&self.port.out).clone()
    }

    fn make_room(&self, room: usize) {
        self.port.room.store(room, Ordering::SeqCst);
        self.uart.writable();
    }

    fn irq(&self) -> bool {
        self.bench.wire.is_high()
    }
}

#[test]
fn keeps_the_promises_of_a_device() {
    vmcore::testing::conformance(|| Arc::new(Set::new(7).uart), Uart::WINDOW);
}

#[test]
fn what_the_guest_writes_goes_out_in_order() {
    let set = Set::new(100);
    for byte in *b"hello" {
        assert_eq!(set.read(LSR) & (LSR_THRE | LSR_IDLE), LSR_THRE | LSR_IDLE);
        set.write(RBR_THR, byte);
    }
    assert_eq!(set.out(), b"hello");
}

#[test]
fn a_full_back_end_keeps_thre_low_until_it_has_room() {
    let set = Set::new(1);
    set.write(IIR_FCR, FCR_ENABLE);
    set.write(IER, IER_THRE);
    assert_eq!(set.read(IIR_FCR), IIR_THRE | IIR_FIFOS_ON);
    set.write(RBR_THR, b'a');
    assert_eq!(set.read(LSR) & LSR_THRE, LSR_THRE);
    set.write(RBR_THR, b'b');
    assert_eq!(set.read(LSR) & (LSR_THRE | LSR_IDLE), 0, "the back end took nothing");
    assert!(!set.irq(), "an empty transmitter was reported too early");
    for byte in b'c'..=b'z' {
        set.write(RBR_THR, byte);
    }
    set.make_room(3);
    assert_eq!(set.read(LSR) & LSR_THRE, 0);
    set.make_room(100);
    assert_eq!(set.read(LSR) & (LSR_THRE | LSR_IDLE), LSR_THRE | LSR_IDLE);
    assert!(set.irq());
    assert_eq!(set.out(), b"abcdefghijklmnopq", "16 bytes wait, more are lost, none is out of order");
}

#[test]
fn the_thre_interrupt_is_cleared_by_iir_and_by_a_write() {
    let set = Set::new(100);
    set.write(IER, IER_THRE);
    assert!(set.irq(), "switching it on while empty raises it");
    assert_eq!(set.read(IIR_FCR), IIR_THRE);
    assert!(!set.irq());
    assert_eq!(set.read(IIR_FCR), IIR_NONE);
    set.write(RBR_THR, b'x');
    assert!(set.irq());
    set.write(IER, 0);
    assert!(!set.irq());
}

#[test]
fn input_raises_the_line_until_it_is_read() {
    let set = Set::new(0);
    set.write(IER, IER_RX);
    assert_eq!(set.uart.can_receive(), 1, "one byte without FIFOs");
    set.uart.receive(b"q");
    assert_eq!(set.uart.can_receive(), 0);
    assert!(set.irq());
    assert_eq!(set.read(IIR_FCR), IIR_RX);
    assert_eq!(set.read(LSR) & LSR_DATA, LSR_DATA);
    assert_eq!(set.read(RBR_THR), b'q');
    assert!(!set.irq());
    assert_eq!(set.read(LSR) & LSR_DATA, 0);
    assert_eq!(set.port.resumed.load(Ordering::SeqCst), 1, "the back end is told of the room");
}

#[test]
fn the_trigger_level_tells_available_from_timeout() {
    let set = Set::new(0);
    set.write(IIR_FCR, FCR_ENABLE | 0x80);
    set.write(IER, IER_RX);
    assert_eq!(set.uart.can_receive(), 16);
    set.uart.receive(b"1234567");
    assert_eq!(set.read(IIR_FCR), IIR_TIMEOUT | IIR_FIFOS_ON);
    set.uart.receive(b"8");
    assert_eq!(set.read(IIR_FCR), IIR_RX | IIR_FIFOS_ON);
    let got: Vec<u8> = (0..8).map(|_| set.read(RBR_THR)).collect();
    assert_eq!(got, b"12345678");
    assert!(!set.irq());
}

#[test]
fn too_much_input_is_an_overrun() {
    let set = Set::new(0);
    set.write(IER, IER_LINE);
    set.uart.receive(b"ab");
    assert!(set.irq());
    assert_eq!(set.read(IIR_FCR), IIR_LINE);
    assert_eq!(set.read(LSR) & LSR_OVERRUN, LSR_OVERRUN);
    assert_eq!(set.read(LSR) & LSR_OVERRUN, 0, "reading clears it");
    assert!(!set.irq());
    assert_eq!(set.read(RBR_THR), b'a');
}

#[test]
fn break_is_a_zero_byte_with_a_mark_and_an_interrupt() {
    let set = Set::new(0);
    set.write(IIR_FCR, FCR_ENABLE);
    set.write(IER, IER_LINE | IER_RX);
    set.uart.receive(b"a");
    set.uart.receive_break();
    set.uart.receive(b"s");
    assert_eq!(set.read(LSR) & LSR_BREAK, 0, "it is behind another byte");
    assert_eq!(set.read(RBR_THR), b'a');
    assert_eq!(set.read(IIR_FCR) & 0xf, IIR_LINE);
    assert_eq!(set.read(LSR) & (LSR_BREAK | LSR_DATA), LSR_BREAK | LSR_DATA);
    assert_eq!(set.read(IIR_FCR) & 0xf, IIR_RX, "reported once");
    assert_eq!(set.read(RBR_THR), 0);
    assert_eq!(set.read(LSR) & LSR_BREAK, 0);
    assert_eq!(set.read(RBR_THR), b's');
}

#[test]
fn break_outlives_a_full_receiver() {
    let set = Set::new(0);
    set.uart.receive(b"a");
    set.uart.receive_break();
    assert_eq!(set.uart.can_receive(), 0);
    assert_eq!(set.read(LSR) & (LSR_OVERRUN | LSR_BREAK), 0);
    assert_eq!(set.read(RBR_THR), b'a');
    assert_eq!(set.read(LSR) & LSR_BREAK, LSR_BREAK);
    assert_eq!(set.read(RBR_THR), 0);
    assert_eq!(set.uart.can_receive(), 1);
}

#[test]
fn loopback_is_cut_off_from_the_line() {
    let set = Set::new(100);
    set.write(MCR, MCR_LOOP | MCR_OUT2 | MCR_RTS);
    assert_eq!(set.read(MSR) & 0xf0, MSR_DCD | MSR_CTS, "what Linux looks for to find the UART");
    assert_eq!(set.uart.can_receive(), 0);
    set.write(RBR_THR, b'L');
    assert_eq!(set.read(RBR_THR), b'L');
    assert_eq!(set.out(), b"");
    set.write(IER, IER_MODEM);
    set.read(MSR);
    set.write(MCR, MCR_LOOP | MCR_RTS);
    assert_eq!(set.read(IIR_FCR), IIR_MODEM);
    assert_eq!(set.read(MSR), MSR_CTS | MSR_DELTA_DCD);
    assert_eq!(set.read(MSR), MSR_CTS, "reading clears the changes");
    set.write(MCR, 0);
    assert_eq!(set.uart.can_receive(), 1);
}

#[test]
fn the_divisor_hides_behind_dlab() {
    let set = Set::new(100);
    set.write(LCR, LCR_DLAB | 3);
    set.write(RBR_THR, 0x34);
    set.write(IER, 0x12);
    assert_eq!((set.read(RBR_THR), set.read(IER)), (0x34, 0x12));
    set.write(LCR, 3);
    assert_eq!((set.read(IER), set.read(LCR)), (0, 3));
    assert_eq!(set.out(), b"");
}

#[test]
fn clearing_the_fifos_loses_what_is_in_them() {
    let set = Set::new(0);
    set.write(IIR_FCR, FCR_ENABLE);
    set.uart.receive(b"xyz");
    set.write(RBR_THR, b'o');
    set.write(IIR_FCR, FCR_ENABLE | FCR_CLEAR_RX | FCR_CLEAR_TX);
    assert_eq!(set.read(LSR), LSR_THRE | LSR_IDLE);
    set.make_room(10);
    assert_eq!(set.out(), b"");
}

#[test]
fn nothing_moves_while_the_machine_is_held() {
    let set = Set::new(0);
    set.write(RBR_THR, b'w');
    set.uart.stop();
    assert!(set.port.held.load(Ordering::SeqCst));
    assert_eq!(set.uart.can_receive(), 0);
    let held = set.uart.save();
    set.make_room(10);
    assert_eq!(set.uart.save(), held);
    assert_eq!(set.out(), b"");
    assert_eq!(set.uart.start(), None);
    assert_eq!(set.out(), b"w", "output that waited goes on at once");
    assert!(!set.port.held.load(Ordering::SeqCst));
    assert_eq!(set.uart.can_receive(), 1);
}

#[test]
fn a_byte_that_waits_travels_with_a_snapshot() {
    let (from, to) = (Set::new(0), Set::new(5));
    from.write(IER, IER_THRE);
    from.write(RBR_THR, b'm');
    from.uart.receive(b"i");
    from.uart.stop();
    to.uart.stop();
    to.uart.load(&from.uart.save()).unwrap();
    assert!(!to.irq());
    to.uart.start();
    assert_eq!(to.out(), b"m");
    assert!(to.irq());
    assert_eq!(to.read(RBR_THR), b'i');
}

#[test]
fn the_console_keeps_the_order_of_the_line() {
    let set = Set::new(0);
    set.write(RBR_THR, b'1');
    assert_eq!(set.uart.console_write(b"23"), 0, "it does not overtake");
    set.port.room.store(2, Ordering::SeqCst);
    assert_eq!(set.uart.console_write(b"23"), 1);
    assert_eq!(set.out(), b"12");
    set.uart.receive(b"k");
    let mut bytes = [0; 4];
    assert_eq!(set.uart.console_read(&mut bytes), 1);
    assert_eq!(bytes[0], b'k');
    assert_eq!(set.uart.can_receive(), 1);
}

proptest! {
    /// Whatever a driver does: the line is IIR's word, and the room never exceeds the FIFO.
    #[test]
    fn the_line_is_what_iir_says(acts in acts(Uart::WINDOW), input in any::<Vec<u8>>()) {
        let set = Set::new(20);
        let Set { bench, uart, .. } = &set;
        let mut input = input.chunks(3);
        for act in &acts {
            act_out(bench, uart, Uart::WINDOW, std::slice::from_ref(act), || {
                let state = lock(&uart.inner).state.clone();
                assert_eq!(bench.wire.is_high(), state.interrupt() != IIR_NONE);
                assert!(state.received.len() <= FIFO && state.to_send.len() <= FIFO);
            });
            if let (Act::Read(..), Some(bytes)) = (act, input.next()) {
                // In loopback the guest may overrun its own receiver; the host never does.
                let overrun = lock(&uart.inner).state.overrun;
                let room = uart.can_receive().min(bytes.len());
                uart.receive(&bytes[..room]);
                prop_assert_eq!(lock(&uart.inner).state.overrun, overrun);
            }
        }
    }
}
