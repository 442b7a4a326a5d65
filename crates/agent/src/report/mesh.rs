//! What the mesh decided, as it waits to be told: flows merged over nodes, denials one by one; and no node and no namespace crowds out all others.

use std::collections::{BTreeMap, HashMap, VecDeque};

use nullius_model::{Shares, payer};
use nullius_pki::sha256;
use nullius_proto::{
    agent_v1::{MeshDenial, MeshFlow, MeshParty, MeshPartyKind, MeshSide, ReportBatch},
    encode, encoded_len,
    report::{DISBELIEVED_NODES, MESH_DENIALS, MESH_FLOWS},
};

use super::BATCH_BYTES;

/// Denials that are kept while the hub is away, those of one node, and bytes of all, which namespaces share. None counts as less than its part.
const KEPT_DENIALS: usize = 10_000;
const KEPT_OF_NODE: usize = KEPT_DENIALS / 4;
const KEPT_BYTES: usize = 8 << 20;
const DENIAL_BYTES: usize = KEPT_BYTES / KEPT_DENIALS;
/// The word of who was refused by a destination.
const REFUSED: &str = "refused-by-destination";
/// Kinds of flows that are kept apart, and how many of them one node may begin; half of all are told at once. Namespaces share their bytes.
const KEPT_FLOWS: usize = 16_384;
const KEPT_FLOW_BYTES: usize = 32 << 20;
const FLOW_BYTES: usize = KEPT_FLOW_BYTES / KEPT_FLOWS;
const FLOWS_OF_NODE: usize = KEPT_FLOWS / 4;
/// Kinds of folded flows that a node may begin beside.
const FOLDED_OF_NODE: usize = 64;
/// So few flows are told each minute.
const FEW: usize = 200;

type Name = Box<str>;

/// What waits.
pub(super) struct MeshState {
    denials: VecDeque<Kept<MeshDenial>>,
    /// What sources tell of refusals by destinations: the word of the destination is to come first, and stands for both.
    later: [Vec<Kept<MeshDenial>>; 2],
    kept_denials: usize,
    denials_of: HashMap<Name, usize>,
    denial_bytes: Shares,
    flows: HashMap<[u8; 32], Kept<MeshFlow>>,
    flows_of: HashMap<Name, usize>,
    flow_bytes: Shares,
    lost_denials: u64,
    lost_flows: u64,
    disbelieved: BTreeMap<String, u64>,
}

/// A word, and whose room it takes.
struct Kept<T> {
    word: T,
    node: Name,
    payer: String,
    bytes: usize,
}

impl Default for MeshState {
    fn default() -> Self {
        Self {
            denials: VecDeque::new(),
            later: Default::default(),
            kept_denials: 0,
            denials_of: HashMap::new(),
            denial_bytes: Shares::new(KEPT_BYTES),
            flows: HashMap::new(),
            flows_of: HashMap::new(),
            flow_bytes: Shares::new(KEPT_FLOW_BYTES),
            lost_denials: 0,
            lost_flows: 0,
            disbelieved: BTreeMap::new(),
        }
    }
}

impl MeshState {
    /// A denial that a node told.
    pub(super) fn denied(&mut self, node: &str, denial: MeshDenial) {
        let bytes = encoded_len(&denial).max(DENIAL_BYTES);
        let payer = payer_of(denial.source.as_ref(), denial.destination.as_ref());
        let of_node = self.denials_of.get(node).copied().unwrap_or_default();
        let has_room = self.kept_denials < KEPT_DENIALS && of_node < KEPT_OF_NODE;
        if !has_room || !self.denial_bytes.take(&payer, bytes) {
            self.lost(denial.count, 0);
            return;
        }
        self.denials_of.insert(node.into(), of_node + 1);
        self.kept_denials += 1;
        let is_later = denial.side() == MeshSide::Source && denial.reason == REFUSED;
        let kept = Kept { word: denial, node: node.into(), payer, bytes };
        match is_later {
            true => self.later[1].push(kept),
            false => self.denials.push_back(kept),
        }
    }

