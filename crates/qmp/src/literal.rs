//! The text of a token into its value.

use crate::error::{SyntaxError, quote};
use serde_json::{Number, Value};

/// The value of a word.
pub(crate) fn keyword(text: &[u8]) -> Result<Value, SyntaxError> {
    match text {
        b"true" => Ok(Value::Bool(true)),
        b"false" => Ok(Value::Bool(false)),
        b"null" => Ok(Value::Null),
        _ => Err(SyntaxError::InvalidKeyword(show(text))),
    }
}

/// The value of a number: exact as a signed or unsigned 64-bit integer where it has no fraction and fits,
/// else a double.
pub(crate) fn number(text: &[u8], integral: bool) -> Result<Value, SyntaxError> {
    let range = || SyntaxError::NumberRange(show(text));
    let digits = std::str::from_utf8(text).map_err(|_| range())?;
    if integral {
        if let Ok(value) = digits.parse::<i64>() {
            return Ok(value.into());
        }
        if let Ok(value) = digits.parse::<u64>() {
            return Ok(value.into());
        }
    }
    let value: f64 = digits.parse().map_err(|_| range())?;
    Number::from_f64(value).map(Value::Number).ok_or_else(range)
}

/// The value of a string token, quotes included in `token`.
pub(crate) fn string(token: &[u8]) -> Result<String, SyntaxError> {
    let mut rest = token.get(1..token.len().saturating_sub(1)).unwrap_or_default();
    let mut out = String::with_capacity(rest.len());
    while !rest.is_empty() {
        let plain = rest.iter().position(|&byte| byte == b'\\').unwrap_or(rest.len());
        let (run, tail) = rest.split_at(plain);
        let run = std::str::from_utf8(run).map_err(|_| SyntaxError::InvalidUtf8)?;
        if run.chars().any(|c| is_noncharacter(c.into())) {
            return Err(SyntaxError::InvalidUtf8);
        }
        out.push_str(run);
        rest = if tail.is_empty() { tail } else { escape(tail, &mut out)? };
    }
    Ok(out)
}

/// Decodes one escape at the start of `text` and returns what follows it.
fn escape<'a>(text: &'a [u8], out: &mut String) -> Result<&'a [u8], SyntaxError> {
    let c = match text.get(1) {
        Some(&c @ (b'"' | b'\'' | b'\\' | b'/')) => c.into(),
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode(text, out),
        _ => return Err(SyntaxError::InvalidEscape),
    };
    out.push(c);
    Ok(text.get(2..).unwrap_or_default())
}

/// Decodes `\uXXXX`, or two of them that make a surrogate pair.
fn unicode<'a>(text: &'a [u8], out: &mut String) -> Result<&'a [u8], SyntaxError> {
    let first = hex(text);
    let second = match first {
        Some(0xD800..=0xDBFF) => text.get(6..).and_then(hex).filter(|unit| (0xDC00..=0xDFFF).contains(unit)),
        _ => None,
    };
    let (code, length) = match (first, second) {
        (Some(high), Some(low)) => (Some(0x10000 + ((high & 0x3FF) << 10) + (low & 0x3FF)), 12),
        _ => (first, 6),
    };
    let c = code.filter(|&code| !is_noncharacter(code)).and_then(char::from_u32);
    let (escape, rest) = text.split_at(length.min(text.len()));
    let c = c.ok_or_else(|| SyntaxError::InvalidUnicode(show(escape)))?;
    out.push(c);
    Ok(rest)
}

/// The number in `\uXXXX` at the start of `text`.
fn hex(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |sum, &byte| Some(sum * 16 + char::from(byte).to_digit(16)?))
}

/// The code points that Unicode keeps for no character at all; QEMU refuses them.
fn is_noncharacter(code: u32) -> bool {
    (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// A token's text for an error: up to the first NUL, as C sees it, with U+FFFD for what is not UTF-8, and of
/// bounded length.
pub(crate) fn show(text: &[u8]) -> String {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    // A little more than the quote takes, so that it sees that there is more.
    let text = text.get(..crate::error::QUOTE_LIMIT + 4).unwrap_or(text);
    quote(&String::from_utf8_lossy(text)).into_owned()
}
