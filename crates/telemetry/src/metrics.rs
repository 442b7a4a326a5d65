//! Counters, gauges and histograms in the text form of Prometheus.
//!
//! Labels are closed enums, so that the number of series is known when the program is compiled and nothing a peer
//! sends can make it grow. Recording is one atomic addition.

use std::{
    fmt::Write,
    marker::PhantomData,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// A label with all its values.
pub trait Label: Copy + PartialEq + 'static {
    /// The label's name; empty for no label.
    const NAME: &'static str;
    /// Every value there is.
    const ALL: &'static [Self];
    /// Whether series are shown that have counted nothing yet.
    const SHOWS_ZEROS: bool = true;
    /// The value as text: lower-case letters, digits, `-` and `_`.
    fn value(self) -> &'static str;
    /// Names and values of further labels, the same names for all.
    fn more(self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }
    /// Where it stands among all of them.
    fn place(self) -> Option<usize> {
        Self::ALL.iter().position(|value| *value == self)
    }
}

impl Label for () {
    const NAME: &'static str = "";
    const ALL: &'static [Self] = &[()];
    fn value(self) -> &'static str {
        ""
    }
}

/// All metrics of a process.
#[derive(Clone, Default)]
pub struct Metrics {
    families: Arc<Mutex<Vec<Family>>>,
}

struct Family {
    name: &'static str,
    help: &'static str,
    shows_zeros: bool,
    /// The labels of each series, as they are written.
    series: Vec<String>,
    cells: Cells,
}

#[derive(Clone)]
enum Cells {
    Counter(Arc<[AtomicU64]>),
    Gauge(Arc<[AtomicI64]>),
    Histogram(Arc<[Buckets]>),
}

/// Upper bounds in seconds: from what a tunnel adds to what a person notices.
const BOUNDS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

#[derive(Default)]
struct Buckets {
    counts: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    sum_micros: AtomicU64,
}

/// A number that only grows.
#[derive(Clone)]
pub struct Counter<L = ()> {
    cells: Arc<[AtomicU64]>,
    label: PhantomData<L>,
}

/// A number that grows and shrinks.
#[derive(Clone)]
pub struct Gauge<L = ()> {
    cells: Arc<[AtomicI64]>,
    label: PhantomData<L>,
}

/// How long something took.
#[derive(Clone)]
pub struct Histogram<L = ()> {
    cells: Arc<[Buckets]>,
    label: PhantomData<L>,
}

impl Metrics {
    /// No metrics yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A counter, named `nullius_<area>_<noun>_total`. Asked for twice, it is the same counter.
    pub fn counter<L: Label>(&self, name: &'static str, help: &'static str) -> Counter<L> {
        let cells = self.family::<L>(name, help, Cells::Counter(zeros::<L, _>()));
        let cells = match cells {
            Cells::Counter(cells) => cells,
            Cells::Gauge(_) | Cells::Histogram(_) => zeros::<L, _>(),
        };
        Counter { cells, label: PhantomData }
    }

    /// A gauge, named `nullius_<area>_<noun>`.
    pub fn gauge<L: Label>(&self, name: &'static str, help: &'static str) -> Gauge<L> {
        let cells = self.family::<L>(name, help, Cells::Gauge(zeros::<L, _>()));
        let cells = match cells {
            Cells::Gauge(cells) => cells,
            Cells::Counter(_) | Cells::Histogram(_) => zeros::<L, _>(),
        };
        Gauge { cells, label: PhantomData }
    }

    /// A histogram of seconds, named `nullius_<area>_<noun>_seconds`.
    pub fn histogram<L: Label>(&self, name: &'static str, help: &'static str) -> Histogram<L> {
        let cells = self.family::<L>(name, help, Cells::Histogram(zeros::<L, _>()));
        let cells = match cells {
            Cells::Histogram(cells) => cells,
            Cells::Counter(_) | Cells::Gauge(_) => zeros::<L, _>(),
        };
        Histogram { cells, label: PhantomData }
    }

    /// The cells of a name: those that are there, when kind and label agree, else new ones. Two metrics that quarrel
    /// about a name both work, and the first is shown.
    fn family<L: Label>(&self, name: &'static str, help: &'static str, new: Cells) -> Cells {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let series: Vec<_> = L::ALL.iter().map(|value| pairs(*value)).collect();
        if let Some(known) = families.iter().find(|family| family.name == name) {
            let same_kind = std::mem::discriminant(&known.cells) == std::mem::discriminant(&new);
            let same = same_kind && known.series == series;
            return if same { known.cells.clone() } else { new };
        }
        let shows_zeros = L::SHOWS_ZEROS;
        families.push(Family { name, help, shows_zeros, series, cells: new.clone() });
        families.sort_by_key(|family| family.name);
        new
    }

    /// All metrics in the text form, version 0.0.4, in order of their names.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for family in self.families.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            family.render(&mut out);
        }
        out
    }
}

impl<L: Label> Counter<L> {
    /// Adds one under a label.
    pub fn add_one(&self, label: L) {
        self.add(label, 1);
    }

    /// Adds under a label.
    pub fn add(&self, label: L, amount: u64) {
        if let Some(cell) = label.place().and_then(|place| self.cells.get(place)) {
            cell.fetch_add(amount, Relaxed);
        }
    }
}

impl<L: Label> Gauge<L> {
    /// Sets the value under a label.
    pub fn set(&self, label: L, value: i64) {
        if let Some(cell) = label.place().and_then(|place| self.cells.get(place)) {
            cell.store(value, Relaxed);
        }
    }

