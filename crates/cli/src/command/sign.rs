//! `login`, `logout`, `whoami`, `version`.

use std::{io, time::Duration};

use nullius_api::{HubInfo, List, SessionInfo, WhoAmI, WhoseQuery, route};
use nullius_model::Factor;
use serde_json::json;

use crate::{
    args,
    client::{Call, Hub, fill},
    environment::Answers,
    failure::{Exit, Failure},
    home::contexts::Contexts,
    login::{self, Credentials, Vouching, Way},
    object::columns,
    output::{Format, Single, escape, json_value, properties, relative},
    stage::Stage,
};

/// Signs in, or proves the factor anew.
pub(crate) async fn login(stage: &mut Stage, args: args::Login) -> Result<Exit, Failure> {
    let answers = if args.password_stdin {
        let count = match (args.step_up, &args.user) {
            (true, _) => 1,
            (false, Some(_)) => 2,
            (false, None) => 3,
        };
        Answers::of_lines(io::stdin().lock(), count)?
    } else {
        stage.environment.answers.clone()
    };
    if args.step_up {
        let hub = stage.hub()?;
        let code = answers.ask_secret("code of your authenticator: ").await?;
        hub.step_up(code.trim().to_owned()).await?;
        stage.tell("your second factor is fresh\n");
        return Ok(Exit::Ok);
    }
    let way = match (args.device, args.terminal || args.password_stdin || args.user.is_some()) {
        (true, _) => Way::Device,
        (false, true) => Way::Terminal,
        (false, false) => Way::Browser,
    };
    if args.no_browser {
        stage.environment.browser = None;
    }
    let home = stage.environment.home()?.to_owned();
    let contexts = Contexts::load(&home)?;
    let vouching = Vouching { file: args.ca, fingerprint: args.ca_fingerprint };
    let (hub, name) = (stage.global.hub()?, stage.global.context.clone());
    let named = login::context_for(
        &contexts,
        hub.as_ref(),
        name.as_ref(),
        &vouching,
        &mut stage.environment,
    )
    .await?;
    let hub = Hub::open(named.clone(), &stage.environment)?;
    let before = hub.files.session()?.filter(|session| session.hub == named.context.hub);
    let credentials = Credentials { user: args.user, answers };
    let session = login::sign_in(&hub, way, credentials, &mut stage.environment).await?;
    // Read again: another sign-in may have written it meanwhile.
    let mut contexts = Contexts::load(&home)?;
    contexts.contexts.insert(named.name.clone(), named.context.clone());
    contexts.current = Some(named.name.clone());
    contexts.store(&home)?;
    if let Some(before) = before.filter(|before| before.session != session.session) {
        // The old session is of no use to anybody; if it cannot be ended, it ends by itself.
        let call = Call::post_empty("cannot end the session before", route::LOGOUT);
        let _ = hub.with_token(&call.within(Duration::from_secs(2)), &before.access_token).await;
    }
    let until = relative(session.session_expires_at, stage.now());
    stage.tell(&format!(
        "signed in at {} as {}; the session ends {until}\n",
        hub.origin(),
        session.user
    ));
    if stage.is_at_terminal() {
        stage.tell("next: `nullius kubeconfig --merge`, then kubectl as usual\n");
    }
    Ok(Exit::Ok)
}

/// Ends the session, at the hub and here.
pub(crate) async fn logout(stage: &mut Stage, args: args::Logout) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let lock = hub.lock().await?;
    if hub.files.session()?.is_none() {
        hub.files.forget(&lock)?;
        stage.tell(&format!("nobody was signed in at {}\n", hub.origin()));
        return Ok(Exit::Ok);
    }
    let ended = match hub.fresh_session(&lock).await {
        Ok(session) => end_at_hub(&hub, &session.access_token, &args).await,
        // A session that has ended already is what was wanted.
        Err(_) if hub.files.session()?.is_none() => Ok(()),
        Err(failure) => Err(failure),
    };
    hub.files.forget(&lock)?;
    match ended {
        Ok(()) => {
            stage.tell(&format!("signed out at {}\n", hub.origin()));
            Ok(Exit::Ok)
        }
        Err(failure) => Err(Failure::new("signed out here, but the hub was not told")
            .why(failure.reason().to_owned())
            .next("the session ends there by itself; to end it now, sign in and run `nullius logout --all`")),
    }
}

