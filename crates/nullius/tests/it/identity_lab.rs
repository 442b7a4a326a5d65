//! A node's part as `agent identity` sees it: a pod of the account `nullius-node` on a node, its token, and the client of the seam.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use nullius_kube::{AGENT_IDENTITY, IDENTITY_PORT, NODE, NODE_NAMESPACE, SYSTEM_NAMESPACE};
use nullius_mesh::news::{NEWS_MAX, Picture, read_news};
use nullius_model::{SpiffeId, Timestamp};
use nullius_pki::workload::TrustBundle;
use nullius_proto::{
    VERSION,
    node_v1::{
        IssueJwtRequest, IssueJwtResponse, IssueX509Request, MeshNews, MeshReport,
        RefusedIntention, Registrations, WatchMeshRequest, WatchRequest,
        identity_client::IdentityClient, mesh_client::MeshClient,
    },
};
use nullius_testkit::{Api, TestNamespace, wait_until};
use nullius_tls::WorkloadConnector;
use nullius_workload::wire::{Told, read_registrations};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tonic::{
    Code, Request, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::world::World;

const SOON: Duration = Duration::from_secs(180);
const IMAGE: &str = "localhost/nullius-busybox:1";

/// A namespace whose pods have identities, and what nodes' parts do with them.
pub(crate) struct Lab<'w> {
    pub(crate) world: &'w World,
    pub(crate) namespace: TestNamespace,
    pub(crate) api: Api,
    pub(crate) nodes: [String; 2],
    runtime: Runtime,
    /// Nodes' parts that were made, which go with the value.
    parts: std::cell::RefCell<Vec<String>>,
}

/// A pod that stands for a node's part.
pub(crate) struct Part {
    pub(crate) name: String,
    uid: String,
}

