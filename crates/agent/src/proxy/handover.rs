//! The connection of a proxy to `agent control`: tokens on demand, and what changes as it happens.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use nullius_model::{RequestAssertion, Timestamp};
use nullius_proto::{
    VERSION,
    agent_v1::{
        self as wire, IssueRequest, IssueResponse, RaiseRequest, WatchRequest,
        credential_event::Kind, credentials_client::CredentialsClient,
    },
};
use nullius_tls::{PartConnector, PeerRule, Protocol};
use secrecy::SecretString;
use tokio::{sync::mpsc, time::Instant};
use tonic::{Code, Status, transport::Channel};

use super::{
    Proxy,
    gate::{Handed, Issuer, NotHanded},
};
use crate::{
    Address, AgentError,
    alarm::AlarmKind,
    backoff::{Backoff, random},
    identity::Identity,
    lease,
    net::{BoxIo, channel, dial},
};

/// Control itself waits up to 5 s for a plan.
const ISSUE_TIMEOUT: Duration = Duration::from_secs(8);
const RAISE_TIMEOUT: Duration = Duration::from_secs(5);
/// Control tells of its lease with each heartbeat; one that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// `agent control` of this cluster, reached over mTLS.
#[derive(Clone)]
pub(crate) struct RemoteControl {
    channel: Channel,
    identity: Identity,
}

impl RemoteControl {
    pub(crate) fn new(identity: &Identity, address: Address) -> Result<Self, AgentError> {
        let admit = PeerRule::ControlOf(identity.cluster.clone());
        let certificate = Arc::clone(&identity.certificate);
        let connector =
            PartConnector::new(&identity.hub.roots, certificate, admit, Protocol::Handover)?;
        let channel = channel(move || {
            let (address, connector) = (address.clone(), connector.clone());
            Box::pin(async move {
                let tcp = dial(&address).await?;
                Ok(Box::new(connector.connect(tcp, &address.host).await?.stream) as BoxIo)
            })
        });
        Ok(Self { channel, identity: identity.clone() })
    }

    async fn ask(&self, request: IssueRequest) -> Result<IssueResponse, Status> {
        let mut client = self.client();
        match tokio::time::timeout(ISSUE_TIMEOUT, client.issue(request)).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Status::unavailable("agent control did not answer in time")),
        }
    }

    fn client(&self) -> CredentialsClient<Channel> {
        CredentialsClient::new(self.channel.clone())
    }
}

impl Issuer for RemoteControl {
    fn issue<'a>(
        &'a self,
        permitted: &'a RequestAssertion,
        assertion: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Handed, NotHanded>> + Send + 'a>> {
        Box::pin(async move {
            let request = IssueRequest {
                version: VERSION,
                session: permitted.sid.to_string(),
                generation: permitted.plan,
                assertion: assertion.to_owned(),
            };
            let issued = match self.ask(request.clone()).await {
                // The connection ended, with its certificate or with a replica: asking twice gives the same.
                Err(status) if std::error::Error::source(&status).is_some() => {
                    self.ask(request).await.map_err(not_handed)?
                }
                answer => answer.map_err(not_handed)?,
            };
            let expires_at = Timestamp::from_second(issued.expires_at)
                .map_err(|_| NotHanded::Unavailable("its token has no expiry".to_owned()))?;
            Ok(Handed { token: SecretString::from(issued.token), expires_at })
        })
    }
}

fn not_handed(status: Status) -> NotHanded {
    let text = status.message().to_owned();
    match status.code() {
        Code::Unauthenticated => NotHanded::Ended(text),
        Code::PermissionDenied | Code::InvalidArgument | Code::FailedPrecondition => {
            NotHanded::Refused(text)
        }
        Code::Unavailable if text.is_empty() || std::error::Error::source(&status).is_some() => {
            NotHanded::Unavailable("agent control cannot be reached".to_owned())
        }
        _ => NotHanded::Unavailable(text),
    }
}

/// Follows what control tells, for as long as the process lives.
pub(crate) async fn follow(control: RemoteControl, proxy: Arc<Proxy>) {
    let mut identity = control.identity.clone();
    let mut backoff = Backoff::within_cluster();
    loop {
        let key_set = identity.key_set.borrow_and_update().clone();
        install(&proxy, &key_set);
        let watched = tokio::select! {
            watched = watch(&control, &proxy, &mut backoff) => watched,
            // What came with a renewed certificate counts as well.
            Ok(()) = identity.key_set.changed() => continue,
        };
        if let Err(why) = watched {
            tracing::warn!(%why, "do not hear agent control, ask again");
        }
        tokio::time::sleep(backoff.after_failure(random())).await;
    }
}

async fn watch(
    control: &RemoteControl,
    proxy: &Proxy,
    backoff: &mut Backoff,
) -> Result<(), String> {
    let words = |status: Status| status.message().to_owned();
    let mut client = control.client();
    let asking = client.watch(WatchRequest { version: VERSION });
    let late = |_| "it did not answer in time".to_owned();
    let answer = tokio::time::timeout(ISSUE_TIMEOUT, asking).await.map_err(late)?;
    let mut events = answer.map_err(words)?.into_inner();
    tracing::info!("hear agent control");
    loop {
        let next = tokio::time::timeout(SILENCE, events.message()).await;
        let heard = Instant::now();
        let event = next.map_err(|_| "it is silent".to_owned())?.map_err(words)?;
        let Some(event) = event else { return Err("it closed the connection".to_owned()) };
        backoff.reset();
        match event.kind {
            Some(Kind::KeySet(key_set)) => install(proxy, &key_set.jws),
            Some(Kind::SessionEnded(ended)) => match ended.session.parse() {
                Ok(session) => proxy.end(&session),
                Err(_) => return Err("it named a session that is none".to_owned()),
            },
            Some(Kind::Lease(lease)) => {
                let length = Duration::from_millis(lease.valid_millis).min(lease::LONGEST);
                proxy.extend_lease(heard, length);
            }
            None => {
                return Err(
                    "it speaks of what this proxy does not know; update the older".to_owned()
                );
            }
        }
    }
}

fn install(proxy: &Proxy, jws: &str) {
    if let Err(error) = proxy.verifier.install(jws) {
        proxy.gate.alarm(AlarmKind::RefusedKeySet, &error.to_string());
    }
}

/// Hands alarms on to control, for as long as the process lives.
pub(crate) async fn forward_alarms(
    control: RemoteControl,
    mut raised: mpsc::Receiver<wire::Alarm>,
) {
    while let Some(alarm) = raised.recv().await {
        let request = RaiseRequest { version: VERSION, alarm: Some(alarm) };
        let mut backoff = Backoff::default();
        loop {
            let mut client = control.client();
            let raising = tokio::time::timeout(RAISE_TIMEOUT, client.raise(request.clone())).await;
            if matches!(raising, Ok(Ok(_))) {
                break;
            }
            // The queue behind it is bounded; what finds no room is logged by who raised it.
            tokio::time::sleep(backoff.after_failure(random())).await;
        }
    }
}
