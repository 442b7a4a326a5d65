//! Intentions as people ask about them and build servers test them.

use nullius_cli::Exit;
use serde_json::Value;

use crate::person::{Done, Person};

const PAGE: &str = include_str!("../../../../docs/intentions.md");
const API: &str = include_str!("../../../../docs/api.md");

/// The blocks of the page that name a file.
fn examples() -> Vec<(&'static str, &'static str)> {
    let blocks = PAGE.split("```yaml\n").skip(1);
    let named = blocks.filter_map(|block| {
        let (text, _) = block.split_once("```")?;
        Some((text.strip_prefix("# ")?.lines().next()?, text))
    });
    named.collect()
}

/// What the page shows of a command.
fn shown(command: &str) -> &'static str {
    let (_, after) = PAGE.split_once(&format!("$ {command}\n")).unwrap();
    after.split_once("```").unwrap().0
}

/// A folder with the files of the page.
struct Desk {
    person: Person,
}

impl Desk {
    fn new() -> Self {
        let person = Person::new();
        for (name, text) in examples() {
            person.file(&format!("mesh/{name}"), text);
        }
        Self { person }
    }

    fn home(&self) -> String {
        self.person.home.path().display().to_string()
    }

    fn told(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.home()), "")
    }

    /// Explains a call under the files of the page.
    async fn explain(&self, words: &[&str]) -> Done {
        let folder = format!("{}/mesh", self.home());
        self.person.run(&[&["intention", "explain", "-f", &folder], words].concat()).await
    }

    /// Tests with these lines beside the files of the page.
    async fn test(&self, lines: &str, more: &[&str]) -> Done {
        let head = "apiVersion: nullius.dev/v1alpha1\nkind: IntentionTest\n";
        let file = self.person.file("mesh/own.yaml", &format!("{head}{lines}"));
        self.person.run(&[&["intention", "test", &file], more].concat()).await
    }
}

#[tokio::test]
async fn the_examples_of_the_page_do_what_the_page_says() {
    let desk = Desk::new();
    let names: Vec<_> = examples().iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["orders.yaml", "guard.yaml", "orders.test.yaml"]);
    let call = [
        "--from",
        "shop/web",
        "--to",
        "shop/orders:8080",
        "--method",
        "DELETE",
        "--path",
        "/orders/7",
    ];
    let done = desk.explain(&call).await;
    assert_eq!(done.exit, Exit::Denied, "{done:?}");
    assert_eq!(
        done.out,
        shown(
            "nullius intention explain --from shop/web --to shop/orders:8080 --method DELETE --path /orders/7 -f mesh/"
        )
    );
    let folder = format!("{}/mesh", desk.home());
    let done = desk.person.run(&["intention", "test", &folder, "--coverage"]).await;
    assert_eq!(done.exit, Exit::Ok, "{done:?}");
    assert_eq!(
        desk.told(&(done.out + &done.err)),
        shown("nullius intention test mesh/ --coverage")
    );
}

#[tokio::test]
async fn a_call_is_explained_with_the_place_of_its_rule() {
    let desk = Desk::new();
    let done = desk
        .explain(&["--from", "web", "-n", "shop", "--to", "orders:8080", "--path", "/orders/7"])
        .await;
    assert_eq!(done.exit, Exit::Ok, "{done:?}");
    assert!(
        desk.told(&done.out).contains(
            "namespace tier, for spiffe://cluster.local/ns/shop/sa/web (mesh/orders.yaml:14)"
        ),
        "{done:?}"
    );
    let done =
        desk.explain(&["--from", "sandbox/x", "--to", "shop/orders:8080", "-o", "json"]).await;
    assert_eq!(done.exit, Exit::Denied);
    let told: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(told["kind"], "IntentionDecision");
    assert_eq!(
        (&told["verdict"], &told["explanation"]["reason"]),
        (&"denied".into(), &"intention-refused".into())
    );
    assert_eq!(desk.told(told["at"].as_str().unwrap()), "mesh/guard.yaml:8");
    let done = desk.explain(&["--from", "10.0.0.7", "--to", "shop/orders:8080"]).await;
    assert!(done.out.starts_with("denied: unauthenticated\n"), "{done:?}");
    let done = desk.explain(&["--from", "shop/web", "--to", "shop/orders:8080", "--tcp"]).await;
    assert!(done.out.starts_with("denied: not-http\n"), "{done:?}");
    let done = desk.explain(&["--from", "shop/web", "--to", "shop/orders:9090"]).await;
    assert!(done.out.contains("is for port 8080 alone: add 9090"), "{done:?}");
}