impl<'w> Lab<'w> {
    pub(crate) fn open(world: &'w World, purpose: &str) -> Self {
        let nodes = world.direct().ok(&["get", "nodes", "-o", "name"]).unwrap();
        let near = nodes.lines().next().unwrap().trim_start_matches("node/").to_owned();
        let namespace = world.cluster.namespace(purpose).unwrap();
        // The cluster has one machine. Another node is an object like it, on which nothing ever runs, nor has to.
        let far = format!("{}-far", namespace.name());
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": far }, "spec": { "unschedulable": true },
        });
        world.direct().apply(&node.to_string()).unwrap();
        let nodes = [near, far];
        let label = "nullius.dev/identity=enabled";
        world.direct().ok(&["label", "namespace", namespace.name(), label]).unwrap();
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": NODE, "namespace": NODE_NAMESPACE },
        });
        world.direct().apply(&account.to_string()).unwrap();
        let api = world.cluster.api().unwrap();
        let runtime = Runtime::new().unwrap();
        let lab =
            Self { world, namespace, api, nodes, runtime, parts: std::cell::RefCell::default() };
        lab.bundle();
        lab
    }

    /// What nodes read of whom to believe, once it is there.
    #[track_caller]
    pub(crate) fn trust(&self) -> Value {
        let path = format!("/api/v1/namespaces/{NODE_NAMESPACE}/configmaps/nullius-trust");
        let trust = wait_until(SOON, "the bundle that nodes read", || {
            let map = self.api.get(&path).ok()?.json().ok()?;
            map["data"]["bundle.json"].is_string().then(|| map["data"].clone())
        });
        trust.unwrap_or_else(|error| panic!("{error}; the agent said:\n{}", self.log()))
    }

    /// The bundle that is published.
    #[track_caller]
    pub(crate) fn bundle(&self) -> TrustBundle {
        let trust = self.trust();
        let domain = trust["trust-domain"].as_str().unwrap().parse().unwrap();
        TrustBundle::read(domain, trust["bundle.json"].as_str().unwrap().as_bytes()).unwrap()
    }

    fn log(&self) -> String {
        let label = format!("app.kubernetes.io/component={AGENT_IDENTITY}");
        let args = ["-n", SYSTEM_NAMESPACE, "logs", "-l", &label, "--tail=40", "--prefix"];
        self.world.direct().run(&args).map(|it| it.stdout + &it.stderr).unwrap_or_default()
    }

    /// A pod on a node; it need not run to have an identity.
    pub(crate) fn pod(&self, namespace: &str, name: &str, account: &str, node: usize) -> String {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name },
            "spec": {
                "nodeName": self.nodes[node], "serviceAccountName": account,
                "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "main", "image": IMAGE, "imagePullPolicy": "Never",
                    "command": ["sleep", "3600"],
                }],
            },
        });
        let made = self.api.post(&format!("/api/v1/namespaces/{namespace}/pods"), &pod).unwrap();
        assert!(made.is_success(), "{}", made.text());
        made.json().unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// A pod of the test's namespace.
    pub(crate) fn workload(&self, name: &str, node: usize) -> String {
        self.pod(self.namespace.name(), name, "default", node)
    }

    /// A node's part on a node.
    pub(crate) fn part(&self, node: usize) -> Part {
        let name = format!("{}-{node}", self.namespace.name());
        let uid = self.pod(NODE_NAMESPACE, &name, NODE, node);
        self.parts.borrow_mut().push(name.clone());
        Part { name, uid }
    }

    /// The audience of nodes' tokens.
    pub(crate) fn audience(&self) -> String {
        format!("nullius-agent:{}", self.world.cluster_name())
    }

    /// A token of an account, bound to a pod of its namespace.
    pub(crate) fn token_of(
        &self,
        namespace: &str,
        account: &str,
        audience: &str,
        (pod, uid): (&str, &str),
    ) -> String {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {
                "audiences": [audience], "expirationSeconds": 600,
                "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid },
            },
        });
        let made = self.api.post(&path, &request).unwrap();
        assert!(made.is_success(), "{}", made.text());
        made.json().unwrap()["status"]["token"].as_str().unwrap().to_owned()
    }

    /// The token of a node's part.
    pub(crate) fn token(&self, part: &Part) -> String {
        self.token_of(NODE_NAMESPACE, NODE, &self.audience(), (&part.name, &part.uid))
    }

    /// Replicas that are ready, by name.
    #[track_caller]
    pub(crate) fn replicas(&self, count: usize) -> BTreeMap<String, SocketAddr> {
        let label = format!("app.kubernetes.io/component={AGENT_IDENTITY}");
        let path = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods?labelSelector={label}");
        let is_ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array();
            let ready = |it: &Value| it["type"] == "Ready" && it["status"] == "True";
            conditions.is_some_and(|all| all.iter().any(ready))
                && pod.pointer("/metadata/deletionTimestamp").is_none()
        };
        let found = wait_until(SOON, "replicas that are ready", || {
            let pods = self.api.get(&path).ok()?.json().ok()?;
            let ready = pods["items"].as_array()?.iter().filter(is_ready).filter_map(|pod| {
                let address = pod["status"]["podIP"].as_str()?.parse().ok()?;
                let name = pod["metadata"]["name"].as_str()?.to_owned();
                Some((name, SocketAddr::new(address, IDENTITY_PORT)))
            });
            Some(ready.collect::<BTreeMap<_, _>>()).filter(|ready| ready.len() >= count)
        });
        found.unwrap()
    }

    /// Somebody who calls with a token.
    #[track_caller]
    pub(crate) fn caller(&self, token: &str) -> Caller<'_> {
        let replicas = self.replicas(1);
        self.caller_of(*replicas.values().next().unwrap(), token)
    }

    /// Somebody who calls one replica with a token.
    #[track_caller]
    pub(crate) fn caller_of(&self, address: SocketAddr, token: &str) -> Caller<'_> {
        let bundle = self.bundle();
        let id =
            format!("spiffe://{}/ns/nullius-system/sa/nullius-identity", bundle.trust_domain());
        let expected: Arc<[SpiffeId]> = [id.parse().unwrap()].into();
        let connector = WorkloadConnector::without_svid([bundle], expected, &[b"h2"]).unwrap();
        let dial = tower::service_fn(move |_: http::Uri| {
            let connector = connector.clone();
            async move {
                let tcp = tokio::net::TcpStream::connect(address).await?;
                let connected = connector.connect(tcp, address.ip()).await;
                connected.map(|(stream, _)| TokioIo::new(stream)).map_err(std::io::Error::other)
            }
        });
        let _within = self.runtime.enter();
        let channel = Endpoint::from_static("http://nullius").connect_with_connector_lazy(dial);
        let mesh = MeshClient::new(channel.clone()).max_decoding_message_size(NEWS_MAX);
        Caller { lab: self, client: IdentityClient::new(channel), mesh, token: token.to_owned() }
    }
}

impl MeshStream {
    pub(crate) fn picture(&self) -> &Picture {
        &self.picture
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        let args = ["delete", "node", &self.nodes[1], "--ignore-not-found", "--wait=false"];
        let _ = self.world.direct().run(&args);
        for name in self.parts.borrow().iter() {
            let args =
                ["-n", NODE_NAMESPACE, "delete", "pod", name, "--ignore-not-found", "--wait=false"];
            let _ = self.world.direct().run(&args);
        }
        if std::thread::panicking() {
            eprintln!("--- agent identity said at last:\n{}", self.log());
        }
    }
}

/// Somebody with a token.
pub(crate) struct Caller<'l> {
    lab: &'l Lab<'l>,
    client: IdentityClient<Channel>,
    mesh: MeshClient<Channel>,
    token: String,
}

/// What a node hears of the mesh.
pub(crate) struct MeshStream {
    stream: Streaming<MeshNews>,
    picture: Picture,
}

