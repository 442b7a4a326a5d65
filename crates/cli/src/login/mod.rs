//! `nullius login`: by browser, by device code, or at the terminal; and a fresh factor for a session that stands.

pub(crate) mod loopback;
pub(crate) mod pin;
pub(crate) mod prompt;

use std::{path::PathBuf, process::Stdio, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nullius_api::{
    BrowserLogin, BrowserLoginRequest, DeviceLogin, SignInRequest, TokenRequest, route,
};
use nullius_pki::random_token;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use crate::{
    client::{Call, Hub, call::Answer},
    environment::{Answers, Environment},
    failure::Failure,
    home::{
        contexts::{Context, Contexts, Named},
        session::{Locked, StoredSession},
    },
};
use loopback::Loopback;
use pin::{Fingerprint, Voucher};

/// How somebody signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// A browser on this machine.
    Browser,
    /// A browser on another machine.
    Device,
    /// Password and code at the terminal.
    Terminal,
}

/// What vouches for the root of a hub at first contact, from the command line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vouching {
    pub(crate) file: Option<PathBuf>,
    pub(crate) fingerprint: Option<Fingerprint>,
}

/// The context to sign in to: a known one, or a new one whose root is pinned now.
pub(crate) async fn context_for(
    contexts: &Contexts,
    hub: Option<&Url>,
    name: Option<&nullius_model::ObjectName>,
    vouching: &Vouching,
    environment: &mut Environment,
) -> Result<Named, Failure> {
    let voucher = match vouching {
        Vouching { file: Some(file), .. } => Some(Voucher::File(file)),
        Vouching { fingerprint: Some(fingerprint), .. } => Some(Voucher::Fingerprint(*fingerprint)),
        Vouching { file: None, fingerprint: None } => None,
    };
    let known = match hub {
        // A name that is not taken yet, with a hub, is a new context.
        Some(_) if name.is_some_and(|name| !contexts.contexts.contains_key(name)) => None,
        Some(hub) => contexts.choose(Some(hub), name).ok(),
        None => Some(contexts.choose(None, name)?),
    };
    let (name, hub) = match (known, hub) {
        (Some(known), _) if voucher.is_none() => return Ok(known),
        (Some(known), _) => (known.name, known.context.hub),
        (None, Some(hub)) => {
            if let Some(name) = name.filter(|name| contexts.contexts.contains_key(*name)) {
                // Says of which hub the context is.
                contexts.choose(Some(hub), Some(name))?;
            }
            (name.cloned().unwrap_or_else(|| contexts.name_for(hub)), hub.clone())
        }
        (None, None) => contexts.choose(None, None).map(|named| (named.name, named.context.hub))?,
    };
    let ca = pin::root_to_pin(&hub, voucher.unwrap_or(Voucher::Person), environment).await?;
    Ok(Named { name, context: Context { hub, ca } })
}

/// Who asks: a fixed user name and where the other answers come from.
pub(crate) struct Credentials {
    pub(crate) user: Option<String>,
    pub(crate) answers: Answers,
}

/// Signs in and keeps the session; the caller holds no lock.
pub(crate) async fn sign_in(
    hub: &Hub,
    way: Way,
    credentials: Credentials,
    environment: &mut Environment,
) -> Result<StoredSession, Failure> {
    let signed_in = match way {
        Way::Browser => by_browser(hub, environment).await?,
        Way::Device => by_device(hub, environment).await?,
        Way::Terminal => at_terminal(hub, credentials).await?,
    };
    let lock = hub.lock().await?;
    keep(hub, signed_in, &lock)
}

/// What a sign-in gave: the hub's answer, and the secret that its refresh token is bound to.
pub(crate) struct SignedIn {
    answer: Answer,
    client: ClientSecret,
}

/// A secret that this client alone keeps: the hub is told its hash at sign-in, and the secret at each refresh.
struct ClientSecret(SecretString);

impl ClientSecret {
    fn new() -> Self {
        Self(random_token())
    }

    fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.0.expose_secret()))
    }
}

/// Keeps the tokens of a new sign-in; kubectl's credential of the old session goes.
pub(crate) fn keep(
    hub: &Hub,
    signed_in: SignedIn,
    lock: &Locked,
) -> Result<StoredSession, Failure> {
    let SignedIn { answer, client } = signed_in;
    hub.files.forget_credential(lock)?;
    hub.keep(&answer, client.0.expose_secret().to_owned(), lock)
}