#[tokio::test]
async fn where_requests_decide_their_permissions_are_listed() {
    let desk = Desk::new();
    let done = desk.explain(&["--from", "shop/web", "--to", "shop/orders:8080"]).await;
    assert_eq!(done.exit, Exit::Denied);
    assert!(done.out.starts_with("requests decide: "), "{done:?}");
    assert!(
        desk.told(&done.out)
            .contains("  allow shop/orders sources[0].permissions[2] (mesh/orders.yaml:17)\n"),
        "{done:?}"
    );
    let done = desk
        .explain(&["--from", "shop/web", "--to", "shop/orders:8080", "--path", "/a/../orders/1"])
        .await;
    assert!(done.out.starts_with("denied: unreadable\n"), "{done:?}");
    let claims = ["--claim", "iss=https://login.example.org", "--claim", "scope=orders:write"];
    let call =
        ["--from", "shop/web", "--to", "shop/orders:8080", "--method", "POST", "--path", "/orders"];
    assert_eq!(desk.explain(&[&call[..], &claims].concat()).await.exit, Exit::Ok);
    assert_eq!(desk.explain(&call).await.exit, Exit::Denied);
}

#[tokio::test]
async fn a_request_and_its_body_are_compared_with_the_schema_of_the_api() {
    let desk = Desk::new();
    let (_, block) = API.split_once("```yaml\n# orders-api.yaml\n").unwrap();
    let object = block.split_once("```").unwrap().0;
    let call = ["--from", "shop/web", "--to", "shop/orders:8080"];
    let watched = desk.person.file("mesh/orders-api.yaml", object);
    let claims = ["--claim", "iss=https://login.example.org", "--claim", "scope=orders:write"];
    let ask = async |request: &str, body: &str| {
        let asked = [&call[..], &claims, &["--request", request, "--body", body]].concat();
        desk.explain(&asked).await
    };
    // In shadow it is said beside.
    let done = ask("POST /orders", "{\"item\":\"tea\"}").await;
    assert_eq!(done.exit, Exit::Ok, "{done:?}");
    assert!(done.out.contains("in shadow denied: bad-body\n"), "{done:?}");
    assert!(done.out.contains("token: assumed, its signature was not checked"), "{done:?}");
    desk.person
        .file("mesh/orders-api.yaml", &object.replace("    mode: shadow", "    # mode: shadow"));
    let done = ask("POST /orders", "{\"item\":\"tea\",\"count\":0}").await;
    assert_eq!(done.exit, Exit::Denied);
    let (_, page) = API.split_once("```console\n").unwrap();
    let (_, page) = page.split_once('\n').unwrap();
    let page = page.split_once("```").unwrap().0;
    assert_eq!(done.out, page);
    let file = desk.person.file("order.json", "{\"item\":\"tea\",\"count\":2}");
    let done = ask("POST /orders", &format!("@{file}")).await;
    assert_eq!(done.exit, Exit::Ok, "{done:?}");
    let done = desk.explain(&call).await;
    assert!(done.out.contains("  declared by Intention shop/orders-api api\n"), "{done:?}");
    let done = desk.explain(&[&call[..], &["--tcp"]].concat()).await;
    assert!(done.out.starts_with("denied: not-http\n"), "{done:?}");
    // Tests ask the same.
    let cases = "intentions: [orders-api.yaml, all.yaml]\ndefaults: {namespace: shop, from: web, to: 'orders:8080'}\ncases:\n\
        - {name: good, request: {method: POST, path: /orders, body: {item: tea, count: 2}}, expect: allowed}\n\
        - {name: none, request: {method: POST, path: /orders}, expect: {verdict: denied, reason: bad-body}}\n\
        - {name: text, request: {method: POST, path: /orders, body: '{'}, expect: {verdict: denied, reason: bad-body, message: EOF}}\n\
        - {name: path, request: {path: /admin}, expect: {verdict: denied, reason: undeclared-path, by: shop/orders-api}}\n";
    let all = "apiVersion: nullius.dev/v1alpha1\nkind: Intention\nmetadata: {name: all, namespace: shop}\nspec:\n  destination: {serviceAccount: orders}\n  sources: [{serviceAccount: web, action: allow}]\n";
    desk.person.file("mesh/all.yaml", all);
    let done = desk.test(cases, &[]).await;
    assert_eq!(done.exit, Exit::Ok, "{done:?}");
    // What is wrong in the document is told with its line.
    let wrong = object.replace("additionalProperties: false", "nullable: true");
    desk.person.file("mesh/orders-api.yaml", &wrong);
    let done = desk.explain(&call).await;
    assert_eq!(done.exit, Exit::Failed, "{done:?}");
    let line = wrong.lines().position(|line| line.contains("nullable")).unwrap() + 1;
    let told = desk.told(&done.err);
    assert!(told.contains(&format!("mesh/orders-api.yaml:{line}:")), "{watched} {told}");
}

