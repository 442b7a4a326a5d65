//! Signing in and out: each way in, first contact, what is kept and what goes.

use std::{fs, os::unix::fs::PermissionsExt};

use nullius_cli::Exit;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    hub::{CODE, Hub, PASSWORD, error},
    person::Person,
};

fn session(person: &Person) -> String {
    let name = fs::read_dir(person.config().join("sessions")).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name.ends_with(".json") && !name.ends_with(".kube.json")).then_some(path)
    });
    name.map(|path| fs::read_to_string(path).unwrap()).unwrap_or_default()
}

#[tokio::test]
async fn a_password_and_a_code_at_the_terminal_sign_in() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    assert!(session(&person).contains("refresh-1"));
    for entry in fs::read_dir(person.config().join("sessions")).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
    let mut wrong = Person::new();
    wrong.answers = vec!["guess", CODE];
    let ca = wrong.file("ca.pem", &hub.ca);
    let words = ["login", "--hub", &hub.url(), "--ca", &ca, "--user", "ada"];
    let err = wrong.run(&words).await.failed(Exit::Failed);
    assert!(err.contains("user, password or code is wrong"), "{err}");
    assert!(!wrong.config().join("contexts.json").exists());
}

#[tokio::test]
async fn the_browser_returns_to_the_loopback_page_with_the_code() {
    let hub = Hub::start().await;
    let person = Person::new();
    let ca = person.file("ca.pem", &hub.ca);
    let url = hub.url();
    let browser = async {
        // What the hub's page does after sign-in: it sends the browser back.
        let begun = loop {
            let begun = hub.state().login_for_test();
            match begun {
                Some(begun) => break begun,
                None => tokio::task::yield_now().await,
            }
        };
        let redirect = begun["redirectUri"].as_str().unwrap();
        let state = begun["state"].as_str().unwrap();
        let wrong = visit(redirect, "code=the-code&state=guess").await;
        assert!(wrong.starts_with("HTTP/1.1 400"), "{wrong}");
        let page = visit(redirect, &format!("code=the-code&state={state}")).await;
        assert!(
            page.starts_with("HTTP/1.1 200") && page.contains("You may close this page"),
            "{page}"
        );
        assert!(page.contains("default-src 'none'"));
    };
    let words = ["login", "--hub", &url, "--ca", &ca];
    let (done, ()) = tokio::join!(person.run(&words), browser);
    assert!(done.err.contains("https://hub.example/sign-in?id=1"), "{}", done.err);
    assert!(done.err.contains("No browser can be opened here"));
    done.ok();
    assert!(session(&person).contains("access-1"));
}

