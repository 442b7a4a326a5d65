//! Requests that a schema of the API does not declare: answered 400, and nothing of them reaches the application.

use http::Request;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    requests::{exchange, get, http},
    world::{Application, Domain, PATIENCE, Running, Workload},
};

/// What `shop/orders` knows; at the end of the intention stands what else is said of it.
const SCHEMA: &str = r#"
    schema:
      openapi: 3.1.0
      paths:
        /orders:
          get: {parameters: [{name: limit, in: query, schema: {type: integer, maximum: 9}}]}
          post: {requestBody: {required: true, content: {application/json: {schema: {$ref: '#/components/schemas/Order'}}}}}
        /orders/{id}:
          get: {parameters: [{name: id, in: path, required: true, schema: {type: integer}}]}
        /files:
          put: {requestBody: {content: {application/octet-stream: {}}}}
      components:
        schemas:
          Order: {type: object, required: [item], additionalProperties: false, properties: {item: {type: string}}}
"#;

struct Shop {
    orders: Workload,
    inbound: Running,
    outbound: Running,
    _application: Application,
    _front: Workload,
    asked: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

impl Shop {
    /// `shop/orders` with this schema, and who calls it.
    async fn open(sources: &str, api: &str) -> Self {
        let (application, asked) = http().await;
        let domain = Domain::new("dev.example");
        let orders = Workload::new(&domain, "shop", "orders", &[&domain]);
        orders.allow(sources);
        let inbound = orders
            .start(&format!(
                "listeners:\n- {{name: in, listen: '127.0.0.2:0', forward: '{}', protocol: http}}\n",
                application.address
            ))
            .await;
        let at = inbound.at("in");
        // A schema is for a port, and here the system chooses that.
        let schema = format!(
            "apiVersion: nullius.dev/v1alpha1\nkind: Intention\nmetadata: {{name: schema, namespace: shop}}\nspec:\n  \
             destination: {{serviceAccount: orders, ports: [{}]}}\n  api:{SCHEMA}{api}",
            at.port()
        );
        orders.put("intentions/schema.yaml", &schema);
        let front = Workload::new(&domain, "shop", "front", &[&domain]);
        let outbound = front.call("hbone", at, at, &orders.id).await;
        Self { orders, inbound, outbound, _application: application, _front: front, asked }
    }

    async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.outbound.at("out")).await.unwrap()
    }

    /// Waits until the schema decides.
    async fn decides(self) -> Self {
        let decides = async { while !self.tries("/nothing").await.starts_with("HTTP/1.1 400 ") {} };
        tokio::time::timeout(PATIENCE, decides).await.unwrap();
        self.asked.lock().unwrap().clear();
        self
    }

    /// What is answered to a request, or nothing where its connection is cut, since it was there before the schema.
    async fn tries(&self, target: &str) -> String {
        let mut stream = self.dial().await;
        match stream.write_all(get(target).as_bytes()).await {
            Ok(()) => exchange(&mut stream, "").await,
            Err(_) => String::new(),
        }
    }

    fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.iter().map(|it| it.split(" URI=").next().unwrap().to_owned()).collect()
    }
}

const ALL: &str = "{serviceAccount: front, action: allow}";

