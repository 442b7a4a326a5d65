//! What the proxy hears: of its node what stands in the mesh, of the Workload API who it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use nullius_mesh::news::{Picture, read_news};
use nullius_model::{Timestamp, TrustDomain, Ttl};
use nullius_pki::workload::TrustBundle;
use nullius_workload::{
    Client, ClientError, Endpoint, Entry, Held, Holdings, PodUid, Registered, Selector,
    WorkloadIdentities,
};
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::watch,
};

use super::{
    there,
    wire::{Answer, Ask, FRAME_MAX, LINE_MAX, OF_MESH, OF_POD, OwnPod, line},
};
use crate::mesh::{Heard, Mailbox, Scope};

/// Between two tries; the node is on the same machine.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Hears what stands in the mesh.
pub(super) struct Hearing {
    pub(super) node: PathBuf,
    pub(super) own: watch::Sender<Option<Arc<OwnPod>>>,
    pub(super) heard: Arc<Mailbox>,
}

impl Hearing {
    /// Hears stream after stream; says why when the node refuses.
    pub(super) async fn run(self) -> String {
        let mut told = String::new();
        loop {
            let error = match self.hear().await {
                Ok(Some(why)) => return why,
                Ok(None) => "the node has ended it".to_owned(),
                Err(error) => error.to_string(),
            };
            if error != told {
                let node = self.node.display();
                tracing::warn!(%error, %node, "fail to hear of the mesh: go by what was told last");
                told = error;
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    /// Hears one stream to its end.
    async fn hear(&self) -> io::Result<Option<String>> {
        let mut stream = UnixStream::connect(&self.node).await?;
        stream.write_all(&line(&Ask::News)?).await?;
        let mut reader = BufReader::new(stream);
        let mut answer = Vec::new();
        (&mut reader).take(LINE_MAX as u64).read_until(b'\n', &mut answer).await?;
        match serde_json::from_slice(&answer)? {
            Answer::News => {}
            Answer::Refused(why) => return Ok(Some(why)),
            Answer::Later(why) => return Err(io::Error::other(why)),
            Answer::Listeners { .. } | Answer::Sockets | Answer::Caller(_) => {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        let (mut picture, mut is_first) = (Picture::default(), true);
        loop {
            let length = match reader.read_u32().await {
                Ok(length) => usize::try_from(length).map_err(io::Error::other)?,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            };
            if length > FRAME_MAX {
                return Err(io::Error::other("the node tells more than is taken"));
            }
            let kind = reader.read_u8().await?;
            let mut body = Vec::new();
            (&mut reader).take(length as u64).read_to_end(&mut body).await?;
            if body.len() != length {
                return Ok(None);
            }
            match kind {
                OF_POD => {
                    let own: OwnPod = serde_json::from_slice(&body)?;
                    self.own.send_replace(Some(Arc::new(own)));
                }
                OF_MESH => {
                    let news = nullius_proto::decode(&body).ok_or(io::ErrorKind::InvalidData)?;
                    let news = read_news(news).map_err(io::Error::other)?;
                    let Some(changed) = picture.hear(news).map_err(io::Error::other)? else {
                        continue;
                    };
                    // A node that has begun anew may tell other things from the ground up.
                    let scope = if is_first { Scope::All } else { Scope::Only(changed) };
                    is_first = false;
                    self.heard.put(Heard { picture: Arc::new(picture.clone()), scope });
                }
                // Of a newer node.
                _ => {}
            }
        }
    }
}

/// Keeps the identity of the pod, as the Workload API gives it, without end. What it was stays while the node is away.
pub(super) async fn identities(
    endpoint: Endpoint,
    own: watch::Receiver<Option<Arc<OwnPod>>>,
    tell: watch::Sender<Option<Arc<Holdings>>>,
) {
    let Some(own) = there(own).await else { return };
    let Ok(pod) = own.uid.parse::<PodUid>() else { return };
    let mut told = String::new();
    loop {
        let error = match hear_identities(&endpoint, &pod, &tell).await {
            Ok(never) => match never {},
            Err(error) => error.to_string(),
        };
        if error != told {
            tracing::warn!(%error, "fail to hear who this pod is");
            told = error;
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

async fn hear_identities(
    endpoint: &Endpoint,
    pod: &PodUid,
    tell: &watch::Sender<Option<Arc<Holdings>>>,
) -> Result<std::convert::Infallible, ClientError> {
    let mut client = Client::connect(endpoint).await?;
    let mut sets = client.identities().await?;
    loop {
        let holdings = holdings(sets.next().await?, pod)?;
        tell.send_replace(Some(Arc::new(holdings)));
    }
}

/// The same as a node has of all its pods, of this one alone.
fn holdings(of: WorkloadIdentities, pod: &PodUid) -> Result<Holdings, ClientError> {
    let WorkloadIdentities { identities, foreign } = of;
    let first = identities.first().ok_or(ClientError::Malformed("it has no X.509-SVID"))?;
    let trust_domain: TrustDomain = first.id().trust_domain().parse()?;
    let own = bundle(&trust_domain, first.anchors.clone())?;
    let mut bundles = BTreeMap::from([(trust_domain.clone(), own)]);
    for (domain, anchors) in foreign {
        let bundle = bundle(&domain, anchors)?;
        bundles.entry(domain).or_insert(bundle);
    }
    let federates_with: BTreeSet<_> =
        bundles.keys().filter(|it| **it != trust_domain).cloned().collect();
    let (mut entries, mut held) = (BTreeMap::new(), BTreeMap::new());
    for (number, identity) in identities.into_iter().enumerate() {
        let id: Box<str> = number.to_string().into();
        let entry = Entry {
            spiffe_id: identity.id().clone(),
            selectors: [Selector::Pod(pod.clone())].into(),
            ttl: Ttl::from_secs(3_600),
            jwt_ttl: Ttl::from_secs(300),
            dns_names: Vec::new(),
            hint: None,
            audiences: Default::default(),
            federates_with: federates_with.clone(),
        };
        let key = identity.key.as_pkcs8().to_vec().into();
        let one = Held { svid: identity.svid, key, issued_at: Timestamp::now() };
        entries.insert(id.clone(), Arc::new(entry));
        held.insert(id, Arc::new(one));
    }
    let registered = Registered { trust_domain, entries, bundles, reissue_before: None };
    Ok(Holdings { registered: Arc::new(registered), held })
}

fn bundle(
    domain: &TrustDomain,
    anchors: Vec<CertificateDer<'static>>,
) -> Result<Arc<TrustBundle>, ClientError> {
    let mut bundle = TrustBundle::new(domain.clone());
    for anchor in anchors {
        bundle.add_x509(anchor).map_err(ClientError::Malformed)?;
    }
    Ok(Arc::new(bundle))
}
