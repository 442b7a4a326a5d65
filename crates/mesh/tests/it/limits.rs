//! Requests that are too many for one caller: answered 429, and others go on.

use std::time::Duration;

use futures::future::join_all;
use tokio::net::TcpStream;

use crate::{
    requests::{exchange, get, http},
    world::{Domain, Workload},
};

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_much_is_told_so_and_keeps_nobody_else_from_anything() {
    // By connection or request by request: what is counted is read.
    for sources in [
        "[{serviceAccount: front, action: allow}, {serviceAccount: back, action: allow}]",
        "[{any: true, permissions: [{action: allow, paths: [{prefix: /orders}]}]}]",
    ] {
        let (application, asked) = http().await;
        let domain = Domain::new("dev.example");
        let orders = Workload::new(&domain, "shop", "orders", &[&domain]);
        let intention = |limits: &str| {
            let text = format!(
                "apiVersion: nullius.dev/v1alpha1\nkind: Intention\nmetadata: {{name: own, namespace: shop}}\n\
                 spec:\n  destination: {{serviceAccount: orders}}\n  sources: {sources}\n{limits}"
            );
            orders.put("intentions/own.yaml", &text);
        };
        // So slow that the burst is all there is while the test runs.
        intention("  limits: [{requestsPerSecond: 1, burst: 20}]\n");
        let inbound = orders
            .start(&format!(
                "listeners:\n- {{name: in, listen: '127.0.0.2:0', forward: '{}', protocol: http}}\n",
                application.address
            ))
            .await;
        let at = inbound.at("in");
        let call = async |account: &str| {
            let workload = Workload::new(&domain, "shop", account, &[&domain]);
            workload.call("hbone", at, at, &orders.id).await
        };
        let (front, back) = (call("front").await, call("back").await);
        let ask = async |to| {
            let mut stream = TcpStream::connect(to).await.unwrap();
            let mut answers = Vec::new();
            for _ in 0..10 {
                answers.push(exchange(&mut stream, &get("/orders/1")).await);
            }
            answers
        };
        let begun = std::time::Instant::now();
        // Several connections at once count as one caller.
        let answers = join_all((0..6).map(|_| ask(front.at("out")))).await.concat();
        let paced = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
        let passed = answers.iter().filter(|it| it.starts_with("HTTP/1.1 200 ")).count();
        assert!((20..=20 + paced).contains(&passed), "{passed}");
        for refused in answers.iter().filter(|it| !it.starts_with("HTTP/1.1 200 ")) {
            assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
            assert!(refused.contains("nullius-reason: rate-limited\r\n"), "{refused}");
            assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
        }
        assert_eq!(asked.lock().unwrap().len(), passed, "what is refused reaches nobody");
        let others = ask(back.at("out")).await;
        assert!(others.iter().all(|it| it.starts_with("HTTP/1.1 200 ")), "{others:?}");
        inbound.line(|line| line["reason"] == "rate-limited" && line["status"] == 429).await;
        // Without the limit nothing is counted.
        intention("");
        let free = async {
            while ask(front.at("out")).await.iter().any(|it| !it.starts_with("HTTP/1.1 200 ")) {}
        };
        tokio::time::timeout(Duration::from_secs(20), free).await.unwrap();
    }
}