    /// A flow that a node told.
    pub(super) fn flowed(&mut self, node: &str, flow: MeshFlow) {
        let key = key(&flow);
        if let Some(known) = self.flows.get_mut(&key) {
            return merge(&mut known.word, &flow);
        }
        let payer = payer_of(flow.source.as_ref(), flow.destination.as_ref());
        let bytes = encoded_len(&flow).max(FLOW_BYTES);
        let of_node = self.flows_of.get(node).copied().unwrap_or_default();
        let has_room = self.flows.len() < KEPT_FLOWS && of_node < FLOWS_OF_NODE;
        if has_room && self.flow_bytes.take(&payer, bytes) {
            self.flows_of.insert(node.into(), of_node + 1);
            self.flows.insert(key, Kept { word: flow, node: node.into(), payer, bytes });
            return;
        }
        // What is left are namespaces and closed words, of which there are not many, unless a node makes up its own.
        let folded = folded(flow);
        let has_room =
            self.flows.len() < 2 * KEPT_FLOWS && of_node < FLOWS_OF_NODE + FOLDED_OF_NODE;
        match self.flows.get_mut(&self::key(&folded)) {
            Some(known) => merge(&mut known.word, &folded),
            None if has_room => {
                self.flows_of.insert(node.into(), of_node + 1);
                let kept = Kept { word: folded, node: node.into(), payer, bytes: 0 };
                self.flows.insert(self::key(&kept.word), kept);
            }
            None => self.lost(0, calls(&folded)),
        }
    }

    pub(super) fn lost(&mut self, denials: u64, flows: u64) {
        self.lost_denials = self.lost_denials.saturating_add(denials);
        self.lost_flows = self.lost_flows.saturating_add(flows);
    }

    /// A node told so many words that are not its own.
    pub(super) fn disbelieved(&mut self, node: &str, words: u64) {
        let told = self.disbelieved.entry(node.to_owned()).or_default();
        *told = told.saturating_add(words);
    }

    /// Whether there is something to be told at once.
    pub(super) fn has_news(&self) -> bool {
        !self.denials.is_empty()
            || self.lost_denials > 0
            || self.lost_flows > 0
            || !self.disbelieved.is_empty()
            || self.is_crowded()
    }

    fn is_crowded(&self) -> bool {
        self.flows.len() > KEPT_FLOWS / 2
    }

    pub(super) fn has_flows(&self) -> bool {
        !self.flows.is_empty()
    }

    /// Moves what finds a place into a batch that is so long already.
    pub(super) fn take(&mut self, told: FlowsTold, batch: &mut ReportBatch, bytes: &mut usize) {
        let [before, now] = &mut self.later;
        match told {
            FlowsTold::All => self.denials.extend(before.drain(..).chain(now.drain(..))),
            // One has waited for a minute at least.
            FlowsTold::Few => {
                self.denials.extend(before.drain(..));
                std::mem::swap(before, now);
            }
            FlowsTold::Crowded => {}
        }
        while batch.mesh_denials.len() < MESH_DENIALS
            && *bytes < BATCH_BYTES
            && let Some(kept) = self.denials.pop_front()
        {
            *bytes += encoded_len(&kept.word);
            self.kept_denials -= 1;
            one_less(&mut self.denials_of, &kept.node);
            self.denial_bytes.give(&kept.payer, kept.bytes);
            batch.mesh_denials.push(kept.word);
        }
        batch.lost_mesh_denials = std::mem::take(&mut self.lost_denials);
        batch.lost_mesh_flows = std::mem::take(&mut self.lost_flows);
        while batch.disbelieved_nodes.len() < DISBELIEVED_NODES
            && let Some((node, words)) = self.disbelieved.pop_first()
        {
            batch.disbelieved_nodes.insert(node, words);
        }
    }

