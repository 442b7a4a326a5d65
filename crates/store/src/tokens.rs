//! Single-use secrets that people carry: enrolment links and join tokens. The store knows their hashes alone.

use std::{fmt, str::FromStr};

use nullius_model::{ClusterName, Timestamp, UserName};
use sha2::{Digest as _, Sha256};

use crate::{
    StoreError,
    error::During as _,
    row::{Columns, Row, key, repository},
};

repository! {
    /// Reads enrolment links and join tokens.
    Tokens,
    /// Makes and redeems enrolment links and join tokens.
    TokensMut
}

/// SHA-256 of a secret with at least 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenHash([u8; 32]);

/// Text that is not a hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a token hash has 64 hexadecimal digits")]
pub struct ParseTokenHashError;

impl TokenHash {
    /// The hash of a secret.
    pub fn of(secret: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(secret.as_ref()).into())
    }

    /// A hash that was computed elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TokenHash {
    /// Shows the first digits: enough to tell two apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({}…)", hex::encode(&self.0[..4]))
    }
}

impl FromStr for TokenHash {
    type Err = ParseTokenHashError;
    fn from_str(text: &str) -> Result<Self, ParseTokenHashError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseTokenHashError)?;
        Ok(Self(bytes))
    }
}

/// What came of presenting a single-use secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redemption<T> {
    /// It was good, and is used up now.
    Accepted(T),
    /// It was used before.
    Reused(T),
    /// Its time is over.
    Expired(T),
    /// It is for somebody or something else, and stays good for that.
    ForOther(T),
    /// No such secret was ever given out, or it was forgotten.
    Unknown,
}

/// A link with which one person sets password and second factor, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentLink {
    /// The hash of the link's secret.
    pub hash: TokenHash,
    /// Who enrols.
    pub user: UserName,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was used.
    pub used_at: Option<Timestamp>,
}

/// A token with which the agent of one cluster joins, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The hash of the token.
    pub hash: TokenHash,
    /// Which cluster joins.
    pub cluster: ClusterName,
    /// Who made it, as [`nullius_model::Principal::label`].
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was used.
    pub used_at: Option<Timestamp>,
}

impl Tokens<'_> {
    /// The enrolment link with a hash, used up or not.
    pub async fn find_enrolment(
        &mut self,
        hash: &TokenHash,
    ) -> Result<Option<EnrolmentLink>, StoreError> {
        let row = sqlx::query(
            "SELECT hash, user_name, created_at, expires_at, used_at FROM enrolment_links WHERE hash = $1",
        )
        .bind(hash.to_string())
        .fetch_optional(&mut *self.conn)
        .await
        .during("read an enrolment link")?;
        row.as_ref().map(read_enrolment).transpose()
    }

    /// The join token with a hash, used up or not.
    pub async fn find_join(&mut self, hash: &TokenHash) -> Result<Option<JoinToken>, StoreError> {
        let row = sqlx::query(
            "SELECT hash, cluster, created_by, created_at, expires_at, used_at FROM join_tokens WHERE hash = $1",
        )
        .bind(hash.to_string())
        .fetch_optional(&mut *self.conn)
        .await
        .during("read a join token")?;
        row.as_ref().map(read_join).transpose()
    }
}

