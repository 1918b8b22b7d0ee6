//! Bytes into tokens, one byte at a time, with QEMU's leniency (single quotes) and QEMU's strictness (no
//! comments, no leading zeros, no control characters in strings).
//!
//! A number or a word ends only when a byte comes that cannot belong to it: a bare token at top level gives
//! nothing until then. The bytes 0xFE and 0xFF belong to no token, inside strings or out.

/// A complete token; the text of all but punctuation is in [`Lexer::token`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One of `{ } [ ] , :`.
    Punctuation(u8),
    /// A string with its quotes, escapes still in it.
    String,
    /// A number without fraction or exponent.
    Integer,
    /// Any other number.
    Float,
    /// A word of lower-case letters.
    Keyword,
}

/// What stopped the lexer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lexed {
    /// A whole token.
    Token(Kind),
    /// This byte, already added to the token's text, cannot stand here. It has not been taken from the input.
    Stray(u8),
    /// The token has more bytes than it may.
    TooLong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    String { quote: u8, escaped: bool },
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    Keyword,
}

/// What a byte means in a state.
enum Step {
    /// It belongs to the token, which goes on.
    More(State),
    /// It belongs to the token and ends it.
    Last(Kind),
    /// The token ended before it.
    Before(Kind),
    /// Nothing: white space between tokens.
    Space,
    /// It cannot be.
    Stray,
}

/// The lexer: a state and the text of the token so far.
#[derive(Debug)]
pub(crate) struct Lexer {
    state: State,
    token: Vec<u8>,
    /// Whether the byte before the token was a newline.
    line_start: bool,
}

/// Room that is kept for the next token; what a longer one needed is given back.
const KEEP: usize = 4096;

impl Lexer {
    pub(crate) fn new() -> Self {
        Self { state: State::Start, token: Vec::new(), line_start: false }
    }

    /// Reads on until a token is complete or something is wrong; `None` when the input is used up. A token
    /// may have at most `room` bytes.
    pub(crate) fn next(&mut self, bytes: &mut &[u8], room: usize) -> Option<Lexed> {
        loop {
            self.take_plain(bytes, room);
            if self.token.len() > room {
                return Some(Lexed::TooLong);
            }
            let (&byte, rest) = bytes.split_first()?;
            match step(self.state, byte) {
                Step::Before(kind) => return Some(self.finish(kind)),
                Step::Stray => {
                    self.token.push(byte);
                    return Some(Lexed::Stray(byte));
                }
                Step::Space => self.line_start = byte == b'\n',
                Step::More(state) => {
                    self.state = state;
                    self.token.push(byte);
                }
                Step::Last(kind) => {
                    *bytes = rest;
                    self.token.push(byte);
                    return Some(self.finish(kind));
                }
            }
            *bytes = rest;
        }
    }

    /// Takes the longest run of bytes that mean nothing special in a string, at once.
    fn take_plain(&mut self, bytes: &mut &[u8], room: usize) {
        let State::String { quote, escaped: false } = self.state else { return };
        let plain = |byte: &u8| (0x20..=0xFD).contains(byte) && *byte != quote && *byte != b'\\';
        let most = room.saturating_add(1).saturating_sub(self.token.len());
        let length = bytes.iter().take(most).take_while(|byte| plain(byte)).count();
        let (run, rest) = bytes.split_at(length);
        self.token.extend_from_slice(run);
        *bytes = rest;
    }

    fn finish(&mut self, kind: Kind) -> Lexed {
        self.state = State::Start;
        Lexed::Token(kind)
    }

    /// The text of the token that was given, or of the one that is broken.
    pub(crate) fn token(&self) -> &[u8] {
        &self.token
    }

    /// Whether the token that was given is the first thing on its line.
    pub(crate) fn line_start(&self) -> bool {
        self.line_start
    }

    /// If the lexer is inside a string: its quote, and whether a backslash precedes.
    pub(crate) fn in_string(&self) -> Option<(u8, bool)> {
        match self.state {
            State::String { quote, escaped } => Some((quote, escaped)),
            _ => None,
        }
    }

    /// Forgets the token. To be called after each that was given.
    pub(crate) fn clear(&mut self) {
        self.state = State::Start;
        self.line_start = false;
        self.token.clear();
        self.token.shrink_to(KEEP);
    }
}

fn step(state: State, byte: u8) -> Step {
    use State::*;
    match (state, byte) {
        (Start, _) => start(byte),
        (String { .. }, 0..=0x1F | 0xFE | 0xFF) => Step::Stray,
        (String { quote, escaped: true }, _) => Step::More(String { quote, escaped: false }),
        (String { quote, escaped: false }, b'\\') => Step::More(String { quote, escaped: true }),
        (String { quote, .. }, _) if byte == quote => Step::Last(Kind::String),
        (String { .. }, _) => Step::More(state),
        (Keyword, b'a'..=b'z') => Step::More(Keyword),
        (Minus, b'0') => Step::More(Zero),
        (Minus, b'1'..=b'9') => Step::More(Digits),
        (Zero, b'0'..=b'9') => Step::Stray,
        (Digits, b'0'..=b'9') => Step::More(Digits),
        (Zero | Digits, b'.') => Step::More(Point),
        (Point | Fraction, b'0'..=b'9') => Step::More(Fraction),
        (Zero | Digits | Fraction, b'e' | b'E') => Step::More(Exponent),
        (Exponent, b'+' | b'-') => Step::More(ExponentSign),
        (Exponent | ExponentSign | ExponentDigits, b'0'..=b'9') => Step::More(ExponentDigits),
        (_, 0xFE | 0xFF) | (Minus | Point | Exponent | ExponentSign, _) => Step::Stray,
        (Zero | Digits, _) => Step::Before(Kind::Integer),
        (Fraction | ExponentDigits, _) => Step::Before(Kind::Float),
        (Keyword, _) => Step::Before(Kind::Keyword),
    }
}

fn start(byte: u8) -> Step {
    match byte {
        b' ' | b'\t' | b'\r' | b'\n' => Step::Space,
        b'"' | b'\'' => Step::More(State::String { quote: byte, escaped: false }),
        b'{' | b'}' | b'[' | b']' | b',' | b':' => Step::Last(Kind::Punctuation(byte)),
        b'a'..=b'z' => Step::More(State::Keyword),
        b'-' => Step::More(State::Minus),
        b'0' => Step::More(State::Zero),
        b'1'..=b'9' => Step::More(State::Digits),
        _ => Step::Stray,
    }
}
