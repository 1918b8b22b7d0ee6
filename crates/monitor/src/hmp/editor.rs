//! A line editor for a stream of bytes: no terminal calls, only the escape sequences that every terminal knows.
//!
//! Keys: C-a, Home; C-e, End; C-b, C-f and the arrows; C-h, DEL; C-d, Delete; C-k; C-u; C-w; C-p, C-n and the arrows for
//! history; C-l; Tab. A carriage return, a newline or both together end the line. Positions are counted in characters, each
//! taken as one column wide.

use std::collections::VecDeque;
use std::fmt::Write as _;

/// Characters that a line may have; further ones are not taken.
const LENGTH: usize = 4095;
/// Lines that are remembered.
const HISTORY: usize = 64;

/// What a key asks of the editor's owner.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The line is finished.
    Line(String),
    /// The word before the cursor is to be completed.
    Complete,
    /// The screen is clear: prompt and line are to be shown.
    Redraw,
}

/// Where in an escape sequence the input is.
#[derive(Clone, Copy, Default)]
enum Escape {
    #[default]
    No,
    Begun,
    /// After `ESC [` or `ESC O`, with the number so far.
    Sequence(u8),
}

/// The state of the line.
#[derive(Default)]
pub(crate) struct Editor {
    line: Vec<char>,
    cursor: usize,
    history: VecDeque<String>,
    /// Which line of the history is shown; none is the new one.
    shown: Option<usize>,
    /// The new line, while one of the history is shown.
    kept: Vec<char>,
    escape: Escape,
    /// Bytes of a character that is not complete.
    partial: Vec<u8>,
    after_return: bool,
}

impl Editor {
    /// Takes in a byte; what the terminal is to show goes to `out`.
    pub(crate) fn feed(&mut self, byte: u8, out: &mut String) -> Option<Action> {
        let after_return = std::mem::take(&mut self.after_return);
        match (self.escape, byte) {
            (Escape::Begun, b'[' | b'O') => self.escape = Escape::Sequence(0),
            (Escape::Begun, _) => self.escape = Escape::No,
            (Escape::Sequence(_), _) => self.sequence(byte, out),
            (Escape::No, b'\n') if after_return => {}
            (Escape::No, _) => return self.key(byte, out),
        }
        None
    }

    fn sequence(&mut self, byte: u8, out: &mut String) {
        let Escape::Sequence(number) = std::mem::take(&mut self.escape) else { return };
        match (byte, number) {
            (b'0'..=b'9', _) => {
                self.escape = Escape::Sequence(number.saturating_mul(10).saturating_add(byte - b'0'));
            }
            (b';', _) => self.escape = Escape::Sequence(0),
            (b'A', _) => self.older(out),
            (b'B', _) => self.newer(out),
            (b'C', _) => self.go(self.cursor + 1, out),
            (b'D', _) => self.go(self.cursor.saturating_sub(1), out),
            (b'H', _) | (b'~', 1 | 7) => self.go(0, out),
            (b'F', _) | (b'~', 4 | 8) => self.go(self.line.len(), out),
            (b'~', 3) => self.remove(self.cursor, self.cursor + 1, out),
            _ => {}
        }
    }

    fn key(&mut self, byte: u8, out: &mut String) -> Option<Action> {
        match byte {
            0x01 => self.go(0, out),
            0x02 => self.go(self.cursor.saturating_sub(1), out),
            0x04 => self.remove(self.cursor, self.cursor + 1, out),
            0x05 => self.go(self.line.len(), out),
            0x06 => self.go(self.cursor + 1, out),
            0x08 | 0x7f => self.remove(self.cursor.saturating_sub(1), self.cursor, out),
            b'\t' => return Some(Action::Complete),
            b'\n' => return Some(self.finish(out)),
            b'\r' => {
                self.after_return = true;
                return Some(self.finish(out));
            }
            0x0b => self.remove(self.cursor, self.line.len(), out),
            0x0c => {
                out.push_str("\x1b[2J\x1b[H");
                return Some(Action::Redraw);
            }
            0x0e => self.newer(out),
            0x10 => self.older(out),
            0x15 => self.remove(0, self.cursor, out),
            0x17 => self.remove(self.word_start(), self.cursor, out),
            0x1b => self.escape = Escape::Begun,
            0..=0x1f => {}
            _ => self.text(byte, out),
        }
        None
    }