impl TokensMut<'_> {
    /// Notes a new enrolment link; earlier ones of the same person stop counting.
    pub async fn create_enrolment(&mut self, link: &EnrolmentLink) -> Result<(), StoreError> {
        self.delete_enrolments(&link.user).await?;
        sqlx::query(
            "INSERT INTO enrolment_links (hash, user_name, created_at, expires_at, used_at) \
             VALUES ($1, $2, $3, $4, NULL)",
        )
        .bind(link.hash.to_string())
        .bind(link.user.as_str())
        .bind(key(link.created_at))
        .bind(key(link.expires_at))
        .execute(self.conn())
        .await
        .during("store an enrolment link")?;
        Ok(())
    }

    /// Uses up an enrolment link; of two at the same time one is accepted.
    pub async fn redeem_enrolment(
        &mut self,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Result<Redemption<EnrolmentLink>, StoreError> {
        let row = sqlx::query(
            "UPDATE enrolment_links SET used_at = $1 \
             WHERE hash = $2 AND used_at IS NULL AND expires_at > $1 \
             RETURNING hash, user_name, created_at, expires_at, used_at",
        )
        .bind(key(now))
        .bind(hash.to_string())
        .fetch_optional(self.conn())
        .await
        .during("redeem an enrolment link")?;
        if let Some(row) = row {
            return Ok(Redemption::Accepted(read_enrolment(&row)?));
        }
        Ok(match self.find_enrolment(hash).await? {
            None => Redemption::Unknown,
            Some(link) if link.used_at.is_some() => Redemption::Reused(link),
            Some(link) => Redemption::Expired(link),
        })
    }

    /// Forgets the unused enrolment links of a person.
    pub async fn delete_enrolments(&mut self, user: &UserName) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM enrolment_links WHERE user_name = $1 AND used_at IS NULL")
            .bind(user.as_str())
            .execute(self.conn())
            .await
            .during("delete enrolment links")?;
        Ok(())
    }

    /// Notes a new join token.
    pub async fn create_join(&mut self, token: &JoinToken) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO join_tokens (hash, cluster, created_by, created_at, expires_at, used_at) \
             VALUES ($1, $2, $3, $4, $5, NULL)",
        )
        .bind(token.hash.to_string())
        .bind(token.cluster.as_str())
        .bind(&token.created_by)
        .bind(key(token.created_at))
        .bind(key(token.expires_at))
        .execute(self.conn())
        .await
        .during("store a join token")?;
        Ok(())
    }

    /// Uses up a join token for a cluster; of two at the same time one is accepted.
    pub async fn redeem_join(
        &mut self,
        hash: &TokenHash,
        cluster: &ClusterName,
        now: Timestamp,
    ) -> Result<Redemption<JoinToken>, StoreError> {
        let row = sqlx::query(
            "UPDATE join_tokens SET used_at = $1 \
             WHERE hash = $2 AND cluster = $3 AND used_at IS NULL AND expires_at > $1 \
             RETURNING hash, cluster, created_by, created_at, expires_at, used_at",
        )
        .bind(key(now))
        .bind(hash.to_string())
        .bind(cluster.as_str())
        .fetch_optional(self.conn())
        .await
        .during("redeem a join token")?;
        if let Some(row) = row {
            return Ok(Redemption::Accepted(read_join(&row)?));
        }
        Ok(match self.find_join(hash).await? {
            None => Redemption::Unknown,
            Some(token) if token.used_at.is_some() => Redemption::Reused(token),
            Some(token) if token.cluster != *cluster => Redemption::ForOther(token),
            Some(token) => Redemption::Expired(token),
        })
    }

    /// Forgets all join tokens of a cluster.
    pub async fn delete_joins(&mut self, cluster: &ClusterName) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM join_tokens WHERE cluster = $1")
            .bind(cluster.as_str())
            .execute(self.conn())
            .await
            .during("delete join tokens")?;
        Ok(())
    }

    /// Forgets links and tokens that ended before an instant; until then a second use is told from an unknown one.
    pub async fn prune(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        let mut pruned = 0;
        for sql in [
            "DELETE FROM enrolment_links WHERE expires_at < $1",
            "DELETE FROM join_tokens WHERE expires_at < $1",
        ] {
            let done = sqlx::query(sql).bind(key(before)).execute(self.conn()).await;
            pruned += done.during("forget ended tokens")?.rows_affected();
        }
        Ok(pruned)
    }
}

fn read_enrolment(row: &Row) -> Result<EnrolmentLink, StoreError> {
    let columns = Columns::new(row, "enrolment link");
    Ok(EnrolmentLink {
        hash: columns.parsed("hash")?,
        user: columns.parsed("user_name")?,
        created_at: columns.time("created_at")?,
        expires_at: columns.time("expires_at")?,
        used_at: columns.optional_time("used_at")?,
    })
}

fn read_join(row: &Row) -> Result<JoinToken, StoreError> {
    let columns = Columns::new(row, "join token");
    Ok(JoinToken {
        hash: columns.parsed("hash")?,
        cluster: columns.parsed("cluster")?,
        created_by: columns.text("created_by")?,
        created_at: columns.time("created_at")?,
        expires_at: columns.time("expires_at")?,
        used_at: columns.optional_time("used_at")?,
    })
}