/// The example of RFC 7515, A.3: `{"iss":"joe","exp":1300819380,"http://example.com/is_root":true}`.
const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const KEY: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

#[tokio::test]
async fn a_token_is_said_to_be_verified_refused_or_assumed() {
    let desk = Desk::new();
    let own = "apiVersion: nullius.dev/v1alpha1\nkind: Intention\nmetadata: {name: own, namespace: shop}\nspec:\n  destination: {serviceAccount: cart}\n  sources: [{serviceAccount: web, permissions: [{action: allow, jwt: {issuer: joe}}]}]\n";
    desk.person.file("mesh/own.yaml", own);
    let file = desk.person.file("token.jwt", &format!("Bearer {TOKEN}\n"));
    let ask = async |at: &str, file: &str| {
        let call = ["--from", "shop/web", "--to", "shop/cart:80", "--request", "GET /", "--at", at];
        desk.explain(&[&call[..], &["--token", file]].concat()).await
    };
    let (then, now) = ("2011-03-22T12:00:00Z", "2026-11-22T12:00:00Z");
    let done = ask(now, &file).await;
    assert_eq!(done.exit, Exit::Ok, "{done:?}");
    assert!(
        done.out.contains(
            "token: assumed, its signature was not checked: no intention here declares its issuer\n"
        ),
        "{done:?}"
    );
    assert!(
        done.out.contains("  iss: \"joe\"\n") && done.out.contains("is_root: true"),
        "{done:?}"
    );
    let login = |keys: &str| {
        format!(
            "apiVersion: nullius.dev/v1alpha1\nkind: Intention\nmetadata: {{name: login, namespace: nullius-system}}\nspec:\n  destination: {{any: true}}\n  issuers: [{{issuer: joe, {keys}}}]\n"
        )
    };
    desk.person.file("mesh/login.yaml", &login(&format!("jwks: '{KEY}'")));
    let done = ask(then, &file).await;
    assert_eq!(done.exit, Exit::Ok, "{done:?}");
    assert!(
        done.out.contains("token: verified by the keys of Intention nullius-system/login\n"),
        "{done:?}"
    );
    let done = ask(now, &file).await;
    assert_eq!(done.exit, Exit::Denied, "{done:?}");
    assert!(done.out.contains("token: refused, as if it was not shown: expired\n"), "{done:?}");
    let (rest, signature) = TOKEN.rsplit_once('.').unwrap();
    let forged = desk.person.file("forged.jwt", &format!("{rest}.A{}", &signature[1..]));
    let done = ask(then, &forged).await;
    assert!(done.exit == Exit::Denied && done.out.contains("bad-signature\n"), "{done:?}");
    desk.person.file("mesh/login.yaml", &login("jwksUrl: 'https://joe.example/keys'"));
    let done = ask(then, &file).await;
    assert!(
        done.out.contains("keys are at https://joe.example/keys, and nothing is fetched"),
        "{done:?}"
    );
    let none = desk.person.file("none.jwt", "hello");
    assert_eq!(ask(then, &none).await.exit, Exit::Failed);
}

