//! The pages: sign-in, confirmation and enrolment in a browser that runs no scripts, and what is refused there.

use http::{Method, header};
use http_body_util::Full;
use serde_json::json;

use crate::harness::{Answer, PASSWORD, Person, TestHub, access, client, text};

pub(crate) const REDIRECT: &str = "http://127.0.0.1:4711/";
pub(crate) const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters-0";
/// BASE64URL(SHA256(VERIFIER)).
fn challenge() -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use sha2::{Digest, Sha256};
    URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER))
}

/// A browser with its cookies.
pub(crate) struct Browser<'h> {
    hub: &'h TestHub,
    cookies: Vec<(String, String)>,
}

impl<'h> Browser<'h> {
    pub(crate) fn new(hub: &'h TestHub) -> Self {
        Self { hub, cookies: Vec::new() }
    }

    fn keep(&mut self, answer: &Answer) {
        for cookie in answer.headers.get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("; Path=/; Secure; HttpOnly; SameSite=Strict"), "{cookie}");
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            assert!(name.starts_with("__Host-"));
            self.cookies.retain(|(kept, _)| kept != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    fn cookie_header(&self) -> String {
        let pairs: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        let request =
            self.hub.request(Method::GET, path).header(header::COOKIE, self.cookie_header());
        let answer = self.hub.send(request.body(Full::default()).unwrap()).await;
        self.keep(&answer);
        answer
    }

    async fn post_from(&mut self, origin: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self
            .hub
            .request(Method::POST, path)
            .header(header::COOKIE, self.cookie_header())
            .header(header::ORIGIN, origin)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let answer = self.hub.send(request.body(Full::from(body)).unwrap()).await;
        self.keep(&answer);
        answer
    }

    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let origin = self.hub.origin();
        self.post_from(&origin, path, fields).await
    }

    pub(crate) async fn sign_in(&mut self, person: &Person, next: &str) -> Answer {
        let form = hidden(&self.get(&format!("/login?next={next}")).await, "form");
        let code = self.hub.code(person);
        let fields = [
            ("form", form.as_str()),
            ("next", next),
            ("user", &person.name),
            ("password", &person.password),
            ("code", &code),
        ];
        let answer = self.post("/login", &fields).await;
        self.hub.clock.advance(30);
        answer
    }
}

/// The value of a hidden field of a page.
pub(crate) fn hidden(page: &Answer, name: &str) -> String {
    let mark = format!("name=\"{name}\" value=\"");
    let start =
        page.text.find(&mark).unwrap_or_else(|| panic!("no {name} in {}", page.text)) + mark.len();
    page.text[start..].split('"').next().unwrap().to_owned()
}

pub(crate) fn location(answer: &Answer) -> String {
    assert_eq!(answer.status, 303, "{}", answer.text);
    answer.headers[header::LOCATION].to_str().unwrap().to_owned()
}

pub(crate) async fn begin(hub: &TestHub) -> String {
    let body = json!({"challenge": challenge(), "redirectUri": REDIRECT, "state": "state-1"});
    let begun = hub.post("/v1/browser-login", None, body).await.ok().json();
    text(&begun["url"]).strip_prefix(&hub.origin()).unwrap().to_owned()
}

#[tokio::test]
async fn a_command_line_is_signed_in_by_a_browser_after_a_question() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let path = begin(&hub).await;
    let mut browser = Browser::new(&hub);
    let page = browser.get(&path).await;
    assert!(page.text.contains("The command line asks"), "{}", page.text);
    let id = path.split_once("id=").unwrap().1.to_owned();
    let to = location(&browser.sign_in(&admin, &format!("cli:{id}")).await);
    assert_eq!(to, path);
    let page = browser.get(&to).await;
    assert!(page.text.contains("127.0.0.1:4711") && page.text.contains("admin"), "{}", page.text);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'self';"));
    assert!(policy.ends_with("form-action 'self' http://127.0.0.1:4711"), "{policy}");
    let form = hidden(&page, "form");
    let fields = [("form", form.as_str()), ("id", &id), ("answer", "approve")];
    let back = location(&browser.post("/cli", &fields).await);
    let query = back.strip_prefix(&format!("{REDIRECT}?")).unwrap();
    let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    assert_eq!(pairs[1], ("state".to_owned(), "state-1".to_owned()));
    let code = &pairs[0].1;

    let exchange = |code: &str, verifier: &str, redirect: &str| json!({"grantType": "authorization_code", "code": code, "verifier": verifier, "redirect_uri": redirect, "client": client()});
    let tokens = hub.post("/v1/token", None, exchange(code, VERIFIER, REDIRECT)).await.ok().json();
    hub.get("/v1/whoami", access(&tokens)).await.ok();
    let again = hub.post("/v1/token", None, exchange(code, VERIFIER, REDIRECT)).await;
    again.refused(401, "unauthenticated");
    hub.get("/v1/whoami", access(&tokens)).await.refused(401, "unauthenticated");

    // A code that somebody else exchanges is spent, and not for them.
    let path = begin(&hub).await;
    let page = browser.get(&path).await;
    let (form, id) = (hidden(&page, "form"), hidden(&page, "id"));
    let fields = [("form", form.as_str()), ("id", &id), ("answer", "approve")];
    let back = location(&browser.post("/cli", &fields).await);
    let code = back.split_once("code=").unwrap().1.split('&').next().unwrap().to_owned();
    let stolen = exchange(&code, &"x".repeat(43), REDIRECT);
    hub.post("/v1/token", None, stolen).await.refused(401, "unauthenticated");
    hub.post("/v1/token", None, exchange(&code, VERIFIER, REDIRECT))
        .await
        .refused(401, "unauthenticated");
    let refused = browser.post("/cli", &fields).await;
    assert_eq!(refused.status, 404, "answered once");
}

