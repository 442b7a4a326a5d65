#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test")]
use std::{convert::Infallible, sync::atomic::AtomicBool};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::json;

use super::*;

/// An API server with one ConfigMap, whose watches end at once, and which can refuse everything.
fn server(refuses: &Arc<AtomicBool>, asked: &Arc<RwLock<Vec<String>>>) -> Client {
    let (refuses, asked) = (Arc::clone(refuses), Arc::clone(asked));
    let service = tower::service_fn(move |request: Request<Body>| {
        let uri = request.uri().to_string();
        asked.write().unwrap().push(uri.clone());
        let (code, body) = match (refuses.load(Ordering::Relaxed), uri.contains("watch=true")) {
            (true, _) => {
                let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure",
                                     "message": "no more", "reason": "Forbidden", "code": 403 });
                (403, status.to_string())
            }
            (false, true) => (200, String::new()),
            (false, false) => {
                let map = json!({ "apiVersion": "v1", "kind": "ConfigMap",
                                  "metadata": { "name": "limits", "namespace": "shop", "resourceVersion": "1" } });
                let list = json!({ "apiVersion": "v1", "kind": "ConfigMapList",
                                   "metadata": { "resourceVersion": "7" }, "items": [map] });
                (200, list.to_string())
            }
        };
        async move {
            // No answer comes in no time, or nothing else would run.
            tokio::time::sleep(Duration::from_secs(5)).await;
            let body = Full::new(Bytes::from(body));
            Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
        }
    });
    Client::new(service, "default")
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_hears_nothing_any_more_says_nothing_any_more() {
    let (refuses, asked) = (Arc::default(), Arc::default());
    let what = Watched {
        name: Some("limits".to_owned()),
        ..Watched::all("v1", "ConfigMap", "configmaps")
    };
    let (mut objects, keeping) = Objects::of(server(&refuses, &asked), &what);
    assert!(objects.all_of("shop").is_err(), "it was never read");
    let keeping = tokio::spawn(keeping);
    objects.completed().await;
    assert_eq!(objects.all_of("shop").unwrap().len(), 1);
    // Nothing changes for an hour, and each watch is begun anew.
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(objects.all_of("shop").unwrap().len(), 1);
    assert_eq!(objects.is_current(), Ok(()));

    refuses.store(true, Ordering::Relaxed);
    tokio::time::sleep(DEAF_AFTER + Duration::from_secs(60)).await;
    let told = objects.all_of("shop").unwrap_err();
    assert!(told.contains("no more"), "{told}");

    refuses.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(objects.all_of("shop").unwrap().len(), 1, "it hears again");
    keeping.abort();
    let asked = asked.read().unwrap();
    assert!(asked.iter().all(|uri| uri.contains("metadata.name%3Dlimits")), "{asked:?}");
    assert!(asked[0].contains("limit=50"), "{asked:?}");
}