#[tokio::test]
async fn a_bundle_of_the_hub_is_above_all() {
    let desk = Desk::new();
    let fleet = desk.person.file(
        "bundle/stop.yaml",
        "apiVersion: nullius.dev/v1alpha1\nkind: Intention\nmetadata: {name: stop, namespace: fleet}\nspec:\n  destination: {any: true}\n  sources: [{namespace: batch, action: deny}]\n",
    );
    let call = ["--from", "batch/report", "--to", "shop/orders:8080"];
    assert_eq!(desk.explain(&call).await.exit, Exit::Ok);
    let done = desk.explain(&[&call[..], &["--fleet", &fleet]].concat()).await;
    assert_eq!(done.exit, Exit::Denied);
    assert!(done.out.contains("by: Intention fleet/stop sources[0], fleet tier"), "{done:?}");
}

#[tokio::test]
async fn every_fault_of_a_file_has_its_place() {
    let desk = Desk::new();
    desk.person.file(
        "mesh/wrong.yaml",
        "apiVersion: nullius.dev/v1alpha1\nkind: Intention\nmetadata: {name: wrong, namespace: shop}\nspec:\n  destination:\n    serviceAccount: a\n    ports: [70000]\n  sources:\n  - ipBlock: 10.0.0.1/8\n    action: allow\n    rateLimit: 7\n---\napiVersion: nullius.dev/v1alpha1\nkind: Intention\nmetadata: {name: orders, namespace: shop}\nspec: {destination: {serviceAccount: a}, sources: [{any: true, action: deny}]}\n",
    );
    let done = desk.explain(&["--from", "shop/web", "--to", "shop/orders:8080"]).await;
    assert_eq!(done.exit, Exit::Failed);
    let told = desk.told(&done.err);
    for line in [
        "mesh/wrong.yaml:7:13: Intention `wrong`: spec.destination.ports[0]: 70000 is no port: 1 to 65535 are",
        "mesh/wrong.yaml:9:5: Intention `wrong`: spec.sources[0].ipBlock: `10.0.0.1/8` has bits behind its length: write `10.0.0.0/8`",
        "mesh/wrong.yaml:11:5: Intention `wrong`: spec.sources[0].rateLimit: it belongs to limits of single sources, beside those in `spec.limits`, which this version does not have",
        "Intention `orders`: metadata.name: it stands already at mesh/orders.yaml",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
}

#[tokio::test]
async fn what_comes_otherwise_is_told_with_its_line() {
    let desk = Desk::new();
    let lines = "intentions: [orders.yaml]\ndefaults: {namespace: shop, from: web, to: 'orders:8080'}\ncases:\n- name: one\n  request: {path: /orders}\n  expect:\n    verdict: denied\n    reason: no-permission\n    by: other\n    message: nothing\n    shadow: allowed\n- name: two\n  from: '10.0.0.7'\n  expect: allowed\n- name: three\n  skip: later\n  expect: allowed\n- name: four\n  to: orders\n  expect: allowed\n- name: five\n  expect: requests\n";
    let done = desk.test(lines, &["-o", "json"]).await;
    assert_eq!(done.exit, Exit::Denied, "{done:?}");
    let report: Value = serde_json::from_str(&done.out).unwrap();
    let outcomes: Vec<_> = report["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| case["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["failed", "failed", "skipped", "errored", "passed"]);
    let fields: Vec<_> = report["cases"][0]["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["field"].as_str().unwrap(), it["line"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        fields,
        [
            ("cases[0].expect.verdict", 9),
            ("cases[0].expect.reason", 10),
            ("cases[0].expect.by", 11),
            ("cases[0].expect.message", 12),
            ("cases[0].expect.shadow", 13),
        ]
    );
    assert!(
        report["cases"][1]["failures"][0]["actual"]
            .as_str()
            .unwrap()
            .contains("proven no identity")
    );
    assert_eq!(
        (&report["coverage"]["covered"], &report["coverage"]["total"]),
        (&1.into(), &5.into())
    );
}

#[tokio::test]
async fn too_little_coverage_is_a_finding_and_reports_have_their_forms() {
    let desk = Desk::new();
    let lines = "intentions: [orders.yaml]\ncases: [{name: a, from: batch/report, to: 'shop/orders:8080', expect: allowed}]\n";
    let done = desk.test(lines, &["--min-coverage", "20"]).await;
    assert_eq!(done.exit, Exit::Ok, "{done:?}");
    let done = desk.test(lines, &["--min-coverage", "21"]).await;
    assert_eq!(done.exit, Exit::Denied);
    assert!(
        done.err.ends_with("20 % of the rules decided a case (1 of 5), which is less than 21 %\n"),
        "{done:?}"
    );
    let done = desk.test(lines, &["-o", "junit"]).await;
    assert!(done.out.contains(" name=\"a\" "), "{done:?}");
    let done = desk.test("intentions: [orders.yaml]\nintentons: []\ncases: []\n", &[]).await;
    assert_eq!(done.exit, Exit::Failed);
    assert!(done.err.contains("did you mean `intentions`?"), "{done:?}");
    let done = desk
        .test(
            "intentions: [gone.yaml]\ncases: [{name: a, from: a, to: 'b:1', expect: denied}]\n",
            &[],
        )
        .await;
    assert_eq!(done.exit, Exit::Failed);
    assert!(done.err.contains("gone.yaml"), "{done:?}");
}

#[tokio::test]
async fn policies_of_istio_become_intentions_that_are_read_again() {
    let desk = Desk::new();
    let file = desk.person.file(
        "istio.yaml",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: orders, namespace: shop}\nspec:\n  selector: {matchLabels: {app: orders}}\n  rules:\n  - from: [{source: {serviceAccounts: [web]}}]\n    to: [{operation: {methods: [GET]}}]\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: odd, namespace: bank}\nspec:\n  rules:\n  - from: [{source: {notNamespaces: [shop]}}]\n",
    );
    let done = desk.person.run(&["import", "istio", &file]).await;
    assert_eq!(done.exit, Exit::Denied, "{done:?}");
    let told = desk.told(&done.err);
    assert!(told.contains("refused: istio.yaml:15:"), "{told}");
    assert!(told.ends_with("1 intention written; 1 thing refused\n"), "{told}");
    let written = desk.person.file("carried/all.yaml", &done.out);
    let call = [
        "intention",
        "explain",
        "-f",
        &written,
        "--from",
        "shop/web",
        "--to",
        "shop/orders:80",
        "--label",
        "app=orders",
    ];
    let done = desk.person.run(&[&call[..], &["--method", "GET"]].concat()).await;
    assert_eq!(done.exit, Exit::Ok, "{done:?}");
    let done = desk.person.run(&[&call[..], &["--method", "PUT"]].concat()).await;
    assert_eq!(done.exit, Exit::Denied, "{done:?}");
}

