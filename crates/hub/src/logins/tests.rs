//! Codes go to the client that asked, once, and to no other place than its loopback address.
#![allow(clippy::unwrap_used, reason = "test")]

use std::collections::BTreeSet;

use nullius_model::Factor;

use super::*;

const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters-0";
const REDIRECT: &str = "http://127.0.0.1:4711/";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn ada() -> Proven {
    let factors = BTreeSet::from([Factor::Password, Factor::Totp]);
    Proven { user: "ada".parse().unwrap(), proof: Proof { factors, factor_at: at(0) } }
}

fn verifier() -> SecretString {
    SecretString::from(VERIFIER.to_owned())
}

fn challenge() -> String {
    PkceChallenge::of(&verifier()).to_text()
}

fn approved(logins: &BrowserLogins) -> String {
    let id = logins.begin(&challenge(), "s".to_owned(), REDIRECT, SOURCE, at(0)).unwrap();
    let (_, to) = logins.approve(&id, ada(), at(1)).unwrap();
    let (_, query) = to.split_once('?').unwrap();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "code").unwrap().1.into_owned()
}

#[test]
fn only_loopback_literals_are_redirected_to() {
    for good in [REDIRECT, "http://[::1]:1/", "http://127.0.0.1:65535/callback"] {
        assert!(Loopback::parse(good).is_ok(), "{good}");
    }
    for bad in [
        "https://127.0.0.1:4711/",
        "http://127.0.0.1/",
        "http://127.0.0.1:0/",
        "http://localhost:4711/",
        "http://127.0.0.2:4711/",
        "http://127.1:4711/",
        "http://0x7f.0.0.1:4711/",
        "http://127.0.0.1:4711",
        "http://127.0.0.1:4711@evil.example/",
        "http://evil.example/?http://127.0.0.1:4711/",
        "http://127.0.0.1:4711/?x=1",
        "http://127.0.0.1:4711/#x",
        "http://127.0.0.1:4711/\r\nSet-Cookie:a",
        "http://127.0.0.1:04711/",
        "http://[::ffff:127.0.0.1]:4711/",
        "//127.0.0.1:4711/",
        "javascript:alert(1)",
    ] {
        assert_eq!(Loopback::parse(bad).err(), Some(LoginError::Redirect), "{bad}");
    }
}

#[test]
fn a_code_is_exchanged_once_by_the_client_that_asked() {
    let logins = BrowserLogins::default();
    let code = approved(&logins);
    assert_eq!(logins.exchange(&code, &verifier(), REDIRECT, at(2)), Ok(ada()));
    let session = SessionId::from_bits(1);
    logins.gave(&code, &session);
    let again = logins.exchange(&code, &verifier(), REDIRECT, at(3));
    assert_eq!(again, Err(LoginError::CodeReused(Some(session))));
    assert_eq!(logins.exchange("other", &verifier(), REDIRECT, at(3)), Err(LoginError::Code));
}

#[test]
fn a_stolen_or_old_code_is_worth_nothing() {
    let logins = BrowserLogins::default();
    let code = approved(&logins);
    let wrong = SecretString::from("b".repeat(43));
    assert_eq!(logins.exchange(&code, &wrong, REDIRECT, at(2)), Err(LoginError::Verifier));
    assert_eq!(
        logins.exchange(&code, &verifier(), REDIRECT, at(2)),
        Err(LoginError::CodeReused(None))
    );
    let code = approved(&logins);
    let elsewhere = "http://127.0.0.1:4712/";
    assert_eq!(
        logins.exchange(&code, &verifier(), elsewhere, at(2)),
        Err(LoginError::OtherRedirect)
    );
    let code = approved(&logins);
    assert_eq!(logins.exchange(&code, &verifier(), REDIRECT, at(61)), Err(LoginError::Code));
}

#[test]
fn a_login_is_approved_once_and_in_time() {
    let logins = BrowserLogins::default();
    let id = logins.begin(&challenge(), "s".to_owned(), REDIRECT, SOURCE, at(0)).unwrap();
    assert!(logins.find(&id, at(1)).is_some());
    assert!(logins.approve(&id, ada(), at(1)).is_ok());
    assert!(logins.approve(&id, ada(), at(1)).is_err());
    let id = logins.begin(&challenge(), "s".to_owned(), REDIRECT, SOURCE, at(0)).unwrap();
    assert!(logins.find(&id, at(600)).is_none());
    assert!(logins.approve(&id, ada(), at(600)).is_err());
    let begun = logins.begin("plain", "s".to_owned(), REDIRECT, SOURCE, at(0));
    assert_eq!(begun.err(), Some(LoginError::Challenge));
}

#[test]
fn a_device_waits_for_an_answer_and_gets_it_once() {
    let logins = DeviceLogins::default();
    let DeviceCodes { device_code, user_code, .. } = logins.begin(SOURCE, at(0)).unwrap();
    let secret = device_code.expose_secret();
    assert_eq!(logins.poll(secret, at(5)), Poll::Pending);
    assert_eq!(logins.poll(secret, at(6)), Poll::SlowDown);
    assert_eq!(logins.find(&user_code, at(7)).unwrap().user_code, user_code);
    logins.answer(&user_code, Some(ada()), at(8)).unwrap();
    assert!(logins.find(&user_code, at(8)).is_none());
    assert_eq!(logins.answer(&user_code, None, at(8)), Err(LoginError::Completed));
    assert_eq!(logins.poll(secret, at(20)), Poll::Approved(ada()));
    assert_eq!(logins.poll(secret, at(40)), Poll::Ended);
}

#[test]
fn a_device_that_is_refused_or_late_gets_nothing() {
    let logins = DeviceLogins::default();
    let codes = logins.begin(SOURCE, at(0)).unwrap();
    logins.answer(&codes.user_code, None, at(3)).unwrap();
    assert_eq!(logins.poll(codes.device_code.expose_secret(), at(8)), Poll::Refused);
    let codes = logins.begin(SOURCE, at(0)).unwrap();
    assert!(logins.find(&codes.user_code, at(600)).is_none());
    assert_eq!(logins.poll(codes.device_code.expose_secret(), at(600)), Poll::Ended);
}
