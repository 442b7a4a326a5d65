//! A real browser, used as a person without a mouse would, and watched for all that it complains about.
//!
//! Chromium, by WebDriver. It believes the hub's root because the root was imported, as people are told to, and checks
//! everything else as usual. Every test that uses it ends with [`Browser::no_complaints`].

use std::{fs, path::Path, process::Command};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use nullius_testkit::{missing_for_browser, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::faults_lab::{PATIENCE, Program};

/// How often somebody presses Tab before they give up.
const MOST_TABS: usize = 30;
/// Keys without a character, as WebDriver writes them (section 17.4.2).
const TAB: char = '\u{e004}';
const ENTER: char = '\u{e007}';
/// The field of an answer that holds an element's id (section 12.2).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Chromium with a profile of its own.
pub(crate) struct Browser {
    session: WebDriver,
    _driver: Program,
    _home: TempDir,
}

impl Browser {
    /// A new browser that believes this root; `None` where none is installed, which in CI is a failure.
    pub(crate) fn start(root: &Path) -> Option<Self> {
        if let Some(missing) = missing_for_browser() {
            nullius_skip::skip(&missing);
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        import(root, home.path());
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("HOME", home.path()).env_remove("XDG_DATA_HOME");
        let log = home.path().join("driver.log");
        let mut driver = Program::start("chromedriver", &log, &mut command);
        let line = driver.wait_said("started successfully on port ");
        let port = line.trim_end_matches('.').rsplit(' ').next().unwrap();
        let session = WebDriver::begin(port, &capabilities(&home.path().join("profile")));
        Some(Self { session, _driver: driver, _home: home })
    }

    /// Goes to an address, as if it were typed.
    #[track_caller]
    pub(crate) fn open(&self, url: &str) {
        self.session.post("url", &json!({ "url": url }));
        self.is_accessible();
    }

    /// What the page says: one that goes has no text any more, and the next one none yet.
    fn text(&self) -> Option<String> {
        let script = json!({ "script": "return document.body.innerText", "args": [] });
        let text = self.session.try_call(&Method::POST, "execute/sync", Some(&script)).ok()?;
        Some(text.as_str()?.to_owned())
    }

    /// Waits until the page says something, and gives all of it.
    #[track_caller]
    pub(crate) fn wait_text(&self, part: &str) -> String {
        let found = wait_until(PATIENCE, &format!("`{part}` on the page"), || {
            self.text().filter(|text| text.contains(part))
        });
        let text = found.unwrap_or_else(|error| panic!("{error}"));
        self.is_accessible();
        text
    }

    /// Where it is.
    #[track_caller]
    pub(crate) fn address(&self) -> String {
        self.session.get("url").as_str().unwrap().to_owned()
    }

    /// The text of what a CSS selector selects.
    #[track_caller]
    pub(crate) fn text_of(&self, selector: &str) -> String {
        let script = "return document.querySelector(arguments[0]).innerText";
        self.run(script, &[json!(selector)]).as_str().unwrap().to_owned()
    }

    /// Walks to the field of this label by Tab, and types.
    #[track_caller]
    pub(crate) fn fill(&self, label: &str, text: &str) {
        self.walk_to(label);
        self.run("document.activeElement.select()", &[]);
        self.press(text.chars());
    }

    /// Walks to the button or link of this name by Tab, and presses Enter.
    #[track_caller]
    pub(crate) fn push(&self, name: &str) {
        self.walk_to(name);
        self.press([ENTER]);
    }

    /// Presses Tab until what has this name has the focus.
    #[track_caller]
    fn walk_to(&self, name: &str) {
        let mut met = Vec::new();
        for _ in 0..MOST_TABS {
            let here = self.name_of(&self.session.get("element/active"));
            if here == name {
                return;
            }
            met.push(here);
            self.press([TAB]);
        }
        panic!("Tab does not lead to `{name}`, but to {met:?}");
    }

    #[track_caller]
    fn press(&self, keys: impl IntoIterator<Item = char>) {
        let stroke =
            |key| ["keyDown", "keyUp"].map(|stroke| json!({ "type": stroke, "value": key }));
        let strokes: Vec<Value> = keys.into_iter().flat_map(stroke).collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": strokes });
        self.session.post("actions", &json!({ "actions": [keyboard] }));
    }

    /// Runs a script in the page: to look at it, never to do what a person does.
    #[track_caller]
    fn run(&self, script: &str, args: &[Value]) -> Value {
        self.session.post("execute/sync", &json!({ "script": script, "args": args }))
    }

    /// The name that assistive technology gives an element.
    #[track_caller]
    fn name_of(&self, element: &Value) -> String {
        let id = element[ELEMENT].as_str().unwrap();
        let name = self.session.get(&format!("element/{id}/computedlabel"));
        name.as_str().unwrap().to_owned()
    }

    /// A language, a title, one heading of the first order, and a name for everything that can be used.
    #[track_caller]
    fn is_accessible(&self) {
        let script = "return [document.documentElement.lang, document.title, \
                      document.querySelectorAll('h1').length, \
                      [...document.querySelectorAll('[id]')].map(e => e.id)]";
        let page = self.run(script, &[]);
        assert_eq!(page[0], "en", "{page}");
        assert!(page[1].as_str().unwrap().contains("Nullius"), "{page}");
        assert_eq!(page[2], 1, "{page}");
        let mut ids: Vec<_> = page[3].as_array().unwrap().iter().map(Value::to_string).collect();
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all, "an id stands twice: {page}");
        let usable =
            "input:not([type=hidden]):not([aria-hidden=true]), button, select, textarea, a";
        let usable = json!({ "using": "css selector", "value": usable });
        for element in self.session.post("elements", &usable).as_array().unwrap() {
            let html = || self.run("return arguments[0].outerHTML", std::slice::from_ref(element));
            assert!(!self.name_of(element).trim().is_empty(), "this has no name: {}", html());
        }
    }

    /// Nothing was blocked, refused or broken in any page since the last look, and all that was loaded came from these
    /// origins. The pages for refused forms themselves (4xx) are no complaint.
    #[track_caller]
    pub(crate) fn no_complaints(&self, origins: &[&str]) {
        let mut complaints = self.log("browser");
        complaints.retain(|entry| !is_a_refused_form(entry));
        assert!(complaints.is_empty(), "{complaints:#?}");
        let mut requests = 0;
        for entry in self.log("performance") {
            let event: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            if event["message"]["method"] != "Network.requestWillBeSent" {
                continue;
            }
            let url = event["message"]["params"]["request"]["url"].as_str().unwrap().to_owned();
            // The page that a new browser shows, and what stands in a page itself.
            if url.starts_with("chrome://") || url.starts_with("data:") {
                continue;
            }
            let ours = |origin: &&str| url.starts_with(&format!("{origin}/"));
            assert!(origins.iter().any(ours), "it asked for {url}");
            requests += 1;
        }
        assert!(requests > 0, "the browser tells of no request");
    }

    /// What a log of the browser holds since it was read last.
    #[track_caller]
    fn log(&self, kind: &str) -> Vec<Value> {
        self.session.post("se/log", &json!({ "type": kind })).as_array().unwrap().clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let address = self.session.try_call(&Method::GET, "url", None);
            eprintln!("--- the page at last, {address:?}:\n{:?}", self.text());
        }
        let _ = self.session.try_call(&Method::DELETE, "", None);
    }
}