    /// Adds to the value under a label, or takes away.
    pub fn add(&self, label: L, amount: i64) {
        if let Some(cell) = label.place().and_then(|place| self.cells.get(place)) {
            cell.fetch_add(amount, Relaxed);
        }
    }
}

impl<L: Label> Histogram<L> {
    /// Notes that something took so long.
    pub fn observe(&self, label: L, time: Duration) {
        let Some(cell) = label.place().and_then(|place| self.cells.get(place)) else { return };
        let seconds = time.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            cell.counts[bucket].fetch_add(1, Relaxed);
        }
        cell.count.fetch_add(1, Relaxed);
        cell.sum_micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }
}

impl Family {
    fn render(&self, out: &mut String) {
        let kind = match &self.cells {
            Cells::Counter(_) => "counter",
            Cells::Gauge(_) => "gauge",
            Cells::Histogram(_) => "histogram",
        };
        let Self { name, help, .. } = self;
        // Writing to a string does not fail.
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (place, pair) in self.series.iter().enumerate() {
            let _ = match &self.cells {
                Cells::Counter(cells) => match cells[place].load(Relaxed) {
                    0 if !self.shows_zeros => Ok(()),
                    count => line(out, name, pair, count),
                },
                Cells::Gauge(cells) => line(out, name, pair, cells[place].load(Relaxed)),
                Cells::Histogram(cells) => cells[place].render(out, name, pair),
            };
        }
    }
}

impl Buckets {
    fn render(&self, out: &mut String, name: &str, pair: &str) -> std::fmt::Result {
        let comma = if pair.is_empty() { "" } else { "," };
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (bound, count) in BOUNDS.iter().zip(&self.counts) {
            below += count.load(Relaxed);
            line(out, &bucket, &format!("{pair}{comma}le=\"{bound}\""), below)?;
        }
        let count = self.count.load(Relaxed).max(below);
        line(out, &bucket, &format!("{pair}{comma}le=\"+Inf\""), count)?;
        let micros = self.sum_micros.load(Relaxed);
        let sum = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        line(out, &format!("{name}_sum"), pair, sum)?;
        line(out, &format!("{name}_count"), pair, count)
    }
}

fn line(
    out: &mut String,
    name: &str,
    pairs: &str,
    value: impl std::fmt::Display,
) -> std::fmt::Result {
    if pairs.is_empty() {
        writeln!(out, "{name} {value}")
    } else {
        writeln!(out, "{name}{{{pairs}}} {value}")
    }
}

fn zeros<L: Label, C: Default>() -> Arc<[C]> {
    L::ALL.iter().map(|_| C::default()).collect()
}

/// A label with its value, and further ones, as they are written.
fn pairs<L: Label>(label: L) -> String {
    let first = (!L::NAME.is_empty()).then(|| (L::NAME, label.value()));
    let all = first.into_iter().chain(label.more());
    all.map(|(name, value)| format!("{name}=\"{value}\"")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq)]
    enum Outcome {
        Allowed,
        Denied,
    }

    impl Label for Outcome {
        const NAME: &'static str = "outcome";
        const ALL: &'static [Self] = &[Self::Allowed, Self::Denied];
        fn value(self) -> &'static str {
            match self {
                Self::Allowed => "allowed",
                Self::Denied => "denied",
            }
        }
    }

    #[test]
    fn metrics_render_as_prometheus_reads_them() {
        let metrics = Metrics::new();
        let requests = metrics.counter::<Outcome>("nullius_hub_requests_total", "Requests.");
        let tunnels = metrics.gauge::<()>("nullius_hub_tunnels", "Tunnels that are up.");
        requests.add_one(Outcome::Denied);
        metrics
            .counter::<Outcome>("nullius_hub_requests_total", "Requests.")
            .add(Outcome::Denied, 2);
        tunnels.add((), 3);
        tunnels.add((), -1);
        assert_eq!(
            metrics.render(),
            "# HELP nullius_hub_requests_total Requests.\n\
             # TYPE nullius_hub_requests_total counter\n\
             nullius_hub_requests_total{outcome=\"allowed\"} 0\n\
             nullius_hub_requests_total{outcome=\"denied\"} 3\n\
             # HELP nullius_hub_tunnels Tunnels that are up.\n\
             # TYPE nullius_hub_tunnels gauge\n\
             nullius_hub_tunnels 2\n"
        );
    }

    #[test]
    fn a_histogram_counts_upwards() {
        let metrics = Metrics::new();
        let seconds = metrics.histogram::<()>("nullius_hub_request_seconds", "Duration.");
        for millis in [1, 2, 90_000] {
            seconds.observe((), Duration::from_millis(millis));
        }
        let text = metrics.render();
        for expected in [
            "nullius_hub_request_seconds_bucket{le=\"0.0005\"} 0\n",
            "nullius_hub_request_seconds_bucket{le=\"0.001\"} 1\n",
            "nullius_hub_request_seconds_bucket{le=\"30\"} 2\n",
            "nullius_hub_request_seconds_bucket{le=\"+Inf\"} 3\n",
            "nullius_hub_request_seconds_sum 90.003000\n",
            "nullius_hub_request_seconds_count 3\n",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    #[test]
    fn a_quarrel_about_a_name_is_settled_for_the_first() {
        let metrics = Metrics::new();
        metrics.counter::<()>("nullius_hub_x", "First.").add_one(());
        metrics.gauge::<()>("nullius_hub_x", "Second.").set((), 9);
        assert!(metrics.render().ends_with("nullius_hub_x 1\n"));
    }
}
