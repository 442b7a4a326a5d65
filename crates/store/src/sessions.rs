//! Sessions of people and their refresh tokens: rotated with compare-and-set, so that a stolen one shows itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use nullius_model::{Factor, Proof, SessionId, Timestamp, UserName};
use serde::{Deserialize, Serialize};

use crate::{
    StoreError, TokenHash,
    error::During as _,
    row::{Columns, Row, json_text, key, repository, stored},
};

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT id, user_name, client, factors, factor_at, signed_in_at, refreshed_at, expires_at, \
             generation, client_mark, source, user_agent, ended_at, end_reason FROM sessions ",
            $tail
        )
    };
}

macro_rules! returning {
    ($head:literal) => {
        concat!(
            $head,
            " RETURNING id, user_name, client, factors, factor_at, signed_in_at, refreshed_at, expires_at, \
             generation, client_mark, source, user_agent, ended_at, end_reason"
        )
    };
}

repository! {
    /// Reads sessions.
    Sessions,
    /// Changes sessions.
    SessionsMut
}

/// What a session is used with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionClient {
    /// The command line and `kubectl`.
    Cli,
    /// A browser with a cookie.
    Browser,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// The person logged out.
    Logout,
    /// Its time was over.
    Expired,
    /// Somebody with the right to ended it.
    Revoked,
    /// A refresh token came a second time.
    TokenReused,
    /// The person was disabled or deleted.
    UserGone,
    /// The person enrolled anew.
    Reenrolled,
}

impl SessionClient {
    /// The client as the stable kebab-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Browser => "browser",
        }
    }
}

impl EndReason {
    /// The reason as the stable kebab-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::TokenReused => "token-reused",
            Self::UserGone => "user-gone",
            Self::Reenrolled => "reenrolled",
        }
    }
}

/// A session about to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// 128 random bits.
    pub id: SessionId,
    /// The person.
    pub user: UserName,
    /// What it is used with.
    pub client: SessionClient,
    /// What was proven.
    pub proof: Proof,
    /// When the person signed in.
    pub signed_in_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// The hash of its first refresh token (or cookie).
    pub token: TokenHash,
    /// What its client proves at each refresh.
    pub client_mark: String,
    /// Where from.
    pub source: Option<IpAddr>,
    /// With which program, as it says itself.
    pub user_agent: String,
}

/// A session as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// 128 random bits.
    pub id: SessionId,
    /// The person.
    pub user: UserName,
    /// What it is used with.
    pub client: SessionClient,
    /// What was proven.
    pub proof: Proof,
    /// When the person signed in.
    pub signed_in_at: Timestamp,
    /// When it was last refreshed.
    pub refreshed_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// Grows with each refresh, from 1.
    pub generation: u64,
    /// What its client proves at each refresh; nothing for a session that an older version began.
    pub client_mark: Option<String>,
    /// Where from, at the last refresh.
    pub source: Option<IpAddr>,
    /// With which program, as it says itself.
    pub user_agent: String,
    /// When and why it ended.
    pub ended: Option<(Timestamp, EndReason)>,
}

impl SessionRecord {
    /// Whether it neither ended nor ran out.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.ended.is_none() && now < self.expires_at
    }
}

/// Whose refresh token it is that was presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenMatch {
    /// The newest token of this session; whether the session lives is still to be asked.
    Current(SessionRecord),
    /// A token that this session exchanged for a newer one before: stolen, or a client that lost an answer.
    Spent {
        /// The session.
        session: SessionRecord,
        /// When it was exchanged.
        spent_at: Timestamp,
        /// Its generation; the session's own is newer.
        generation: u64,
    },
    /// No session's.
    Unknown,
}

