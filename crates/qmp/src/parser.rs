//! Bytes into JSON values, pushed in chunks of any size.
//!
//! A value is complete when its brackets are closed; commands need no newline between them. The end of a
//! value is counted as QEMU counts it: braces and brackets apart, and a value is over when none is open or
//! one is closed too often.
//!
//! ```text
//!            error at depth 0, or 0xFF
//!   ┌─► Value ───────────────────────────► Recovery   (drop bytes up to a control character, bracket, comma, colon)
//!   │     │ error inside brackets             │
//!   │     ▼                                   │
//!   │   Skip ── 0xFF ────────────────────────►│       (drop the rest of the broken value)
//!   └─────┴── value over, or "\n{" ◄──────────┘
//! ```
//!
//! Deliberate difference from QEMU (B26): there one broken value costs an error for each bracket or token
//! that is left over of it; here exactly one. The rest is skipped with brackets and strings followed. As a
//! lost quote would make everything after it look like the inside of a string, and a lost bracket like the
//! inside of a value, a line that begins with `{` ends what is broken: it is taken for the next command. Byte
//! 0xFF resets everything and costs one error each time, as in QEMU.

use crate::error::SyntaxError;
use crate::lexer::{Kind, Lexed, Lexer};
use crate::literal;
use serde_json::{Map, Value};

/// Bounds of a single value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in its tokens, white space not counted.
    pub size: usize,
    /// Tokens.
    pub tokens: usize,
    /// Brackets of both kinds that are open at once.
    pub depth: usize,
}

impl Default for Limits {
    /// QEMU's: 64 MiB, 2 Mi tokens, 1024 levels.
    fn default() -> Self {
        Self { size: 64 << 20, tokens: 2 << 20, depth: 1024 }
    }
}

/// What may come next in a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    ElementOrEnd,
    KeyOrEnd,
    Key,
    Colon,
    CommaOrEnd,
}

/// An array or object that is open.
#[derive(Debug)]
enum Frame {
    Array(Vec<Value>),
    Object(Map<String, Value>, String),
}

/// How the rest of a broken value is being read.
#[derive(Debug, Clone, Copy, Default)]
struct Skip {
    quote: Option<u8>,
    escaped: bool,
    line_start: bool,
}

#[derive(Debug)]
enum Mode {
    Value,
    Recovery,
    Skip(Skip),
}

/// The parser. Its memory is bounded by [`Limits`] whatever it is fed.
#[derive(Debug)]
pub struct Parser {
    limits: Limits,
    lexer: Lexer,
    mode: Mode,
    stack: Vec<Frame>,
    expect: Expect,
    braces: i64,
    brackets: i64,
    size: usize,
    tokens: usize,
}

