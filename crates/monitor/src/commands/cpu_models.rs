//! The processor models that there are.

use qmp::schema::{Qapi, arg};
use qmp::{Args, QmpError, qapi_enum, qapi_struct};
use serde_json::{Map, Value};

use super::{Command, Env, command};

/// A processor model, as the program knows it.
#[derive(Clone, Debug)]
pub struct CpuModel {
    /// Its name, as after `-cpu`.
    pub name: &'static str,
    /// The type of its objects.
    pub type_name: &'static str,
    /// Its properties and their values when nothing else is asked for.
    pub properties: Vec<(&'static str, bool)>,
}

qapi_struct! {
    /// A processor model.
    CpuDefinitionInfo {
        /// Its name.
        name: String = "name",
        /// The type of its objects.
        typename: String = "typename",
        /// Whether it is the same in every version and configuration.
        is_static: bool = "static",
        /// Whether it is going away.
        deprecated: bool = "deprecated",
    }
}

qapi_enum! {
    /// How far a model is expanded.
    CpuModelExpansionType {
        /// Into a static model and what differs from it.
        Static = "static",
        /// Into all its properties.
        Full = "full",
    }
}

qapi_struct! {
    /// A model with properties.
    CpuModelInfo {
        /// The model's name.
        name: String = "name",
        /// Properties that differ from the model's own, as an object.
        props: Option<Value> = "props",
    }
}

qapi_struct! {
    /// A model, expanded.
    CpuModelExpansionInfo {
        /// It.
        model: CpuModelInfo = "model",
    }
}

qapi_struct! {
    /// A processor that can be added.
    HotpluggableCpu {
        /// The type of its objects.
        ty: String = "type",
        /// How many of the smallest units it brings.
        vcpus_count: i64 = "vcpus-count",
    }
}

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// The processor models.
        "query-cpu-definitions" [] -> Vec<CpuDefinitionInfo> = query_cpu_definitions
    },
    command! {
        /// The properties of a processor model.
        "query-cpu-model-expansion" [
            arg("type", CpuModelExpansionType::TYPE, "How far."),
            arg("model", CpuModelInfo::TYPE, "The model, with what is asked for in addition."),
        ] -> CpuModelExpansionInfo = query_cpu_model_expansion
    },
    command! {
        /// The processors that could be added; this machine has none.
        "query-hotpluggable-cpus" [] -> Vec<HotpluggableCpu> =
            |_: &Env<'_>, _: &Args| Err(QmpError::generic("machine does not support hot-plugging CPUs"))
    },
];

fn query_cpu_definitions(env: &Env<'_>, _: &Args) -> Result<Vec<CpuDefinitionInfo>, QmpError> {
    let definition = |model: &CpuModel| CpuDefinitionInfo {
        name: model.name.to_owned(),
        typename: model.type_name.to_owned(),
        is_static: false,
        deprecated: false,
    };
    Ok(env.config().cpu_models.iter().map(definition).collect())
}

fn query_cpu_model_expansion(env: &Env<'_>, args: &Args) -> Result<CpuModelExpansionInfo, QmpError> {
    if args.opt_enum("type") != Some(CpuModelExpansionType::Full) {
        return Err(QmpError::generic("The requested expansion type is not supported"));
    }
    let asked = args.value("model");
    let name = asked.and_then(|model| model.get("name")).and_then(Value::as_str).unwrap_or_default();
    let Some(model) = env.config().cpu_models.iter().find(|model| model.name == name) else {
        let name: String = name.chars().take(80).collect();
        return Err(QmpError::generic(format!("The CPU type '{name}' is not a known RISC-V CPU type")));
    };
    let mut properties: Map<String, Value> =
        model.properties.iter().map(|(name, on)| ((*name).to_owned(), (*on).into())).collect();
    let changes = asked.and_then(|model| model.get("props")).filter(|props| !props.is_null());
    let Some(changes) = changes.map_or(Some(&Map::new()), Value::as_object).cloned() else {
        return Err(QmpError::wrong_type("model.props", "object"));
    };
    for (name, value) in changes {
        match (properties.get_mut(&name), value) {
            (Some(property), Value::Bool(on)) => *property = on.into(),
            (Some(_), _) => return Err(QmpError::wrong_type(&name, "boolean")),
            (None, _) => {
                return Err(QmpError::generic(format!("Property '{}.{name}' not found", model.type_name)));
            }
        }
    }
    let model = CpuModelInfo { name: name.to_owned(), props: Some(Value::Object(properties)) };
    Ok(CpuModelExpansionInfo { model })
}
