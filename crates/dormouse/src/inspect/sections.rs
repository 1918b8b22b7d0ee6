//! The sections that mean something to a person.

use engine::SavedClock;
use runstate::SavedLifecycle;
use serde::Serialize;
use serde_json::Value;
use vmcore::{BoardInfo, LoadError, Section};

/// What a section says, if it is one of those; an error if it is one that this program would not take.
pub(super) fn content(section: &stream::Section) -> Option<Result<Value, LoadError>> {
    let stream::Section { name, version, data } = section.clone();
    let section = Section { name, version, data };
    match section.name.as_str() {
        BoardInfo::SECTION => Some(BoardInfo::decode(&section).map(|board| value(&board))),
        name @ "clock" => Some(section.decode::<SavedClock>(name, 1).map(|clock| value(&clock))),
        name @ "lifecycle" => Some(section.decode::<SavedLifecycle>(name, 1).map(|saved| value(&saved))),
        _ => None,
    }
}

/// As JSON, with keys as QMP spells them.
fn value(saved: &impl Serialize) -> Value {
    // Decoded values have no keys but texts, and so always are some value.
    spelled(serde_json::to_value(saved).unwrap_or_default())
}

fn spelled(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key.replace('_', "-"), spelled(value))).collect()
        }
        Value::Array(values) => values.into_iter().map(spelled).collect(),
        other => other,
    }
}