fn post(headers: &str, body: &str) -> String {
    format!(
        "POST /orders HTTP/1.1\r\nHost: orders.shop\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

const JSON: &str = "Content-Type: application/json\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_schema_does_not_declare_is_400_and_reaches_nobody() {
    let permissions = "{serviceAccount: front, permissions: [{action: deny, paths: [{prefix: /orders/7}]}, {action: allow, paths: [{prefix: /}]}]}";
    for sources in [ALL, permissions] {
        let shop = Shop::open(sources, "").await.decides().await;
        let mut stream = shop.dial().await;
        for request in [get("/orders?limit=9"), get("/orders/8"), post(JSON, "{\"item\":\"tea\"}")]
        {
            let answered = exchange(&mut stream, &request).await;
            assert!(answered.starts_with("HTTP/1.1 200 "), "{request}: {answered}");
        }
        let sent = "PUT /files HTTP/1.1\r\nHost: orders\r\nContent-Type: application/octet-stream\r\nContent-Length: 3\r\n\r\n\u{1}\u{2}\u{3}";
        assert!(exchange(&mut stream, sent).await.contains("/files \u{1}\u{2}\u{3}"));
        let asked = ["GET /orders?limit=9", "GET /orders/8", "POST /orders", "PUT /files"];
        assert_eq!(shop.asked(), asked);
        for (request, reason) in [
            (get("/admin"), "undeclared-path"),
            (get("/orders/8/x"), "undeclared-path"),
            (get("/orders/../admin"), "unreadable"),
            (get("/orders/eight"), "bad-parameter"),
            (get("/orders?limit=10"), "bad-parameter"),
            (get("/orders?debug=1"), "bad-parameter"),
            ("DELETE /orders HTTP/1.1\r\nHost: orders\r\n\r\n".to_owned(), "undeclared-method"),
            (post(JSON, "{\"item\":7}"), "bad-body"),
            (post(JSON, "{\"item\":\"tea\",\"admin\":true}"), "bad-body"),
            (post(JSON, "{\"item\":\"tea\",\"item\":\"x\"}"), "bad-body"),
            (post(JSON, ""), "bad-body"),
            (post("Content-Type: text/plain\r\n", "{\"item\":\"tea\"}"), "bad-body"),
            (post(&format!("{JSON}{JSON}"), "{\"item\":\"tea\"}"), "bad-body"),
            (post(&format!("{JSON}Content-Encoding: gzip\r\n"), "{\"item\":\"tea\"}"), "bad-body"),
        ] {
            let answered = exchange(&mut shop.dial().await, &request).await;
            assert!(answered.starts_with("HTTP/1.1 400 "), "{request}: {answered}");
            assert!(
                answered.contains(&format!("nullius-reason: {reason}\r\n")),
                "{request}: {answered}"
            );
        }
        assert_eq!(shop.asked(), Vec::<String>::new());
        let line = shop.inbound.line(|line| line["reason"] == "undeclared-method").await;
        assert_eq!((&line["verdict"], &line["status"]), (&"denied".into(), &400.into()), "{line}");
        assert_eq!(line["rule"], "Intention shop/schema api, /orders");
        let line = shop.inbound.line(|line| line["reason"] == "bad-body").await;
        assert_eq!(line["rule"], "Intention shop/schema api, POST /orders");
        assert!(line["detail"].as_str().unwrap().contains("`/item` is no string"), "{line}");
        // Without the schema everything is as intentions say.
        std::fs::remove_file(shop.orders.folder.path().join("intentions/schema.yaml")).unwrap();
        let free = async { while !shop.tries("/admin").await.starts_with("HTTP/1.1 200 ") {} };
        tokio::time::timeout(PATIENCE, free).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_call_learns_nothing_of_the_schema() {
    let sources = "{serviceAccount: front, permissions: [{action: allow, paths: [{prefix: /orders}, {exact: /nothing}]}]}";
    let shop = Shop::open(sources, "").await.decides().await;
    let answered = exchange(&mut shop.dial().await, &get("/admin")).await;
    assert!(answered.starts_with("HTTP/1.1 403 "), "{answered}");
    assert!(answered.contains("nullius-reason: no-permission\r\n"), "{answered}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_long_broken_or_in_pieces_are_held_in_bounds() {
    let shop = Shop::open(ALL, "    maxBodyBytes: 64\n").await.decides().await;
    let long = format!("{{\"item\":\"{}\"}}", "x".repeat(64));
    let chunked = |pieces: &[&str], end: &str| {
        let mut text = format!(
            "POST /orders HTTP/1.1\r\nHost: orders\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n"
        );
        pieces.iter().for_each(|piece| text.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len())));
        text + end
    };
    // In pieces it is what it is whole.
    let answered =
        exchange(&mut shop.dial().await, &chunked(&["{\"it", "em\":\"tea\"}"], "0\r\n\r\n")).await;
    assert!(
        answered.starts_with("HTTP/1.1 200 ") && answered.contains("/orders {\"item\":\"tea\"}"),
        "{answered}"
    );
    assert_eq!(shop.asked(), ["POST /orders"]);
    for request in [
        post(JSON, &long),
        chunked(&[&long], "0\r\n\r\n"),
        chunked(&[&long[..40], &long[40..]], ""),
    ] {
        let answered = exchange(&mut shop.dial().await, &request).await;
        assert!(answered.starts_with("HTTP/1.1 413 "), "{request}: {answered}");
        assert!(answered.contains("nullius-reason: body-too-large\r\n"), "{answered}");
    }
    // Of a body that is only announced nothing is awaited.
    let announced = format!(
        "POST /orders HTTP/1.1\r\nHost: orders\r\n{JSON}Content-Length: 9999999999\r\n\r\n"
    );
    let answered = exchange(&mut shop.dial().await, &announced).await;
    assert!(answered.starts_with("HTTP/1.1 413 "), "{answered}");
    // Cut short, it goes nowhere.
    for request in [
        format!(
            "POST /orders HTTP/1.1\r\nHost: orders\r\n{JSON}Content-Length: 30\r\n\r\n{{\"item\":\"tea\"}}"
        ),
        chunked(&["{\"item\":\"tea\"}"], ""),
    ] {
        let mut stream = shop.dial().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        shop.inbound.line(|line| line["detail"] == "its body was cut short").await;
    }
    let get_with_body = "GET /orders HTTP/1.1\r\nHost: orders\r\nContent-Length: 5\r\n\r\nhello";
    let answered = exchange(&mut shop.dial().await, get_with_body).await;
    assert!(answered.contains("nullius-reason: bad-body\r\n"), "{answered}");
    assert_eq!(shop.asked(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_goes_on_whole_by_http2_too() {
    let shop = Shop::open(ALL, "").await.decides().await;
    let (sender, connection) = h2::client::handshake(shop.dial().await).await.unwrap();
    tokio::spawn(connection);
    let ask = async |body: Vec<u8>| {
        let mut sender = sender.clone().ready().await.unwrap();
        let request =
            Request::post("http://orders/orders").header("content-type", "application/json");
        let (response, mut send) = sender.send_request(request.body(()).unwrap(), false).unwrap();
        for piece in body.chunks(7_000) {
            // Whoever is refused need not hear it.
            let _ = send.send_data(piece.to_vec().into(), false);
        }
        let _ = send.send_data(Vec::new().into(), true);
        let mut response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
        let mut all = Vec::new();
        while let Some(piece) = response.body_mut().data().await {
            let piece = piece.unwrap();
            all.extend_from_slice(&piece);
            let _ = response.body_mut().flow_control().release_capacity(piece.len());
        }
        (response.status().as_u16(), all)
    };
    // So long that it is looked into beside.
    let good = format!("{{\"item\":\"{}\"}}", "x".repeat(100_000)).into_bytes();
    let bad = format!("{{\"item\":\"{}\",\"x\":1}}", "x".repeat(100_000)).into_bytes();
    let (good_answer, bad_answer) = tokio::join!(ask(good.clone()), ask(bad));
    assert_eq!(good_answer, (200, [b"/orders ".as_slice(), &good].concat()));
    assert_eq!(bad_answer, (400, b"bad-body\n".to_vec()));
    assert_eq!(shop.asked(), ["POST /orders"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_shadow_everything_goes_on_and_the_log_says_what_would_not() {
    let shop = Shop::open(ALL, "    mode: shadow\n    maxBodyBytes: 64\n").await;
    let long = format!("{{\"item\":\"{}\"}}", "x".repeat(100_000));
    let watched = async {
        // The schema is there once something is told of it.
        let line = async {
            shop.inbound
                .line(|line| {
                    line["path"] == "/admin" && line["shadow"]["reason"] == "undeclared-path"
                })
                .await
        };
        let asks = async {
            loop {
                shop.tries("/admin").await;
            }
        };
        tokio::select! {
            line = line => line,
            () = asks => unreachable!(),
        }
    };
    let line = tokio::time::timeout(PATIENCE, watched).await.unwrap();
    assert_eq!(
        (&line["verdict"], &line["shadow"]["verdict"]),
        (&"allowed".into(), &"denied".into()),
        "{line}"
    );
    // What breaks off is not sent on as if it were whole.
    let mut stream = shop.dial().await;
    let cut = format!(
        "POST /orders HTTP/1.1\r\nHost: orders\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n7\r\n{{\"item\"\r\n"
    );
    stream.write_all(cut.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let line = shop.inbound.line(|line| line["method"] == "POST").await;
    assert!(line["status"] != 200 && line["reason"] == "application-broke", "{line}");
    shop.asked();
    for (body, reason) in [("[]", "bad-body"), (&*long, "body-too-large")] {
        let answered = exchange(&mut shop.dial().await, &post(JSON, body)).await;
        assert!(
            answered.starts_with("HTTP/1.1 200 ") && answered.ends_with("\r\n\r\n"),
            "{answered}"
        );
        let letters = |text: &str| text.matches(['[', 'x']).count();
        assert!(
            letters(&answered) >= letters(body),
            "{} of {}: {}",
            letters(&answered),
            body.len(),
            &answered[..300.min(answered.len())]
        );
        let line = shop.inbound.line(|line| line["shadow"]["reason"] == reason).await;
        assert_eq!(
            (&line["verdict"], &line["method"]),
            (&"allowed".into(), &"POST".into()),
            "{line}"
        );
    }
    let asked = shop.asked();
    assert_eq!(asked.iter().filter(|it| *it == "POST /orders").count(), 2, "{asked:?}");
}
