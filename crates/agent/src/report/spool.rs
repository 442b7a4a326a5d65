//! What waits to be told: bounded, without anybody waiting, and what is lost is counted.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use nullius_proto::{
    agent_v1::{AdmissionDecision, AdmissionUse, ReportBatch, ScanWord, ServerWord, scan_word},
    encoded_len,
    report::{
        DECISIONS, FINDINGS_OF_OBJECT, SCAN_WORDS, SERVER_MARKS, SERVER_WORDS, STANDING, USES,
    },
};
use tokio::sync::Notify;

use super::{
    BATCH_BYTES,
    mesh::{FlowsTold, MeshState},
};

/// Decisions that are kept while the hub is away, and their bytes.
const KEPT: usize = 10_000;
const KEPT_BYTES: usize = 8 << 20;
/// Different uses that are kept apart until they are told.
const KEPT_USES: usize = 8_192;
/// Words of the API server that are kept while the hub is away, their bytes, and those of one user: nobody crowds out all others.
const KEPT_WORDS: usize = 20_000;
const KEPT_WORD_BYTES: usize = 24 << 20;
const KEPT_WORDS_OF_USER: usize = KEPT_WORDS / 4;
/// Different uses of an API server that are kept apart; half of them are told at once.
const KEPT_SERVER_USES: usize = 32_768;
/// Bytes of one decision, or of one word of a scan; what is longer is cut.
const ONE_BYTES: usize = 64 << 10;
/// Remarks of a decision that is too long.
const REMARKS: usize = 16;
const REMARK_CHARS: usize = 1_000;

/// What makes two decisions the same use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct UsedPolicy<'a> {
    /// Who sent the request.
    pub(crate) username: &'a str,
    /// `CREATE`, `UPDATE`, `DELETE`, `CONNECT`.
    pub(crate) operation: &'a str,
    /// The API group.
    pub(crate) group: &'a str,
    /// The resource.
    pub(crate) resource: &'a str,
    /// The subresource.
    pub(crate) subresource: &'a str,
    /// The namespace.
    pub(crate) namespace: &'a str,
    /// Whether it was let in.
    pub(crate) allowed: bool,
    /// The stable id of the rule that decided; empty where none did.
    pub(crate) permission: &'a str,
}

impl UsedPolicy<'_> {
    fn is(&self, used: &AdmissionUse) -> bool {
        self.username == used.username
            && self.operation == used.operation
            && self.group == used.group
            && self.resource == used.resource
            && self.subresource == used.subresource
            && self.namespace == used.namespace
            && self.allowed == used.allowed
            && self.permission == used.permission
    }
}

/// What an API server's list says that is new.
#[derive(Default)]
pub(crate) struct Heard {
    /// What it said of requests.
    pub(crate) words: Vec<ServerWord>,
    /// Uses, each by itself.
    pub(crate) uses: Vec<AdmissionUse>,
    /// Events of it that could not be read.
    pub(crate) unreadable: u64,
}

/// There is no room for a list now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// Whether uses go with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Uses {
    Told,
    /// Only flows of the mesh, where they are few.
    Few,
    Kept,
}

#[derive(Default)]
pub(super) struct Spool {
    hasher: RandomState,
    state: Mutex<State>,
    news: Notify,
    refused_words: AtomicU64,
}

#[derive(Default)]
struct State {
    decisions: VecDeque<AdmissionDecision>,
    bytes: usize,
    lost_decisions: u64,
    uses: UseTable,
    lost_uses: u64,
    words: VecDeque<ScanWord>,
    server: ServerState,
    mesh: MeshState,
}

/// What the API server told.
#[derive(Default)]
struct ServerState {
    words: VecDeque<ServerWord>,
    bytes: usize,
    of_user: HashMap<String, usize>,
    uses: UseTable,
    lost_words: u64,
    turned_away: u64,
    unreadable_lists: u64,
    unreadable_events: u64,
}

/// Uses, merged.
#[derive(Default)]
struct UseTable {
    by_hash: HashMap<u64, Vec<AdmissionUse>>,
    different: usize,
    /// How many marks of requests they have together.
    marks: usize,
}

impl UseTable {
    /// Adds to a use that is known; false where it is not.
    fn add(&mut self, hash: u64, used: &UsedPolicy<'_>, first: i64, last: i64, count: u64) -> bool {
        let known = self
            .by_hash
            .get_mut(&hash)
            .and_then(|same_hash| same_hash.iter_mut().find(|known| used.is(known)));
        let Some(known) = known else { return false };
        known.count += count;
        known.first_millis = known.first_millis.min(first);
        known.last_millis = known.last_millis.max(last);
        true
    }

