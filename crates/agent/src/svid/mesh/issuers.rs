//! Issuers of tokens: declared by intentions of the system's namespace, their keys fetched here and told to nodes.
//!
//! Each replica fetches by itself. One that has just begun tells nodes of an issuer before it has the keys; nodes then keep those that they
//! have.

use std::{collections::BTreeMap, sync::Arc};

use nullius_intention::{DeclaredIssuer, DeclaredKeys, Home};
use nullius_kube::SYSTEM_NAMESPACE;
use nullius_mesh::{
    KeyRing, KeySource, KeySources, Reach, SOURCES_MAX, keep_keys, news::IssuerNews,
};
use nullius_pki::sha256;
use tokio::sync::watch;

use super::{Mesh, book::Book, status};

/// Issuers by name. One that is declared in two ways has no keys.
pub(super) type Declared = BTreeMap<Box<str>, Option<DeclaredKeys>>;

/// What intentions declare, of those that can be read.
pub(super) fn declared(book: &Book) -> Declared {
    let mut all = Declared::new();
    let home = Home::of(book.domain().clone());
    let word = b"\"issuers\"";
    let mut intentions: Vec<_> = book
        .intentions()
        .filter(|(_, it)| &*it.news.namespace == SYSTEM_NAMESPACE)
        .filter(|(_, it)| it.news.json.windows(word.len()).any(|part| part == word))
        .collect();
    intentions.sort_by_key(|(uid, _)| *uid);
    for (_, standing) in intentions {
        // Of one that cannot be read the status tells.
        let Ok(intention) = status::read(&standing.news, &home) else { continue };
        for DeclaredIssuer { issuer, keys } in intention.issuers() {
            if all.len() >= SOURCES_MAX && !all.contains_key(issuer) {
                tracing::warn!(issuer = %issuer, "leave out an issuer: at most 64 are taken");
                continue;
            }
            let known = all.entry(issuer.clone()).or_insert_with(|| Some(keys.clone()));
            if known.as_ref().is_some_and(|known| known != keys) {
                tracing::warn!(issuer = %issuer, "believe no token of an issuer: two intentions declare it with different keys");
                *known = None;
            }
        }
    }
    all
}

