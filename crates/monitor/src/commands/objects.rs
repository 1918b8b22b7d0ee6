//! Types of objects and the tree of those that there are: how managers find out what a program can do.
//!
//! Types and objects come from the program ([`Objects`]): what is listed here is what it really has.

use qmp::schema::{Type, arg, opt};
use qmp::{Args, ErrorClass, QmpError, qapi_struct};
use serde_json::Value;

use super::{Command, Env, command};

/// A type of objects.
#[derive(Clone, Copy, Debug)]
pub struct ObjectType {
    /// Its name.
    pub name: &'static str,
    /// The type that it is derived from; none for the root of all.
    pub parent: Option<&'static str>,
    /// Whether there are objects of derived types only.
    pub is_abstract: bool,
    /// The names of its properties and their types, those of its parents left out.
    pub properties: &'static [(&'static str, &'static str)],
}

/// An object of the tree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Object {
    /// Its path, absolute.
    pub path: String,
    /// Its type's name.
    pub type_name: &'static str,
}

/// The types that a program has, and the objects that it has made.
#[derive(Clone, Debug)]
pub struct Objects {
    /// The types. Each parent is among them.
    pub types: &'static [ObjectType],
    /// The objects, containers too, in the order in which they are listed.
    pub tree: Vec<Object>,
}

impl Objects {
    fn find_type(&self, name: &str) -> Option<&'static ObjectType> {
        self.types.iter().find(|other| other.name == name)
    }

    /// The type and those that it is derived from.
    fn lineage(&self, name: &str) -> impl Iterator<Item = &'static ObjectType> {
        std::iter::successors(self.find_type(name), |of| self.find_type(of.parent?))
    }

    fn find(&self, path: &str) -> Result<&Object, QmpError> {
        let wanted = if path == "/" { path } else { path.trim_end_matches('/') };
        self.tree.iter().find(|object| object.path == wanted).ok_or_else(|| QmpError::device_not_found(path))
    }

    /// The objects right below `path`, with the last part of their paths.
    fn children<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, &'a Object)> {
        let above = if path == "/" { "" } else { path };
        self.tree.iter().filter_map(move |object| {
            let name = object.path.strip_prefix(above)?.strip_prefix('/')?;
            (!name.is_empty() && !name.contains('/')).then_some((name, object))
        })
    }

    fn properties(&self, name: &str) -> Vec<ObjectPropertyInfo> {
        let of_type = |of: &'static ObjectType| of.properties.iter().map(|(name, ty)| property(name, ty));
        self.lineage(name).flat_map(of_type).collect()
    }
}

qapi_struct! {
    /// A type of objects.
    ObjectTypeInfo {
        /// Its name.
        name: String = "name",
        /// Whether there are objects of derived types only.
        is_abstract: Option<bool> = "abstract",
        /// The type that it is derived from.
        parent: Option<String> = "parent",
    }
}

qapi_struct! {
    /// A property of an object.
    ObjectPropertyInfo {
        /// Its name.
        name: String = "name",
        /// Its type: a plain one, `child<TYPE>` or `link<TYPE>`.
        ty: String = "type",
    }
}

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// The types of objects that there are.
        "qom-list-types" [
            opt("implements", Type::Str, "Only types derived from this one."),
            opt("abstract", Type::Bool, "Whether abstract types are listed too; they are not by default."),
        ] -> Vec<ObjectTypeInfo> = qom_list_types
    },
    command! {
        /// The properties of an object, children included.
        "qom-list" [arg("path", Type::Str, "The object's path.")] -> Vec<ObjectPropertyInfo> = qom_list
    },
    command! {
        /// The value of a property of an object: its type, or a child's path.
        "qom-get" [
            arg("path", Type::Str, "The object's path."),
            arg("property", Type::Str, "The property's name."),
        ] -> Value = qom_get
    },
    command! {
        /// The properties that objects of a type have.
        "qom-list-properties" [arg("typename", Type::Str, "The type.")] -> Vec<ObjectPropertyInfo> = qom_list_properties
    },
    command! {
        /// The properties that a device of this type can be given.
        "device-list-properties" [arg("typename", Type::Str, "The type of device.")]
            -> Vec<ObjectPropertyInfo> = device_list_properties
    },
];

/// The types and the tree, with what users have made since.
fn all(env: &Env<'_>) -> Objects {
    let mut objects = env.config().objects.clone();
    let made = env.context.migrations.objects().list();
    let object = |(id, object): (String, migration::Object)| Object {
        path: format!("/objects/{id}"),
        type_name: object.type_name(),
    };
    objects.tree.extend(made.into_iter().map(object));
    objects
}

fn property(name: &str, ty: &str) -> ObjectPropertyInfo {
    ObjectPropertyInfo { name: name.to_owned(), ty: ty.to_owned() }
}

fn qom_list_types(env: &Env<'_>, args: &Args) -> Result<Vec<ObjectTypeInfo>, QmpError> {
    let objects = &env.config().objects;
    let abstract_too = args.opt_bool("abstract").unwrap_or(false);
    let wanted = |of: &&ObjectType| {
        let implements = args.opt_str("implements");
        let derived = implements.is_none_or(|name| objects.lineage(of.name).any(|above| above.name == name));
        derived && (abstract_too || !of.is_abstract)
    };
    let info = |of: &ObjectType| ObjectTypeInfo {
        name: of.name.to_owned(),
        is_abstract: of.is_abstract.then_some(true),
        parent: of.parent.map(str::to_owned),
    };
    Ok(objects.types.iter().filter(wanted).map(info).collect())
}

fn qom_list(env: &Env<'_>, args: &Args) -> Result<Vec<ObjectPropertyInfo>, QmpError> {
    let objects = all(env);
    let path = &objects.find(args.str("path"))?.path;
    let child = |(name, object): (&str, &Object)| property(name, &format!("child<{}>", object.type_name));
    Ok(std::iter::once(property("type", "string")).chain(objects.children(path).map(child)).collect())
}

fn qom_get(env: &Env<'_>, args: &Args) -> Result<Value, QmpError> {
    let objects = all(env);
    let object = objects.find(args.str("path"))?;
    let name = args.str("property");
    if name == "type" {
        return Ok(object.type_name.into());
    }
    match objects.children(&object.path).find(|(child, _)| *child == name) {
        Some((_, child)) => Ok(child.path.clone().into()),
        None => {
            let name: String = name.chars().take(80).collect();
            Err(QmpError::generic(format!("Property '{}.{name}' not found", object.type_name)))
        }
    }
}

fn qom_list_properties(env: &Env<'_>, args: &Args) -> Result<Vec<ObjectPropertyInfo>, QmpError> {
    let name = args.str("typename");
    // libvirt 11 asks every emulator for this type's, and does not survive that there is no such type.
    if name == "memory-backend-file" {
        return Ok(Vec::new());
    }
    let objects = &env.config().objects;
    if objects.find_type(name).is_none() {
        let name: String = name.chars().take(80).collect();
        return Err(QmpError::new(ErrorClass::DeviceNotFound, format!("Class '{name}' not found")));
    }
    let properties = objects.properties(name);
    Ok(std::iter::once(property("type", "string")).chain(properties).collect())
}

fn device_list_properties(env: &Env<'_>, args: &Args) -> Result<Vec<ObjectPropertyInfo>, QmpError> {
    let name = args.str("typename");
    let objects = &env.config().objects;
    if objects.find_type(name).is_none() {
        return Err(QmpError::device_not_found(name));
    }
    if !objects.lineage(name).any(|above| above.name == "device") {
        return Err(QmpError::expects("typename", "a device type"));
    }
    Ok(objects.properties(name))
}