/// The form came back with what was wrong: the answer has a status that says so, which the browser notes.
fn is_a_refused_form(entry: &Value) -> bool {
    let message = entry["message"].as_str().unwrap_or_default();
    entry["source"] == "network" && message.contains("the server responded with a status of 4")
}

/// Makes a root known to a browser whose home this is, as `certutil` does for people.
fn import(root: &Path, home: &Path) {
    let store = home.join(".pki/nssdb");
    fs::create_dir_all(&store).unwrap();
    let store = format!("sql:{}", store.display());
    let root = root.display().to_string();
    let add = ["-A", "-t", "C,,", "-n", "nullius", "-i", &root];
    for args in [&["-N", "--empty-password"][..], &add] {
        let output = Command::new("certutil").args(["-d", &store]).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn capabilities(profile: &Path) -> Value {
    let mut args = vec![
        "--headless=new".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-quic".to_owned(),
        "--no-first-run".to_owned(),
        "--disable-background-networking".to_owned(),
        "--disable-component-update".to_owned(),
        "--disable-sync".to_owned(),
        format!("--user-data-dir={}", profile.display()),
    ];
    if rustix::process::geteuid().is_root() {
        // Its sandbox refuses to be run by root.
        args.push("--no-sandbox".to_owned());
    }
    json!({
        "browserName": "chrome",
        "goog:chromeOptions": { "args": args, "binary": "/usr/bin/chromium" },
        "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
    })
}

/// A session of WebDriver (W3C Recommendation), which the browser's driver serves on this machine.
struct WebDriver {
    runtime: Runtime,
    client: Client<HttpConnector, Full<Bytes>>,
    session: String,
}

impl WebDriver {
    #[track_caller]
    fn begin(port: &str, capabilities: &Value) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let session = format!("http://127.0.0.1:{port}/session");
        let mut driver = Self { runtime, client, session };
        let wanted = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let begun = driver.post("", &wanted);
        driver.session = format!("{}/{}", driver.session, begun["sessionId"].as_str().unwrap());
        driver
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let answer = self.try_call(&Method::GET, path, None);
        answer.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.try_call(&Method::POST, path, Some(body));
        answer.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The value of the answer; what went wrong as text.
    fn try_call(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let url = format!("{}/{path}", self.session);
        let request = Request::builder()
            .method(method)
            .uri(url.trim_end_matches('/'))
            .header(http::header::CONTENT_TYPE, "application/json; charset=utf-8")
            .body(Full::from(body.map(Value::to_string).unwrap_or_default()))
            .map_err(|error| error.to_string())?;
        let (status, text) = self.runtime.block_on(async {
            let response = self.client.request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
            Ok::<_, String>((status, body.to_bytes()))
        })?;
        let answer: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let value = answer["value"].clone();
        if status.is_success() { Ok(value) } else { Err(value.to_string()) }
    }
}