impl Sessions<'_> {
    /// A session, ended or not.
    pub async fn find(&mut self, id: &SessionId) -> Result<Option<SessionRecord>, StoreError> {
        let row = sqlx::query(select!("WHERE id = $1"))
            .bind(id.as_str())
            .fetch_optional(&mut *self.conn)
            .await
            .during("read a session")?;
        row.as_ref().map(read).transpose()
    }

    /// All sessions that neither ended nor ran out.
    pub async fn live(&mut self, now: Timestamp) -> Result<Vec<SessionRecord>, StoreError> {
        let rows = sqlx::query(select!("WHERE ended_at IS NULL AND expires_at > $1 ORDER BY id"))
            .bind(key(now))
            .fetch_all(&mut *self.conn)
            .await
            .during("load live sessions")?;
        rows.iter().map(read).collect()
    }

    /// The live sessions of one person.
    pub async fn live_of(
        &mut self,
        user: &UserName,
        now: Timestamp,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        let rows = sqlx::query(select!(
            "WHERE user_name = $1 AND ended_at IS NULL AND expires_at > $2 ORDER BY signed_in_at, id"
        ))
        .bind(user.as_str())
        .bind(key(now))
        .fetch_all(&mut *self.conn)
        .await
        .during("load a person's sessions")?;
        rows.iter().map(read).collect()
    }

    /// When each person last signed in, as far as sessions are remembered.
    pub async fn last_sign_ins(&mut self) -> Result<BTreeMap<UserName, Timestamp>, StoreError> {
        let rows = sqlx::query(
            "SELECT user_name, MAX(signed_in_at) AS signed_in_at FROM sessions GROUP BY user_name",
        )
        .fetch_all(&mut *self.conn)
        .await
        .during("find the last sign-ins")?;
        let pair = |row: &Row| {
            let columns = Columns::new(row, "session");
            Ok((columns.parsed("user_name")?, columns.time("signed_in_at")?))
        };
        rows.iter().map(pair).collect()
    }

    /// Whose refresh token a hash belongs to.
    pub async fn match_token(&mut self, hash: &TokenHash) -> Result<TokenMatch, StoreError> {
        let row =
            sqlx::query("SELECT session, generation, spent_at FROM session_tokens WHERE hash = $1")
                .bind(hash.to_string())
                .fetch_optional(&mut *self.conn)
                .await
                .during("look up a refresh token")?;
        let Some(row) = row else { return Ok(TokenMatch::Unknown) };
        let columns = Columns::new(&row, "refresh token");
        let (generation, spent_at) =
            (columns.count("generation")?, columns.optional_time("spent_at")?);
        let id: SessionId = columns.parsed("session")?;
        Ok(match (self.find(&id).await?, spent_at) {
            (None, _) => TokenMatch::Unknown,
            (Some(session), None) => TokenMatch::Current(session),
            (Some(session), Some(spent_at)) => TokenMatch::Spent { session, spent_at, generation },
        })
    }
}