#[tokio::test]
async fn a_device_is_signed_in_only_by_its_own_code() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let device = hub.call(Method::POST, "/v1/device", None, None).await.ok().json();
    assert_eq!(text(&device["verificationUri"]), format!("{}/device", hub.origin()));
    let poll = json!({"grantType": "device_code", "device_code": device["deviceCode"], "client": client()});
    hub.post("/v1/token", None, poll.clone()).await.refused(400, "pending");
    hub.post("/v1/token", None, poll.clone()).await.refused(429, "wait");

    let mut browser = Browser::new(&hub);
    let to = location(&browser.sign_in(&admin, "device").await);
    let page = browser.get(&format!("{to}?code=BCDF-GHJK")).await;
    let form = hidden(&page, "form");
    let wrong = browser.post("/device", &[("form", &form), ("code", "BCDF-GHJK")]).await;
    assert_eq!(wrong.status, 404);
    let code = text(&device["userCode"]).to_lowercase().replace('-', " ");
    let page = browser.post("/device", &[("form", &form), ("code", &code)]).await;
    assert!(page.text.contains(text(&device["userCode"])), "{}", page.text);
    assert!(page.text.contains("If somebody sent you"), "phishing is warned of");
    let id = hidden(&page, "id");
    let fields = [("form", form.as_str()), ("id", &id), ("answer", "approve")];
    assert_eq!(browser.post("/device/confirm", &fields).await.status, 200);
    hub.clock.advance(30);
    let tokens = hub.post("/v1/token", None, poll.clone()).await.ok().json();
    assert_eq!(hub.get("/v1/whoami", access(&tokens)).await.ok().json()["user"], "admin");
    hub.post("/v1/token", None, poll).await.refused(401, "unauthenticated");

    let device = hub.call(Method::POST, "/v1/device", None, None).await.ok().json();
    let poll = json!({"grantType": "device_code", "device_code": device["deviceCode"], "client": client()});
    let fields = [("form", form.as_str()), ("id", text(&device["userCode"])), ("answer", "refuse")];
    browser.post("/device/confirm", &fields).await;
    hub.post("/v1/token", None, poll).await.refused(403, "denied");
}

#[tokio::test]
async fn forms_from_elsewhere_are_not_taken() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let mut browser = Browser::new(&hub);
    let form = hidden(&browser.get("/login").await, "form");
    let code = hub.code(&admin);
    let fields = [
        ("form", form.as_str()),
        ("next", "account"),
        ("user", "admin"),
        ("password", PASSWORD),
        ("code", &code),
    ];
    for origin in ["https://evil.example", "null", "http://127.0.0.1"] {
        assert_eq!(browser.post_from(origin, "/login", &fields).await.status, 403, "{origin}");
    }
    let mut other = Browser::new(&hub);
    other.get("/login").await;
    assert_eq!(other.post("/login", &fields).await.status, 403, "the form is bound to its browser");
    let no_token =
        [("form", ""), ("next", ""), ("user", "admin"), ("password", PASSWORD), ("code", &code)];
    assert_eq!(browser.post("/login", &no_token).await.status, 403);
    assert_eq!(location(&browser.post("/login", &fields).await), "/account");
    let page = browser.get("/account").await;
    assert!(page.text.contains("First admin") && page.text.contains("(this one)"), "{}", page.text);
    assert_eq!(browser.post("/logout", &[("form", "x")]).await.status, 403);
    assert!(browser.get("/account").await.text.contains("First admin"));

    // The cookie opens pages alone.
    let request =
        hub.request(Method::GET, "/v1/whoami").header(header::COOKIE, browser.cookie_header());
    assert_eq!(hub.send(request.body(Full::default()).unwrap()).await.status, 401);
    let request = hub
        .request(Method::GET, "/clusters/dev/api")
        .header(header::COOKIE, browser.cookie_header());
    assert_eq!(hub.send(request.body(Full::default()).unwrap()).await.status, 401);

    let form = hidden(&browser.get("/account").await, "form");
    assert_eq!(browser.post("/logout", &[("form", &form)]).await.status, 200);
    assert!(browser.get("/account").await.text.contains("<h1>Sign in</h1>"));
}

