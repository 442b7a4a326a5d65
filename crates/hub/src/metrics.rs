//! What Prometheus reads of a hub: few counters and gauges, each with a use at three in the morning.

use nullius_telemetry::{Counter, Gauge, Label, Metrics};

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident, $label:literal, $($(#[$each:meta])* $variant:ident => $word:literal),* $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$each])* $variant),* }

        impl Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant),*];
            fn value(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}

labels! {
    /// How a sign-in ended.
    SignInOutcome, "outcome",
    /// A session was opened.
    Opened => "opened",
    /// Something that was proven was wrong.
    Refused => "refused",
    /// There was no room, or too many tries.
    HeldBack => "held-back",
}

labels! {
    /// How a call ended, by the class of its status.
    CallOutcome, "status",
    /// 1xx to 3xx.
    Done => "ok",
    /// 4xx.
    Refused => "4xx",
    /// 5xx.
    Failed => "5xx",
}

impl CallOutcome {
    fn of(status: http::StatusCode) -> Self {
        match status.as_u16() {
            0..400 => Self::Done,
            400..500 => Self::Refused,
            _ => Self::Failed,
        }
    }
}

/// Counters and gauges of one hub process.
#[derive(Clone)]
pub struct HubMetrics {
    all: Metrics,
    sign_ins: Counter<SignInOutcome>,
    api_calls: Counter<CallOutcome>,
    kube_calls: Counter<CallOutcome>,
    handshakes_failed: Counter,
    alarms: Counter,
    audit_refusals: Counter,
    connections: Gauge,
    sessions: Gauge,
    audit_failing: Gauge,
    audit_anchor_failing: Gauge,
    signing_key_expires: Gauge,
    key_set_revision: Gauge,
    ready: Gauge,
    revision: Gauge,
}

impl Default for HubMetrics {
    fn default() -> Self {
        let all = Metrics::new();
        Self {
            sign_ins: all.counter("nullius_hub_sign_ins_total", "Sign-ins by how they ended."),
            api_calls: all
                .counter("nullius_hub_api_calls_total", "Calls to API and pages by status class."),
            kube_calls: all.counter(
                "nullius_hub_kube_calls_total",
                "Calls to Kubernetes paths by status class.",
            ),
            handshakes_failed: all
                .counter("nullius_hub_handshakes_failed_total", "TLS handshakes that failed."),
            alarms: all.counter("nullius_hub_alarms_total", "Things that happened and must not."),
            audit_refusals: all.counter(
                "nullius_audit_refusals_total",
                "Calls refused because they could not have been recorded.",
            ),
            connections: all.gauge("nullius_hub_connections", "Open connections."),
            sessions: all.gauge("nullius_hub_sessions", "Live sessions."),
            audit_failing: all
                .gauge("nullius_audit_failing", "1 while the audit cannot be written."),
            audit_anchor_failing: all.gauge(
                "nullius_audit_anchor_failing",
                "1 while checkpoints cannot be written to the anchor.",
            ),
            signing_key_expires: all.gauge(
                "nullius_hub_signing_key_expires_seconds",
                "Time until agents refuse what the hub signs, unless its key is rotated; below 0 when they do.",
            ),
            key_set_revision: all.gauge(
                "nullius_hub_key_set_revision",
                "Revision of the key set that agents are told.",
            ),
            ready: all.gauge("nullius_hub_ready", "1 while the hub can serve."),
            revision: all.gauge(
                "nullius_hub_objects_revision",
                "Revision of the objects that decisions rest on.",
            ),
            all,
        }
    }
}

impl HubMetrics {
    /// Where other parts of the process add theirs.
    pub fn all(&self) -> &Metrics {
        &self.all
    }

    pub(crate) fn sign_in(&self, outcome: SignInOutcome) {
        self.sign_ins.add_one(outcome);
    }

    pub(crate) fn api_call(&self, status: http::StatusCode) {
        self.api_calls.add_one(CallOutcome::of(status));
    }

    pub(crate) fn kube_call(&self, status: http::StatusCode) {
        self.kube_calls.add_one(CallOutcome::of(status));
    }

    pub(crate) fn connected(&self) {
        self.connections.add((), 1);
    }

    pub(crate) fn disconnected(&self) {
        self.connections.add((), -1);
    }

    pub(crate) fn handshake_failed(&self) {
        self.handshakes_failed.add_one(());
    }

    /// Something happened that must not.
    pub fn alarm(&self) {
        self.alarms.add_one(());
    }

    /// Something was refused because it could not have been recorded.
    pub fn audit_refusal(&self) {
        self.audit_refusals.add_one(());
    }

    pub(crate) fn render(&self, now: Readings) -> String {
        self.sessions.set((), i64::try_from(now.sessions).unwrap_or(i64::MAX));
        self.audit_failing.set((), i64::from(now.audit_failing));
        self.audit_anchor_failing.set((), i64::from(now.audit_anchor_failing));
        self.signing_key_expires.set((), now.signing_key_expires);
        self.key_set_revision.set((), i64::try_from(now.key_set_revision).unwrap_or(i64::MAX));
        self.ready.set((), i64::from(now.ready));
        self.revision.set((), i64::try_from(now.revision).unwrap_or(i64::MAX));
        self.all.render()
    }
}

/// What is measured elsewhere and shown with the rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Readings {
    pub(crate) sessions: usize,
    pub(crate) audit_failing: bool,
    pub(crate) audit_anchor_failing: bool,
    /// Seconds.
    pub(crate) signing_key_expires: i64,
    pub(crate) key_set_revision: u64,
    pub(crate) ready: bool,
    pub(crate) revision: u64,
}