    /// A byte of text; bytes that are not UTF-8 are dropped.
    fn text(&mut self, byte: u8, out: &mut String) {
        self.partial.push(byte);
        match std::str::from_utf8(&self.partial) {
            Ok(text) => {
                let text = text.to_owned();
                self.partial.clear();
                self.insert(&text, out);
            }
            Err(error) if error.error_len().is_none() => {}
            Err(_) => self.partial.clear(),
        }
    }

    /// Inserts text at the cursor.
    pub(crate) fn insert(&mut self, text: &str, out: &mut String) {
        let room = LENGTH.saturating_sub(self.line.len());
        let text: Vec<char> = text.chars().filter(|c| !c.is_control()).take(room).collect();
        if text.is_empty() {
            return;
        }
        out.extend(&text);
        let end = self.cursor + text.len();
        self.line.splice(self.cursor..self.cursor, text);
        self.cursor = end;
        self.show_tail(out);
    }

    /// Shows what stands behind the cursor, and nothing behind that.
    fn show_tail(&self, out: &mut String) {
        let tail = self.line.get(self.cursor..).unwrap_or_default();
        if !tail.is_empty() {
            out.extend(tail);
            out.push_str("\x1b[K");
            back(tail.len(), out);
        }
    }

    /// Removes the characters from `from` to before `to`, as far as they are there; the cursor is or comes there.
    fn remove(&mut self, from: usize, to: usize, out: &mut String) {
        let to = to.min(self.line.len());
        if from >= to {
            return;
        }
        back(self.cursor.saturating_sub(from), out);
        self.line.drain(from..to);
        self.cursor = from;
        out.push_str("\x1b[K");
        self.show_tail(out);
    }

    fn go(&mut self, to: usize, out: &mut String) {
        let to = to.min(self.line.len());
        if to < self.cursor {
            back(self.cursor - to, out);
        } else {
            out.extend(self.line.get(self.cursor..to).unwrap_or_default());
        }
        self.cursor = to;
    }

    /// Where the word before the cursor begins.
    fn word_start(&self) -> usize {
        let before = self.line.get(..self.cursor).unwrap_or_default();
        let word_end = before.iter().rposition(|c| !c.is_whitespace()).map_or(0, |at| at + 1);
        let word = before.get(..word_end).unwrap_or_default();
        word.iter().rposition(|c| c.is_whitespace()).map_or(0, |at| at + 1)
    }

    fn replace(&mut self, line: Vec<char>, out: &mut String) {
        back(self.cursor, out);
        out.extend(&line);
        out.push_str("\x1b[K");
        self.cursor = line.len();
        self.line = line;
    }

    fn older(&mut self, out: &mut String) {
        let older = self.shown.unwrap_or(self.history.len()).checked_sub(1);
        let Some(line) = older.and_then(|at| self.history.get(at)) else { return };
        let line = line.chars().collect();
        if self.shown.is_none() {
            self.kept = std::mem::take(&mut self.line);
        }
        self.shown = older;
        self.replace(line, out);
    }

    fn newer(&mut self, out: &mut String) {
        let Some(at) = self.shown else { return };
        self.shown = Some(at + 1).filter(|&at| at < self.history.len());
        let line = match self.shown.and_then(|at| self.history.get(at)) {
            Some(line) => line.chars().collect(),
            None => std::mem::take(&mut self.kept),
        };
        self.replace(line, out);
    }

    fn finish(&mut self, out: &mut String) -> Action {
        let line: String = self.line.drain(..).collect();
        self.cursor = 0;
        self.shown = None;
        self.kept.clear();
        self.partial.clear();
        out.push_str("\r\n");
        if !line.trim().is_empty() && self.history.back() != Some(&line) {
            if self.history.len() >= HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(line.clone());
        }
        Action::Line(line)
    }

    /// The text before the cursor.
    pub(crate) fn before_cursor(&self) -> String {
        self.line.iter().take(self.cursor).collect()
    }

    /// Shows the line anew, behind a prompt.
    pub(crate) fn redraw(&self, out: &mut String) {
        out.extend(&self.line);
        back(self.line.len() - self.cursor.min(self.line.len()), out);
    }

    /// The lines that are remembered, the oldest first.
    pub(crate) fn history(&self) -> Vec<String> {
        self.history.iter().cloned().collect()
    }
}

/// Moves the terminal's cursor to the left.
fn back(columns: usize, out: &mut String) {
    if columns > 0 {
        // Writing into a String cannot fail.
        let _ = write!(out, "\x1b[{columns}D");
    }
}

#[cfg(test)]
mod tests;
