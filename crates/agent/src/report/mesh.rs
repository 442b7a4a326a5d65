//! What the mesh decided, as it waits to be told: flows merged over nodes, denials one by one, and no node crowds out all others.

use std::collections::{BTreeMap, HashMap, VecDeque};

use nullius_pki::sha256;
use nullius_proto::{
    agent_v1::{MeshDenial, MeshFlow, MeshParty, MeshPartyKind, ReportBatch},
    encode, encoded_len,
    report::{DISBELIEVED_NODES, MESH_DENIALS, MESH_FLOWS},
};

use super::BATCH_BYTES;

/// Denials that are kept while the hub is away, their bytes, and those of one node.
const KEPT_DENIALS: usize = 10_000;
const KEPT_BYTES: usize = 8 << 20;
const KEPT_OF_NODE: usize = KEPT_DENIALS / 4;
/// Kinds of flows that are kept apart, and how many of them one node may begin; half of all are told at once.
const KEPT_FLOWS: usize = 16_384;
const FLOWS_OF_NODE: usize = KEPT_FLOWS / 4;
/// Kinds of folded flows that a node may begin beside.
const FOLDED_OF_NODE: usize = 64;
/// So few flows are told each minute.
const FEW: usize = 200;

type Name = Box<str>;

/// What waits.
#[derive(Default)]
pub(super) struct MeshState {
    denials: VecDeque<(Name, MeshDenial)>,
    bytes: usize,
    denials_of: HashMap<Name, usize>,
    flows: HashMap<[u8; 32], MeshFlow>,
    flows_of: HashMap<Name, usize>,
    lost_denials: u64,
    lost_flows: u64,
    disbelieved: BTreeMap<String, u64>,
}

impl MeshState {
    /// A denial that a node told.
    pub(super) fn denied(&mut self, node: &str, denial: MeshDenial) {
        let bytes = encoded_len(&denial);
        let of_node = self.denials_of.entry(node.into()).or_default();
        let has_room = self.denials.len() < KEPT_DENIALS && self.bytes + bytes <= KEPT_BYTES;
        if !has_room || *of_node >= KEPT_OF_NODE {
            self.lost(denial.count, 0);
            return;
        }
        *of_node += 1;
        self.bytes += bytes;
        self.denials.push_back((node.into(), denial));
    }

    /// A flow that a node told.
    pub(super) fn flowed(&mut self, node: &str, flow: MeshFlow) {
        let key = key(&flow);
        if let Some(known) = self.flows.get_mut(&key) {
            return merge(known, &flow);
        }
        let of_node = self.flows_of.entry(node.into()).or_default();
        if self.flows.len() < KEPT_FLOWS && *of_node < FLOWS_OF_NODE {
            *of_node += 1;
            self.flows.insert(key, flow);
            return;
        }
        // What is left are closed words, of which there are not many, unless a node makes up its own.
        let folded = folded(flow);
        let has_room =
            self.flows.len() < 2 * KEPT_FLOWS && *of_node < FLOWS_OF_NODE + FOLDED_OF_NODE;
        match self.flows.get_mut(&self::key(&folded)) {
            Some(known) => merge(known, &folded),
            None if has_room => {
                *of_node += 1;
                self.flows.insert(self::key(&folded), folded);
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
    pub(super) fn take(&mut self, batch: &mut ReportBatch, bytes: &mut usize) {
        while batch.mesh_denials.len() < MESH_DENIALS
            && *bytes < BATCH_BYTES
            && let Some((node, denial)) = self.denials.pop_front()
        {
            let length = encoded_len(&denial);
            *bytes += length;
            self.bytes = self.bytes.saturating_sub(length);
            if let Some(of_node) = self.denials_of.get_mut(&node) {
                *of_node -= 1;
                if *of_node == 0 {
                    self.denials_of.remove(&node);
                }
            }
            batch.mesh_denials.push(denial);
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
            if let Some(flow) = self.flows.remove(&key) {
                *bytes += encoded_len(&flow);
                batch.mesh_flows.push(flow);
            }
        }
        if self.flows.is_empty() {
            self.flows_of.clear();
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

/// The same among others of its verdict.
fn folded(flow: MeshFlow) -> MeshFlow {
    let others = || Some(MeshParty { kind: MeshPartyKind::Others.into(), ..MeshParty::default() });
    MeshFlow {
        source: others(),
        destination: others(),
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
        state.take(&mut batch, &mut bytes);
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
        let told = state.flows.values().filter(|flow| flow.connections < u64::MAX);
        let told: u64 = told.map(|flow| flow.connections).sum();
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
