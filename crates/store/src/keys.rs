//! Keys of the hub as sealed bytes that the store cannot open, and counters that never go back.

use nullius_model::Timestamp;

use crate::{
    Sealed, StoreError,
    error::During as _,
    row::{Columns, Connection, key, repository, stored},
};

repository! {
    /// Reads sealed keys and counters.
    Keys,
    /// Changes sealed keys and counters.
    KeysMut
}

impl Keys<'_> {
    /// The sealed key of a name.
    pub async fn find(&mut self, name: &str) -> Result<Option<Sealed>, StoreError> {
        let row = sqlx::query("SELECT sealed FROM keys WHERE name = $1")
            .bind(name)
            .fetch_optional(&mut *self.conn)
            .await
            .during("read a key")?;
        row.map(|row| Columns::new(&row, "key").bytes("sealed").map(Sealed::new)).transpose()
    }

    /// The names of all keys, sorted.
    pub async fn names(&mut self) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("SELECT name FROM keys ORDER BY name")
            .fetch_all(&mut *self.conn)
            .await
            .during("list keys")?;
        rows.iter().map(|row| Columns::new(row, "key").text("name")).collect()
    }

    /// The value of a counter; 0 before its first step.
    pub async fn counter(&mut self, name: &str) -> Result<u64, StoreError> {
        counter(self.conn, name).await
    }
}

impl KeysMut<'_> {
    /// Stores a sealed key under a name, in place of the one before.
    pub async fn put(
        &mut self,
        name: &str,
        sealed: &Sealed,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO keys (name, sealed, created_at, changed_at) VALUES ($1, $2, $3, $3) \
             ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed, changed_at = excluded.changed_at",
        )
        .bind(name)
        .bind(sealed.as_bytes())
        .bind(key(now))
        .execute(self.conn())
        .await
        .during("store a key")?;
        Ok(())
    }

    /// Stores a sealed key unless there is one; returns the one that is there now.
    pub async fn put_if_absent(
        &mut self,
        name: &str,
        sealed: Sealed,
        now: Timestamp,
    ) -> Result<Sealed, StoreError> {
        if let Some(present) = self.find(name).await? {
            return Ok(present);
        }
        self.put(name, &sealed, now).await?;
        Ok(sealed)
    }

    /// Removes a key.
    pub async fn delete(&mut self, name: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM keys WHERE name = $1")
            .bind(name)
            .execute(self.conn())
            .await
            .during("delete a key")?;
        Ok(())
    }

    /// Takes the next `count` numbers of a counter and returns the first; no number is given twice, also not after a crash.
    pub async fn take(&mut self, counter: &str, count: u64) -> Result<u64, StoreError> {
        let last = advance(self.conn(), counter, count).await?;
        Ok(last.saturating_sub(count).saturating_add(1))
    }
}

/// Adds to a counter and returns its new value.
pub(crate) async fn advance(conn: &mut Connection, name: &str, by: u64) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "INSERT INTO counters (name, value) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value RETURNING value",
    )
    .bind(name)
    .bind(stored(by))
    .fetch_one(conn)
    .await
    .during("advance a counter")?;
    Columns::new(&row, "counter").count("value")
}

pub(crate) async fn counter(conn: &mut Connection, name: &str) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT value FROM counters WHERE name = $1")
        .bind(name)
        .fetch_optional(conn)
        .await
        .during("read a counter")?;
    row.map_or(Ok(0), |row| Columns::new(&row, "counter").count("value"))
}
