//! `cluster add|list|show|remove`.

use nullius_api::{JoinToken, route};
use nullius_model::{
    AnyObject, Ceiling, ClusterName, ClusterSpec, Kind, Object, ObjectMeta, ObjectName, TrustDomain,
};

use nullius_kube::{
    CLEAN_UP, Deployments, HubPins, IdentityParts, JoinManifest, MeshHost, NodeHost, PullPolicy,
    Shape,
};

use super::objects;
use crate::{
    args::{ClusterAdd, ClusterCommand, Pull},
    client::{Call, Hub, fill},
    environment::Confirmed,
    failure::{Exit, Failure},
    object::remote,
    output::{Single, json_value, relative},
    stage::{Asked, Stage, declined},
};

/// Runs a command on clusters.
pub(crate) async fn run(stage: &mut Stage, command: ClusterCommand) -> Result<Exit, Failure> {
    match command {
        ClusterCommand::Add(args) => add(stage, *args).await,
        ClusterCommand::List => objects::list(stage, Kind::Cluster, None).await,
        ClusterCommand::Show { name } => {
            objects::show(stage, Kind::Cluster, &[object_name(&name)?]).await
        }
        ClusterCommand::Remove { name, yes } => remove(stage, &name, Asked::of_flag(yes)).await,
    }
}

/// A cluster's name as the name of its object.
pub(crate) fn object_name(name: &impl AsRef<str>) -> Result<ObjectName, Failure> {
    name.as_ref()
        .parse()
        .map_err(|error: nullius_model::ParseNameError| Failure::usage(error.to_string()))
}

async fn add(stage: &mut Stage, args: ClusterAdd) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let ceiling = args.ceiling.clone().map(Ceiling::try_from).transpose().map_err(|error| {
        Failure::usage(format!("`--ceiling` is no ClusterRole: {error}"))
            .next("name a ClusterRole of the cluster, such as `view`, `edit` or `cluster-admin`")
    })?;
    let spec = known(&hub, &args, ceiling).await?;
    let what = format!("cannot make a join token for `{}`", args.name);
    let call = Call::post_empty(what, fill(route::JOIN_TOKEN, &[args.name.as_str()]));
    let join: JoinToken = hub.read(&call).await?;
    if args.manifest {
        return manifest(stage, &args, spec, join);
    }
    let text = format!(
        "cluster  {}\nceiling  {}\nhub      {}\n\n\
         Join it from a machine whose kubectl may administer the cluster:\n\n    \
         nullius cluster add {} --manifest --image {} | kubectl apply -f -\n\n\
         The manifest brings a join token of its own. For an agent that you deploy yourself, single use, ends {}:\n\n    \
         {}\n",
        join.cluster,
        join.ceiling,
        join.hub_address,
        join.cluster,
        args.image.as_deref().unwrap_or("IMAGE"),
        relative(join.expires_at, stage.now()),
        join.token,
    );
    let name = join.cluster.to_string();
    stage.single(Single { kind: "JoinToken", value: json_value(&join)?, text, name })
}

/// Makes the cluster known, or finds it as it is wanted; gives what it is to be.
async fn known(
    hub: &Hub,
    args: &ClusterAdd,
    ceiling: Option<Ceiling>,
) -> Result<ClusterSpec, Failure> {
    let name = object_name(&args.name)?;
    match remote::find(hub, Kind::Cluster, &name).await? {
        None => {
            let mut metadata = ObjectMeta::named(name);
            metadata.labels = args.labels.iter().cloned().collect();
            let ceiling = ceiling.unwrap_or_default();
            let spec = ClusterSpec {
                ceiling,
                trust_domain: args.trust_domain.clone(),
                ..ClusterSpec::default()
            };
            let object = Object { metadata, spec: spec.clone(), status: None };
            remote::create(hub, &object.into()).await.map(|_| spec)
        }
        Some(AnyObject::Cluster(found)) => {
            let labels_differ = args
                .labels
                .iter()
                .any(|(key, value)| found.metadata.labels.get(key) != Some(value));
            let ceiling_differs = ceiling.is_some_and(|wanted| wanted != found.spec.ceiling);
            let own = trust_domain(&args.name, &found.spec)?;
            let domain_differs = args.trust_domain.as_ref().is_some_and(|wanted| *wanted != own);
            if ceiling_differs || labels_differ || domain_differs {
                return Err(Failure::new(format!(
                    "the cluster `{}` is known with other settings",
                    args.name
                ))
                .why(format!(
                    "its ceiling is `{}`, its trust domain `{own}`",
                    found.spec.ceiling.cluster_role()
                ))
                .next(format!(
                    "give the same settings, or change it: `nullius edit cluster {}`",
                    args.name
                )));
            }
            Ok(found.spec)
        }
        Some(_) => Err(Failure::new(format!(
            "the hub answered something else than the cluster `{}`",
            args.name
        ))),
    }
}

