#![allow(clippy::unwrap_used, reason = "test")]

use super::*;

fn source(url: &str, reach: Reach) -> Fetch<'_> {
    Fetch { url, server: ServerProof::Web, reach, max: 1_024, accept: "application/json" }
}

#[test]
fn what_is_fetched_is_https_and_nothing_beside() {
    for url in ["https://login.example/keys", "https://10.0.0.1:8443/a?b=c", "https://[::1]/"] {
        source(url, Reach::All).check().unwrap();
    }
    for url in [
        "",
        "login.example/keys",
        "http://login.example/keys",
        "file:///etc/passwd",
        "https:///keys",
        "https://user@login.example/keys",
        "https://login.example/keys#x",
        "https://login.example/a b",
        "https://login.example/\r\nX: y",
        "https://login.example\\@evil.example/",
    ] {
        let told = source(url, Reach::All).check();
        assert!(matches!(told, Err(FetchError::Url(_))), "{url}: {told:?}");
    }
    let long = format!("https://login.example/{}", "x".repeat(URL_MAX));
    assert!(source(&long, Reach::All).check().is_err());
    let odd = Fetch {
        server: ServerProof::Authorities("no certificate"),
        ..source("https://login.example/", Reach::All)
    };
    assert!(matches!(odd.check(), Err(FetchError::Authorities(_))));
}

#[tokio::test]
async fn nothing_is_fetched_from_the_machine_itself_or_where_clouds_tell_secrets() {
    for host in [
        "127.0.0.1",
        "127.8.9.1",
        "localhost",
        "0.0.0.0",
        "169.254.169.254",
        "169.254.1.1",
        "224.0.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:169.254.169.254]",
        "[fe80::1]",
        "[fd00:ec2::254]",
    ] {
        let url = format!("https://{host}:1/keys");
        let told = source(&url, Reach::Elsewhere).get().await.unwrap_err();
        assert!(matches!(told, FetchError::Forbidden(..)), "{host}: {told}");
    }
    for private in ["10.0.0.1", "192.168.0.1", "fd00::1", "93.184.216.34"] {
        assert!(Reach::Elsewhere.has(private.parse().unwrap()), "{private}");
    }
}
