//! A saved machine as a JSON value, in the spelling of QMP.

use serde_json::{Value, json};
use stream::{Compression, Survey};

use super::sections;

/// Everything about it but the bytes of its memory.
pub(super) fn of(survey: &Survey) -> Value {
    let Survey { header, totals, .. } = survey;
    let is_packed = header.compression == Compression::Zstd;
    let mut report = json!({
        "layout": survey.layout.to_string(),
        "format-version": survey.format,
        "id": header.id.to_string(),
        "name": header.name,
        "description": header.description,
        "program": header.program,
        "created-ms": header.created_ms,
        "two-way": header.two_way,
        "channel": header.channel,
        "compression": if is_packed { "zstd" } else { "none" },
        "features": header.features(),
        // Only what lies at a fixed place can be read when it is wanted.
        "restore": match survey.layout {
            stream::Layout::Mapped => "lazy",
            stream::Layout::Streamed => "eager",
        },
        "bytes": totals.bytes,
        "memory": {
            "bytes": header.memory,
            "zero-pages": totals.zero,
            "raw-pages": totals.raw,
            "packed-pages": totals.packed,
            "packed-bytes": totals.packed_bytes,
            "parent-pages": totals.parent,
        },
        "control-frames": survey.controls,
        "sections": survey.sections.iter().map(section).collect::<Vec<_>>(),
    });
    if let Some(parent) = &header.parent {
        report["parent"] = json!({"id": parent.id.to_string(), "name": parent.name});
    }
    if let Some(summary) = &survey.summary {
        report["summary"] =
            json!({"state": summary.state, "power": summary.power, "guest-ns": summary.guest_ns});
    }
    report
}

fn section(section: &stream::Section) -> Value {
    let mut report = json!({"name": section.name, "version": section.version, "bytes": section.data.len()});
    match sections::content(section) {
        None => {}
        Some(Ok(content)) => report["content"] = content,
        Some(Err(error)) => report["error"] = error.to_string().into(),
    }
    report
}
