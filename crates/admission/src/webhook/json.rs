//! Reads an `AdmissionReview` in exactly one way: every key once, not too deep, not too long.
//!
//! The `uid` is noted as soon as it is seen, so that also a review that cannot be read to its end gets its denial.

use std::{cell::RefCell, collections::BTreeSet, fmt};

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value as Json, map::Entry};

/// The longest review that is read, in bytes. An API server takes objects up to 3 MiB, and a review may hold two.
pub const BODY_MAX: usize = 8 * 1024 * 1024;
const UID_MAX: usize = 128;

/// A review that cannot be read, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the admission review cannot be read: {told}")]
pub struct NotRead {
    /// The uid, where it came before what is wrong: the denial can be told.
    pub uid: Option<String>,
    /// What is wrong.
    pub told: String,
}

/// Reads a whole review; gives it with its uid.
pub(super) fn read(body: &[u8]) -> Result<(Json, String), NotRead> {
    let uid = RefCell::new(None);
    let begin = &body[..body.len().min(BODY_MAX)];
    let mut from = serde_json::Deserializer::from_slice(begin);
    let seed = Strict { place: Place::Root, uid: &uid };
    let read = seed.deserialize(&mut from).and_then(|review| from.end().map(|()| review));
    let uid = uid.into_inner();
    if body.len() > BODY_MAX {
        return Err(NotRead { uid, told: format!("it is longer than {BODY_MAX} bytes") });
    }
    match (read, uid) {
        (Ok(review), Some(uid)) => Ok((review, uid)),
        (Ok(_), None) => Err(NotRead { uid: None, told: "it has no `request.uid`".to_owned() }),
        (Err(error), uid) => Err(NotRead { uid, told: error.to_string() }),
    }
}

/// Where in a review a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Request,
    Uid,
    Elsewhere,
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    place: Place,
    uid: &'a RefCell<Option<String>>,
}

impl Strict<'_> {
    fn within(self, key: &str) -> Self {
        let place = match (self.place, key) {
            (Place::Root, "request") => Place::Request,
            (Place::Request, "uid") => Place::Uid,
            _ => Place::Elsewhere,
        };
        Self { place, ..self }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Json;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Json, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::from(value))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Json, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Json, E> {
        if self.place == Place::Uid {
            if value.is_empty() || value.len() > UID_MAX {
                return Err(E::custom(format!("`request.uid` needs 1 to {UID_MAX} bytes")));
            }
            *self.uid.borrow_mut() = Some(value.clone());
        }
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        let item = Self { place: Place::Elsewhere, ..self };
        while let Some(value) = items.next_element_seed(item)? {
            list.push(value);
        }
        Ok(Json::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut map = Map::new();
        // Go matches the names of fields in any case; what two readers could take for one field is refused.
        let mut folded = BTreeSet::new();
        let folds = matches!(self.place, Place::Root | Place::Request);
        while let Some(key) = entries.next_key::<String>()? {
            let is_twice = folds && !folded.insert(key.to_ascii_lowercase());
            match map.entry(key) {
                Entry::Vacant(place) if !is_twice => {
                    let value = entries.next_value_seed(self.within(place.key()))?;
                    place.insert(value);
                }
                taken => {
                    let key = taken.key().chars().take(100).flat_map(char::escape_debug);
                    let shown: String = key.collect();
                    return Err(A::Error::custom(format!("the key `{shown}` stands twice")));
                }
            }
        }
        Ok(Json::Object(map))
    }
}