    /// Adds to a use that is known, or keeps another one where there is room; false where there is none.
    fn keep(&mut self, hash: u64, mut used: AdmissionUse) -> bool {
        // Without a mark it is counted all the same, and perhaps by another replica too.
        used.marks.truncate(SERVER_MARKS.saturating_sub(self.marks));
        let mut same = self.by_hash.get_mut(&hash).into_iter().flatten();
        if let Some(known) = same.find(|known| of(&used).is(known)) {
            known.count += used.count;
            known.first_millis = known.first_millis.min(used.first_millis);
            known.last_millis = known.last_millis.max(used.last_millis);
            self.marks += used.marks.len();
            known.marks.append(&mut used.marks);
            return true;
        }
        let has_room = self.different < KEPT_SERVER_USES;
        if has_room {
            self.insert(hash, used);
        }
        has_room
    }

    fn insert(&mut self, hash: u64, used: AdmissionUse) {
        self.different += 1;
        self.marks += used.marks.len();
        self.by_hash.entry(hash).or_default().push(used);
    }

    /// Moves what finds a place into a batch that is so long already; the rest goes with the next.
    fn take(&mut self, hasher: &RandomState, bytes: &mut usize) -> Vec<AdmissionUse> {
        let all = std::mem::take(self).by_hash.into_values().flatten();
        let mut taken = Vec::new();
        for used in all {
            let length = encoded_len(&used);
            if taken.len() < USES && *bytes + length < BATCH_BYTES {
                *bytes += length;
                taken.push(used);
            } else {
                self.insert(hasher.hash_one(of(&used)), used);
            }
        }
        taken
    }
}

impl Spool {
    pub(super) fn decided(&self, mut decision: AdmissionDecision) {
        if encoded_len(&decision) > ONE_BYTES {
            shorten(&mut decision);
        }
        let bytes = encoded_len(&decision);
        let mut state = self.lock();
        if state.decisions.len() >= KEPT || state.bytes + bytes > KEPT_BYTES || bytes > ONE_BYTES {
            state.lost_decisions += 1;
        } else {
            state.bytes += bytes;
            state.decisions.push_back(decision);
        }
        drop(state);
        self.news.notify_one();
    }

    pub(super) fn used(&self, used: &UsedPolicy<'_>, at_millis: i64, sample: &str) {
        let hash = self.hasher.hash_one(used);
        let mut state = self.lock();
        if state.uses.add(hash, used, at_millis, at_millis, 1) {
            return;
        }
        if state.uses.different >= KEPT_USES {
            state.lost_uses += 1;
            return;
        }
        let used = AdmissionUse {
            username: used.username.to_owned(),
            operation: used.operation.to_owned(),
            group: used.group.to_owned(),
            resource: used.resource.to_owned(),
            subresource: used.subresource.to_owned(),
            namespace: used.namespace.to_owned(),
            allowed: used.allowed,
            permission: used.permission.to_owned(),
            first_millis: at_millis,
            last_millis: at_millis,
            count: 1,
            sample: sample.to_owned(),
            marks: Vec::new(),
        };
        state.uses.insert(hash, used);
    }

    /// Keeps what a list says, all of it or nothing.
    pub(super) fn hear(&self, heard: Heard) -> Result<(), NoRoom> {
        let mut state = self.lock();
        let server = &mut state.server;
        let bytes: usize = heard.words.iter().map(encoded_len).sum();
        if !heard.words.is_empty()
            && (server.words.len() + heard.words.len() > KEPT_WORDS
                || server.bytes + bytes > KEPT_WORD_BYTES)
        {
            server.turned_away += 1;
            drop(state);
            self.news.notify_one();
            return Err(NoRoom);
        }
        server.unreadable_events += heard.unreadable;
        for word in heard.words {
            let of_user = server.of_user.entry(word.username.clone()).or_default();
            if *of_user >= KEPT_WORDS_OF_USER {
                server.lost_words += 1;
                continue;
            }
            *of_user += 1;
            server.bytes += encoded_len(&word);
            server.words.push_back(word);
        }
        let mut lost = 0;
        for used in heard.uses {
            let (hash, count) = (self.hasher.hash_one(of(&used)), used.count);
            if !server.uses.keep(hash, used) {
                lost += count;
            }
        }
        state.lost_uses += lost;
        drop(state);
        self.news.notify_one();
        Ok(())
    }

    /// Changes what is to be told of the mesh.
    pub(super) fn of_mesh(&self, change: impl FnOnce(&mut MeshState)) {
        change(&mut self.lock().mesh);
        self.news.notify_one();
    }

    /// Counts a list that could not be read.
    pub(super) fn unreadable_list(&self) {
        self.lock().server.unreadable_lists += 1;
        self.news.notify_one();
    }

    /// Keeps a word of a scan for the next batch.
    pub(super) fn keep_word(&self, word: Option<ScanWord>) {
        let Some(mut word) = word else { return };
        shorten_word(&mut word);
        self.lock().words.push_back(word);
    }