impl SessionsMut<'_> {
    /// Begins a session.
    pub async fn create(&mut self, session: &NewSession) -> Result<SessionRecord, StoreError> {
        let row = sqlx::query(returning!(
            "INSERT INTO sessions \
             (id, user_name, client, factors, factor_at, signed_in_at, refreshed_at, expires_at, generation, \
              source, user_agent, client_mark, ended_at, end_reason) \
             VALUES ($1, $2, $3, $4, $5, $6, $6, $7, 1, $8, $9, $10, NULL, NULL)"
        ))
        .bind(session.id.as_str())
        .bind(session.user.as_str())
        .bind(session.client.as_str())
        .bind(json_text("session", &session.proof.factors)?)
        .bind(key(session.proof.factor_at))
        .bind(key(session.signed_in_at))
        .bind(key(session.expires_at))
        .bind(session.source.map(|source| source.to_string()))
        .bind(session.user_agent.as_str())
        .bind(session.client_mark.as_str())
        .fetch_one(self.conn())
        .await
        .during("begin a session")?;
        self.add_token(&session.id, &session.token, 1, session.signed_in_at).await?;
        read(&row)
    }

    /// Exchanges the refresh token of generation `expected` for a new one; `None` when another refresh was faster or
    /// the session does not live.
    pub async fn rotate(
        &mut self,
        id: &SessionId,
        expected: u64,
        token: &TokenHash,
        source: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let row = sqlx::query(returning!(
            "UPDATE sessions SET generation = generation + 1, refreshed_at = $1, source = $2 \
             WHERE id = $3 AND generation = $4 AND ended_at IS NULL AND expires_at > $1"
        ))
        .bind(key(now))
        .bind(source.map(|source| source.to_string()))
        .bind(id.as_str())
        .bind(stored(expected))
        .fetch_optional(self.conn())
        .await
        .during("refresh a session")?;
        let Some(row) = row else { return Ok(None) };
        let session = read(&row)?;
        sqlx::query(
            "UPDATE session_tokens SET spent_at = $1 WHERE session = $2 AND spent_at IS NULL",
        )
        .bind(key(now))
        .bind(id.as_str())
        .execute(self.conn())
        .await
        .during("spend a refresh token")?;
        self.add_token(id, token, session.generation, now).await?;
        Ok(Some(session))
    }

    /// Notes that a live session proved factors anew; `None` when it does not live.
    pub async fn step_up(
        &mut self,
        id: &SessionId,
        factors: &BTreeSet<Factor>,
        now: Timestamp,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let row = sqlx::query(returning!(
            "UPDATE sessions SET factors = $1, factor_at = $2 \
             WHERE id = $3 AND ended_at IS NULL AND expires_at > $2"
        ))
        .bind(json_text("session", factors)?)
        .bind(key(now))
        .bind(id.as_str())
        .fetch_optional(self.conn())
        .await
        .during("note a fresh factor")?;
        row.as_ref().map(read).transpose()
    }

    /// Ends a session; `None` when it had ended before or never was.
    pub async fn end(
        &mut self,
        id: &SessionId,
        reason: EndReason,
        now: Timestamp,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let row = sqlx::query(returning!(
            "UPDATE sessions SET ended_at = $1, end_reason = $2 WHERE id = $3 AND ended_at IS NULL"
        ))
        .bind(key(now))
        .bind(reason.as_str())
        .bind(id.as_str())
        .fetch_optional(self.conn())
        .await
        .during("end a session")?;
        row.as_ref().map(read).transpose()
    }

    /// Ends all sessions of a person and returns those that had not ended before.
    pub async fn end_all_of(
        &mut self,
        user: &UserName,
        reason: EndReason,
        now: Timestamp,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        let rows = sqlx::query(returning!(
            "UPDATE sessions SET ended_at = $1, end_reason = $2 WHERE user_name = $3 AND ended_at IS NULL"
        ))
        .bind(key(now))
        .bind(reason.as_str())
        .bind(user.as_str())
        .fetch_all(self.conn())
        .await
        .during("end a person's sessions")?;
        rows.iter().map(read).collect()
    }

    /// Ends the sessions whose time is over and returns them.
    pub async fn end_expired(&mut self, now: Timestamp) -> Result<Vec<SessionRecord>, StoreError> {
        let rows = sqlx::query(returning!(
            "UPDATE sessions SET ended_at = $1, end_reason = $2 WHERE ended_at IS NULL AND expires_at <= $1"
        ))
        .bind(key(now))
        .bind(EndReason::Expired.as_str())
        .fetch_all(self.conn())
        .await
        .during("end sessions that ran out")?;
        rows.iter().map(read).collect()
    }

    /// Forgets sessions that ended before an instant, with their tokens.
    pub async fn prune(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM sessions WHERE ended_at IS NOT NULL AND ended_at < $1")
            .bind(key(before))
            .execute(self.conn())
            .await
            .during("forget ended sessions")?;
        Ok(done.rows_affected())
    }

    async fn add_token(
        &mut self,
        id: &SessionId,
        token: &TokenHash,
        generation: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO session_tokens (hash, session, generation, created_at, spent_at) \
             VALUES ($1, $2, $3, $4, NULL)",
        )
        .bind(token.to_string())
        .bind(id.as_str())
        .bind(stored(generation))
        .bind(key(now))
        .execute(self.conn())
        .await
        .during("store a refresh token")?;
        Ok(())
    }
}

fn read(row: &Row) -> Result<SessionRecord, StoreError> {
    let columns = Columns::new(row, "session");
    let ended = match columns.optional_time("ended_at")? {
        Some(at) => Some((at, columns.word("end_reason")?)),
        None => None,
    };
    Ok(SessionRecord {
        id: columns.parsed("id")?,
        user: columns.parsed("user_name")?,
        client: columns.word("client")?,
        proof: Proof { factors: columns.json("factors")?, factor_at: columns.time("factor_at")? },
        signed_in_at: columns.time("signed_in_at")?,
        refreshed_at: columns.time("refreshed_at")?,
        expires_at: columns.time("expires_at")?,
        generation: columns.count("generation")?,
        client_mark: columns.optional_text("client_mark")?,
        source: columns.optional_parsed("source")?,
        user_agent: columns.text("user_agent")?,
        ended,
    })
}