/// Keeps keys fetched, and nodes told.
pub(in crate::svid) async fn keep_issuers(mesh: Arc<Mesh>) {
    let (sources, wanted) = watch::channel(KeySources::new());
    let (ring, mut fetched) = watch::channel(KeyRing::new());
    let keeping = keep_keys(wanted, Arc::clone(&mesh.asks), ring);
    let mut declared = mesh.declared.subscribe();
    let telling = async {
        loop {
            let now = declared.borrow_and_update().clone();
            let after = key_sources(&now);
            sources.send_if_modified(|before| {
                let is_other = *before != after;
                *before = after;
                is_other
            });
            let told = told(&now, &fetched.borrow_and_update());
            mesh.hear(|book| book.hear_issuers(told));
            let changed = tokio::select! {
                changed = declared.changed() => changed,
                changed = fetched.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = keeping => {}
        () = telling => {}
    }
}

fn key_sources(declared: &Declared) -> KeySources {
    let fetched = declared.iter().filter_map(|(issuer, keys)| match keys {
        Some(DeclaredKeys::Url { url, authorities }) => {
            // Who declares it speaks for the cluster, not for the machine that this runs on.
            let (authorities, reach) = (authorities.clone(), Reach::Elsewhere);
            Some((issuer.clone(), KeySource { url: url.clone(), authorities, reach }))
        }
        Some(DeclaredKeys::Inline(_)) | None => None,
    });
    fetched.collect()
}

/// Tells nodes one place of keys from another: who stands behind an address is a part of it.
fn place(url: &str, authorities: Option<&str>) -> String {
    let authorities = authorities.map_or("known".to_owned(), |pem| hex(&sha256(pem.as_bytes())));
    format!("sha256:{}", hex(&sha256(format!("{authorities} {url}").as_bytes())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As nodes are told of them.
fn told(declared: &Declared, ring: &KeyRing) -> BTreeMap<Box<str>, IssuerNews> {
    let all = declared.iter().map(|(issuer, keys)| {
        let news = |source: &str, jwks: &[u8], until| IssuerNews {
            issuer: issuer.clone(),
            source: source.into(),
            jwks: jwks.into(),
            until,
        };
        let news = match keys {
            None => news("", &[], None),
            Some(DeclaredKeys::Inline(jwks)) => news("", jwks.as_bytes(), None),
            Some(DeclaredKeys::Url { url, authorities }) => {
                // What was fetched from another address, or under authorities that are believed no more, is not of this one.
                let is_of_it =
                    |source: &KeySource| source.url == *url && source.authorities == *authorities;
                let source = place(url, authorities.as_deref());
                match ring.get(issuer).filter(|fetched| is_of_it(&fetched.source)) {
                    Some(fetched) => news(&source, &fetched.jwks, fetched.keys.until),
                    None => news(&source, &[], None),
                }
            }
        };
        (issuer.clone(), news)
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
    use nullius_kube::identity::{News as Heard, ObjectNews};
    use nullius_mesh::{FetchedKeys, IssuerKeys};
    use nullius_pki::TokenIssuer;
    use serde_json::{Value, json};

    use super::{super::book::Key, *};

    fn object(name: &str, namespace: &str, issuers: Value) -> ObjectNews {
        let object = json!({
            "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention",
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "destination": { "any": true }, "issuers": issuers },
        });
        ObjectNews {
            namespace: namespace.into(),
            name: name.into(),
            uid: name.into(),
            generation: 1,
            json: object.to_string().into_bytes().into(),
            status: Arc::new(Value::Null),
        }
    }

    fn mesh() -> Mesh {
        Mesh::new("dev.example".parse().unwrap(), || true)
    }

    #[test]
    fn issuers_are_those_of_the_system_and_one_of_two_minds_has_no_keys() {
        let mesh = mesh();
        let url = |url: &str| json!([{ "issuer": "https://a", "jwksUrl": url }]);
        mesh.hear_intentions(Heard::Put(object("one", "nullius-system", url("https://a/1"))));
        mesh.hear_intentions(Heard::Put(object("own", "shop", url("https://evil/"))));
        let declared = || mesh.declared.borrow().clone();
        let DeclaredKeys::Url { url: at, .. } = declared()["https://a"].clone().unwrap() else {
            panic!("an address")
        };
        assert_eq!(&*at, "https://a/1");
        assert_eq!(key_sources(&declared())["https://a"].reach, Reach::Elsewhere);
        mesh.hear_intentions(Heard::Put(object("two", "nullius-system", url("https://a/2"))));
        assert_eq!(declared()["https://a"], None);
        assert!(key_sources(&declared()).is_empty());
        assert!(told(&declared(), &KeyRing::new())["https://a"].jwks.is_empty());
        mesh.hear_intentions(Heard::Gone(object("two", "nullius-system", url("https://a/2"))));
        assert!(declared()["https://a"].is_some());
        mesh.hear_intentions(Heard::Gone(object("one", "nullius-system", url("https://a/1"))));
        assert!(declared().is_empty());
    }

    #[test]
    fn keys_that_were_fetched_under_authorities_of_before_are_told_no_more() {
        let mesh = mesh();
        let declare = |ca: Option<&str>| {
            let mut issuer = json!({ "issuer": "https://a", "jwksUrl": "https://a/1" });
            if let Some(ca) = ca {
                issuer["ca"] = format!("-----BEGIN CERTIFICATE-----{ca}").into();
            }
            mesh.hear_intentions(Heard::Put(object("one", "nullius-system", json!([issuer]))));
            mesh.declared.borrow().clone()
        };
        let declared = [None, Some("old"), Some("new")].map(declare);
        let places: std::collections::BTreeSet<_> = declared
            .iter()
            .map(|it| told(it, &KeyRing::new())["https://a"].source.clone())
            .collect();
        assert_eq!(places.len(), 3, "a node keeps keys of the same place alone");
        let keys = TokenIssuer::read("https://a", KEYS.as_bytes()).unwrap();
        let fetched = FetchedKeys {
            source: key_sources(&declared[1])["https://a"].clone(),
            jwks: KEYS.as_bytes().into(),
            keys: IssuerKeys { keys: Arc::new(keys), until: None },
        };
        let ring = KeyRing::from([("https://a".into(), fetched)]);
        let has_keys = declared.each_ref().map(|it| !told(it, &ring)["https://a"].jwks.is_empty());
        assert_eq!(has_keys, [false, true, false]);
    }

    #[test]
    fn every_node_is_told_of_what_changed_and_of_nothing_else() {
        let mesh = mesh();
        let inline = |keys: &str| json!([{ "issuer": "https://a", "jwks": keys }]);
        let key = Key::Issuer("https://a".into());
        let hear = || {
            let told = told(&mesh.declared.borrow(), &KeyRing::new());
            mesh.book.write().unwrap().hear_issuers(told).all
        };
        mesh.hear_intentions(Heard::Put(object("one", "nullius-system", inline(KEYS))));
        assert_eq!(hear(), [key.clone()].into());
        assert_eq!(hear(), [].into());
        assert!(mesh.book().keys_for("n1").contains(&key));
        let mut news = nullius_mesh::news::News::default();
        mesh.book().tell("n1", &key, &mut news);
        assert_eq!(&*news.put_issuers[0].jwks, KEYS.as_bytes());
        mesh.hear_intentions(Heard::All(Vec::new()));
        assert_eq!(hear(), [key.clone()].into());
        let mut news = nullius_mesh::news::News::default();
        mesh.book().tell("n1", &key, &mut news);
        assert_eq!(news.gone_issuers, ["https://a".into()]);
        // A node asks for keys of issuers that are declared, and of no others.
        mesh.want_keys(["https://a".to_owned()].iter());
        assert!(futures::FutureExt::now_or_never(mesh.asks.asked()).is_none());
    }

    const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"one","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;
}
