//! `cargo xtask bench intention`: what a decision between workloads costs, and what a change of one policy, block or pod does.

use std::{collections::BTreeMap, hint::black_box, net::IpAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nullius_intention::{
    Connection, Destinations, Head, Home, Intention, Origin, Protocol, RuleSet, Stand, Tier,
    Version, Workload,
};
use nullius_model::{SpiffeId, Timestamp};
use nullius_policy::{Accepted, decide_connection, decide_request};
use serde_json::{Value, json};

use super::{
    Effort,
    cel::microseconds,
    report::{Goal, Row},
    stats::Figure,
};

/// What the rows stand for, as BENCHMARKS.md says it.
pub(crate) const WORDS: &str = "\
All policies are for the one workload that is called, so that none can be left out: each has ten sources, of service accounts, namespaces, trust \
domains and blocks of addresses. A decision is the whole of it, from the caller's ID and address to the sealed decision with its explanation and \
permission; callers differ, and the last policies are asked as often as the first. A change puts a policy in place of itself. Figures are processor \
time of one thread, and `ours` is the median of the rounds.";

/// How many sources a policy has.
const SOURCES: usize = 10;
/// How many callers take turns.
const CALLERS: usize = 64;

/// Measures.
pub(super) fn run(effort: Effort) -> Result<Vec<Row>> {
    let (sizes, rounds, block) = match effort {
        Effort::Quick => ([10, 100], 2, Duration::from_millis(20)),
        Effort::Full => ([100, 10_000], 11, Duration::from_millis(300)),
    };
    let few = World::new(sizes[0])?;
    let many = World::new(sizes[1])?;
    let mut rows = Vec::new();
    let mut row = |what: String, goal: Option<f64>, figure: Figure| {
        let row = Row::new(what, "µs", figure);
        rows.push(match goal {
            Some(most) => row.goal(Goal::Below(most)),
            None => row,
        });
    };
    for world in [&few, &many] {
        let count = world.policies;
        let measured = measure(rounds, block, |turn| world.connect(turn))?;
        row(
            format!("decide on a connection, {count} policies × {SOURCES} rules"),
            Some(2.0),
            measured,
        );
        let measured = measure(rounds, block, |turn| world.stranger(turn))?;
        row(format!("deny a stranger's connection, {count} policies"), Some(2.0), measured);
        let measured = measure(rounds, block, |turn| world.block(turn))?;
        row(format!("decide by address, {count} blocks"), Some(2.0), measured);
        let measured = measure(rounds, block, |turn| world.request(turn))?;
        row(format!("read a request and decide on it, {count} policies"), Some(2.0), measured);
    }
    let mut rules = many.rules.clone();
    let measured =
        measure(rounds, block, |turn| rules.put(&many.intentions[turn % many.policies]))?;
    row(
        format!("put one policy of {} in place of itself, {SOURCES} rules", many.policies),
        None,
        measured,
    );
    let one = many.single_block()?;
    let measured = measure(rounds, block, |_| {
        rules.put(&one);
        rules.remove(Tier::Namespace, one.name());
    })?;
    row(
        format!("add a policy with one block beside {} and take it out", many.policies),
        None,
        measured,
    );
    let mut pods = many.pods();
    let measured =
        measure(rounds, block, |turn| _ = black_box(pods.rules(pod(turn % many.policies))))?;
    row(format!("find the rules of one pod of {}", many.policies), Some(0.2), measured);
    let measured = measure(rounds, block, |turn| {
        pods.remove_pod(pod(turn % many.policies));
        pods.put_pod(pod(turn % many.policies), many.rules.workload().as_ref().clone());
    })?;
    row(format!("take out one pod of {} and add it", many.policies), None, measured);
    let measured = measure(rounds, block, |turn| {
        drop(black_box(many.rules.accept(&many.of_block(turn), many.now)))
    })?;
    row(format!("find one block of {}, judged but not sealed", many.policies), Some(0.2), measured);
    Ok(rows)
}

fn measure(rounds: usize, block: Duration, mut work: impl FnMut(usize)) -> Result<Figure> {
    let mut figures = Vec::new();
    for _ in 0..rounds {
        let mut turn = 0;
        figures.push(microseconds(block, || {
            work(turn);
            turn += 1;
        })?);
    }
    Ok(Figure::of(&figures))
}

fn pod(number: usize) -> IpAddr {
    let [.., high, low] = number.to_be_bytes();
    IpAddr::from([10, 128, high, low])
}

/// Policies for one workload.
struct World {
    policies: usize,
    intentions: Vec<Intention>,
    rules: RuleSet,
    callers: Vec<SpiffeId>,
    strangers: Vec<SpiffeId>,
    readers: Vec<SpiffeId>,
    now: Timestamp,
}

impl World {
    fn new(policies: usize) -> Result<Self> {
        let workload = Workload {
            namespace: "shop".parse()?,
            service_account: "orders".to_owned(),
            labels: BTreeMap::from([("app".to_owned(), "orders".to_owned())]).into(),
        };
        let mut rules = RuleSet::new(workload);
        let mut intentions = Vec::new();
        for number in 0..policies {
            let intention = read(number, sources(number))?;
            rules.put(&intention);
            intentions.push(intention);
        }
        // The callers are spread over all policies.
        let ids = |account: &str| -> Result<Vec<SpiffeId>> {
            let id = |turn: usize| {
                let number = turn * policies / CALLERS;
                Ok(format!("spiffe://dev.example/ns/team-{number}/sa/{account}").parse()?)
            };
            (0..CALLERS).map(id).collect()
        };
        let world = Self {
            policies,
            intentions,
            rules,
            callers: ids("caller-2")?,
            strangers: ids("stranger")?.into_iter().map(foreign).collect::<Result<_>>()?,
            readers: ids("reader")?,
            now: "2026-11-22T12:00:00Z".parse()?,
        };
        world.check()?;
        Ok(world)
    }

    /// That each way ends as it is told.
    fn check(&self) -> Result<()> {
        for turn in 0..CALLERS {
            ensure!(self.is_allowed(&self.of(&self.callers, turn)), "a caller is denied");
            ensure!(!self.is_allowed(&self.of(&self.strangers, turn)), "a stranger is allowed");
            ensure!(self.is_allowed(&self.of_block(turn)), "an address is denied");
            let accept = self.rules.accept(&self.of(&self.readers, turn), self.now);
            ensure!(matches!(accept.stand(), Stand::Requests), "a reader's requests do not decide");
        }
        Ok(())
    }

    fn is_allowed(&self, connection: &Connection<'_>) -> bool {
        match self.rules.accept(connection, self.now).stand() {
            Stand::Decided(verdict) => verdict.is_allowed(),
            Stand::Requests => false,
        }
    }

    fn of<'a>(&self, ids: &'a [SpiffeId], turn: usize) -> Connection<'a> {
        let address = IpAddr::from([192, 0, 2, 1]);
        let source = ids.get(turn % CALLERS);
        Connection { source, address, port: 8080, protocol: Protocol::Http }
    }

    fn of_block(&self, turn: usize) -> Connection<'static> {
        let number = turn % CALLERS * self.policies / CALLERS;
        let [a, b, c] = block(number);
        let address = IpAddr::from([a, b, c, 7]);
        Connection { source: None, address, port: 8080, protocol: Protocol::Http }
    }

    fn decide(&self, connection: &Connection<'_>) {
        drop(black_box(decide_connection(Some(&self.rules), connection, self.now)));
    }

    fn connect(&self, turn: usize) {
        self.decide(&self.of(&self.callers, turn));
    }

    fn stranger(&self, turn: usize) {
        self.decide(&self.of(&self.strangers, turn));
    }

    fn block(&self, turn: usize) {
        self.decide(&self.of_block(turn));
    }

    fn request(&self, turn: usize) {
        let connection = self.of(&self.readers, turn);
        let Accepted::Requests(accept) =
            decide_connection(Some(&self.rules), &connection, self.now)
        else {
            return;
        };
        let headers: [(&[u8], &[u8]); 4] = [
            (b"host", b"orders.shop"),
            (b"user-agent", b"bench/1"),
            (b"accept", b"*/*"),
            (b"x-tenant", b"a"),
        ];
        let head = Head {
            method: b"GET",
            target: b"/orders/7?expand=lines",
            authority: None,
            headers: &headers,
            version: Version::Http1,
        };
        if let Ok(request) = head.read(accept.reads()) {
            drop(black_box(decide_request(&accept, &request, &[])));
        }
    }

    fn single_block(&self) -> Result<Intention> {
        read(self.policies, json!([{ "ipBlock": "203.0.113.0/24", "action": "allow" }]))
    }

    /// As many pods as there are policies, of this workload.
    fn pods(&self) -> Destinations {
        let mut pods = Destinations::default();
        self.intentions.iter().for_each(|intention| pods.put(intention.clone()));
        for number in 0..self.policies {
            pods.put_pod(pod(number), self.rules.workload().as_ref().clone());
        }
        pods
    }
}

