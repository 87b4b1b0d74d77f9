//! Structs of optional fields that are read from maps, and tolerate invalid values.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};

/// Deserializes a key as one of the known field names.
pub(super) struct FieldOf(pub(super) &'static [&'static str]);

impl<'de> DeserializeSeed<'de> for FieldOf {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<&'static str, D::Error> {
        d.deserialize_identifier(self)
    }
}

impl Visitor<'_> for FieldOf {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<&'static str, E> {
        let known = self.0.iter().find(|field| **field == key);
        known.copied().ok_or_else(|| E::unknown_field(key, self.0))
    }
}

/// Declares a struct of optional fields with its deserializer and schema. `name ("word")` declares
/// a field whose name in the file is a Rust keyword.
macro_rules! record {
    ($(#[$about:meta])* $name:ident {
        $($(#[$note:meta])* $field:ident $(($wire:literal))? : $type:ty,)*
    }) => {
        $(#[$about])*
        #[derive(Debug, Default, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub(crate) struct $name {
            $($(#[$note])* $(#[schemars(rename = $wire)])? pub(crate) $field: Option<$type>,)*
        }

        impl $name {
            /// The names of all fields.
            pub(crate) const FIELDS: &'static [&'static str] =
                &[$($crate::raw::record::wire!($field $($wire)?)),*];
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Fields;

                impl<'de> serde::de::Visitor<'de> for Fields {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a map of fields")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<$name, A::Error> {
                        let mut out = $name::default();
                        let seed = || $crate::raw::record::FieldOf($name::FIELDS);
                        while let Some(field) = map.next_key_seed(seed())? {
                            $(if field == $crate::raw::record::wire!($field $($wire)?) {
                                if out.$field.is_some() {
                                    return Err(serde::de::Error::duplicate_field(field));
                                }
                                out.$field = map.next_value::<$crate::lenient::Lenient<$type>>()?.0;
                                continue;
                            })*
                        }
                        Ok(out)
                    }
                }

                d.deserialize_struct(stringify!($name), Self::FIELDS, Fields)
            }
        }
    };
}

/// Expands to the name of a field in the file.
macro_rules! wire {
    ($field:ident $wire:literal) => {
        $wire
    };
    ($field:ident) => {
        stringify!($field)
    };
}

pub(super) use record;
pub(super) use wire;