    /// The same with flows, where their time has come.
    pub(super) fn take_flows(
        &mut self,
        told: FlowsTold,
        batch: &mut ReportBatch,
        bytes: &mut usize,
    ) {
        let is_told = match told {
            FlowsTold::All => true,
            FlowsTold::Few => self.flows.len() <= FEW || self.is_crowded(),
            FlowsTold::Crowded => self.is_crowded(),
        };
        if !is_told {
            return;
        }
        let keys: Vec<_> = self.flows.keys().take(MESH_FLOWS).copied().collect();
        for key in keys {
            if *bytes >= BATCH_BYTES {
                break;
            }
            if let Some(kept) = self.flows.remove(&key) {
                *bytes += encoded_len(&kept.word);
                one_less(&mut self.flows_of, &kept.node);
                self.flow_bytes.give(&kept.payer, kept.bytes);
                batch.mesh_flows.push(kept.word);
            }
        }
    }

    /// Counts what the hub will never take.
    pub(super) fn lose(&mut self, batch: &ReportBatch) {
        self.lost(batch.lost_mesh_denials, batch.lost_mesh_flows);
        batch.mesh_denials.iter().for_each(|denial| self.lost(denial.count, 0));
        batch.mesh_flows.iter().for_each(|flow| self.lost(0, calls(flow)));
    }
}

/// Which flows go with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlowsTold {
    All,
    /// All, where they are few.
    Few,
    /// None, unless they are too many to wait.
    Crowded,
}

/// Whose room a word takes.
fn payer_of(source: Option<&MeshParty>, destination: Option<&MeshParty>) -> String {
    let called = destination.map_or("", |it| &it.namespace);
    source.map_or_else(|| payer("", "", called), |it| payer(&it.namespace, &it.spiffe_id, called))
}

fn one_less(of: &mut HashMap<Name, usize>, node: &str) {
    if let Some(count) = of.get_mut(node) {
        *count -= 1;
        if *count == 0 {
            of.remove(node);
        }
    }
}

/// How many calls a flow counts.
fn calls(flow: &MeshFlow) -> u64 {
    flow.connections.saturating_add(flow.requests)
}

/// What makes two flows the same.
fn key(flow: &MeshFlow) -> [u8; 32] {
    let kind = MeshFlow {
        connections: 0,
        requests: 0,
        bytes_to_destination: 0,
        bytes_to_source: 0,
        first_millis: 0,
        last_millis: 0,
        sample: String::new(),
        ..flow.clone()
    };
    sha256(&encode(&kind))
}

fn merge(known: &mut MeshFlow, more: &MeshFlow) {
    let add = |to: &mut u64, count: u64| *to = to.saturating_add(count);
    add(&mut known.connections, more.connections);
    add(&mut known.requests, more.requests);
    add(&mut known.bytes_to_destination, more.bytes_to_destination);
    add(&mut known.bytes_to_source, more.bytes_to_source);
    known.first_millis = known.first_millis.min(more.first_millis);
    known.last_millis = known.last_millis.max(more.last_millis);
}

