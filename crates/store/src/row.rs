//! The one place that names the driver's types, and how columns become values of the model.

use std::{error::Error, str::FromStr};

use nullius_audit::time_key;
use nullius_model::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::Row as _;

use crate::StoreError;

pub(crate) type Db = sqlx::Sqlite;
pub(crate) type Connection = sqlx::sqlite::SqliteConnection;
pub(crate) type Row = sqlx::sqlite::SqliteRow;

/// Reads columns of a row; every failure names what the row should have been.
pub(crate) struct Columns<'r> {
    pub(crate) row: &'r Row,
    pub(crate) what: &'static str,
}

impl<'r> Columns<'r> {
    pub(crate) fn new(row: &'r Row, what: &'static str) -> Self {
        Self { row, what }
    }

    pub(crate) fn corrupt(&self, source: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
        StoreError::corrupt(self.what)(source.into())
    }

    pub(crate) fn text(&self, column: &str) -> Result<String, StoreError> {
        self.row.try_get(column).map_err(|error| self.corrupt(error))
    }

    pub(crate) fn optional_text(&self, column: &str) -> Result<Option<String>, StoreError> {
        self.row.try_get(column).map_err(|error| self.corrupt(error))
    }

    pub(crate) fn integer(&self, column: &str) -> Result<i64, StoreError> {
        self.row.try_get(column).map_err(|error| self.corrupt(error))
    }

    pub(crate) fn optional_integer(&self, column: &str) -> Result<Option<i64>, StoreError> {
        self.row.try_get(column).map_err(|error| self.corrupt(error))
    }

    pub(crate) fn bytes(&self, column: &str) -> Result<Vec<u8>, StoreError> {
        self.row.try_get(column).map_err(|error| self.corrupt(error))
    }

    pub(crate) fn optional_bytes(&self, column: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.row.try_get(column).map_err(|error| self.corrupt(error))
    }

    pub(crate) fn count(&self, column: &str) -> Result<u64, StoreError> {
        u64::try_from(self.integer(column)?).map_err(|error| self.corrupt(error))
    }

    pub(crate) fn parsed<T>(&self, column: &str) -> Result<T, StoreError>
    where
        T: FromStr<Err: Error + Send + Sync + 'static>,
    {
        self.text(column)?.parse().map_err(|error| self.corrupt(Box::new(error)))
    }

    pub(crate) fn optional_parsed<T>(&self, column: &str) -> Result<Option<T>, StoreError>
    where
        T: FromStr<Err: Error + Send + Sync + 'static>,
    {
        let text = self.optional_text(column)?;
        text.map(|text| text.parse()).transpose().map_err(|error| self.corrupt(Box::new(error)))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|error| self.corrupt(error))
    }

    /// Reads a word that stands alone in the column for a serde enum of words.
    pub(crate) fn word<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        let word = serde_json::Value::String(self.text(column)?);
        serde_json::from_value(word).map_err(|error| self.corrupt(error))
    }

    pub(crate) fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        instant(self.integer(column)?).map_err(|error| self.corrupt(error))
    }

    pub(crate) fn optional_time(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        let key = self.optional_integer(column)?;
        key.map(instant).transpose().map_err(|error| self.corrupt(error))
    }
}

fn instant(key: i64) -> Result<Timestamp, jiff::Error> {
    Timestamp::from_nanosecond(key.into())
}

/// An instant as it is stored.
pub(crate) fn key(at: Timestamp) -> i64 {
    time_key(at)
}

/// A number as it is stored; beyond 63 bits it stays at the largest.
pub(crate) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A value as JSON text.
pub(crate) fn json_text<T: Serialize + ?Sized>(
    what: &'static str,
    value: &T,
) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::corrupt(what)(error.into()))
}

/// Makes the pair of a repository: reads, and writes that can also read.
macro_rules! repository {
    ($(#[$read_doc:meta])* $read:ident, $(#[$write_doc:meta])* $write:ident) => {
        $(#[$read_doc])*
        pub struct $read<'c> {
            pub(crate) conn: &'c mut $crate::row::Connection,
        }

        $(#[$write_doc])*
        pub struct $write<'c> {
            pub(crate) reads: $read<'c>,
        }

        impl<'c> $write<'c> {
            pub(crate) fn new(conn: &'c mut $crate::row::Connection) -> Self {
                Self { reads: $read { conn } }
            }

            #[allow(dead_code, reason = "not every repository writes through it")]
            fn conn(&mut self) -> &mut $crate::row::Connection {
                self.reads.conn
            }
        }

        impl<'c> std::ops::Deref for $write<'c> {
            type Target = $read<'c>;
            fn deref(&self) -> &Self::Target {
                &self.reads
            }
        }

        impl std::ops::DerefMut for $write<'_> {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.reads
            }
        }
    };
}
pub(crate) use repository;
