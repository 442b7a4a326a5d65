//! kubectl's exec plugin: one credential for all, one refresh for all, a clear end.

use std::{fs, process::Command};

use nullius_cli::Exit;
use serde_json::Value;

use crate::{
    hub::Hub,
    person::{Done, Person},
    time::after,
};

const HOME: &str = "NULLIUS_TEST_HOME";
const RESULT: &str = "NULLIUS_TEST_RESULT";
const PROCESSES: usize = 50;

async fn credential(person: &Person) -> Done {
    person.run(&["kubeconfig", "credential"]).await
}

fn token(out: &str) -> String {
    let document: Value = serde_json::from_str(out).unwrap();
    assert_eq!(document["apiVersion"], "client.authentication.k8s.io/v1");
    assert_eq!(document["kind"], "ExecCredential");
    assert!(document["status"]["expirationTimestamp"].as_str().unwrap().ends_with('Z'));
    document["status"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_credential_is_shared_until_it_is_old() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    assert_eq!(token(&credential(&person).await.ok()), "kube-1");
    assert_eq!(token(&credential(&person).await.ok()), "kube-1");
    assert_eq!(hub.state().refreshes, 0, "the access token of the sign-in still counted");
    // Ten seconds of life, of which more than 80 % are over when less than two are left.
    age_by(&person, 500);
    assert_eq!(token(&credential(&person).await.ok()), "kube-2");
    age_by(&person, 700);
    assert_eq!(token(&credential(&person).await.ok()), "kube-3");
}

/// Makes the stored credential older, as if time had passed.
fn age_by(person: &Person, seconds: i64) {
    let path = fs::read_dir(person.config().join("sessions"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_str().unwrap().ends_with(".kube.json"))
        .unwrap();
    let mut stored: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for field in ["issuedAt", "expiresAt"] {
        let at: nullius_model::Timestamp = stored[field].as_str().unwrap().parse().unwrap();
        let older = at.checked_sub(jiff::SignedDuration::from_secs(seconds)).unwrap();
        stored[field] = older.to_string().into();
    }
    fs::write(&path, stored.to_string()).unwrap();
}

#[tokio::test]
async fn while_the_hub_is_away_an_old_credential_goes_on_and_none_fails_clearly() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    credential(&person).await.ok();
    age_by(&person, 500);
    drop(hub);
    assert_eq!(token(&credential(&person).await.ok()), "kube-1");
    age_by(&person, 200);
    let began = std::time::Instant::now();
    let err = credential(&person).await.failed(Exit::Failed);
    assert!(err.contains("cannot reach the hub"), "{err}");
    assert!(began.elapsed().as_secs() < 5);
}

#[tokio::test]
async fn an_ended_session_says_to_sign_in_again() {
    let hub = Hub::start().await;
    hub.state().access_ttl = 5;
    let person = Person::at(&hub).await;
    hub.state().end_session();
    for _ in 0..2 {
        let err = credential(&person).await.failed(Exit::Failed);
        assert!(err.contains("sign in again: `nullius login`"), "{err}");
    }
    assert_eq!(hub.state().refreshes, 1, "what has ended is not asked for again");
}

#[tokio::test]
async fn a_token_that_the_hub_no_longer_takes_ends_the_session_here_too() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    hub.state().end_session();
    let err = credential(&person).await.failed(Exit::Failed);
    assert!(err.contains("sign in again"), "{err}");
}

#[tokio::test]
async fn clocks_that_differ_do_not_end_a_credential_early_or_late() {
    for skew in [-7_200, 7_200] {
        let hub = Hub::start().await;
        hub.state().skew = skew;
        let person = Person::at(&hub).await;
        let out = credential(&person).await.ok();
        let document: Value = serde_json::from_str(&out).unwrap();
        let ends: nullius_model::Timestamp =
            document["status"]["expirationTimestamp"].as_str().unwrap().parse().unwrap();
        let left = ends.as_second() - after(0).as_second();
        assert!((590..=602).contains(&left), "{left}");
        credential(&person).await.ok();
        let state = hub.state();
        assert_eq!((state.credentials, state.refreshes), (1, 0));
    }
}

#[tokio::test]
async fn kubectl_that_speaks_another_version_is_told() {
    let hub = Hub::start().await;
    let mut person = Person::at(&hub).await;
    let info = |version: &str| {
        format!(
            r#"{{"apiVersion":"{version}","kind":"ExecCredential","spec":{{"interactive":false}}}}"#
        )
    };
    person.exec_info = Some(info("client.authentication.k8s.io/v1"));
    credential(&person).await.ok();
    person.exec_info = Some(info("client.authentication.k8s.io/v1beta1"));
    assert!(credential(&person).await.failed(Exit::Usage).contains("v1beta1"));
}

#[tokio::test]
async fn somebody_at_a_terminal_gets_one_browser_and_the_others_wait_for_it() {
    let hub = Hub::start().await;
    hub.state().access_ttl = 5;
    let mut person = Person::at(&hub).await;
    hub.state().end_session();
    person.exec_info = Some(
        r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":true}}"#.to_owned(),
    );
    person.answers = vec!["unused"];
    person.browser = Some("true".to_owned());
    hub.state().access_ttl = 600;
    let visitor = async {
        let begun = loop {
            let begun = hub.state().login_for_test();
            match begun {
                Some(begun) => break begun,
                None => tokio::task::yield_now().await,
            }
        };
        let redirect = begun["redirectUri"].as_str().unwrap().to_owned();
        let state = begun["state"].as_str().unwrap().to_owned();
        crate::sign_in::visit(&redirect, &format!("code=the-code&state={state}")).await;
    };
    let ((first, second, third), ()) = tokio::join!(
        async { tokio::join!(credential(&person), credential(&person), credential(&person)) },
        visitor
    );
    let tokens = [first, second, third].map(|done| token(&done.ok()));
    assert!(tokens.iter().all(|found| *found == tokens[0]), "{tokens:?}");
    let logins = hub.state().calls.iter().filter(|call| call.contains("browser-login")).count();
    assert_eq!(logins, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_processes_make_one_refresh() {
    let hub = Hub::start().await;
    hub.state().access_ttl = 5;
    let person = Person::at(&hub).await;
    hub.state().access_ttl = 600;
    let results: Vec<_> =
        (0..PROCESSES).map(|number| person.home.path().join(format!("r{number}"))).collect();
    let program = std::env::current_exe().unwrap();
    let mut children: Vec<_> = results
        .iter()
        .map(|result| {
            Command::new(&program)
                .args(["--exact", "credential::one_of_the_fifty", "--test-threads=1"])
                .env(HOME, person.home.path())
                .env(RESULT, result)
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    tokio::task::spawn_blocking(move || {
        for child in &mut children {
            assert!(child.wait().unwrap().success());
        }
    })
    .await
    .unwrap();
    for result in results {
        assert_eq!(token(&fs::read_to_string(result).unwrap()), "kube-1");
    }
    let state = hub.state();
    assert_eq!((state.refreshes, state.credentials), (1, 1));
}

/// What each process of the test above does; alone it has nothing to do.
#[tokio::test]
async fn one_of_the_fifty() {
    let (Ok(home), Ok(result)) = (std::env::var(HOME), std::env::var(RESULT)) else { return };
    let mut person = Person::new();
    person.lives_at = Some(home.into());
    fs::write(result, credential(&person).await.ok()).unwrap();
}