/// The same among others of its namespaces and verdict.
fn folded(flow: MeshFlow) -> MeshFlow {
    let others = |party: Option<MeshParty>| {
        let namespace = party.map(|party| party.namespace).unwrap_or_default();
        let kind = MeshPartyKind::Others.into();
        Some(MeshParty { kind, namespace, ..MeshParty::default() })
    };
    MeshFlow {
        source: others(flow.source),
        destination: others(flow.destination),
        service: String::new(),
        port: 0,
        rule: String::new(),
        permission: String::new(),
        shadow: None,
        method: String::new(),
        path: String::new(),
        ..flow
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
    use super::*;

    fn flow(owner: &str, connections: u64) -> MeshFlow {
        let source = MeshParty { owner_name: owner.to_owned(), ..MeshParty::default() };
        let millis = i64::try_from(connections).unwrap();
        MeshFlow {
            source: Some(source),
            connections,
            bytes_to_source: 10,
            first_millis: millis,
            last_millis: millis,
            sample: owner.to_owned(),
            ..MeshFlow::default()
        }
    }

    fn take(state: &mut MeshState, told: FlowsTold) -> ReportBatch {
        let (mut batch, mut bytes) = (ReportBatch::default(), 0);
        state.take(told, &mut batch, &mut bytes);
        state.take_flows(told, &mut batch, &mut bytes);
        batch
    }

    #[test]
    fn flows_of_two_nodes_are_one_and_their_sums_are_exact() {
        let mut state = MeshState::default();
        state.flowed("a", flow("web", 5));
        state.flowed("b", flow("web", 3));
        state.flowed("b", flow("api", 1));
        assert!(take(&mut state, FlowsTold::Crowded).mesh_flows.is_empty());
        let mut told = take(&mut state, FlowsTold::Few).mesh_flows;
        told.sort_by_key(|flow| flow.connections);
        let [api, web] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((api.connections, web.connections, web.bytes_to_source), (1, 8, 20));
        assert_eq!((web.first_millis, web.last_millis), (3, 5));
        assert!(!state.has_flows());
    }

    #[test]
    fn a_node_that_makes_up_words_takes_no_more_room_and_is_counted() {
        let mut state = MeshState::default();
        for number in 0..20_000 {
            let protocol = format!("p{number}");
            state.flowed("odd", MeshFlow { protocol, ..flow("web", 2) });
        }
        assert_eq!(state.flows.len(), FLOWS_OF_NODE + FOLDED_OF_NODE);
        let endless = MeshFlow { connections: u64::MAX, ..flow("web", 1) };
        state.flowed("other", endless.clone());
        state.flowed("other", endless);
        let told = state.flows.values().map(|kept| kept.word.connections);
        let told: u64 = told.filter(|count| *count < u64::MAX).sum();
        assert_eq!(told + state.lost_flows, 2 * 20_000);
        assert_eq!(state.flows.len(), FLOWS_OF_NODE + FOLDED_OF_NODE + 1, "the other has room");
    }

    #[test]
    fn a_node_that_tells_too_much_leaves_room_for_others_and_nothing_is_uncounted() {
        let mut state = MeshState::default();
        let denial = |count| MeshDenial { count, ..MeshDenial::default() };
        for number in 0..FLOWS_OF_NODE + 100 {
            state.flowed("loud", flow(&number.to_string(), 2));
            state.denied("loud", denial(1));
        }
        state.flowed("quiet", flow("web", 7));
        state.denied("quiet", denial(9));
        let (mut flows, mut denials, mut lost) = (Vec::new(), Vec::new(), 0);
        loop {
            let batch = take(&mut state, FlowsTold::All);
            assert!(
                batch.mesh_flows.len() <= MESH_FLOWS && batch.mesh_denials.len() <= MESH_DENIALS
            );
            if batch == ReportBatch::default() {
                break;
            }
            lost += batch.lost_mesh_denials;
            flows.extend(batch.mesh_flows);
            denials.extend(batch.mesh_denials);
        }
        let all = u64::try_from(FLOWS_OF_NODE + 100).unwrap();
        assert_eq!(flows.iter().map(|flow| flow.connections).sum::<u64>(), 2 * all + 7);
        let others = |flow: &&MeshFlow| {
            flow.source.as_ref().is_some_and(|it| it.kind() == MeshPartyKind::Others)
        };
        let [folded] = flows.iter().filter(others).collect::<Vec<_>>()[..] else { panic!() };
        assert_eq!(folded.connections, 200);
        assert!(flows.iter().any(|flow| flow.connections == 7), "the quiet one's is apart");
        assert!(denials.iter().any(|denial| denial.count == 9));
        assert_eq!(denials.iter().map(|it| it.count).sum::<u64>() + lost, all + 9);
    }

    fn of_namespace(namespace: &str, port: u32) -> (MeshDenial, MeshFlow) {
        let party = |namespace: &str| {
            Some(MeshParty { namespace: namespace.to_owned(), ..MeshParty::default() })
        };
        let (source, destination) = (party(namespace), party("bank"));
        let denial = MeshDenial {
            source: source.clone(),
            destination: destination.clone(),
            port,
            count: 1,
            ..MeshDenial::default()
        };
        let flow = MeshFlow { source, destination, port, connections: 1, ..MeshFlow::default() };
        (denial, flow)
    }

    #[test]
    fn a_namespace_that_floods_on_many_nodes_leaves_room_for_others() {
        let mut state = MeshState::default();
        for port in 0..30_000 {
            let (denial, flow) = of_namespace("evil", port);
            let node = format!("node-{}", port % 20);
            state.denied(&node, denial);
            state.flowed(&node, flow);
        }
        assert!(state.flow_bytes.clone().take("from shop", KEPT_FLOW_BYTES / 4));
        let (denial, flow) = of_namespace("shop", 1);
        state.denied("node-1", denial);
        state.flowed("node-1", flow);
        let (mut named, mut folded) = (0, 0);
        let mut denied = 0;
        loop {
            let batch = take(&mut state, FlowsTold::All);
            if batch == ReportBatch::default() {
                break;
            }
            let is_shop = |party: &Option<MeshParty>| party.clone().unwrap().namespace == "shop";
            denied += batch.mesh_denials.iter().filter(|it| is_shop(&it.source)).count();
            for flow in &batch.mesh_flows {
                let source = flow.source.clone().unwrap();
                named += u64::from(is_shop(&flow.source)) * flow.connections;
                if source.kind() == MeshPartyKind::Others {
                    assert_eq!(source.namespace, "evil", "its people see it");
                    folded += flow.connections;
                }
            }
        }
        assert_eq!((denied, named), (1, 1));
        assert!(folded > 10_000, "{folded}");
        assert!(state.flows_of.is_empty() && state.denials_of.is_empty());
        assert!(state.flow_bytes.take("from evil", KEPT_FLOW_BYTES / 2), "all room is given back");
        assert!(state.denial_bytes.take("from evil", KEPT_BYTES / 2));
    }

    #[test]
    fn of_a_refusal_the_word_of_who_refused_comes_first() {
        let mut state = MeshState::default();
        let word = |side: MeshSide, count| MeshDenial {
            side: side.into(),
            reason: REFUSED.to_owned(),
            count,
            ..MeshDenial::default()
        };
        let counts = |state: &mut MeshState, told| -> Vec<u64> {
            take(state, told).mesh_denials.iter().map(|it| it.count).collect()
        };
        state.denied("a", word(MeshSide::Source, 1));
        assert!(!state.has_news());
        assert_eq!(counts(&mut state, FlowsTold::Few), [0; 0]);
        state.denied(
            "b",
            MeshDenial { reason: "no-intention".to_owned(), ..word(MeshSide::Destination, 2) },
        );
        assert_eq!(counts(&mut state, FlowsTold::Crowded), [2]);
        state.denied("a", word(MeshSide::Source, 3));
        assert_eq!(counts(&mut state, FlowsTold::Few), [1]);
        assert_eq!(counts(&mut state, FlowsTold::All), [3], "at the end nothing waits");
        assert_eq!(state.kept_denials, 0);
    }

    #[test]
    fn a_batch_that_is_never_taken_becomes_a_loss() {
        let mut state = MeshState::default();
        state.flowed("a", flow("web", 5));
        state.denied("a", MeshDenial { count: 3, ..MeshDenial::default() });
        state.disbelieved("a", 2);
        let batch = take(&mut state, FlowsTold::All);
        assert_eq!(batch.disbelieved_nodes["a"], 2);
        state.lose(&batch);
        let told = take(&mut state, FlowsTold::All);
        assert_eq!((told.lost_mesh_denials, told.lost_mesh_flows), (3, 5));
        assert!(!state.has_news());
    }
}