async fn end_at_hub(hub: &Hub, token: &str, args: &args::Logout) -> Result<(), Failure> {
    if args.all {
        let call =
            Call::get("cannot list your sessions", route::SESSIONS).query(&WhoseQuery::default())?;
        let sessions: List<SessionInfo> = hub.with_token(&call, token).await?.read(&call.what)?;
        for other in sessions.items.iter().filter(|session| !session.current) {
            let call = Call::delete(
                "cannot end a session",
                fill(route::SESSION, &[other.session.as_str()]),
            );
            match hub.with_token(&call, token).await {
                Err(failure) if !failure.is("not-found") => return Err(failure),
                Ok(_) | Err(_) => {}
            }
        }
    }
    let call = Call::post_empty("cannot end the session", route::LOGOUT);
    match hub.with_token(&call, token).await {
        Err(failure) if !failure.is("unauthenticated") => Err(failure),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Shows who is signed in.
pub(crate) async fn whoami(stage: &mut Stage) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let me: WhoAmI = hub.read(&Call::get("cannot tell who you are", route::WHOAMI)).await?;
    let now = stage.now();
    let join = |items: Vec<String>| items.join(", ");
    let factors = me.factors.iter().map(|factor| factor_word(*factor).to_owned()).collect();
    let roles = me.hub_roles.iter().map(|role| columns::hub_role(*role).to_owned()).collect();
    let text = properties(&[
        ("User", me.user.to_string()),
        ("Name", me.display_name.clone().unwrap_or_default()),
        ("Groups", join(me.groups.iter().map(ToString::to_string).collect())),
        ("Hub roles", join(roles)),
        ("Hub", format!("{} (context {})", hub.origin(), hub.named.name)),
        ("Session", me.session.to_string()),
        ("Signed in", relative(me.signed_in_at, now)),
        ("Factors", format!("{}, proven {}", join(factors), relative(me.factor_at, now))),
        ("Ends", relative(me.expires_at, now)),
    ]);
    let name = me.user.to_string();
    stage.single(Single { kind: "WhoAmI", value: json_value(&me)?, text, name })
}

/// The word of a factor.
fn factor_word(factor: Factor) -> &'static str {
    match factor {
        Factor::Password => "password",
        Factor::Totp => "one-time code",
        Factor::EnrolmentLink => "enrolment link",
    }
}

/// Shows the versions of this program and, where one is known and answers, of the hub.
pub(crate) async fn version(stage: &mut Stage) -> Result<Exit, Failure> {
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    let mut text = format!("nullius {VERSION}\n");
    let mut value = json!({ "version": VERSION });
    if let Ok(hub) = stage.hub() {
        let call = Call::get("cannot ask the hub", route::HUB).within(Duration::from_secs(3));
        let asked =
            hub.anonymous(&call).await.and_then(|answer| answer.read::<HubInfo>(&call.what));
        match asked {
            Ok(info) => {
                text.push_str(&format!(
                    "hub     {} at {}\n",
                    escape::cell(&info.version),
                    hub.origin()
                ));
                value["hub"] =
                    json!({ "url": hub.origin(), "version": info.version, "id": info.hub_id });
            }
            Err(failure) => {
                text.push_str(&format!(
                    "hub     at {}: {}\n",
                    hub.origin(),
                    escape::cell(&failure.to_string())
                ));
                value["hub"] = json!({ "url": hub.origin(), "error": failure.to_string() });
            }
        }
    }
    if stage.global.output == Format::Name {
        text = format!("nullius {VERSION}\n");
    }
    stage.single(Single {
        kind: "Version",
        value,
        text: text.clone(),
        name: format!("nullius {VERSION}"),
    })
}