/// The first three octets of a block of its own for each policy.
fn block(number: usize) -> [u8; 3] {
    let [.., high, low] = number.to_be_bytes();
    [10, high, low]
}

fn foreign(id: SpiffeId) -> Result<SpiffeId> {
    Ok(id.as_str().replace("dev.example", "elsewhere.example").parse()?)
}

fn sources(number: usize) -> Value {
    let namespace = format!("team-{number}");
    let [a, b, c] = block(number);
    let mut sources: Vec<Value> = (0..SOURCES - 4)
        .map(|index| json!({ "namespace": namespace, "serviceAccount": format!("caller-{index}"), "action": "allow" }))
        .collect();
    sources.push(json!({
        "namespace": namespace, "serviceAccount": "reader", "permissions": [
            { "action": "deny", "paths": [{ "prefix": "/orders/internal" }] },
            { "action": "allow", "methods": ["GET"], "paths": [{ "prefix": "/orders" }], "headers": [{ "name": "x-tenant", "exact": "a" }] },
        ],
    }));
    sources.push(json!({ "namespace": namespace, "action": "deny" }));
    sources.push(json!({ "trustDomain": format!("partner-{number}.example"), "action": "allow" }));
    sources.push(json!({ "ipBlock": format!("{a}.{b}.{c}.0/24"), "action": "allow" }));
    Value::Array(sources)
}

fn read(number: usize, sources: Value) -> Result<Intention> {
    let object = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention",
        "metadata": { "name": format!("policy-{number}"), "namespace": "shop" },
        "spec": { "destination": { "serviceAccount": "orders" }, "sources": sources },
    });
    let home = Home::of("dev.example".parse()?);
    Intention::read(&object, Origin::Cluster, &home)
        .map_err(|faults| anyhow::anyhow!("{faults:?}"))
        .with_context(|| format!("policy {number}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn every_figure_is_taken() {
        let rows = run(Effort::Quick).unwrap();
        assert_eq!(rows.len(), 13);
        assert!(rows.iter().all(|row| row.ours > 0.0), "{rows:?}");
    }
}
