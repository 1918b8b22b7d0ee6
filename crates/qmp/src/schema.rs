//! The vocabulary in which commands, events and their types are defined.
//!
//! Definitions are constants. Argument checking and introspection both read them, so that what
//! `query-qmp-schema` says is what is checked. Types that Rust code builds or reads implement [`Qapi`]; the
//! macros [`qapi_enum!`](crate::qapi_enum) and [`qapi_struct!`](crate::qapi_struct) write the Rust type and its
//! definition from one text.

use serde_json::{Map, Value};

/// A type of the QAPI schema language, as far as we use it.
#[derive(Debug, Clone, Copy)]
pub enum Type {
    /// A string.
    Str,
    /// A signed 64-bit integer.
    Int,
    /// An unsigned integer of 8 bits.
    U8,
    /// An unsigned integer of 16 bits.
    U16,
    /// An unsigned integer of 32 bits.
    U32,
    /// An unsigned integer of 64 bits; also QAPI's `size`.
    U64,
    /// A number, integral or not.
    Number,
    /// A boolean.
    Bool,
    /// The value null.
    Null,
    /// Any value at all.
    Any,
    /// One of a fixed list of names.
    Enum(&'static EnumDef),
    /// An object with known members.
    Object(&'static ObjectDef),
    /// Any number of values of one type.
    Array(&'static Type),
    /// One of several types that differ in JSON type.
    Alternate(&'static AlternateDef),
}

/// An enumeration.
#[derive(Debug)]
pub struct EnumDef {
    /// The QAPI name, for documentation; introspection hides it, as QEMU does.
    pub name: &'static str,
    /// What it names, in a sentence.
    pub doc: &'static str,
    /// The values, in order.
    pub values: &'static [&'static str],
    /// What each value means, in the order of `values`.
    pub value_docs: &'static [&'static str],
}

/// An object type, with variants if it is a union.
#[derive(Debug)]
pub struct ObjectDef {
    /// The QAPI name.
    pub name: &'static str,
    /// What it describes, in a sentence.
    pub doc: &'static str,
    /// The members that every value has.
    pub members: &'static [ArgDef],
    /// The further members that depend on a tag.
    pub variants: Option<VariantsDef>,
}

/// The variants of a union.
#[derive(Debug)]
pub struct VariantsDef {
    /// The member, of enumeration type, that selects the variant.
    pub tag: &'static str,
    /// Further members per value of the tag; a value that is not listed adds none.
    pub cases: &'static [(&'static str, &'static ObjectDef)],
}

/// A type given as one of several.
#[derive(Debug)]
pub struct AlternateDef {
    /// The QAPI name; it is shown in the error of a value that fits none.
    pub name: &'static str,
    /// The choices; each has another JSON type.
    pub choices: &'static [Type],
}

/// An argument of a command, or a member of an object.
#[derive(Debug, Clone, Copy)]
pub struct ArgDef {
    /// The name on the wire.
    pub name: &'static str,
    /// Its type.
    pub ty: Type,
    /// Whether it may be absent.
    pub optional: bool,
    /// What it says, in a sentence.
    pub doc: &'static str,
}

/// A mandatory argument.
pub const fn arg(name: &'static str, ty: Type, doc: &'static str) -> ArgDef {
    ArgDef { name, ty, optional: false, doc }
}

/// An optional argument.
pub const fn opt(name: &'static str, ty: Type, doc: &'static str) -> ArgDef {
    ArgDef { name, ty, optional: true, doc }
}

/// The type with no members: what most commands return.
pub static EMPTY: ObjectDef = ObjectDef { name: "q_empty", doc: "Nothing.", members: &[], variants: None };

/// A command.
#[derive(Debug)]
pub struct CommandDef {
    /// The name on the wire.
    pub name: &'static str,
    /// What it does, in sentences.
    pub doc: &'static str,
    /// Its arguments, in the order in which they are checked.
    pub args: &'static [ArgDef],
    /// What it returns.
    pub returns: Type,
    /// Whether `exec-oob` may run it.
    pub allow_oob: bool,
}

/// An event.
#[derive(Debug)]
pub struct EventDef {
    /// The name on the wire.
    pub name: &'static str,
    /// When it is sent.
    pub doc: &'static str,
    /// The members of its data; no `data` member is sent when there are none.
    pub data: &'static [ArgDef],
    /// How many of its kind are sent at most.
    pub rate: Rate,
}

/// How many events of a kind are sent at most (`spec/clients.md` section 4, Events).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// As many as happen.
    Free,
    /// One a second; the newest replaces those that wait.
    OneASecond,
    /// One a second for each value of this member of its data.
    OneASecondEach(&'static str),
}

/// A Rust type with a QAPI definition.
pub trait Qapi {
    /// Its type in the schema.
    const TYPE: Type;
    /// Whether a member of this type may be absent.
    const OPTIONAL: bool = false;

    /// The value on the wire.
    fn to_value(&self) -> Value;

    /// Adds the value as member `name`, unless it is an absent optional one.
    fn put(&self, name: &str, object: &mut Map<String, Value>) {
        object.insert(name.to_owned(), self.to_value());
    }
}

/// An enumeration defined by `qapi_enum!`.
pub trait QapiEnum: Copy + 'static {
    /// Its definition.
    const DEF: &'static EnumDef;
    /// All values, in the order of the definition.
    const ALL: &'static [Self];

    /// The name on the wire.
    fn name(self) -> &'static str;

    /// The value of that name.
    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|value| value.name() == name)
    }
}