impl Parser {
    /// A parser at the beginning of its input.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            lexer: Lexer::new(),
            mode: Mode::Value,
            stack: Vec::new(),
            expect: Expect::Value,
            braces: 0,
            brackets: 0,
            size: 0,
            tokens: 0,
        }
    }

    /// Reads on to the next complete value or error and leaves what follows it in `bytes`; `None` when the
    /// input is used up.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Result<Value, SyntaxError>> {
        loop {
            let output = match self.mode {
                Mode::Value => self.parse(bytes)?,
                Mode::Recovery => self.recover(bytes),
                Mode::Skip(skip) => self.skip(skip, bytes)?,
            };
            if output.is_some() || bytes.is_empty() {
                return output;
            }
        }
    }

    /// Reads one token. The outer `None` means that the input is used up, the inner that there is no output
    /// yet.
    fn parse(&mut self, bytes: &mut &[u8]) -> Option<Option<Result<Value, SyntaxError>>> {
        let room = self.limits.size.saturating_sub(self.size);
        Some(match self.lexer.next(bytes, room)? {
            Lexed::Token(kind) => self.token(kind).transpose(),
            Lexed::Stray(byte) => {
                let error = SyntaxError::Stray(literal::show(self.lexer.token()));
                self.give_up();
                if byte == 0xFF {
                    self.restart(Mode::Recovery);
                }
                if matches!(self.mode, Mode::Recovery) {
                    *bytes = bytes.get(1..).unwrap_or_default();
                }
                Some(Err(error))
            }
            Lexed::TooLong => {
                self.give_up();
                Some(Err(SyntaxError::Size))
            }
        })
    }

    /// Forgets everything about the value that was being read.
    fn restart(&mut self, mode: Mode) {
        self.mode = mode;
        self.stack.clear();
        self.expect = Expect::Value;
        (self.braces, self.brackets) = (0, 0);
        (self.size, self.tokens) = (0, 0);
        self.lexer.clear();
    }

    /// After an error in the middle of a token: skips the rest of the value, or recovers at top level.
    fn give_up(&mut self) {
        if self.over() {
            return self.restart(Mode::Recovery);
        }
        let string = self.lexer.in_string();
        let (quote, escaped) = string.map_or((None, false), |(quote, escaped)| (Some(quote), escaped));
        self.start_skip(Skip { quote, escaped, line_start: false });
    }

    fn start_skip(&mut self, skip: Skip) {
        let (braces, brackets) = (self.braces, self.brackets);
        self.restart(Mode::Skip(skip));
        (self.braces, self.brackets) = (braces, brackets);
    }

    /// Whether the value that is being read is over, by its brackets.
    fn over(&self) -> bool {
        let open = self.braces > 0 || self.brackets > 0;
        !open || self.braces < 0 || self.brackets < 0
    }

    fn count(&mut self, punctuation: u8) {
        match punctuation {
            b'{' => self.braces += 1,
            b'}' => self.braces -= 1,
            b'[' => self.brackets += 1,
            b']' => self.brackets -= 1,
            _ => {}
        }
    }

    /// Drops the rest of something broken at top level.
    fn recover(&mut self, bytes: &mut &[u8]) -> Option<Result<Value, SyntaxError>> {
        let stop = |byte: &u8| matches!(byte, 0..=0x1F | 0xFE.. | b'{' | b'}' | b'[' | b']' | b',' | b':');
        let found = bytes.iter().position(stop);
        if found.is_some() {
            self.restart(Mode::Value);
        }
        *bytes = bytes.get(found.unwrap_or(bytes.len())..).unwrap_or_default();
        None
    }

    /// Drops the rest of a broken value.
    fn skip(&mut self, mut skip: Skip, bytes: &mut &[u8]) -> Option<Option<Result<Value, SyntaxError>>> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if byte == b'{' && skip.line_start {
                self.restart(Mode::Value);
                return Some(None);
            }
            *bytes = rest;
            if byte == 0xFF {
                self.restart(Mode::Recovery);
                return Some(Some(Err(SyntaxError::Stray(literal::show(&[byte])))));
            }
            skip.line_start = byte == b'\n';
            match (skip.quote, byte) {
                (Some(_), _) if skip.escaped => skip.escaped = false,
                (Some(_), b'\\') => skip.escaped = true,
                (Some(quote), _) if byte == quote => skip.quote = None,
                (Some(_), _) => {}
                (None, b'"' | b'\'') => skip.quote = Some(byte),
                (None, _) => self.count(byte),
            }
            if self.over() {
                self.restart(Mode::Value);
                return Some(None);
            }
        }
        self.mode = Mode::Skip(skip);
        None
    }

    /// Takes in a whole token.
    fn token(&mut self, kind: Kind) -> Result<Option<Value>, SyntaxError> {
        if let Kind::Punctuation(byte) = kind {
            self.count(byte);
        }
        let command = kind == Kind::Punctuation(b'{') && self.lexer.line_start();
        let result = self.within_limits().and_then(|()| self.grammar(kind));
        self.lexer.clear();
        match &result {
            Ok(None) => {}
            // The value before lacks its end, and this brace begins the next: it is read once more, as a
            // beginning.
            Err(error) if command && !error.is_limit() => {
                self.restart(Mode::Value);
                self.count(b'{');
                self.open(Frame::Object(Map::new(), String::new()), Expect::KeyOrEnd);
            }
            Err(_) if !self.over() => self.start_skip(Skip::default()),
            Ok(Some(_)) | Err(_) => self.restart(Mode::Value),
        }
        result
    }

    fn within_limits(&mut self) -> Result<(), SyntaxError> {
        self.size = self.size.saturating_add(self.lexer.token().len());
        self.tokens += 1;
        let depth = self.braces.saturating_add(self.brackets);
        if self.size > self.limits.size {
            Err(SyntaxError::Size)
        } else if self.tokens > self.limits.tokens {
            Err(SyntaxError::Tokens)
        } else if usize::try_from(depth).is_ok_and(|depth| depth > self.limits.depth) {
            Err(SyntaxError::Depth)
        } else {
            Ok(())
        }
    }

    /// One step of the grammar; gives the value when the token completes it.
    fn grammar(&mut self, kind: Kind) -> Result<Option<Value>, SyntaxError> {
        match (self.expect, kind) {
            (Expect::ElementOrEnd | Expect::CommaOrEnd, Kind::Punctuation(b']')) => self.close(true),
            (Expect::KeyOrEnd | Expect::CommaOrEnd, Kind::Punctuation(b'}')) => self.close(false),
            (Expect::CommaOrEnd, _) => self.comma(kind).map(|()| None),
            (Expect::Colon, Kind::Punctuation(b':')) => {
                self.expect = Expect::Value;
                Ok(None)
            }
            (Expect::Colon, _) => Err(SyntaxError::MissingColon),
            (Expect::Key | Expect::KeyOrEnd, _) => self.key(kind).map(|()| None),
            (Expect::Value | Expect::ElementOrEnd, _) => self.value(kind),
        }
    }

    fn value(&mut self, kind: Kind) -> Result<Option<Value>, SyntaxError> {
        match kind {
            Kind::Punctuation(b'[') => {
                self.open(Frame::Array(Vec::new()), Expect::ElementOrEnd);
                Ok(None)
            }
            Kind::Punctuation(b'{') => {
                self.open(Frame::Object(Map::new(), String::new()), Expect::KeyOrEnd);
                Ok(None)
            }
            _ => {
                let value = self.scalar(kind)?;
                self.place(value)
            }
        }
    }

    fn open(&mut self, frame: Frame, expect: Expect) {
        self.stack.push(frame);
        self.expect = expect;
    }

    fn scalar(&self, kind: Kind) -> Result<Value, SyntaxError> {
        let text = self.lexer.token();
        match kind {
            Kind::String => literal::string(text).map(Value::String),
            Kind::Integer => literal::number(text, true),
            Kind::Float => literal::number(text, false),
            Kind::Keyword => literal::keyword(text),
            Kind::Punctuation(_) => Err(SyntaxError::ExpectingValue),
        }
    }

    fn key(&mut self, kind: Kind) -> Result<(), SyntaxError> {
        let key = match kind {
            Kind::Punctuation(b'{' | b'[') => return Err(SyntaxError::KeyNotString),
            _ => self.scalar(kind)?,
        };
        match (key, self.stack.last_mut()) {
            (Value::String(key), Some(Frame::Object(members, _))) if members.contains_key(&key) => {
                Err(SyntaxError::DuplicateKey)
            }
            (Value::String(key), Some(Frame::Object(_, next))) => {
                *next = key;
                self.expect = Expect::Colon;
                Ok(())
            }
            _ => Err(SyntaxError::KeyNotString),
        }
    }

    fn comma(&mut self, kind: Kind) -> Result<(), SyntaxError> {
        let in_list = matches!(self.stack.last(), Some(Frame::Array(_)));
        self.expect = match (kind, in_list) {
            (Kind::Punctuation(b','), true) => Expect::Value,
            (Kind::Punctuation(b','), false) => Expect::Key,
            (_, true) => return Err(SyntaxError::SeparatorInList),
            (_, false) => return Err(SyntaxError::SeparatorInDict),
        };
        Ok(())
    }

    /// Closes the innermost array (`list`) or object, which must be of that kind.
    fn close(&mut self, list: bool) -> Result<Option<Value>, SyntaxError> {
        match (self.stack.pop(), list) {
            (Some(Frame::Array(values)), true) => self.place(Value::Array(values)),
            (Some(Frame::Object(members, _)), false) => self.place(Value::Object(members)),
            (Some(Frame::Array(_)), false) => Err(SyntaxError::SeparatorInList),
            _ => Err(SyntaxError::SeparatorInDict),
        }
    }

    /// Puts a complete value where it belongs; at top level it is the result.
    fn place(&mut self, value: Value) -> Result<Option<Value>, SyntaxError> {
        match self.stack.last_mut() {
            None => return Ok(Some(value)),
            Some(Frame::Array(values)) => values.push(value),
            Some(Frame::Object(members, key)) => {
                members.insert(std::mem::take(key), value);
            }
        }
        self.expect = Expect::CommaOrEnd;
        Ok(None)
    }
}
