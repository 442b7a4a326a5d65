//! Reads a tree into the types of the model, so that an error knows the field and the line.

use std::{fmt, rc::Rc};

use serde::{
    de::{
        self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
        Visitor,
    },
    forward_to_deserialize_any,
};

use crate::node::{Content, Key, Node};

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Counted from 1; 0 while it is not known.
    pub line: usize,
    /// `spec.rules[0].verbs`; empty for the whole document.
    pub path: String,
    /// What is wrong.
    pub fault: FieldFault,
}

/// The ways in which a field is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldFault {
    /// The field itself has no place here; these have.
    Unknown {
        /// Its name.
        field: String,
        /// The names that have a place here.
        known: Vec<&'static str>,
    },
    /// Its value is wrong.
    Value(String),
}

impl FieldError {
    fn at(mut self, line: usize) -> Self {
        if self.line == 0 {
            self.line = line;
        }
        self
    }

    fn under(mut self, step: &str) -> Self {
        let joint = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{step}{joint}{}", self.path);
        self
    }

    fn value(message: String) -> Self {
        Self { line: 0, path: String::new(), fault: FieldFault::Value(message) }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            FieldFault::Unknown { field, .. } => write!(f, "unknown field `{}`", shown(field)),
            FieldFault::Value(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for FieldError {}

impl de::Error for FieldError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::value(plain_words(&message.to_string()))
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::value(format!(
            "expected {}, found {}",
            words(&expected.to_string()),
            found_words(found)
        ))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::value(format!(
            "`{}` is unknown here; use `{}`",
            shown(variant),
            expected.join("`, `")
        ))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let fault = FieldFault::Unknown { field: field.to_owned(), known: expected.to_vec() };
        Self { line: 0, path: String::new(), fault }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::value(format!("the field `{field}` is missing"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::value(format!("the field `{field}` stands twice"))
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

fn found_words(found: de::Unexpected<'_>) -> String {
    match found {
        de::Unexpected::Bool(value) => format!("`{value}`; put text in quotes"),
        de::Unexpected::Unsigned(value) => format!("the number `{value}`"),
        de::Unexpected::Signed(value) => format!("the number `{value}`"),
        de::Unexpected::Float(value) => format!("the number `{value}`"),
        de::Unexpected::Str(text) => format!("the text `{}`", shown(text)),
        de::Unexpected::Unit => "nothing".to_owned(),
        de::Unexpected::Seq => "a list".to_owned(),
        de::Unexpected::Map => "a mapping".to_owned(),
        other => words(&other.to_string()),
    }
}

/// serde's words for what was expected, without the names of our types.
fn words(expected: &str) -> String {
    match expected {
        "a sequence" => "a list".to_owned(),
        "a map" => "a mapping".to_owned(),
        "a string" => "text".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        typed if typed.contains("struct ") || typed.contains("enum ") => "a mapping".to_owned(),
        other => other.to_owned(),
    }
}

fn plain_words(message: &str) -> String {
    match message.split_once("expected ") {
        Some((before, typed)) if typed.contains("struct ") || typed.contains("enum ") => {
            format!("{before}expected a mapping")
        }
        Some(_) | None => message.to_owned(),
    }
}

/// A tree as a source of values.
pub struct Reader<'a>(pub &'a Node);

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = FieldError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        let line = self.0.line;
        let read = match &self.0.content {
            Content::Null => visitor.visit_unit(),
            Content::Bool(value) => visitor.visit_bool(*value),
            Content::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => visitor.visit_u64(value),
                (None, Some(value)) => visitor.visit_i64(value),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or_default()),
            },
            Content::Text(text) => visitor.visit_str(text),
            Content::List(items) => visitor.visit_seq(Items { items: items.iter(), index: 0 }),
            Content::Map(entries) => {
                visitor.visit_map(Entries { entries: entries.iter(), value: None })
            }
        };
        read.map_err(|error| error.at(line))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        match self.0.content {
            Content::Null => visitor.visit_none(),
            Content::Bool(_)
            | Content::Number(_)
            | Content::Text(_)
            | Content::List(_)
            | Content::Map(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, FieldError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FieldError> {
        let line = self.0.line;
        match &self.0.content {
            Content::Text(text) => visitor.visit_enum(Word(text)).map_err(|error| error.at(line)),
            Content::Null
            | Content::Bool(_)
            | Content::Number(_)
            | Content::List(_)
            | Content::Map(_) => Err(FieldError::value("expected a word".to_owned()).at(line)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map struct identifier ignored_any
    }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Rc<Node>>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = FieldError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, FieldError> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let step = format!("[{}]", self.index);
        self.index += 1;
        seed.deserialize(Reader(item)).map(Some).map_err(|error| error.at(item.line).under(&step))
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, (Key, Rc<Node>)>,
    value: Option<(&'a Key, &'a Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = FieldError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, FieldError> {
        let Some((key, node)) = self.entries.next() else { return Ok(None) };
        self.value = Some((key, node));
        let read = seed.deserialize(key.name.as_str().into_deserializer());
        read.map(Some).map_err(|error: FieldError| error.at(key.line).under(&key.name))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, FieldError> {
        let Some((key, node)) = self.value.take() else {
            return Err(FieldError::value("a value without a key".to_owned()));
        };
        // A value on the lines below its key is pointed at by itself, everything else by the key.
        seed.deserialize(Reader(node)).map_err(|error| error.at(key.line).under(&key.name))
    }
}

/// A word as a variant without content.
struct Word<'a>(&'a str);

impl<'de> EnumAccess<'de> for Word<'_> {
    type Error = FieldError;
    type Variant = Bare;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Bare), FieldError> {
        Ok((seed.deserialize(self.0.into_deserializer())?, Bare))
    }
}

struct Bare;

impl<'de> VariantAccess<'de> for Bare {
    type Error = FieldError;

    fn unit_variant(self) -> Result<(), FieldError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, FieldError> {
        Err(FieldError::value("expected a mapping".to_owned()))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, FieldError> {
        Err(FieldError::value("expected a list".to_owned()))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, FieldError> {
        Err(FieldError::value("expected a mapping".to_owned()))
    }
}
