//! The framing: `$` body `#` checksum, acknowledgements, and the interrupt byte.

/// Most bytes in a packet's body, either way.
pub const PACKET_SIZE: usize = 0x4000;

/// The interrupt byte, which comes outside of packets.
const INTERRUPT: u8 = 3;

/// What came in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Incoming {
    /// A packet, its escapes undone.
    Packet(Vec<u8>),
    /// A packet with a wrong checksum or without an end.
    Damaged,
    /// The other side asks for the last packet again.
    Again,
    /// The interrupt byte.
    Interrupt,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Outside,
    Body,
    /// Behind the `#`; the first digit, once it is there.
    Checksum(Option<u8>),
}

/// Takes packets out of a stream of bytes.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    state: State,
    body: Vec<u8>,
    sum: u8,
    /// The body is longer than it may be, and what it says is lost.
    oversized: bool,
}

impl Reader {
    /// Takes one byte; gives what it completes.
    pub(crate) fn take(&mut self, byte: u8) -> Option<Incoming> {
        match (self.state, byte) {
            // A packet that begins anew in the middle of another.
            (State::Outside | State::Body, b'$') => {
                let damaged = matches!(self.state, State::Body);
                *self = Self { state: State::Body, ..Self::default() };
                damaged.then_some(Incoming::Damaged)
            }
            (State::Outside, INTERRUPT) => Some(Incoming::Interrupt),
            (State::Outside, b'-') => Some(Incoming::Again),
            (State::Outside, _) => None,
            (State::Body, b'#') => {
                self.state = State::Checksum(None);
                None
            }
            (State::Body, _) => {
                self.sum = self.sum.wrapping_add(byte);
                self.oversized |= self.body.len() >= PACKET_SIZE;
                if !self.oversized {
                    self.body.push(byte);
                }
                None
            }
            (State::Checksum(None), _) => {
                self.state = State::Checksum(Some(byte));
                None
            }
            (State::Checksum(Some(first)), _) => {
                self.state = State::Outside;
                let digits = [first, byte];
                let told = std::str::from_utf8(&digits).ok().and_then(crate::hex::number);
                if told == Some(self.sum.into()) && !self.oversized {
                    Some(Incoming::Packet(unescape(std::mem::take(&mut self.body))))
                } else {
                    Some(Incoming::Damaged)
                }
            }
        }
    }
}

fn unescape(body: Vec<u8>) -> Vec<u8> {
    if !body.contains(&b'}') {
        return body;
    }
    let mut bytes = body.into_iter();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        match (byte, byte == b'}') {
            (_, true) => plain.extend(bytes.next().map(|byte| byte ^ 0x20)),
            (byte, false) => plain.push(byte),
        }
    }
    plain
}

/// `body` as a packet. What has a meaning of its own in packets is escaped.
pub(crate) fn frame(body: &str) -> Vec<u8> {
    let mut packet = Vec::with_capacity(body.len() + 4);
    packet.push(b'$');
    for byte in body.bytes() {
        if matches!(byte, b'$' | b'#' | b'}' | b'*') {
            packet.extend([b'}', byte ^ 0x20]);
        } else {
            packet.push(byte);
        }
    }
    let sum = packet.iter().skip(1).fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    packet.extend(format!("#{sum:02x}").into_bytes());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Vec<Incoming> {
        let mut reader = Reader::default();
        bytes.iter().filter_map(|byte| reader.take(*byte)).collect()
    }

    #[test]
    fn packets_interrupts_and_damage_are_told_apart() {
        let packet = |body: &[u8]| Incoming::Packet(body.to_vec());
        assert_eq!(
            read(b"+$?#3f\x03$m0,4#fd-"),
            [packet(b"?"), Incoming::Interrupt, packet(b"m0,4"), Incoming::Again]
        );
        assert_eq!(read(b"$?#40$?#3f"), [Incoming::Damaged, packet(b"?")]);
        assert_eq!(read(b"$?#zz"), [Incoming::Damaged]);
        assert_eq!(read(b"$abc$?#3f"), [Incoming::Damaged, packet(b"?")]);
        assert_eq!(read(b"$X}\x03}]#b2"), [packet(b"X#}")]);
    }

    #[test]
    fn a_packet_that_is_too_long_is_lost_and_the_next_one_is_not() {
        let long = vec![b'a'; PACKET_SIZE + 1];
        let sum = long.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        let mut bytes = [b"$".as_slice(), &long, format!("#{sum:02x}").as_bytes()].concat();
        bytes.extend(b"$?#3f");
        assert_eq!(read(&bytes), [Incoming::Damaged, Incoming::Packet(b"?".to_vec())]);
    }

    proptest! {
        #[test]
        fn what_is_framed_is_read(body in "\\PC{0,100}") {
            prop_assert_eq!(read(&frame(&body)), [Incoming::Packet(body.into_bytes())]);
        }

        #[test]
        fn any_bytes_are_read_without_growth(bytes: Vec<u8>) {
            let mut reader = Reader::default();
            for byte in bytes {
                reader.take(byte);
                prop_assert!(reader.body.len() <= PACKET_SIZE);
            }
        }
    }
}
