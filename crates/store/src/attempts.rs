//! Attempts to sign in that hold the next ones back: kept over a restart, by a mark of the name that was tried, since
//! people type passwords where names belong.

use nullius_model::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    StoreError,
    error::During as _,
    row::{Columns, json_text, key, repository},
};

/// Marks that are loaded at most; the ones that count longest.
const LOADED: i64 = 50_000;

repository! {
    /// Reads attempts to sign in.
    Attempts,
    /// Changes attempts to sign in.
    AttemptsMut
}

impl Attempts<'_> {
    /// What is to be remembered at an instant, by mark.
    pub async fn load<T: DeserializeOwned>(
        &mut self,
        now: Timestamp,
    ) -> Result<Vec<(String, T)>, StoreError> {
        let rows = sqlx::query(
            "SELECT name_mark, state FROM sign_in_attempts WHERE kept_until > $1 \
             ORDER BY kept_until DESC LIMIT $2",
        )
        .bind(key(now))
        .bind(LOADED)
        .fetch_all(&mut *self.conn)
        .await
        .during("load attempts to sign in")?;
        let pair = |row| {
            let columns = Columns::new(row, "attempt to sign in");
            Ok((columns.text("name_mark")?, columns.json("state")?))
        };
        rows.iter().map(pair).collect()
    }
}

impl AttemptsMut<'_> {
    /// Keeps what is known of a mark until an instant.
    pub async fn keep<T: Serialize>(
        &mut self,
        mark: &str,
        state: &T,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO sign_in_attempts (name_mark, state, kept_until) VALUES ($1, $2, $3) \
             ON CONFLICT (name_mark) DO UPDATE SET state = excluded.state, kept_until = excluded.kept_until",
        )
        .bind(mark)
        .bind(json_text("attempt to sign in", state)?)
        .bind(key(until))
        .execute(self.conn())
        .await
        .during("store an attempt to sign in")?;
        Ok(())
    }

    /// Forgets a mark.
    pub async fn forget(&mut self, mark: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM sign_in_attempts WHERE name_mark = $1")
            .bind(mark)
            .execute(self.conn())
            .await
            .during("forget attempts to sign in")?;
        Ok(())
    }

    /// Forgets what need not be remembered any more.
    pub async fn prune(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM sign_in_attempts WHERE kept_until <= $1")
            .bind(key(now))
            .execute(self.conn())
            .await
            .during("forget old attempts to sign in")?;
        Ok(done.rows_affected())
    }
}
