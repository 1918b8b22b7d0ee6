//! What is written: one line of JSON, ended by `\r\n`, for each reply and event.
//!
//! The separators are QEMU's (`": "` and `", "`) and everything beyond ASCII goes as `\uXXXX`, so that the
//! output is the same bytes whatever the reader takes for the encoding. Order of members: QEMU's where it
//! matters to the eye (`return` before `id`, `id` before `error`).

use crate::error::QmpError;
use crate::schema::Qapi;
use crate::types::VersionInfo;
use serde_json::{Map, Number, Value};
use std::fmt::Write as _;

/// The wall-clock time of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    /// Seconds since 1970.
    pub seconds: i64,
    /// And microseconds, below a million.
    pub microseconds: u32,
}

/// The greeting of a connection.
pub fn greeting(version: &VersionInfo) -> String {
    line(|out| {
        out.push_str("{\"QMP\": {\"version\": ");
        write_value(out, &version.to_value());
        out.push_str(", \"capabilities\": [\"oob\"]}}");
    })
}

/// The reply of a command that went well.
pub fn success(value: &Value, id: Option<&Value>) -> String {
    line(|out| {
        out.push_str("{\"return\": ");
        write_value(out, value);
        if let Some(id) = id {
            out.push_str(", \"id\": ");
            write_value(out, id);
        }
        out.push('}');
    })
}

/// The reply of a command that did not.
pub fn failure(error: &QmpError, id: Option<&Value>) -> String {
    line(|out| {
        out.push('{');
        if let Some(id) = id {
            out.push_str("\"id\": ");
            write_value(out, id);
            out.push_str(", ");
        }
        out.push_str("\"error\": {\"class\": \"");
        out.push_str(error.class.name());
        out.push_str("\", \"desc\": ");
        write_string(out, &error.desc);
        out.push_str("}}");
    })
}

/// An event.
pub fn event(name: &str, data: Option<&Value>, when: Timestamp) -> String {
    line(|out| {
        let Timestamp { seconds, microseconds } = when;
        // Writing into a String cannot fail.
        let _ = write!(
            out,
            "{{\"timestamp\": {{\"seconds\": {seconds}, \"microseconds\": {microseconds}}}, \"event\": \"{name}\""
        );
        if let Some(data) = data {
            out.push_str(", \"data\": ");
            write_value(out, data);
        }
        out.push('}');
    })
}

fn line(fill: impl FnOnce(&mut String)) -> String {
    let mut out = String::with_capacity(64);
    fill(&mut out);
    out.push_str("\r\n");
    out
}

/// The same text over several lines, four blanks a level: what `-qmp-pretty` sends in place of each line above.
pub fn indented(line: &str) -> String {
    let mut out = String::with_capacity(line.len() * 2);
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut text = line.trim_end().chars().peekable();
    while let Some(c) = text.next() {
        if in_string {
            out.push(c);
            match c {
                '\\' => out.extend(text.next()),
                '"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match c {
            '{' | '[' => {
                out.push(c);
                if let Some(end) = text.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                let _ = text.next_if_eq(&' ');
                new_line(&mut out, depth);
            }
            _ => {
                in_string = c == '"';
                out.push(c);
            }
        }
    }
    out.push_str("\r\n");
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push_str("\r\n");
    out.extend(std::iter::repeat_n("    ", depth));
}

/// Writes any value. Recursion is as deep as the value; what comes from a client is bounded by
/// [`crate::Limits::depth`].
pub fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_string(out, text),
        Value::Array(list) => write_list(out, list),
        Value::Object(object) => write_object(out, object),
    }
}

fn write_list(out: &mut String, list: &[Value]) {
    out.push('[');
    for (i, value) in list.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write_value(out, value);
    }
    out.push(']');
}

fn write_object(out: &mut String, object: &Map<String, Value>) {
    out.push('{');
    for (i, (key, value)) in object.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write_string(out, key);
        out.push_str(": ");
        write_value(out, value);
    }
    out.push('}');
}

/// Integers exactly; doubles by the shortest digits that read back the same, integral ones without a fraction
/// (`1e3` is echoed as `1000`, as QEMU does), very large and very small ones with an exponent.
fn write_number(out: &mut String, number: &Number) {
    let _ = match number.as_f64() {
        Some(x) if number.is_f64() => {
            let size = x.abs();
            let plain = x == 0.0 || (1e-5..1e17).contains(&size);
            if plain { write!(out, "{x}") } else { write!(out, "{x:e}") }
        }
        _ => write!(out, "{number}"),
    };
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        let escape = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\u{8}' => "\\b",
            '\u{c}' => "\\f",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            ' '..='~' => continue,
            _ => "",
        };
        out.push_str(text.get(plain..at).unwrap_or_default());
        plain = at + c.len_utf8();
        out.push_str(escape);
        if escape.is_empty() {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04X}");
            }
        }
    }
    out.push_str(text.get(plain..).unwrap_or_default());
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::indented;

    #[test]
    fn indented_text_is_the_same_value_over_several_lines() {
        let line = "{\"return\": {\"a\": [], \"b\": [1, {\"c\": \"x, {\\\"[\"}]}, \"id\": {}}\r\n";
        let expected = "{\r\n    \"return\": {\r\n        \"a\": [],\r\n        \"b\": [\r\n            1,\r\n            \
            {\r\n                \"c\": \"x, {\\\"[\"\r\n            }\r\n        ]\r\n    },\r\n    \"id\": {}\r\n}\r\n";
        assert_eq!(indented(line), expected);
    }
}