#[tokio::test]
async fn intentions_of_consul_become_ours_and_hcl_is_told_of() {
    let desk = Desk::new();
    // As `consul config read` prints them, one after another.
    let file = desk.person.file(
        "consul/entries.json",
        "{\n  \"Kind\": \"service-intentions\",\n  \"Name\": \"orders\",\n  \"Sources\": [\n    {\"Name\": \"web\", \"Permissions\": [{\"Action\": \"allow\", \"HTTP\": {\"PathPrefix\": \"/orders\", \"Methods\": [\"GET\"]}}], \"Precedence\": 9, \"Type\": \"consul\"}\n  ],\n  \"CreateIndex\": 7\n}\n{\n  \"Kind\": \"service-intentions\",\n  \"Name\": \"bill\",\n  \"Sources\": [\n    {\"Name\": \"web\", \"Peer\": \"east\", \"Action\": \"allow\"}\n  ]\n}\n",
    );
    let done = desk.person.run(&["import", "consul", &file, "--namespace", "shop"]).await;
    assert_eq!(done.exit, Exit::Denied, "{done:?}");
    let told = desk.told(&done.err);
    assert!(told.contains("refused: consul/entries.json:13:"), "{told}");
    assert!(
        told.contains("service-intentions `bill`: Sources[0].Peer: not carried over"),
        "{told}"
    );
    assert!(told.ends_with("1 intention written; 1 thing refused\n"), "{told}");
    let written = desk.person.file("carried/all.yaml", &done.out);
    let call =
        ["intention", "explain", "-f", &written, "--from", "shop/web", "--to", "shop/orders:80"];
    for (path, exit) in [("/orders7", Exit::Ok), ("/x", Exit::Denied)] {
        let done =
            desk.person.run(&[&call[..], &["--method", "GET", "--path", path]].concat()).await;
        assert_eq!(done.exit, exit, "{done:?}");
    }
    // A list, as the API answers, and a list of objects.
    let list = desk.person.file(
        "list.json",
        r#"[{"Kind": "service-intentions", "Name": "orders", "Sources": [{"Name": "web", "Action": "allow"}]}, {"Kind": "service-defaults", "Name": "orders"}]"#,
    );
    let objects = desk.person.file(
        "objects.yaml",
        "apiVersion: consul.hashicorp.com/v1alpha1\nkind: ServiceIntentionsList\nitems:\n- metadata: {name: bill}\n  spec:\n    destination: {name: bill}\n    sources: [{name: web, action: allow}]\n",
    );
    let all = ["import", "consul", &list, &objects, "--service", "orders=shop/o", "-n", "bank"];
    let done = desk.person.run(&[&all[..], &["-o", "name"]].concat()).await;
    assert_eq!((done.exit, done.out.as_str()), (Exit::Ok, "shop/o\nbank/bill\n"), "{done:?}");
    desk.person.file("consul/old.hcl", "Kind = \"service-intentions\"\nName = \"orders\"\n");
    let folder = std::path::Path::new(&file).parent().unwrap().display().to_string();
    let done = desk.person.run(&["import", "consul", &folder, "-n", "shop"]).await;
    assert_eq!(done.exit, Exit::Failed, "{done:?}");
    assert!(done.out.is_empty() && done.err.contains("old.hcl"), "{done:?}");
    assert!(done.err.contains("consul config read -kind service-intentions"), "{done:?}");
    let text = desk.person.file("hcl.txt", "Kind = \"x\"\nSources = [\n  { Name = \"y\" }\n]\n");
    let done = desk.person.run(&["import", "consul", &text, "-n", "shop"]).await;
    assert!(done.exit != Exit::Ok && done.out.is_empty(), "{done:?}");
    let done = desk.person.run(&["import", "consul", &list, "-n", "Shop"]).await;
    assert_eq!(done.exit, Exit::Usage, "{done:?}");
}

