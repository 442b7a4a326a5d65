#![allow(clippy::unwrap_used, reason = "test")]
use std::fs;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nullius_model::{SpiffeId, TrustDomain, Ttl};
use nullius_pki::{
    PrivateKey,
    workload::{ClusterAuthority, PreparedAuthority, SvidRequest, TrustBundle, WorkloadRoot},
};

use jiff::SignedDuration;

use super::*;
use crate::KeyRing;

const HOUR: Ttl = Ttl::from_secs(3_600);

struct Files {
    folder: tempfile::TempDir,
    authority: ClusterAuthority,
    id: SpiffeId,
}

impl Files {
    fn new(id: &str) -> Self {
        Self::begun(id, Timestamp::now())
    }

    /// As they were made at a moment.
    fn begun(id: &str, now: Timestamp) -> Self {
        let id: SpiffeId = id.parse().unwrap();
        let domain: TrustDomain = id.trust_domain().parse().unwrap();
        let root = WorkloadRoot::create(now).unwrap();
        let prepared = PreparedAuthority::create(domain.clone()).unwrap();
        let day = Ttl::from_secs(86_400);
        let signed = root.certify(&prepared.request().unwrap(), &domain, day, now).unwrap();
        let authority = prepared.admit(signed, root.certificate_der(), now).unwrap();
        let files = Self { folder: tempfile::tempdir().unwrap(), authority, id };
        let mut bundle = TrustBundle::new(domain);
        bundle.add_x509(files.authority.anchor_der().clone()).unwrap();
        files.put("bundle.json", &bundle.to_json().to_string());
        fs::create_dir(files.folder.path().join("intentions")).unwrap();
        files.issue(now);
        files
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// An hour's SVID, from a moment on.
    fn issue(&self, from: Timestamp) {
        let key = PrivateKey::generate().unwrap();
        let csr = key.request().unwrap();
        let asked = SvidRequest { id: &self.id, dns_names: &[], csr: &csr, life: HOUR };
        let svid = self.authority.issue(&asked, from).unwrap();
        let der = STANDARD.encode(&*key.to_pkcs8());
        self.put(
            "key.pem",
            &format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n"),
        );
        self.put("svid.pem", &svid.to_pem());
    }

    fn intention(&self, name: &str, rest: &str) {
        let head = "apiVersion: nullius.dev/v1alpha1\nkind: Intention\n";
        self.put(
            &format!("intentions/{name}.yaml"),
            &format!("{head}metadata: {{name: {name}, namespace: shop}}\n{rest}"),
        );
    }

    fn config(&self, workload: &str) -> Arc<Config> {
        let text = format!(
            "apiVersion: nullius.dev/v1alpha1\nkind: ProxyConfiguration\n{workload}identity:\n  certificate: svid.pem\n  key: key.pem\n  \
             bundles: [{{trustDomain: {}, file: bundle.json}}]\nintentions: [intentions]\nlisteners:\n\
             - {{name: a, listen: '127.0.0.1:1', forward: '127.0.0.1:2', protocol: tcp}}\n",
            self.id.trust_domain()
        );
        Arc::new(Config::parse("proxy.yaml", self.folder.path(), &text).unwrap())
    }

    fn first(&self, workload: &str) -> Result<(Reader, World), String> {
        let (_, ring) = watch::channel(KeyRing::new());
        Reader::first(&self.config(workload), ring, Arc::default())
            .map_err(|error| error.to_string())
    }
}

const ORDERS: &str = "spiffe://dev.example/ns/shop/sa/orders";
const OPEN: &str =
    "spec:\n  destination: {serviceAccount: orders}\n  sources: [{any: true, action: allow}]\n";

#[test]
fn a_change_is_put_in_force_and_a_faulty_one_changes_nothing() {
    let files = Files::new(ORDERS);
    let (mut reader, world) = files.first("").unwrap();
    assert!(reader.look(&world).is_none(), "nothing has changed");
    files.intention("own", OPEN);
    let opened = reader.look(&world).unwrap();
    assert_eq!((opened.rules.len(), opened.generation), (1, 0), "the identity is the same");
    // One that is faulty keeps them all as they were, together with the change beside it.
    files.intention("other", "spec: {}\n");
    files.put("intentions/own.yaml", "# nothing\n");
    assert!(reader.look(&opened).is_none());
    assert!(reader.told.contains("other.yaml:4:1: Intention `other`: "), "{}", reader.told);
    fs::remove_file(files.folder.path().join("intentions/other.yaml")).unwrap();
    assert_eq!(reader.look(&opened).unwrap().rules.len(), 0);
}

#[test]
fn an_identity_that_cannot_be_used_leaves_the_one_before() {
    let files = Files::new(ORDERS);
    let (mut reader, world) = files.first("").unwrap();
    let key = fs::read_to_string(files.folder.path().join("key.pem")).unwrap();
    files.issue(Timestamp::now());
    files.put("key.pem", &key);
    assert!(reader.look(&world).is_none(), "the key is of another certificate");
    assert!(reader.told.contains("svid.pem: "), "{}", reader.told);
    files.put("svid.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    assert!(reader.look(&world).is_none());
    files.put("bundle.json", "{}");
    files.issue(Timestamp::now());
    assert!(reader.look(&world).is_none());
    let mut bundle = TrustBundle::new("dev.example".parse().unwrap());
    bundle.add_x509(files.authority.anchor_der().clone()).unwrap();
    files.put("bundle.json", &bundle.to_json().to_string());
    assert_eq!(reader.look(&world).unwrap().generation, 1);
}

#[test]
fn a_workload_is_who_its_svid_says_and_nobody_else() {
    let files = Files::new(ORDERS);
    let told = files.first("workload: {namespace: shop, serviceAccount: bank}\n").err().unwrap();
    assert!(told.contains("the SVID is of `shop/orders`"), "{told}");
    let same = "workload: {namespace: shop, serviceAccount: orders, labels: {app: orders}}\n";
    let (_, world) = files.first(same).unwrap();
    assert_eq!(world.rules.workload().labels.known().len(), 1);
    let machine = Files::new("spiffe://dev.example/machines/seven");
    let told = machine.first("").err().unwrap();
    assert!(told.contains("say `workload.namespace` and `workload.serviceAccount`"), "{told}");
    assert!(machine.first("workload: {namespace: shop, serviceAccount: orders}\n").is_ok());
}

#[test]
fn what_has_ended_starts_nothing() {
    let files = Files::begun(ORDERS, Timestamp::now() - SignedDuration::from_secs(7_200));
    let told = files.first("").err().unwrap();
    assert!(told.contains("the SVID has ended at"), "{told}");
}
