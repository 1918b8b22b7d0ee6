//! The report for people. Texts in it may be anybody's: control characters are shown, not sent to the terminal.

use std::fmt::Write as _;

use serde_json::Value;

/// Columns that names of lines take.
const NAMES: usize = 13;

/// Writes the report down.
pub(super) fn of(report: &Value) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        // Writing to memory does not fail.
        let _ = writeln!(out, "{name:NAMES$} {text}");
    };
    let name = text(&report["name"]);
    line("saved state", if name.is_empty() { "without a name".to_owned() } else { format!("'{name}'") });
    if report["description"] != "" {
        line("description", text(&report["description"]));
    }
    line("format", format!("version {}, {} layout", report["format-version"], text(&report["layout"])));
    line("id", text(&report["id"]));
    line("written", written(report));
    if let Some(summary) = report.get("summary") {
        let (state, power) = (text(&summary["state"]), text(&summary["power"]));
        line("state", format!("{state}, guest power {power}, guest time {}", seconds(&summary["guest-ns"])));
    }
    if let Some(parent) = report.get("parent") {
        line("parent", format!("'{}', {}", text(&parent["name"]), text(&parent["id"])));
    }
    line("size", bytes(number(&report["bytes"])));
    memory(&report["memory"], &mut line);
    line("restore", restore(report).to_owned());
    if report["two-way"] == true || number(&report["control-frames"]) > 0 {
        line(
            "channel",
            format!("{}, {} words of the handshake", report["channel"], report["control-frames"]),
        );
    }
    sections(&report["sections"], &mut out);
    out.push_str("every checksum is right\n");
    out
}

fn written(report: &Value) -> String {
    let by = text(&report["program"]);
    let by = if by.is_empty() { "an unknown program".to_owned() } else { by };
    match number(&report["created-ms"]) {
        0 => format!("by {by}"),
        ms => format!("{} UTC by {by}", clock::utc(ms / 1000)),
    }
}

fn memory(memory: &Value, line: &mut impl FnMut(&str, String)) {
    line("memory", bytes(number(&memory["bytes"])));
    let pages = |key: &str| number(&memory[key]).saturating_mul(stream::PAGE_SIZE);
    for (name, key) in [("zero", "zero-pages"), ("as it is", "raw-pages"), ("in the parent", "parent-pages")]
    {
        if pages(key) > 0 {
            line(&format!("  {name}"), bytes(pages(key)));
        }
    }
    if pages("packed-pages") > 0 {
        let packed = bytes(number(&memory["packed-bytes"]));
        line("  packed", format!("{} in {packed}", bytes(pages("packed-pages"))));
    }
}

fn restore(report: &Value) -> &'static str {
    match (report["restore"] == "lazy", report["compression"] == "zstd") {
        (true, _) => "at once: memory is read when the guest touches it",
        (false, true) => "all of memory is read first, because it is compressed",
        (false, false) => "all of memory is read first, because it is a stream",
    }
}

fn sections(sections: &Value, out: &mut String) {
    let sections = sections.as_array().map_or(&[][..], Vec::as_slice);
    let names: Vec<String> = sections.iter().map(|section| text(&section["name"])).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let _ = writeln!(out, "sections      {}", sections.len());
    for (section, name) in sections.iter().zip(names) {
        let (version, length) = (number(&section["version"]), number(&section["bytes"]));
        let _ = writeln!(out, "  {name:width$}  v{version} {length:>7} bytes");
        if let Some(content) = section["content"].as_object() {
            for (key, value) in content {
                let _ = writeln!(out, "    {}: {}", escaped(key), value_text(value));
            }
        }
        if section["error"].is_string() {
            let _ = writeln!(out, "    not understood: {}", text(&section["error"]));
        }
    }
}

/// A value in a line.
fn value_text(value: &Value) -> String {
    match value {
        Value::String(_) => text(value),
        Value::Null => "none".to_owned(),
        Value::Array(values) if values.is_empty() => "none".to_owned(),
        Value::Array(values) => values.iter().map(value_text).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let said = fields.iter().filter(|(_, value)| *value != "");
            let fields: Vec<String> =
                said.map(|(key, value)| format!("{} {}", escaped(key), value_text(value))).collect();
            fields.join(" ")
        }
        Value::Number(_) | Value::Bool(_) => value.to_string(),
    }
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn seconds(ns: &Value) -> String {
    let ns = number(ns);
    format!("{}.{:09} s", ns / 1_000_000_000, ns % 1_000_000_000)
}

/// A number of bytes in the largest unit that leaves something in front of the point.
fn bytes(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| bytes >> shift > 0) {
        None => format!("{bytes} bytes"),
        Some((unit, shift)) if bytes.is_multiple_of(1 << shift) => format!("{} {unit}", bytes >> shift),
        Some((unit, shift)) => {
            format!("{:.1} {unit} ({bytes} bytes)", bytes as f64 / (1_u64 << shift) as f64)
        }
    }
}