#[tokio::test]
async fn registrations_of_spire_become_workload_identities() {
    let desk = Desk::new();
    let file = desk.person.file(
        "entries.json",
        r#"{"entries": [
  {"id": "a", "spiffe_id": {"trust_domain": "example.org", "path": "/nodes"}, "parent_id": {"trust_domain": "example.org", "path": "/spire/server"}, "selectors": [{"type": "k8s_psat", "value": "cluster:demo"}]},
  {"id": "b", "spiffe_id": {"trust_domain": "example.org", "path": "/ns/shop/sa/web"}, "parent_id": {"trust_domain": "example.org", "path": "/nodes"}, "selectors": [{"type": "k8s", "value": "ns:shop"}, {"type": "k8s", "value": "sa:web"}], "dns_names": []},
  {"id": "c", "spiffe_id": {"trust_domain": "example.org", "path": "/ns/shop/sa/web/x"}, "parent_id": {"trust_domain": "example.org", "path": "/nodes"}, "selectors": [{"type": "k8s", "value": "ns:shop"}, {"type": "k8s", "value": "sa:web"}], "hint": "x"},
  {"id": "d", "spiffe_id": {"trust_domain": "example.org", "path": "/web"}, "parent_id": {"trust_domain": "example.org", "path": "/nodes"}, "selectors": [{"type": "k8s", "value": "ns:shop"}]}
], "next_page_token": ""}"#,
    );
    let done = desk.person.run(&["import", "spire", &file, "-o", "yaml"]).await;
    assert_eq!(done.exit, Exit::Denied, "{done:?}");
    let told = desk.told(&done.err);
    assert!(told.contains("refused: entries.json:5:"), "{told}");
    assert!(told.contains("entry `d`: no WorkloadIdentity can say it: spec.path: "), "{told}");
    assert!(told.contains("note: entries.json:3:"), "{told}");
    assert!(told.ends_with("1 identity written; 1 thing refused\n"), "{told}");
    assert!(
        done.out.contains("kind: WorkloadIdentity") && done.out.contains("hint: x"),
        "{done:?}"
    );
    let again = desk.person.run(&["import", "spire", &file, "-o", "name"]).await;
    assert_eq!(again.out, "shop/web-x\n");
}
