//! kubectl's exec plugin (client.authentication.k8s.io/v1): one credential for all processes, never in a kubeconfig.
//!
//! A credential that is young enough is taken from its 0600 file without a lock. Otherwise one process refreshes
//! under the session's lock and the others find what it left: two hundred parallel kubectl make one refresh. Past
//! 80 % of its life the first process that comes by renews it; the others go on with it meanwhile.

use std::time::Duration;

use nullius_api::{KubeCredential, route};
use nullius_model::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::{
    client::{Call, Hub},
    environment::Environment,
    failure::{Failure, SIGN_IN_AGAIN},
    home::session::{Locked, StoredCredential},
    login,
};

/// Everything that the plugin asks of the hub is answered in this time, or it fails: kubectl waits.
const WITHIN: Duration = Duration::from_secs(4);
/// How long a process waits for another that refreshes, and for one in whose browser somebody signs in.
const REFRESH_PATIENCE: Duration = Duration::from_secs(15);
const SIGN_IN_PATIENCE: Duration = Duration::from_secs(300);
const API_VERSION: &str = "client.authentication.k8s.io/v1";

/// What kubectl says about itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecInfo {
    api_version: String,
    #[serde(default)]
    spec: ExecSpec,
}

#[derive(Default, Deserialize)]
struct ExecSpec {
    #[serde(default)]
    interactive: bool,
}

/// Whether somebody is there to sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Person,
    Nobody,
}

/// The document for kubectl.
pub(crate) async fn exec_credential(
    hub: &Hub,
    environment: &mut Environment,
) -> Result<String, Failure> {
    let presence = presence(environment)?;
    let began = hub.now();
    let credential = match stored(hub)? {
        Some((credential, Age::Young)) => credential,
        Some((credential, Age::Old)) => match hub.files.try_lock()? {
            // Another process renews it; it still counts.
            None => credential,
            Some(lock) => renew(hub, &lock).await.or_else(|failure| {
                // What the session's end forgot must not be used again.
                if hub.files.credential()?.is_some() { Ok(credential) } else { Err(failure) }
            })?,
        },
        None => first(hub, presence, began, environment).await?,
    };
    let document = json!({
        "apiVersion": API_VERSION,
        "kind": "ExecCredential",
        "status": { "token": credential.token, "expirationTimestamp": whole_seconds(credential.expires_at) },
    });
    crate::output::json_text(&document)
}

/// How much of its life a credential has behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    /// Less than 80 %.
    Young,
    /// More, but it still counts.
    Old,
}

fn age(credential: &StoredCredential, now: Timestamp) -> Option<Age> {
    let life = credential.expires_at.as_second() - credential.issued_at.as_second();
    let left = credential.expires_at.as_second() - now.as_second();
    // A clock that was set back makes the credential older than it looks: it is not trusted then.
    if left <= 5 || left > life {
        return None;
    }
    Some(if left * 5 > life { Age::Young } else { Age::Old })
}

/// The stored credential of the stored session, while it counts.
fn stored(hub: &Hub) -> Result<Option<(StoredCredential, Age)>, Failure> {
    let Some(credential) = hub.files.credential()? else { return Ok(None) };
    Ok(age(&credential, hub.now()).map(|age| (credential, age)))
}

/// A credential where none counts: under the lock, or left by the process that had it before.
async fn first(
    hub: &Hub,
    presence: Presence,
    began: Timestamp,
    environment: &mut Environment,
) -> Result<StoredCredential, Failure> {
    let patience = match presence {
        Presence::Person => SIGN_IN_PATIENCE,
        Presence::Nobody => REFRESH_PATIENCE,
    };
    let lock = hub.files.lock(patience).await?;
    if let Some((credential, _)) = stored(hub)? {
        return Ok(credential);
    }
    if hub.files.session()?.is_some() {
        let renewed = renew(hub, &lock).await;
        // The refresh forgets a session that has ended; anything else is told as it is.
        if renewed.is_ok() || hub.files.session()?.is_some() {
            return renewed;
        }
    }
    let tried = hub.files.last_attempt()?.is_some_and(|ended| ended >= began);
    if presence == Presence::Nobody || tried {
        let failure = Failure::new(format!("the session at `{}` has ended", hub.origin()));
        return Err(failure.next(SIGN_IN_AGAIN));
    }
    environment.terminal.tell("The session has ended.\n");
    match login::by_browser(hub, environment).await {
        Ok(signed_in) => {
            login::keep(hub, signed_in, &lock)?;
            renew(hub, &lock).await
        }
        Err(failure) => {
            // Those who wait for the lock do not open a browser each.
            hub.files.store_attempt(hub.now(), &lock)?;
            Err(failure.next(SIGN_IN_AGAIN))
        }
    }
}

/// A new credential of the session, which is refreshed first where needed.
async fn renew(hub: &Hub, lock: &Locked) -> Result<StoredCredential, Failure> {
    let mut session = hub.fresh_session(lock).await?;
    let call = Call::post_empty("cannot get a credential for kubectl", route::KUBE_CREDENTIAL)
        .within(WITHIN);
    let mut answer = hub.with_token(&call, &session.access_token).await;
    if answer.as_ref().is_err_and(|failure| failure.is("unauthenticated")) {
        session = hub.session_after(&session.access_token, lock).await?;
        answer = hub.with_token(&call, &session.access_token).await;
    }
    let answer = answer?;
    let fresh: KubeCredential = answer.read(&call.what)?;
    let credential = StoredCredential {
        session: session.session,
        token: fresh.token,
        issued_at: hub.now(),
        expires_at: hub.by_our_clock(fresh.expires_at, &answer),
    };
    hub.files.store_credential(&credential, lock)?;
    Ok(credential)
}

/// Whether kubectl says that somebody is there, and whether somebody is.
fn presence(environment: &Environment) -> Result<Presence, Failure> {
    let Some(text) = &environment.exec_info else { return Ok(Presence::Nobody) };
    let info: ExecInfo = serde_json::from_str(text).map_err(|error| {
        Failure::usage("`KUBERNETES_EXEC_INFO` cannot be read")
            .because(error)
            .next("this command is run by kubectl; write its kubeconfig: `nullius kubeconfig`")
    })?;
    if info.api_version != API_VERSION {
        return Err(Failure::usage(format!("kubectl asks for `{}`", info.api_version))
            .why(format!("only `{API_VERSION}` is spoken"))
            .next("write the kubeconfig anew: `nullius kubeconfig --merge`"));
    }
    let asked =
        info.spec.interactive && environment.answers.can_ask() && environment.browser.is_some();
    Ok(if asked { Presence::Person } else { Presence::Nobody })
}

/// kubectl reads RFC 3339 in whole seconds.
fn whole_seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use nullius_model::SessionId;

    use super::*;

    #[test]
    fn a_credential_ages_and_ends() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let credential = StoredCredential {
            session: SessionId::from_bits(1),
            token: String::new(),
            issued_at: at(1_000),
            expires_at: at(1_600),
        };
        assert_eq!(age(&credential, at(1_000)), Some(Age::Young));
        assert_eq!(age(&credential, at(1_479)), Some(Age::Young));
        assert_eq!(age(&credential, at(1_480)), Some(Age::Old));
        assert_eq!(age(&credential, at(1_594)), Some(Age::Old));
        assert_eq!(age(&credential, at(1_595)), None);
        assert_eq!(age(&credential, at(900)), None, "the clock was set back");
    }
}