/// Who speaks for the cluster's workloads.
fn trust_domain(name: &ClusterName, spec: &ClusterSpec) -> Result<TrustDomain, Failure> {
    spec.trust_domain_of(name.as_str()).map_err(|error| Failure::usage(error.to_string()))
}

/// Prints all that an administrator of the cluster applies once.
fn manifest(
    stage: &mut Stage,
    args: &ClusterAdd,
    spec: ClusterSpec,
    join: JoinToken,
) -> Result<Exit, Failure> {
    let image = args.image.clone().ok_or_else(|| {
        Failure::usage("the manifests need an image")
            .next("name it: `--image REGISTRY/nullius:TAG`")
    })?;
    let hub = HubPins {
        address: join.hub_address,
        infra_ca_pem: join.hub_ca,
        offline_key: join.offline_key,
        hub_id: join.hub_id,
    };
    let identity = match args.identity {
        true => Some(IdentityParts::of_domain(trust_domain(&args.name, &spec)?)),
        false => None,
    };
    let deployments = Deployments {
        identity,
        host: Box::new(host(args)),
        pull_policy: match args.pull {
            Pull::IfNotPresent => PullPolicy::IfNotPresent,
            Pull::Never => PullPolicy::Never,
            Pull::Always => PullPolicy::Always,
        },
        ..Deployments::of_image(image)
    };
    let shape = Shape::InCluster { deployments, hub, join_token: join.token.into() };
    let manifest = JoinManifest { cluster: join.cluster, ceiling: spec.ceiling, shape };
    stage.environment.terminal.print(&manifest.to_yaml())?;
    Ok(Exit::Ok)
}

/// Where things are on the cluster's hosts: where they usually are, unless something else is said.
fn host(args: &ClusterAdd) -> NodeHost {
    let said = |place: &Option<String>, usual: String| place.clone().unwrap_or(usual);
    let (hosts, usual) = (&args.hosts, NodeHost::default());
    let mesh = args.mesh.then(|| {
        let usual = MeshHost::default();
        MeshHost {
            cni_programs: said(&hosts.cni_programs, usual.cni_programs),
            cni_networks: said(&hosts.cni_networks, usual.cni_networks),
            socket_dir: said(&hosts.cni_socket_dir, usual.socket_dir),
        }
    });
    NodeHost {
        kubelet: said(&hosts.kubelet_root, usual.kubelet),
        cgroup_root: said(&hosts.cgroup_root, usual.cgroup_root),
        socket_dir: said(&hosts.socket_dir, usual.socket_dir),
        state_dir: said(&hosts.state_dir, usual.state_dir),
        mesh,
    }
}

async fn remove(stage: &mut Stage, name: &ClusterName, asked: Asked) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let object = object_name(name)?;
    remote::fetch(&hub, Kind::Cluster, &object).await?;
    let question = format!("Remove the cluster `{name}`? Everybody's access to it ends at once.");
    if stage.confirm(asked, &question).await? == Confirmed::No {
        return Err(declined());
    }
    remote::delete(&hub, Kind::Cluster, &object).await?;
    stage.environment.terminal.print(&format!("Cluster/{name} removed\n"))?;
    let commands: String = CLEAN_UP.iter().map(|command| format!("    {command}\n")).collect();
    stage.tell(&format!(
        "next: take all of it out of cluster `{name}`, as one of its administrators:\n\n{commands}"
    ));
    Ok(Exit::Ok)
}
