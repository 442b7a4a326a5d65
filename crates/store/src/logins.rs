//! Sign-ins under way: the code that a browser hands to the command line, and device codes that wait for a person.
//!
//! Each lives for minutes and is good once; codes are kept as hashes. A browser's is bound to a challenge (RFC 7636,
//! S256) of the program that will redeem it.

use std::net::IpAddr;

use nullius_model::{Proof, SessionId, Timestamp, UserName};
use serde::{Deserialize, Serialize};

use crate::{
    Redemption, StoreError, TokenHash,
    error::During as _,
    row::{Columns, Row, json_text, key, repository},
};

macro_rules! columns {
    ($head:literal, $tail:literal) => {
        concat!(
            $head,
            "hash, kind, user_code, challenge, redirect_uri, source, user_agent, created_at, expires_at, \
             polled_at, approval, denied_at, used_at",
            $tail
        )
    };
}

repository! {
    /// Reads sign-ins under way.
    Logins,
    /// Changes sign-ins under way.
    LoginsMut
}

/// How the program and the person's browser find each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginKind {
    /// The browser is sent back to the program's loopback address with the code.
    Browser,
    /// The person types a short code into any browser; the program asks again and again.
    Device,
}

impl LoginKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Device => "device",
        }
    }
}

/// What a person proved and agreed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Approval {
    /// The person.
    pub user: UserName,
    /// What was proven.
    pub proof: Proof,
    /// When the person signed in.
    pub signed_in_at: Timestamp,
    /// The session that the code gave: it ends when the code comes again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
}

/// One sign-in under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginCode {
    /// The hash of the code that the program redeems.
    pub hash: TokenHash,
    /// How it goes.
    pub kind: LoginKind,
    /// What is answered once: for a device the hash of the short code that the person types, for a browser the hash
    /// of the request that was answered.
    pub user_code: Option<TokenHash>,
    /// What the program must prove to know (S256 challenge); empty for a device.
    pub challenge: String,
    /// For a browser: where it is sent back to; the redemption must name the same.
    pub redirect_uri: Option<String>,
    /// Where the program asked from.
    pub source: Option<IpAddr>,
    /// Which program, as it says itself.
    pub user_agent: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When the program last asked.
    pub polled_at: Option<Timestamp>,
    /// Who approved it.
    pub approval: Option<Approval>,
    /// When a person refused it.
    pub denied_at: Option<Timestamp>,
    /// When it was redeemed.
    pub used_at: Option<Timestamp>,
}

/// What a program that asks for its device code is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DevicePoll {
    /// Nobody has decided yet; the time of the question before this one is in it.
    Pending(LoginCode),
    /// Approved, and the code is used up now.
    Approved(LoginCode),
    /// A person refused it.
    Denied(LoginCode),
    /// Its time is over.
    Expired(LoginCode),
    /// It was redeemed before.
    Reused(LoginCode),
    /// There is no such code.
    Unknown,
}

impl Logins<'_> {
    /// The sign-in with a code's hash.
    pub async fn find(&mut self, hash: &TokenHash) -> Result<Option<LoginCode>, StoreError> {
        let row = sqlx::query(columns!("SELECT ", " FROM login_codes WHERE hash = $1"))
            .bind(hash.to_string())
            .fetch_optional(&mut *self.conn)
            .await
            .during("read a sign-in under way")?;
        row.as_ref().map(read).transpose()
    }

    /// The device sign-in with the short code's hash, while it waits for a decision.
    pub async fn find_pending(
        &mut self,
        user_code: &TokenHash,
        now: Timestamp,
    ) -> Result<Option<LoginCode>, StoreError> {
        let row = sqlx::query(columns!(
            "SELECT ",
            " FROM login_codes WHERE user_code = $1 AND expires_at > $2 \
             AND approval IS NULL AND denied_at IS NULL AND used_at IS NULL"
        ))
        .bind(user_code.to_string())
        .bind(key(now))
        .fetch_optional(&mut *self.conn)
        .await
        .during("look up a device code")?;
        row.as_ref().map(read).transpose()
    }

    /// Whether a browser's request was answered.
    pub async fn is_answered(&mut self, request: &TokenHash) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT hash FROM login_codes WHERE user_code = $1")
            .bind(request.to_string())
            .fetch_optional(&mut *self.conn)
            .await
            .during("look up a sign-in's answer")?;
        Ok(row.is_some())
    }

    /// How many sign-ins of a kind wait, so that a flood can be refused.
    pub async fn count_open(&mut self, kind: LoginKind, now: Timestamp) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS open FROM login_codes WHERE kind = $1 AND expires_at > $2 AND used_at IS NULL",
        )
        .bind(kind.as_str())
        .bind(key(now))
        .fetch_one(&mut *self.conn)
        .await
        .during("count sign-ins under way")?;
        Columns::new(&row, "sign-in under way").count("open")
    }
}