async fn at_terminal(hub: &Hub, credentials: Credentials) -> Result<SignedIn, Failure> {
    let answers = &credentials.answers;
    let user = match credentials.user {
        Some(user) => user,
        None => answers.ask("user: ").await?,
    };
    let password = answers.ask_secret("password: ").await?;
    let code = answers.ask_secret("code of your authenticator: ").await?;
    let client = ClientSecret::new();
    let request = SignInRequest {
        user: user.trim().to_owned(),
        password,
        code: code.trim().to_owned(),
        client: client.challenge(),
    };
    let answer = hub.anonymous(&Call::post("cannot sign in", route::SIGN_IN, &request)?).await?;
    Ok(SignedIn { answer, client })
}

/// Signs in by a browser on this machine; PKCE binds the code to this process.
pub(crate) async fn by_browser(
    hub: &Hub,
    environment: &mut Environment,
) -> Result<SignedIn, Failure> {
    let loopback = Loopback::open().await?;
    let redirect_uri = loopback.redirect_uri.clone();
    let (verifier, state) = (random_token(), random_token());
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.expose_secret()));
    let begin = BrowserLoginRequest {
        challenge,
        redirect_uri: redirect_uri.clone(),
        state: state.expose_secret().to_owned(),
    };
    let call = Call::post("cannot begin a sign-in", route::BROWSER_LOGIN, &begin)?;
    let login: BrowserLogin = hub.anonymous(&call).await?.read(&call.what)?;
    let page = page_of(&login.url)?;
    environment.terminal.tell(&format!("Sign in on this page:\n\n    {page}\n\n"));
    if !open_browser(environment, &page) {
        environment.terminal.tell(
            "No browser can be opened here. Open the page on this machine, or sign in on another: nullius login --device\n",
        );
    }
    let patience = Duration::from_secs(u64::from(login.expires_in));
    let code =
        timeout(patience, loopback.code(state.expose_secret())).await.unwrap_or_else(|_| {
            Err(Failure::new("nobody signed in in time").next("try again: `nullius login`"))
        })?;
    let verifier = verifier.expose_secret().to_owned();
    let client = ClientSecret::new();
    let request = TokenRequest::AuthorizationCode {
        code,
        verifier,
        redirect_uri,
        client: client.challenge(),
    };
    let answer = hub.anonymous(&Call::post("cannot sign in", route::TOKEN, &request)?).await?;
    Ok(SignedIn { answer, client })
}

/// The page that the hub named, if it is one of the hub's own.
fn page_of(url: &str) -> Result<Url, Failure> {
    let page: Option<Url> = url.parse().ok().filter(|page: &Url| page.scheme() == "https");
    page.ok_or_else(|| {
        Failure::new("cannot begin a sign-in")
            .why("the hub named a page that is not reached by https")
            .next("ask the hub's operator to look at its `public-url`")
    })
}

fn open_browser(environment: &Environment, page: &Url) -> bool {
    let Some(browser) = &environment.browser else { return false };
    let mut command = tokio::process::Command::new(browser);
    command.arg(page.as_str()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // It runs on by itself; whether a page appeared is for the person to see.
    command.spawn().is_ok()
}

async fn by_device(hub: &Hub, environment: &mut Environment) -> Result<SignedIn, Failure> {
    let call = Call::post_empty("cannot begin a sign-in", route::DEVICE);
    let device: DeviceLogin = hub.anonymous(&call).await?.read(&call.what)?;
    let page = page_of(&device.verification_uri)?;
    environment.terminal.tell(&format!(
        "Sign in on any device:\n\n    page  {page}\n    code  {}\n\nwaiting…\n",
        crate::output::escape::cell(&device.user_code)
    ));
    let deadline = Instant::now() + Duration::from_secs(u64::from(device.expires_in));
    let mut pause = Duration::from_secs(u64::from(device.interval.clamp(1, 60)));
    let client = ClientSecret::new();
    let request =
        TokenRequest::DeviceCode { device_code: device.device_code, client: client.challenge() };
    let call = Call::post("cannot sign in", route::TOKEN, &request)?;
    loop {
        sleep(pause).await;
        match hub.anonymous(&call).await {
            Err(failure) if failure.is("pending") => {}
            // RFC 8628, section 3.5: five seconds more from now on.
            Err(failure) if failure.is("wait") => pause += Duration::from_secs(5),
            other => return other.map(|answer| SignedIn { answer, client }),
        }
        if Instant::now() >= deadline {
            return Err(Failure::new("nobody signed in in time")
                .next("try again: `nullius login --device`"));
        }
    }
}
