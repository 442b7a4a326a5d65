//! How a connection whose requests decide stands by what decides now, and whether requests run that were judged by something else.

use std::sync::Arc;

use nullius_intention::{Accept, Limit};
use nullius_model::Timestamp;
use nullius_policy::ConnectionPermit;

use crate::{
    World,
    access_log::Why,
    issuers::Issuers,
    judge::{Call, Judgement, Outcome, Stage},
};

/// How the connection stands by one world.
#[derive(Clone)]
pub(super) enum Standing {
    /// Each request may be.
    All(Arc<ConnectionPermit>),
    /// Requests decide, beside an identity by the tokens of these issuers.
    Left(Arc<Accept>, Arc<Issuers>, Arc<[Limit]>),
    /// None may.
    None(Why),
}

/// How it stands now, for those who ask about a new request, and for who looks at those that run.
pub(super) struct Stands {
    world: Option<Arc<World>>,
    standing: Standing,
    /// A new request was judged by another world than those that run: what has changed since is not known to them.
    are_behind: bool,
}

impl Stands {
    pub(super) fn new(call: &Call, world: Option<Arc<World>>) -> Self {
        let standing = Standing::of(call, world.as_deref());
        Self { world, standing, are_behind: false }
    }

    /// How it stands, for a new request.
    pub(super) fn now(&mut self, call: &Call, world: Option<Arc<World>>) -> Standing {
        if !self.is_as(call, world.as_ref()) {
            self.standing = Standing::of(call, world.as_deref());
            self.are_behind = true;
        }
        self.world = world;
        self.standing.clone()
    }

    /// How it stands, where those that run must be judged by it.
    pub(super) fn changed(&mut self, call: &Call, world: Option<Arc<World>>) -> Option<Standing> {
        let is_as = self.is_as(call, world.as_ref());
        let are_behind = std::mem::take(&mut self.are_behind);
        if !is_as {
            self.standing = Standing::of(call, world.as_deref());
        }
        self.world = world;
        (!is_as || are_behind).then(|| self.standing.clone())
    }

    /// As it stands by now, where what was let pass until a time has ended.
    pub(super) fn anew(&mut self, call: &Call, world: Option<Arc<World>>) -> Standing {
        self.are_behind |= !self.is_as(call, world.as_ref());
        self.standing = Standing::of(call, world.as_deref());
        self.world = world;
        self.standing.clone()
    }

    /// Whether a world makes no difference to this connection.
    fn is_as(&self, call: &Call, world: Option<&Arc<World>>) -> bool {
        match (&self.world, world) {
            (Some(before), Some(now)) => before.decides_as(now, call.address),
            (None, None) => true,
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
}

impl Standing {
    fn of(call: &Call, world: Option<&World>) -> Self {
        let Some(world) = world else { return Self::None(Why::STALE) };
        let Judgement { outcome, .. } = call.judge(world, Stage::GoesOn, Timestamp::now());
        match outcome {
            Outcome::Allow(permit) => Self::All(Arc::new(permit)),
            Outcome::Requests(accept) => {
                let limits = world.rules.limits(call.port).into();
                Self::Left(accept.into(), Arc::clone(&world.issuers), limits)
            }
            Outcome::Deny(refused) => Self::None(refused.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::net::IpAddr;

    use nullius_intention::{Protocol, RuleSet, Workload};

    use super::*;
    use crate::{Directory, Here, live::tests::tls};

    #[test]
    fn what_was_judged_by_a_world_in_between_is_judged_again_by_the_next() {
        let address = IpAddr::from([10, 0, 0, 7]);
        let (tls, here) = (tls("orders"), Arc::<Here>::default());
        let rules = Arc::new(RuleSet::new(Workload {
            namespace: "shop".parse().unwrap(),
            service_account: "orders".to_owned(),
            labels: Default::default(),
        }));
        let world = |is_of_mesh: bool| {
            let mut directory = Directory::default();
            if is_of_mesh {
                directory.put_pod(address, "spiffe://dev.example/ns/shop/sa/a".parse().unwrap());
            }
            let (tls, rules, here) = (Arc::clone(&tls), Arc::clone(&rules), Arc::clone(&here));
            Some(Arc::new(World::new(1, tls, rules, here, Arc::new(directory))))
        };
        let call = Call { peer: None, generation: 1, address, port: 80, protocol: Protocol::Http };
        let must_prove = |standing: &Standing| matches!(standing, Standing::None(Why::MustProve));
        let mut stands = Stands::new(&call, world(false));
        assert!(stands.changed(&call, world(false)).is_none(), "nothing is other than it was");
        // A new request comes while somebody of the mesh has its address, and nobody else looks then.
        assert!(must_prove(&stands.now(&call, world(true))));
        let again = stands.changed(&call, world(false)).unwrap();
        assert!(!must_prove(&again));
        assert!(stands.changed(&call, world(false)).is_none());
        // The same where the next request has seen the end of it too.
        assert!(must_prove(&stands.now(&call, world(true))));
        assert!(!must_prove(&stands.now(&call, world(false))));
        assert!(stands.changed(&call, world(false)).is_some());
        assert!(must_prove(&stands.changed(&call, world(true)).unwrap()));
        assert!(matches!(stands.changed(&call, None), Some(Standing::None(Why::STALE))));
        assert!(matches!(stands.anew(&call, world(false)), Standing::None(_) | Standing::Left(..)));
        assert!(stands.changed(&call, world(false)).is_some(), "it was made anew by another");
    }
}
