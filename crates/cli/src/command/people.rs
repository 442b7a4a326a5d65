//! `user add|enrol|reset`, `lock add|list|remove`.

use nullius_api::{EnrolmentLink, route};
use nullius_model::{
    AnyObject, Kind, LockSpec, LockTarget, Object, ObjectMeta, ObjectName, UserName, UserSpec,
};

use super::{cluster::object_name, objects};
use crate::{
    args::{LockAdd, LockCommand, LockedWhat, UserAdd, UserCommand},
    client::{Call, Hub, fill},
    environment::Confirmed,
    failure::{Exit, Failure},
    object::{columns, remote},
    output::{Single, escape, json_value, relative},
    stage::{Asked, Stage, declined},
};

/// Runs a command on people.
pub(crate) async fn run(stage: &mut Stage, command: UserCommand) -> Result<Exit, Failure> {
    match command {
        UserCommand::Add(args) => add(stage, args).await,
        UserCommand::Enrol { name } => enrol(stage, &name).await,
        UserCommand::Reset { name, yes } => reset(stage, &name, Asked::of_flag(yes)).await,
    }
}

async fn add(stage: &mut Stage, args: UserAdd) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let spec = UserSpec {
        display_name: args.display_name,
        groups: args.groups.into_iter().collect(),
        disabled: false,
    };
    let object =
        Object { metadata: ObjectMeta::named(object_name(&args.name)?), spec, status: None };
    remote::create(&hub, &object.into()).await.map_err(|failure| {
        let name = &args.name;
        if failure.is("conflict") {
            failure.next(format!(
                "for a new link while they have not enrolled: `nullius user enrol {name}`; \
                 to take their factors away: `nullius user reset {name}`"
            ))
        } else {
            failure
        }
    })?;
    link(stage, &hub, &args.name).await
}

async fn enrol(stage: &mut Stage, name: &UserName) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    if let AnyObject::User(user) = remote::fetch(&hub, Kind::User, &object_name(name)?).await?
        && user.status.is_some_and(|status| status.enrolled)
    {
        return Err(Failure::new(format!("`{name}` has enrolled already"))
            .next(format!("to begin anew, take the factors away: `nullius user reset {name}`")));
    }
    link(stage, &hub, name).await
}

async fn reset(stage: &mut Stage, name: &UserName, asked: Asked) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    remote::fetch(&hub, Kind::User, &object_name(name)?).await?;
    let question = format!("Take password and factors of `{name}` away and end their sessions?");
    if stage.confirm(asked, &question).await? == Confirmed::No {
        return Err(declined());
    }
    link(stage, &hub, name).await
}

async fn link(stage: &mut Stage, hub: &Hub, name: &UserName) -> Result<Exit, Failure> {
    let what = format!("cannot make an enrolment link for `{name}`");
    let call = Call::post_empty(what, fill(route::ENROLMENT, &[name.as_str()]));
    let link: EnrolmentLink = hub.read(&call).await?;
    let text = format!(
        "Give this link to {name}, over a channel that you trust. It works once and ends {}.\n\n    {}\n",
        relative(link.expires_at, stage.now()),
        escape::cell(&link.url)
    );
    stage.single(Single { kind: "EnrolmentLink", value: json_value(&link)?, text, name: link.url })
}

/// Runs a command on locks.
pub(crate) async fn run_lock(stage: &mut Stage, command: LockCommand) -> Result<Exit, Failure> {
    match command {
        LockCommand::Add(args) => add_lock(stage, args).await,
        LockCommand::List => objects::list(stage, Kind::Lock, None).await,
        LockCommand::Remove { names } => remove_locks(stage, &names).await,
    }
}

async fn add_lock(stage: &mut Stage, args: LockAdd) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let target = target(args.what)?;
    let name = match args.name {
        Some(name) => name,
        None => name_of(&target)?,
    };
    let expires = args.duration.map(|ttl| ttl.after(stage.now()));
    let spec = LockSpec { target, message: args.message, expires };
    let told = columns::target(&spec.target);
    let object = Object { metadata: ObjectMeta::named(name.clone()), spec, status: None };
    let made = remote::create(&hub, &object.into()).await.map_err(|failure| {
        if failure.is("conflict") {
            failure.next(format!("remove the lock first: `nullius lock remove {name}`"))
        } else {
            failure
        }
    })?;
    let text = format!("locked {told}; to unlock: `nullius lock remove {name}`\n");
    stage.single(Single { kind: "Lock", value: json_value(&made)?, text, name: name.to_string() })
}

fn target(what: LockedWhat) -> Result<LockTarget, Failure> {
    let LockedWhat { user, group, session, cluster } = what;
    let target = user
        .map(LockTarget::User)
        .or(group.map(LockTarget::Group))
        .or(session.map(LockTarget::Session))
        .or(cluster.map(LockTarget::Cluster));
    target.ok_or_else(|| Failure::usage("nothing is named to lock"))
}

fn name_of(target: &LockTarget) -> Result<ObjectName, Failure> {
    let text = match target {
        LockTarget::User(name) => format!("user-{name}"),
        LockTarget::Group(name) => format!("group-{name}"),
        LockTarget::Session(id) => format!("session-{id}"),
        LockTarget::Cluster(name) => format!("cluster-{name}"),
    };
    object_name(&text)
        .map_err(|_| Failure::usage("the lock needs a name").next("give one: `--name NAME`"))
}

async fn remove_locks(stage: &mut Stage, names: &[ObjectName]) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    for name in names {
        remote::delete(&hub, Kind::Lock, name).await?;
        stage.environment.terminal.print(&format!("Lock/{name} removed\n"))?;
    }
    Ok(Exit::Ok)
}