macro_rules! scalar {
    ($($rust:ty => $ty:ident),*) => {$(
        impl Qapi for $rust {
            const TYPE: Type = Type::$ty;
            fn to_value(&self) -> Value {
                Value::from(self.clone())
            }
        }
    )*};
}

scalar!(String => Str, bool => Bool, i64 => Int, u8 => U8, u16 => U16, u32 => U32, u64 => U64, f64 => Number);

/// What a command returns that only says that it is done: `{}`.
impl Qapi for () {
    const TYPE: Type = Type::Object(&EMPTY);

    fn to_value(&self) -> Value {
        Value::Object(Map::new())
    }
}

impl Qapi for Value {
    const TYPE: Type = Type::Any;

    fn to_value(&self) -> Value {
        self.clone()
    }
}

impl<T: Qapi> Qapi for Option<T> {
    const TYPE: Type = T::TYPE;
    const OPTIONAL: bool = true;

    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, Qapi::to_value)
    }

    fn put(&self, name: &str, object: &mut Map<String, Value>) {
        if let Some(value) = self {
            value.put(name, object);
        }
    }
}

impl<T: Qapi> Qapi for Vec<T> {
    const TYPE: Type = Type::Array(&T::TYPE);

    fn to_value(&self) -> Value {
        Value::Array(self.iter().map(Qapi::to_value).collect())
    }
}

/// Writes a Rust enum and its QAPI definition: `RebootAction { /** It resets. */ Reset = "reset" }`.
#[macro_export]
macro_rules! qapi_enum {
    ($(#[doc = $doc:literal])+ $name:ident {
        $($(#[doc = $vdoc:literal])+ $variant:ident = $wire:literal),* $(,)?
    }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[doc = $vdoc])+ #[doc = concat!("(`", $wire, "` on the wire.)")] $variant,)*
        }

        impl $crate::schema::QapiEnum for $name {
            const DEF: &'static $crate::schema::EnumDef = &$crate::schema::EnumDef {
                name: stringify!($name),
                doc: concat!($($doc),+).trim_ascii(),
                values: &[$($wire),*],
                value_docs: &[$(concat!($($vdoc),+).trim_ascii()),*],
            };
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $wire,)*
                }
            }
        }

        impl $crate::schema::Qapi for $name {
            const TYPE: $crate::schema::Type =
                $crate::schema::Type::Enum(<Self as $crate::schema::QapiEnum>::DEF);

            fn to_value(&self) -> $crate::serde_json::Value {
                $crate::serde_json::Value::from($crate::schema::QapiEnum::name(*self))
            }
        }
    };
}

/// Writes a Rust struct and its QAPI definition; `Option` makes a member optional.
#[macro_export]
macro_rules! qapi_struct {
    ($(#[doc = $doc:literal])+ $name:ident {
        $($(#[doc = $fdoc:literal])+ $field:ident: $ty:ty = $wire:literal),* $(,)?
    }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[doc = $fdoc])+ #[doc = concat!("(`", $wire, "` on the wire.)")] pub $field: $ty,)*
        }

        impl $crate::schema::Qapi for $name {
            const TYPE: $crate::schema::Type = $crate::schema::Type::Object(&$crate::schema::ObjectDef {
                name: stringify!($name),
                doc: concat!($($doc),+).trim_ascii(),
                members: &[$($crate::schema::ArgDef {
                    name: $wire,
                    ty: <$ty as $crate::schema::Qapi>::TYPE,
                    optional: <$ty as $crate::schema::Qapi>::OPTIONAL,
                    doc: concat!($($fdoc),+).trim_ascii(),
                }),*],
                variants: None,
            });

            fn to_value(&self) -> $crate::serde_json::Value {
                let mut object = $crate::serde_json::Map::new();
                $($crate::schema::Qapi::put(&self.$field, $wire, &mut object);)*
                $crate::serde_json::Value::Object(object)
            }
        }
    };
}