    /// Whether the next batch has room for more words of a scan.
    pub(super) fn wants_words(&self) -> bool {
        self.lock().words.len() < SCAN_WORDS
    }

    /// Returns when there is a decision to tell.
    pub(super) async fn news(&self) {
        loop {
            let notified = self.news.notified();
            {
                let state = self.lock();
                let waits = !state.decisions.is_empty() || !state.words.is_empty();
                let has_news = state.server.has_news() || state.mesh.has_news();
                if waits || state.lost_decisions > 0 || has_news {
                    return;
                }
            }
            notified.await;
        }
    }

    /// A batch of what waits, without a number; none where nothing does.
    pub(super) fn take(&self, uses: Uses) -> Option<ReportBatch> {
        let mut state = self.lock();
        let mut batch = ReportBatch::default();
        let mut bytes = 0;
        while batch.decisions.len() < DECISIONS
            && bytes < BATCH_BYTES
            && let Some(decision) = state.decisions.pop_front()
        {
            let length = encoded_len(&decision);
            bytes += length;
            state.bytes = state.bytes.saturating_sub(length);
            batch.decisions.push(decision);
        }
        while batch.scan.len() < SCAN_WORDS
            && bytes < BATCH_BYTES
            && let Some(word) = state.words.pop_front()
        {
            bytes += encoded_len(&word);
            batch.scan.push(word);
        }
        state.server.take_words(&mut batch, &mut bytes);
        let flows = match uses {
            Uses::Told => FlowsTold::All,
            Uses::Few => FlowsTold::Few,
            Uses::Kept => FlowsTold::Crowded,
        };
        state.mesh.take(flows, &mut batch, &mut bytes);
        state.mesh.take_flows(flows, &mut batch, &mut bytes);
        if uses == Uses::Told {
            batch.uses = state.uses.take(&self.hasher, &mut bytes);
        }
        if uses == Uses::Told || state.server.is_crowded() {
            batch.server_uses = state.server.uses.take(&self.hasher, &mut bytes);
        }
        batch.lost_decisions = std::mem::take(&mut state.lost_decisions);
        batch.lost_uses = std::mem::take(&mut state.lost_uses);
        (batch != ReportBatch::default()).then_some(batch)
    }

    /// Whether uses wait that found no place in the last batch.
    pub(super) fn has_uses(&self) -> bool {
        let state = self.lock();
        state.uses.different + state.server.uses.different > 0 || state.mesh.has_flows()
    }

    /// Counts a batch that the hub will never take.
    pub(super) fn lose(&self, batch: &ReportBatch) {
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        let mut state = self.lock();
        state.lost_decisions += batch.lost_decisions + count(batch.decisions.len());
        let uses = batch.uses.iter().chain(&batch.server_uses);
        state.lost_uses += batch.lost_uses + uses.map(|used| used.count).sum::<u64>();
        state.mesh.lose(batch);
        let server = &mut state.server;
        server.lost_words += batch.lost_server_words + count(batch.server_words.len());
        server.turned_away += batch.turned_away_lists;
        server.unreadable_lists += batch.unreadable_lists;
        server.unreadable_events += batch.unreadable_events;
        drop(state);
        self.refused_words.fetch_add(count(batch.scan.len()), Ordering::AcqRel);
        self.news.notify_one();
    }