#[tokio::test]
async fn sign_in_goes_to_our_own_pages_alone() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    for next in [
        "https://evil.example/",
        "//evil.example",
        "cli:../../x",
        "device:<script>",
        "javascript:alert(1)",
    ] {
        let mut browser = Browser::new(&hub);
        let form = hidden(&browser.get("/login").await, "form");
        let code = hub.code(&admin);
        let fields = [
            ("form", form.as_str()),
            ("next", next),
            ("user", "admin"),
            ("password", PASSWORD),
            ("code", &code),
        ];
        assert_eq!(location(&browser.post("/login", &fields).await), "/account", "{next}");
        hub.clock.advance(30);
    }
    let mut browser = Browser::new(&hub);
    let form = hidden(&browser.get("/login").await, "form");
    let user = "<script>alert(1)</script>";
    let fields = [
        ("form", form.as_str()),
        ("next", ""),
        ("user", user),
        ("password", "x"),
        ("code", "000000"),
    ];
    let page = browser.post("/login", &fields).await;
    assert_eq!(page.status, 401);
    assert!(!page.text.contains("<script>"), "{}", page.text);
    assert!(page.text.contains("User, password or code is wrong."));
}

#[tokio::test]
async fn enrolment_works_in_a_browser_and_shows_the_secret_once() {
    let hub = TestHub::start().await;
    let link = hub.running.as_ref().unwrap().first_admin().unwrap().link.clone();
    let path = link.url.strip_prefix(&hub.origin()).unwrap().to_owned();
    let mut browser = Browser::new(&hub);
    let page = browser.get(&path).await;
    assert_eq!(page.headers["referrer-policy"], "same-origin");
    assert_eq!(page.headers["cache-control"], "no-store");
    let (form, token) = (hidden(&page, "form"), hidden(&page, "token"));
    let post = |password: &'static str, again: &'static str| {
        [
            ("form", form.clone()),
            ("token", token.clone()),
            ("password", password.to_owned()),
            ("again", again.to_owned()),
        ]
    };
    let fields = post(PASSWORD, "something else entirely");
    let fields: Vec<(&str, &str)> =
        fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert!(browser.post("/enrol", &fields).await.text.contains("not the same"));
    let fields = post(PASSWORD, PASSWORD);
    let fields: Vec<(&str, &str)> =
        fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let page = browser.post("/enrol", &fields).await;
    assert!(page.text.contains("<svg") && page.text.contains("otpauth://totp/"), "{}", page.text);
    let wrong = [("form", form.as_str()), ("token", token.as_str()), ("code", "000000")];
    let page = browser.post("/enrol/confirm", &wrong).await;
    assert_eq!(page.status, 422);
    assert!(page.text.contains("<svg"), "the person can try again");
    let gone = browser.get("/enrol?token=nothing").await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn pages_have_labels_and_load_nothing_from_elsewhere() {
    let hub = TestHub::start().await;
    let mut browser = Browser::new(&hub);
    for path in ["/login", "/device", "/account", "/enrol?token=x", "/cli?id=x"] {
        let page = browser.get(path).await;
        assert!(
            page.headers["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("frame-ancestors 'none'")
        );
        assert_eq!(page.headers["x-frame-options"], "DENY");
        assert!(
            page.text.contains("<html lang=\"en\">") && page.text.contains("<title>"),
            "{path}"
        );
        assert!(
            !page.text.contains("http://") && !page.text.contains("<script"),
            "{path}: {}",
            page.text
        );
        for input in page.text.split("<input").skip(1) {
            let tag = input.split('>').next().unwrap();
            if let Some(id) = tag.split("id=\"").nth(1).and_then(|rest| rest.split('"').next()) {
                assert!(page.text.contains(&format!("<label for=\"{id}\"")), "{path}: {id}");
                assert!(tag.contains("autocomplete="), "{path}: {id}");
            }
        }
    }
    let style = browser.get("/assets/style.css").await;
    assert!(style.text.contains("prefers-color-scheme: dark"));
}