impl Caller<'_> {
    fn with_token<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        let value = format!("Bearer {}", self.token).parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        request
    }

    fn block<T>(&self, call: impl Future<Output = T>) -> T {
        let call = async { tokio::time::timeout(Duration::from_secs(60), call).await };
        self.lab.runtime.block_on(call).expect("the agent answers")
    }

    pub(crate) fn watch(&self) -> Result<Streaming<Registrations>, Status> {
        let request = self.with_token(WatchRequest { version: VERSION });
        let mut client = self.client.clone();
        self.block(async move { client.watch(request).await.map(tonic::Response::into_inner) })
    }

    /// Reads a stream until what is told is what somebody waits for.
    #[track_caller]
    pub(crate) fn wait_for<T>(
        &self,
        stream: &mut Streaming<Registrations>,
        look: impl Fn(&Told) -> Option<T>,
    ) -> T {
        self.block(async {
            loop {
                let message = stream.message().await.unwrap().expect("the stream goes on");
                let told = read_registrations(message).unwrap();
                if let Some(found) = look(&told) {
                    return found;
                }
            }
        })
    }

    pub(crate) fn watch_mesh(&self) -> Result<MeshStream, Status> {
        let request = self.with_token(WatchMeshRequest { version: VERSION });
        let mut client = self.mesh.clone();
        let stream = self.block(async move { client.watch(request).await })?.into_inner();
        Ok(MeshStream { stream, picture: Picture::default() })
    }

    /// Reads a stream until what stands is what somebody waits for.
    #[track_caller]
    pub(crate) fn wait_for_mesh<T>(
        &self,
        stream: &mut MeshStream,
        look: impl Fn(&Picture) -> Option<T>,
    ) -> T {
        self.block(async {
            loop {
                if let Some(found) = look(&stream.picture).filter(|_| stream.picture.is_complete())
                {
                    return found;
                }
                let message = stream.stream.message().await.unwrap().expect("the stream goes on");
                stream.picture.hear(read_news(message).unwrap()).unwrap();
            }
        })
    }

    /// Reports that all that was heard is in force, but for what is refused.
    pub(crate) fn report(
        &self,
        stream: &MeshStream,
        refused: Vec<RefusedIntention>,
    ) -> Result<(), Status> {
        let (name, sequence) = (stream.picture.stream().to_owned(), stream.picture.sequence());
        self.report_of(name, sequence, refused)
    }

    pub(crate) fn report_of(
        &self,
        stream: String,
        sequence: u64,
        refused: Vec<RefusedIntention>,
    ) -> Result<(), Status> {
        let report =
            MeshReport { version: VERSION, stream, sequence, refused, ..MeshReport::default() };
        let (request, mut client) = (self.with_token(report), self.mesh.clone());
        self.block(async move { client.report(request).await }).map(drop)
    }

    pub(crate) fn x509(
        &self,
        entry: &str,
        request: Vec<u8>,
    ) -> Result<Vec<CertificateDer<'static>>, Status> {
        let message = IssueX509Request {
            version: VERSION,
            entry: entry.to_owned(),
            certificate_request: request,
        };
        let (request, mut client) = (self.with_token(message), self.client.clone());
        let answer = self.block(async move { client.issue_x509(request).await })?;
        Ok(answer.into_inner().chain.into_iter().map(CertificateDer::from).collect())
    }

    pub(crate) fn jwt(&self, entry: &str, audience: &str) -> Result<IssueJwtResponse, Status> {
        let (entry, audience) = (entry.to_owned(), vec![audience.to_owned()]);
        let message = IssueJwtRequest { version: VERSION, entry, audience };
        let (request, mut client) = (self.with_token(message), self.client.clone());
        Ok(self.block(async move { client.issue_jwt(request).await })?.into_inner())
    }

    /// That nobody hears anything with this token.
    #[track_caller]
    pub(crate) fn is_nobody(&self, entry: &str) {
        // A connection on which nobody tried is not heard any more, so that each try has its own.
        let again = || self.lab.caller(&self.token);
        for refused in [
            again().watch().map(drop),
            again().x509(entry, request()).map(drop),
            again().watch_mesh().map(drop),
            again().report_of("any".to_owned(), 0, Vec::new()),
        ] {
            let status = refused.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        }
    }
}

/// A request for a new key.
pub(crate) fn request() -> Vec<u8> {
    nullius_pki::PrivateKey::generate().unwrap().request().unwrap().as_der().to_vec()
}

/// Whom a chain names by a bundle, now.
pub(crate) fn proven(
    chain: &[CertificateDer<'_>],
    bundle: &TrustBundle,
) -> Result<String, nullius_pki::workload::SvidError> {
    let proven = nullius_pki::workload::verify_x509_svid(chain, |_| Some(bundle), Timestamp::now());
    proven.map(|(id, _)| id.to_string())
}