impl LoginsMut<'_> {
    /// Notes a sign-in: a browser's with its answer, a device's without. False where there is one with this code, or
    /// the request was answered before.
    pub async fn create(&mut self, code: &LoginCode) -> Result<bool, StoreError> {
        let approval = code.approval.as_ref().map(|approval| json_text("approval", approval));
        let done = sqlx::query(
            "INSERT INTO login_codes \
             (hash, kind, user_code, challenge, redirect_uri, source, user_agent, created_at, expires_at, \
              polled_at, approval, denied_at, used_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, NULL, $10, $11, NULL) \
             ON CONFLICT DO NOTHING",
        )
        .bind(code.hash.to_string())
        .bind(code.kind.as_str())
        .bind(code.user_code.map(|hash| hash.to_string()))
        .bind(code.challenge.as_str())
        .bind(code.redirect_uri.as_deref())
        .bind(code.source.map(|source| source.to_string()))
        .bind(code.user_agent.as_str())
        .bind(key(code.created_at))
        .bind(key(code.expires_at))
        .bind(approval.transpose()?)
        .bind(code.denied_at.map(key))
        .execute(self.conn())
        .await
        .during("store a sign-in under way")?;
        Ok(done.rows_affected() == 1)
    }

    /// Approves a device sign-in that waits; `None` when it does not wait any more.
    pub async fn approve(
        &mut self,
        user_code: &TokenHash,
        approval: &Approval,
        now: Timestamp,
    ) -> Result<Option<LoginCode>, StoreError> {
        let row = sqlx::query(columns!(
            "UPDATE login_codes SET approval = $1 WHERE user_code = $2 AND expires_at > $3 \
             AND approval IS NULL AND denied_at IS NULL AND used_at IS NULL RETURNING ",
            ""
        ))
        .bind(json_text("approval", approval)?)
        .bind(user_code.to_string())
        .bind(key(now))
        .fetch_optional(self.conn())
        .await
        .during("approve a device code")?;
        row.as_ref().map(read).transpose()
    }

    /// Refuses a device sign-in that waits; `None` when it does not wait any more.
    pub async fn deny(
        &mut self,
        user_code: &TokenHash,
        now: Timestamp,
    ) -> Result<Option<LoginCode>, StoreError> {
        let row = sqlx::query(columns!(
            "UPDATE login_codes SET denied_at = $1 WHERE user_code = $2 AND expires_at > $1 \
             AND approval IS NULL AND denied_at IS NULL AND used_at IS NULL RETURNING ",
            ""
        ))
        .bind(key(now))
        .bind(user_code.to_string())
        .fetch_optional(self.conn())
        .await
        .during("refuse a device code")?;
        row.as_ref().map(read).transpose()
    }

    /// Uses up an approved code; of two at the same time one is accepted. The caller then checks challenge and address.
    pub async fn redeem(
        &mut self,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Result<Redemption<LoginCode>, StoreError> {
        let row = sqlx::query(columns!(
            "UPDATE login_codes SET used_at = $1 WHERE hash = $2 AND expires_at > $1 \
             AND approval IS NOT NULL AND denied_at IS NULL AND used_at IS NULL RETURNING ",
            ""
        ))
        .bind(key(now))
        .bind(hash.to_string())
        .fetch_optional(self.conn())
        .await
        .during("redeem a sign-in code")?;
        if let Some(row) = row {
            return Ok(Redemption::Accepted(read(&row)?));
        }
        Ok(match self.find(hash).await? {
            None => Redemption::Unknown,
            Some(code) if code.used_at.is_some() => Redemption::Reused(code),
            Some(code) if code.expires_at <= now => Redemption::Expired(code),
            // It waits for a person, or was refused: it is not for this program to redeem.
            Some(code) => Redemption::ForOther(code),
        })
    }

    /// Notes which session a code gave.
    pub async fn gave(&mut self, code: &LoginCode, session: &SessionId) -> Result<(), StoreError> {
        let Some(approval) = &code.approval else { return Ok(()) };
        let approval = Approval { session: Some(session.clone()), ..approval.clone() };
        sqlx::query("UPDATE login_codes SET approval = $1 WHERE hash = $2")
            .bind(json_text("approval", &approval)?)
            .bind(code.hash.to_string())
            .execute(self.conn())
            .await
            .during("note what a sign-in code gave")?;
        Ok(())
    }

    /// Makes room for the next sign-in of a kind: forgets those that ended before an instant, then of one source, or where
    /// there are too many altogether of the source with most, the oldest that nobody has answered.
    pub async fn make_room(
        &mut self,
        kind: LoginKind,
        source: IpAddr,
        of_source: u32,
        of_all: u32,
        ended_before: Timestamp,
    ) -> Result<(), StoreError> {
        self.prune(ended_before).await?;
        sqlx::query(
            "DELETE FROM login_codes WHERE hash IN (SELECT hash FROM login_codes \
             WHERE kind = $1 AND source = $2 AND approval IS NULL \
             ORDER BY created_at DESC, hash LIMIT 1000000 OFFSET $3)",
        )
        .bind(kind.as_str())
        .bind(source.to_string())
        .bind(i64::from(of_source.saturating_sub(1)))
        .execute(self.conn())
        .await
        .during("make room for a sign-in")?;
        if self.count_open(kind, ended_before).await? < u64::from(of_all) {
            return Ok(());
        }
        sqlx::query(
            "DELETE FROM login_codes WHERE hash = (SELECT hash FROM login_codes \
             WHERE kind = $1 AND approval IS NULL AND source = (SELECT source FROM login_codes \
             WHERE kind = $1 AND approval IS NULL GROUP BY source ORDER BY COUNT(*) DESC LIMIT 1) \
             ORDER BY created_at LIMIT 1)",
        )
        .bind(kind.as_str())
        .execute(self.conn())
        .await
        .during("make room for a sign-in")?;
        Ok(())
    }

    /// Answers a program that asks for its device code, and uses the code up when it was approved.
    pub async fn poll(
        &mut self,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Result<DevicePoll, StoreError> {
        Ok(match self.redeem(hash, now).await? {
            Redemption::Accepted(code) => DevicePoll::Approved(code),
            Redemption::Reused(code) => DevicePoll::Reused(code),
            Redemption::Expired(code) => DevicePoll::Expired(code),
            Redemption::Unknown => DevicePoll::Unknown,
            Redemption::ForOther(code) if code.denied_at.is_some() => DevicePoll::Denied(code),
            Redemption::ForOther(code) => {
                sqlx::query("UPDATE login_codes SET polled_at = $1 WHERE hash = $2")
                    .bind(key(now))
                    .bind(hash.to_string())
                    .execute(self.conn())
                    .await
                    .during("note a question for a device code")?;
                DevicePoll::Pending(code)
            }
        })
    }

    /// Forgets codes that ended before an instant.
    pub async fn prune(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM login_codes WHERE expires_at < $1")
            .bind(key(before))
            .execute(self.conn())
            .await
            .during("forget ended sign-ins")?;
        Ok(done.rows_affected())
    }
}

fn read(row: &Row) -> Result<LoginCode, StoreError> {
    let columns = Columns::new(row, "sign-in under way");
    let approval = columns.optional_text("approval")?;
    Ok(LoginCode {
        hash: columns.parsed("hash")?,
        kind: columns.word("kind")?,
        user_code: columns.optional_parsed("user_code")?,
        challenge: columns.text("challenge")?,
        redirect_uri: columns.optional_text("redirect_uri")?,
        source: columns.optional_parsed("source")?,
        user_agent: columns.text("user_agent")?,
        created_at: columns.time("created_at")?,
        expires_at: columns.time("expires_at")?,
        polled_at: columns.optional_time("polled_at")?,
        approval: approval
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| columns.corrupt(error))?,
        denied_at: columns.optional_time("denied_at")?,
        used_at: columns.optional_time("used_at")?,
    })
}
