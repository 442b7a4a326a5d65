//! What people prove themselves with: a password hash, a sealed TOTP secret, the last code used, and lock-out.

use std::{collections::BTreeSet, fmt};

use nullius_model::{Timestamp, UserName};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    StoreError,
    error::During as _,
    row::{Columns, Row, key, repository, stored},
};

repository! {
    /// Reads credentials.
    Credentials,
    /// Changes credentials.
    CredentialsMut
}

/// Bytes that the caller sealed; the store keeps them and cannot open them.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// Bytes that are sealed.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The sealed bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// What a person proves themselves with.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The person.
    pub user: UserName,
    /// The password hash (PHC string).
    pub password: SecretString,
    /// The TOTP secret, sealed by the caller.
    pub totp: Option<Sealed>,
    /// The time step of the newest TOTP code that was accepted.
    pub totp_step: Option<u64>,
    /// Failed attempts since the last success.
    pub failures: u32,
    /// When the newest attempt failed.
    pub last_failure_at: Option<Timestamp>,
    /// No attempt is judged before this.
    pub locked_until: Option<Timestamp>,
    /// When the person enrolled.
    pub enrolled_at: Timestamp,
    /// When password or TOTP secret last changed.
    pub changed_at: Timestamp,
}

/// Whether a TOTP code's time step was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TotpStep {
    /// It is newer than every step before, and is noted now.
    Accepted,
    /// It, or a newer one, was used before.
    Replayed,
}

impl Credentials<'_> {
    /// What a person proves themselves with, if they enrolled.
    pub async fn find(&mut self, user: &UserName) -> Result<Option<Credential>, StoreError> {
        let row = sqlx::query(
            "SELECT user_name, password, totp, totp_step, failures, last_failure_at, locked_until, \
             enrolled_at, changed_at FROM user_credentials WHERE user_name = $1",
        )
        .bind(user.as_str())
        .fetch_optional(&mut *self.conn)
        .await
        .during("read credentials")?;
        row.as_ref().map(read).transpose()
    }
}

impl Credentials<'_> {
    /// The people who have enrolled.
    pub async fn enrolled(&mut self) -> Result<BTreeSet<UserName>, StoreError> {
        let rows = sqlx::query("SELECT user_name FROM user_credentials")
            .fetch_all(&mut *self.conn)
            .await
            .during("list who has enrolled")?;
        rows.iter().map(|row| Columns::new(row, "credential").parsed("user_name")).collect()
    }
}

impl CredentialsMut<'_> {
    /// Sets password and TOTP secret of a person; forgets failures, lock-out and the last TOTP step.
    pub async fn enrol(
        &mut self,
        user: &UserName,
        password: &SecretString,
        totp: Option<&Sealed>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO user_credentials \
             (user_name, password, totp, totp_step, failures, last_failure_at, locked_until, enrolled_at, changed_at) \
             VALUES ($1, $2, $3, NULL, 0, NULL, NULL, $4, $4) \
             ON CONFLICT (user_name) DO UPDATE SET password = excluded.password, totp = excluded.totp, \
             totp_step = NULL, failures = 0, last_failure_at = NULL, locked_until = NULL, \
             changed_at = excluded.changed_at",
        )
        .bind(user.as_str())
        .bind(password.expose_secret())
        .bind(totp.map(Sealed::as_bytes))
        .bind(key(now))
        .execute(self.conn())
        .await
        .during("store credentials")?;
        Ok(())
    }

    /// Replaces the password hash, for example by one with newer parameters.
    pub async fn set_password(
        &mut self,
        user: &UserName,
        password: &SecretString,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE user_credentials SET password = $1, changed_at = $2 WHERE user_name = $3",
        )
        .bind(password.expose_secret())
        .bind(key(now))
        .bind(user.as_str())
        .execute(self.conn())
        .await
        .during("replace a password")?;
        Ok(())
    }

    /// Notes the time step of a TOTP code if no step as new was used before; the check and the note are one.
    pub async fn use_totp_step(
        &mut self,
        user: &UserName,
        step: u64,
    ) -> Result<TotpStep, StoreError> {
        let done = sqlx::query(
            "UPDATE user_credentials SET totp_step = $1 \
             WHERE user_name = $2 AND (totp_step IS NULL OR totp_step < $1)",
        )
        .bind(stored(step))
        .bind(user.as_str())
        .execute(self.conn())
        .await
        .during("note a TOTP step")?;
        Ok(if done.rows_affected() == 1 { TotpStep::Accepted } else { TotpStep::Replayed })
    }

    /// Counts a failed attempt and returns how many there are now; `None` for somebody who never enrolled.
    pub async fn count_failure(
        &mut self,
        user: &UserName,
        now: Timestamp,
    ) -> Result<Option<u32>, StoreError> {
        let row = sqlx::query(
            "UPDATE user_credentials SET failures = failures + 1, last_failure_at = $1 \
             WHERE user_name = $2 RETURNING failures",
        )
        .bind(key(now))
        .bind(user.as_str())
        .fetch_optional(self.conn())
        .await
        .during("count a failed attempt")?;
        row.as_ref().map(failures).transpose()
    }

    /// Judges no attempt of a person before an instant.
    pub async fn lock_until(
        &mut self,
        user: &UserName,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE user_credentials SET locked_until = $1 WHERE user_name = $2")
            .bind(key(until))
            .bind(user.as_str())
            .execute(self.conn())
            .await
            .during("lock out a person")?;
        Ok(())
    }

    /// Forgets failed attempts and lock-out.
    pub async fn clear_failures(&mut self, user: &UserName) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE user_credentials SET failures = 0, last_failure_at = NULL, locked_until = NULL \
             WHERE user_name = $1",
        )
        .bind(user.as_str())
        .execute(self.conn())
        .await
        .during("forget failed attempts")?;
        Ok(())
    }

    /// Removes what a person proves themselves with.
    pub async fn delete(&mut self, user: &UserName) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM user_credentials WHERE user_name = $1")
            .bind(user.as_str())
            .execute(self.conn())
            .await
            .during("delete credentials")?;
        Ok(())
    }
}

fn failures(row: &Row) -> Result<u32, StoreError> {
    let columns = Columns::new(row, "credential");
    Ok(u32::try_from(columns.count("failures")?).unwrap_or(u32::MAX))
}

fn read(row: &Row) -> Result<Credential, StoreError> {
    let columns = Columns::new(row, "credential");
    let step = columns.optional_integer("totp_step")?;
    Ok(Credential {
        user: columns.parsed("user_name")?,
        password: columns.text("password")?.into(),
        totp: columns.optional_bytes("totp")?.map(Sealed::new),
        totp_step: step.map(u64::try_from).transpose().map_err(|error| columns.corrupt(error))?,
        failures: failures(row)?,
        last_failure_at: columns.optional_time("last_failure_at")?,
        locked_until: columns.optional_time("locked_until")?,
        enrolled_at: columns.time("enrolled_at")?,
        changed_at: columns.time("changed_at")?,
    })
}