    pub(super) fn refused_words(&self) -> u64 {
        self.refused_words.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerState {
    fn has_news(&self) -> bool {
        let losses =
            self.lost_words + self.turned_away + self.unreadable_lists + self.unreadable_events;
        !self.words.is_empty() || losses > 0 || self.is_crowded()
    }

    fn is_crowded(&self) -> bool {
        self.uses.different > KEPT_SERVER_USES / 2 || self.uses.marks > SERVER_MARKS / 2
    }

    fn take_words(&mut self, batch: &mut ReportBatch, bytes: &mut usize) {
        while batch.server_words.len() < SERVER_WORDS
            && *bytes < BATCH_BYTES
            && let Some(word) = self.words.pop_front()
        {
            let length = encoded_len(&word);
            *bytes += length;
            self.bytes = self.bytes.saturating_sub(length);
            if let Some(of_user) = self.of_user.get_mut(&word.username) {
                *of_user -= 1;
                if *of_user == 0 {
                    self.of_user.remove(&word.username);
                }
            }
            batch.server_words.push(word);
        }
        batch.lost_server_words = std::mem::take(&mut self.lost_words);
        batch.turned_away_lists = std::mem::take(&mut self.turned_away);
        batch.unreadable_lists = std::mem::take(&mut self.unreadable_lists);
        batch.unreadable_events = std::mem::take(&mut self.unreadable_events);
    }
}

fn of(used: &AdmissionUse) -> UsedPolicy<'_> {
    UsedPolicy {
        username: &used.username,
        operation: &used.operation,
        group: &used.group,
        resource: &used.resource,
        subresource: &used.subresource,
        namespace: &used.namespace,
        allowed: used.allowed,
        permission: &used.permission,
    }
}

fn shorten(decision: &mut AdmissionDecision) {
    decision.remarks.truncate(REMARKS);
    decision.groups.truncate(REMARKS);
    for remark in &mut decision.remarks {
        for text in [&mut remark.message, &mut remark.check, &mut remark.waiver_reason] {
            cut(text);
        }
    }
    for text in [&mut decision.sentence, &mut decision.rule, &mut decision.next] {
        cut(text);
    }
}

fn shorten_word(word: &mut ScanWord) {
    match &mut word.kind {
        Some(scan_word::Kind::Findings(of)) => {
            of.findings.truncate(FINDINGS_OF_OBJECT);
            if encoded_len(of) <= ONE_BYTES {
                return;
            }
            for finding in &mut of.findings {
                finding.evidence.truncate(4);
                for text in
                    finding.evidence.iter_mut().chain([&mut finding.message, &mut finding.fix])
                {
                    cut(text);
                }
            }
        }
        Some(scan_word::Kind::Standing(standing)) => standing.uids.truncate(STANDING),
        Some(scan_word::Kind::Done(done)) => done.faults.truncate(REMARKS),
        None => {}
    }
}

fn cut(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(REMARK_CHARS) {
        text.truncate(at);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
    use super::*;

    fn decision(number: usize) -> AdmissionDecision {
        AdmissionDecision { uid: format!("review-{number}"), ..Default::default() }
    }

    fn used(username: &str) -> UsedPolicy<'_> {
        UsedPolicy {
            username,
            operation: "CREATE",
            group: "apps",
            resource: "deployments",
            subresource: "",
            namespace: "shop",
            allowed: true,
            permission: "",
        }
    }

    #[test]
    fn what_finds_no_room_is_counted_and_the_next_batch_says_so() {
        let spool = Spool::default();
        for number in 0..KEPT + 3 {
            spool.decided(decision(number));
        }
        let mut told = 0;
        let first = spool.take(Uses::Kept).unwrap();
        assert_eq!((first.decisions.len(), first.lost_decisions), (DECISIONS, 3));
        told += first.decisions.len();
        while let Some(batch) = spool.take(Uses::Kept) {
            assert_eq!(batch.lost_decisions, 0, "it is told once");
            told += batch.decisions.len();
        }
        assert_eq!(told, KEPT);
        spool.decided(decision(1));
        assert_eq!(spool.take(Uses::Kept).unwrap().decisions.len(), 1, "there is room again");
    }

    #[test]
    fn a_batch_that_is_never_taken_becomes_a_loss() {
        let spool = Spool::default();
        spool.decided(decision(1));
        spool.used(&used("ada"), 5, "s");
        spool.used(&used("ada"), 6, "s");
        spool.keep_word(Some(ScanWord::default()));
        let batch = spool.take(Uses::Told).unwrap();
        spool.lose(&batch);
        let told = spool.take(Uses::Told).unwrap();
        assert_eq!((told.lost_decisions, told.lost_uses, spool.refused_words()), (1, 2, 1));
    }

    #[test]
    fn uses_are_merged_and_bounded() {
        let spool = Spool::default();
        for millis in [7, 5, 9] {
            spool.used(&used("ada"), millis, "s-1");
        }
        assert!(spool.take(Uses::Kept).is_none(), "they are told in their time");
        let batch = spool.take(Uses::Told).unwrap();
        let [used_by_ada] = batch.uses.as_slice() else { panic!("{batch:?}") };
        assert_eq!(
            (used_by_ada.count, used_by_ada.first_millis, used_by_ada.last_millis),
            (3, 5, 9)
        );
        for number in 0..KEPT_USES + 10 {
            spool.used(&used(&format!("user-{number}")), 1, "s");
        }
        let mut told = 0;
        let mut lost = 0;
        while let Some(batch) = spool.take(Uses::Told) {
            assert!(batch.uses.len() <= USES);
            told += batch.uses.len();
            lost += batch.lost_uses;
        }
        assert_eq!((told, lost), (KEPT_USES, 10));
    }

    #[test]
    fn a_decision_that_is_too_long_is_cut_and_still_told() {
        let spool = Spool::default();
        let remark = nullius_proto::agent_v1::AdmissionRemark {
            message: "é".repeat(100_000),
            ..Default::default()
        };
        spool.decided(AdmissionDecision { remarks: vec![remark; 20], ..decision(1) });
        let batch = spool.take(Uses::Kept).unwrap();
        assert!(encoded_len(&batch) < ONE_BYTES);
        assert_eq!(batch.decisions[0].remarks.len(), REMARKS);
    }
}
