//! What the API server says reaches the client byte for byte, in every encoding.

use http::{Request, Response, header};
use kube::client::Body;
use nullius_testkit::{TestNamespace, wait_until};

use crate::{
    clients::{client, runtime},
    faults_lab::PATIENCE,
    trail::{text, wait_event},
    world::World,
};

/// An answer as it came.
struct Answer {
    status: u16,
    media_type: String,
    encoding: String,
    audit_id: String,
    body: Vec<u8>,
}

async fn fetch(client: &kube::Client, path: &str, accept: &str, encoding: &str) -> Answer {
    let request = Request::get(path)
        .header(header::ACCEPT, accept)
        .header(header::ACCEPT_ENCODING, encoding)
        .body(Body::empty())
        .unwrap();
    let response: Response<Body> = client.send(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let text =
        |name: &str| parts.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    Answer {
        status: parts.status.as_u16(),
        media_type: text("content-type"),
        encoding: text("content-encoding"),
        audit_id: text("audit-id"),
        body: body.collect_bytes().await.unwrap().to_vec(),
    }
}

/// An object that the API server compresses: it does so from 128 KiB on.
fn large_object(namespace: &TestNamespace) {
    let words: String = (0..40_000).map(|number| format!("word{number} ")).collect();
    let manifest = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: large}}\ndata:\n  words: {words}\n"
    );
    // Not by `apply`: its annotation would hold the words once more.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), manifest).unwrap();
    namespace.kubectl(&["create", "-f", file.path().to_str().unwrap()]).unwrap();
}

#[test]
fn json_yaml_protobuf_and_gzip_are_untouched() {
    let Some(world) = World::together() else { return };
    let (namespace, worker) = world.worker("bytes");
    large_object(&namespace);
    let path = |name: &str| format!("/api/v1/namespaces/{}/configmaps/{name}", namespace.name());
    let (large, small) = (path("large"), path("kube-root-ca.crt"));
    runtime().block_on(async {
        let direct = client(world.cluster.kubeconfig()).await;
        let ours = client(&worker.kubeconfig).await;
        for (path, accept, encoding) in [
            (&small, "application/json", "identity"),
            (&small, "application/yaml", "identity"),
            (&small, "application/vnd.kubernetes.protobuf", "identity"),
            (&small, "application/json;as=Table;v=v1;g=meta.k8s.io", "identity"),
            (&small, "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", "gzip"),
            (&large, "application/json", "gzip"),
            (&large, "application/vnd.kubernetes.protobuf", "gzip"),
            (&large, "application/vnd.kubernetes.protobuf", "identity"),
            (&small, "text/unknown", "identity"),
        ] {
            let wanted = fetch(&direct, path, accept, encoding).await;
            let found = fetch(&ours, path, accept, encoding).await;
            let what = format!("{path} as {accept}, {encoding}");
            assert_eq!(found.status, wanted.status, "{what}");
            assert_eq!(found.media_type, wanted.media_type, "{what}");
            assert_eq!(found.encoding, wanted.encoding, "{what}");
            // A table says how old its rows are.
            if !accept.contains("as=Table") {
                assert!(found.body == wanted.body, "{what}: the bytes differ");
            }
            if path == &large && encoding == "gzip" {
                assert_eq!(found.encoding, "gzip");
                assert!(found.body.len() < 200_000);
            }
        }
        let answer = fetch(&ours, &small, "application/json", "identity").await;
        let log = world.cluster.audit_log().unwrap();
        let entry = wait_until(PATIENCE, "the entry that the answer names", || {
            log.by_id(&answer.audit_id).unwrap().pop()
        });
        let entry = entry.unwrap();
        assert_eq!(entry.text("/objectRef/name"), "kube-root-ca.crt");
        let user = ["--user", worker.name.as_str()];
        wait_event(&world, "the same in the hub's audit", &user, |event| {
            text(event, "/auditId") == answer.audit_id
        });
    });
}
