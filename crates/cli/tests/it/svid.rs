//! SVIDs validated offline, as a stranger gets them.

use nullius_cli::Exit;
use nullius_model::{SpiffeId, TrustDomain, Ttl};
use nullius_pki::{
    PrivateKey,
    workload::{
        ClusterAuthority, JwtSigner, PreparedAuthority, SvidRequest, TrustBundle, WorkloadRoot,
    },
};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::{person::Person, time};

const HOUR: Ttl = Ttl::from_secs(3_600);

/// A trust domain with both kinds of keys.
struct Domain {
    authority: ClusterAuthority,
    signer: JwtSigner,
}

impl Domain {
    fn new(name: &str) -> Self {
        let (domain, now): (TrustDomain, _) = (name.parse().unwrap(), time::after(0));
        let root = WorkloadRoot::create(now).unwrap();
        let prepared = PreparedAuthority::create(domain.clone()).unwrap();
        let signed = root.certify(&prepared.request().unwrap(), &domain, HOUR, now).unwrap();
        let authority = prepared.admit(signed, root.certificate_der(), now).unwrap();
        Self { authority, signer: JwtSigner::create(domain).unwrap() }
    }

    fn bundle(&self) -> String {
        let mut bundle = TrustBundle::new(self.authority.trust_domain().clone());
        bundle.add_x509(self.authority.anchor_der().clone()).unwrap();
        bundle.add_jwt(self.signer.authority());
        bundle.to_json().to_string()
    }

    fn certificate(&self, id: &SpiffeId) -> String {
        let csr = PrivateKey::generate().unwrap().request().unwrap();
        let asked = SvidRequest { id, dns_names: &[], csr: &csr, life: HOUR };
        self.authority.issue(&asked, time::after(0)).unwrap().to_pem()
    }

    fn token(&self, id: &SpiffeId, audience: &str) -> String {
        let token = self.signer.sign(id, &[audience], HOUR, time::after(0)).unwrap();
        token.expose_secret().to_owned()
    }
}

#[tokio::test]
async fn an_svid_proves_its_workload_by_the_bundle_of_its_own_domain() {
    let person = Person::new();
    let (shop, bank) = (Domain::new("shop.example.org"), Domain::new("bank.example.org"));
    let id: SpiffeId = "spiffe://shop.example.org/ns/web/sa/page".parse().unwrap();
    let pem = person.file("svid.pem", &shop.certificate(&id));
    let token = person.file("token.jwt", &format!("{}\n", shop.token(&id, "bank")));
    let of_shop = format!("shop.example.org={}", person.file("shop.json", &shop.bundle()));
    let anchors = person.file("shop.pem", &shop.authority.to_pem().1);
    let anchors = format!("shop.example.org={anchors}");
    let of_bank = format!("bank.example.org={}", person.file("bank.json", &bank.bundle()));
    let swapped = format!("shop.example.org={}", person.file("swapped.json", &bank.bundle()));
    let validate = async |more: &[&str]| person.run(&[&["svid", "validate"], more].concat()).await;

    for bundle in [&of_shop, &anchors] {
        let told = validate(&[&pem, "--bundle", &of_bank, "--bundle", bundle]).await.ok();
        let wanted =
            "spiffe://shop.example.org/ns/web/sa/page, proven by an X.509-SVID that ends in 1h\n";
        assert_eq!(told, wanted);
    }
    let told =
        validate(&[&token, "--bundle", &of_shop, "--audience", "bank", "-o", "json"]).await.ok();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["kind"], &told["type"]), (&"SvidValidation".into(), &"JWT-SVID".into()));
    assert_eq!((&told["id"], &told["audience"][0]), (&id.as_str().into(), &"bank".into()));

    let denied = async |more: &[&str], words: &str| {
        let told = validate(more).await.failed(Exit::Denied);
        assert!(told.contains("proves nobody") && told.contains(words), "{told}");
    };
    denied(&[&pem, "--bundle", &of_bank], "no bundle of the trust domain `shop.example.org`").await;
    denied(&[&pem, "--bundle", &swapped], "does not stand behind the certificate").await;
    denied(&[&token, "--bundle", &of_shop, "--audience", "store"], "not for audience `store`")
        .await;
    denied(&[&token, "--bundle", &swapped, "--audience", "bank"], "not trusted here").await;
}

#[tokio::test]
async fn what_is_no_svid_or_bundle_is_told_with_what_to_do() {
    let person = Person::new();
    let shop = Domain::new("shop.example.org");
    let id: SpiffeId = "spiffe://shop.example.org/ns/web/sa/page".parse().unwrap();
    let pem = person.file("svid.pem", &shop.certificate(&id));
    let token = person.file("token.jwt", &shop.token(&id, "bank"));
    let bundle = format!("shop.example.org={}", person.file("shop.json", &shop.bundle()));
    let failed = async |exit: Exit, more: &[&str], words: &str| {
        let told = person.run(&[&["svid", "validate"], more].concat()).await.failed(exit);
        assert!(told.contains(words), "{told}");
    };
    failed(Exit::Usage, &[&token, "--bundle", &bundle], "--audience AUDIENCE").await;
    failed(Exit::Usage, &[&pem, "--bundle", &bundle, "--audience", "x"], "leave `--audience` out")
        .await;
    failed(Exit::Usage, &[&pem], "--bundle").await;
    failed(Exit::Usage, &[&pem, "--bundle", "shop.json"], "DOMAIN=FILE").await;
    failed(Exit::Usage, &[&pem, "--bundle", "Shop=x"], "lower case").await;
    failed(Exit::Failed, &["none.pem", "--bundle", &bundle], "the file does not exist").await;
    let words = person.file("words", "hello");
    failed(Exit::Failed, &[&words, "--bundle", &bundle], "holds no SVID").await;
    let key =
        person.file("key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    failed(Exit::Failed, &[&key, "--bundle", &bundle], "holds no certificate").await;
    let leaf = format!("shop.example.org={pem}");
    failed(Exit::Failed, &[&pem, "--bundle", &leaf], "the certificate is no CA").await;
    let empty = format!("shop.example.org={}", person.file("empty.json", "{}"));
    failed(Exit::Failed, &[&pem, "--bundle", &empty], "`keys` is missing").await;
}