pub async fn visit(redirect: &str, query: &str) -> String {
    let host = redirect.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!("GET /?{query} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_device_code_is_polled_until_somebody_signed_in() {
    let hub = Hub::start().await;
    hub.state().device_polls_left = 1;
    let person = Person::new();
    let ca = person.file("ca.pem", &hub.ca);
    let done = person.run(&["login", "--device", "--hub", &hub.url(), "--ca", &ca]).await;
    assert!(done.err.contains("ABCD-EFGH"), "{}", done.err);
    done.ok();
    assert_eq!(hub.state().calls.iter().filter(|call| call.contains("/v1/token")).count(), 2);
}

#[tokio::test]
async fn first_contact_pins_only_what_somebody_vouched_for() {
    let hub = Hub::start().await;
    let url = hub.url();
    let right = format!("sha256:{}", hub.fingerprint);
    let wrong = format!("sha256:{}", "0".repeat(64));
    let login = |person: Person, extra: Vec<String>| {
        let url = url.clone();
        async move {
            let mut words = vec!["login", "--terminal", "--user", "ada", "--hub", &url];
            words.extend(extra.iter().map(String::as_str));
            let done = person.run(&words).await;
            (person, done)
        }
    };
    let answering = |answers: Vec<&'static str>| Person { answers, ..Person::new() };

    let (_, done) =
        login(answering(vec![PASSWORD, CODE]), vec!["--ca-fingerprint".into(), right.clone()])
            .await;
    done.ok();
    let (_, done) =
        login(answering(vec![PASSWORD, CODE]), vec!["--ca-fingerprint".into(), wrong]).await;
    assert!(done.failed(Exit::Denied).contains(&hub.fingerprint));
    let (_, done) = login(answering(vec!["yes", PASSWORD, CODE]), vec![]).await;
    assert!(done.err.contains(&right), "{}", done.err);
    done.ok();
    let (person, done) = login(answering(vec!["no"]), vec![]).await;
    assert!(done.failed(Exit::Failed).contains("the root was not pinned"));
    assert!(!person.config().exists());
    let (_, done) = login(Person::new(), vec![]).await;
    assert!(done.failed(Exit::Usage).contains("--ca-fingerprint"));
    // Nobody typed a password before the root was pinned.
    assert_eq!(hub.state().calls.iter().filter(|call| call.contains("sign-in")).count(), 2);
}

#[tokio::test]
async fn another_hub_at_the_address_is_refused() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    let other = Hub::start().await;
    // The context now leads to a hub with another root.
    let contexts = person.config().join("contexts.json");
    let text = fs::read_to_string(&contexts).unwrap().replace(&hub.url(), &other.url());
    fs::write(&contexts, text).unwrap();
    let err = person.run(&["version"]).await.ok();
    assert!(err.contains("is not the hub that is pinned here"), "{err}");
    assert!(other.state().calls.is_empty());
}

#[tokio::test]
async fn a_second_sign_in_ends_the_session_before() {
    let hub = Hub::start().await;
    let mut person = Person::at(&hub).await;
    person.answers = vec![PASSWORD, CODE];
    person.run(&["login", "--user", "ada"]).await.ok();
    assert_eq!(hub.state().logouts, 1);
}

#[tokio::test]
async fn logout_ends_the_session_at_the_hub_and_forgets_it_here() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    person.run(&["kubeconfig", "credential"]).await.ok();
    person.run(&["logout"]).await.ok();
    assert_eq!(hub.state().logouts, 1);
    assert_eq!(session(&person), "");
    let err = person.run(&["kubeconfig", "credential"]).await.failed(Exit::Failed);
    assert!(err.contains("nullius login"), "{err}");
    person.run(&["logout"]).await.ok();

    let person = Person::at(&hub).await;
    let session_before = session(&person);
    drop(hub);
    let err = person.run(&["logout"]).await.failed(Exit::Failed);
    assert!(err.contains("the hub was not told"), "{err}");
    assert_ne!(session_before, session(&person));
}

#[tokio::test]
async fn a_fresh_factor_is_asked_for_where_somebody_can_answer() {
    let hub = Hub::start().await;
    let mut person = Person::at(&hub).await;
    let group = "apiVersion: nullius.dev/v1alpha1\nkind: Group\nmetadata: {name: devs}\nspec: {}\n";
    let file = person.file("group.yaml", group);
    hub.state().wants_step_up = true;
    let err = person.run(&["apply", "-f", &file]).await.failed(Exit::Denied);
    assert!(err.contains("nullius login --step-up"), "{err}");
    person.answers = vec![CODE];
    assert_eq!(person.run(&["apply", "-f", &file]).await.ok(), "Group/devs created\n");
    hub.state().wants_step_up = true;
    person.run(&["login", "--step-up"]).await.ok();
    assert!(!hub.state().wants_step_up);
}

#[tokio::test]
async fn a_lock_is_told_and_the_session_is_kept_for_when_it_goes() {
    let hub = Hub::start().await;
    hub.state().access_ttl = 5;
    let person = Person::at(&hub).await;
    hub.script("POST /v1/token", 403, error("denied", "ada is locked: call security"));
    let err = person.run(&["access", "list"]).await.failed(Exit::Denied);
    assert!(err.contains("call security"), "{err}");
    assert!(session(&person).contains("refresh-1"));
}
