//! Reading JSON as Go's `encoding/json` does, because every runtime and every configuration in the field relies on it.
//!
//! Keys of structs match without regard to (ASCII) case, an exact match first; `null` counts as absent, and as the zero
//! value inside a list; unknown keys are ignored. Keys of maps are data and stay as they are. What does not fit is told
//! with its place, e.g. `invalid value "yes" for key "ipam.ranges[0].x": expected a boolean`.
//!
//! `#[serde(flatten)]`, internally tagged and untagged enums buffer their input and lose the folding: do not use them.

use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

/// Reads `value` as `T`.
pub(crate) fn read<'de, T: Deserialize<'de>>(value: &'de Value) -> Result<T, Mismatch> {
    T::deserialize(Fold(value))
}

/// Reads what stands at `path` in `value` as `T`; `None` if nothing, or `null`, stands there.
pub(crate) fn read_at<'de, T: Deserialize<'de>>(
    value: &'de Value,
    path: &[&str],
) -> Result<Option<T>, Mismatch> {
    let Some((key, rest)) = path.split_first() else {
        return read(value).map(Some);
    };
    let object = value
        .as_object()
        .ok_or_else(|| Mismatch::new("expected an object"))?;
    match get(object, key) {
        Some((spelled, value)) => read_at(value, rest).map_err(|e| e.at(spelled, value)),
        None => Ok(None),
    }
}

/// The entry of `object` for `key`, with the key as it is spelled there; `None` if there is none or it is `null`.
pub(crate) fn get<'a>(object: &'a Map<String, Value>, key: &str) -> Option<(&'a str, &'a Value)> {
    match object.get_key_value(key) {
        Some((k, v)) if !v.is_null() => Some((k, v)),
        _ => object
            .iter()
            .rfind(|(k, v)| k.eq_ignore_ascii_case(key) && !v.is_null())
            .map(|(k, v)| (k.as_str(), v)),
    }
}

/// What did not fit, and where.
#[derive(Debug)]
pub(crate) struct Mismatch {
    /// Innermost first; an index is `[n]`.
    path: Vec<String>,
    /// The offending value as JSON, cut short; `None`: a key is missing.
    value: Option<String>,
    msg: String,
}

impl Mismatch {
    fn new(msg: impl Into<String>) -> Self {
        Mismatch {
            path: Vec::new(),
            value: None,
            msg: msg.into(),
        }
    }

    /// The same mismatch, seen from one level up, where `value` stands under `segment`.
    fn at(mut self, segment: impl Into<String>, value: &Value) -> Self {
        if self.path.is_empty() {
            let mut text = value.to_string();
            if let Some((end, _)) = text.char_indices().nth(64) {
                text.truncate(end);
                text.push('…');
            }
            self.value = Some(text);
        }
        self.path.push(segment.into());
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut path = String::new();
        for segment in self.path.iter().rev() {
            if !path.is_empty() && !segment.starts_with('[') {
                path.push('.');
            }
            path.push_str(segment);
        }
        match &self.value {
            Some(value) => write!(f, "invalid value {value} for key {path:?}: {}", self.msg),
            None if path.is_empty() => f.write_str(&self.msg),
            None => write!(f, "missing key {path:?}"),
        }
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(msg: T) -> Self {
        Mismatch::new(msg.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        let range = match expected.as_str() {
            "u8" => "a whole number from 0 to 255",
            "u16" => "a whole number from 0 to 65535",
            "u32" => "a whole number from 0 to 4294967295",
            "u64" | "usize" => "a whole number from 0 on",
            "i8" | "i16" | "i32" | "i64" => "a whole number",
            other => other,
        };
        Mismatch::new(format!("expected {range}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Mismatch::new(format!("expected one of {}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        let mut missing = Mismatch::new("");
        missing.path.push(field.to_owned());
        missing
    }
}

#[derive(Clone, Copy)]
struct Fold<'de>(&'de Value);

/// Numbers, strings and booleans: `null` is the zero value.
macro_rules! scalars {
    ($($method:ident => $visit:ident($zero:expr),)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            match self.0 {
                Value::Null => visitor.$visit($zero),
                _ => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Fold<'de> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Number(n) => match (n.as_u64(), n.as_i64()) {
                (Some(n), _) => visitor.visit_u64(n),
                (None, Some(n)) => visitor.visit_i64(n),
                (None, None) => visitor.visit_f64(n.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(s) => visitor.visit_borrowed_str(s),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
        }
    }

    scalars! {
        deserialize_bool => visit_bool(false),
        deserialize_i8 => visit_i64(0),
        deserialize_i16 => visit_i64(0),
        deserialize_i32 => visit_i64(0),
        deserialize_i64 => visit_i64(0),
        deserialize_u8 => visit_u64(0),
        deserialize_u16 => visit_u64(0),
        deserialize_u32 => visit_u64(0),
        deserialize_u64 => visit_u64(0),
        deserialize_f32 => visit_f64(0.0),
        deserialize_f64 => visit_f64(0.0),
        deserialize_str => visit_borrowed_str(""),
        deserialize_string => visit_borrowed_str(""),
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_seq(Items {
                items: &[],
                next: 0,
            }),
            Value::Array(items) => visitor.visit_seq(Items { items, next: 0 }),
            _ => Err(Mismatch::new("expected a list")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        let entries = match self.0 {
            Value::Null => Vec::new(),
            Value::Object(object) => object
                .iter()
                .map(|(k, v)| (k.as_str(), k.as_str(), v))
                .collect(),
            _ => return Err(Mismatch::new("expected an object")),
        };
        visitor.visit_map(Entries::new(entries))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let entries = match self.0 {
            Value::Null => Vec::new(),
            Value::Object(object) => fields
                .iter()
                .filter_map(|field| get(object, field).map(|(k, v)| (*field, k, v)))
                .collect(),
            _ => return Err(Mismatch::new("expected an object")),
        };
        visitor.visit_map(Entries::new(entries))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::String(s) => visitor.visit_enum(s.as_str().into_deserializer()),
            _ => Err(Mismatch::new("expected a string")),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct identifier ignored_any
    }
}

struct Items<'de> {
    items: &'de [Value],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mismatch> {
        let Some(item) = self.items.get(self.next) else {
            return Ok(None);
        };
        let index = self.next;
        self.next += 1;
        seed.deserialize(Fold(item))
            .map(Some)
            .map_err(|e| e.at(format!("[{index}]"), item))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.next)
    }
}

/// Entries of an object: the key to report to the visitor, the key as it is spelled, the value.
struct Entries<'de> {
    entries: std::vec::IntoIter<(&'de str, &'de str, &'de Value)>,
    current: Option<(&'de str, &'de Value)>,
}

impl<'de> Entries<'de> {
    fn new(entries: Vec<(&'de str, &'de str, &'de Value)>) -> Self {
        Entries {
            entries: entries.into_iter(),
            current: None,
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Mismatch> {
        let Some((key, spelled, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.current = Some((spelled, value));
        seed.deserialize(BorrowedStrDeserializer::new(key))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        let Some((spelled, value)) = self.current.take() else {
            return Err(Mismatch::new("a value was asked for before its key"));
        };
        seed.deserialize(Fold(value))
            .map_err(|e| e.at(spelled, value))
    }
}

#[cfg(test)]
mod tests;
