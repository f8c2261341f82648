//! Figures that guests report: staged with the batch, kept or dropped with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use wasmtime::format_err;

use super::limits::exceeded;
use super::undo::Undo;
use crate::model::{PartitionId, shown};

/// Buckets of a histogram: powers of two from 2^-10 to 2^30, and the rest.
const BUCKETS: usize = 42;
const FIRST_EXPONENT: i32 = -10;

/// The kind of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Adds up.
    Counter,
    /// Is set, per task.
    Gauge,
    /// A distribution.
    Histogram,
}

/// The value of a figure.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricValue {
    /// The sum over all tasks since the start of the process.
    Counter(u64),
    /// The last value of each task.
    Gauge(BTreeMap<PartitionId, f64>),
    /// Counts by upper bound, then the sum.
    Histogram(Vec<(f64, u64)>, f64),
}

/// All figures of a stage.
pub type MetricSnapshot = BTreeMap<String, MetricValue>;

#[derive(Debug)]
enum Kept {
    Counter(u64),
    Gauge(BTreeMap<PartitionId, f64>),
    Histogram { counts: Vec<u64>, sum: f64 },
}

#[derive(Debug, Default)]
struct Registry {
    ids: BTreeMap<String, (usize, Metric)>,
    kept: Vec<Kept>,
}

/// The figures of a stage, shared by its tasks.
#[derive(Debug, Default)]
pub struct StageMetrics(Mutex<Registry>);

impl StageMetrics {
    fn id(&self, name: &str, metric: Metric, most: usize) -> wasmtime::Result<usize> {
        let mut registry = self.0.lock();
        if let Some((id, known)) = registry.ids.get(name) {
            return match *known == metric {
                true => Ok(*id),
                false => Err(format_err!(
                    "metric {name:?} is a {known:?} and is used as a {metric:?}"
                )),
            };
        }
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.len() > 64
            || !name.starts_with(|c: char| c.is_ascii_lowercase())
            || !name.chars().all(good)
        {
            return Err(format_err!(
                "metric {}: a name has 1 to 64 characters of a-z, 0-9, - and _, a letter first",
                shown::name(name)
            ));
        }
        let shown = |name: &str| name.replace('-', "_");
        if let Some(known) = registry
            .ids
            .keys()
            .find(|known| shown(known) == shown(name))
        {
            return Err(format_err!(
                "metric {} and metric {known:?} would have the same name in /metrics",
                shown::name(name)
            ));
        }
        if registry.kept.len() >= most {
            return Err(exceeded(format_args!(
                "metric {name:?}: a stage may use {most} names (`metric-names`)"
            )));
        }
        let id = registry.kept.len();
        registry.ids.insert(name.to_owned(), (id, metric));
        registry.kept.push(match metric {
            Metric::Counter => Kept::Counter(0),
            Metric::Gauge => Kept::Gauge(BTreeMap::new()),
            Metric::Histogram => Kept::Histogram {
                counts: vec![0; BUCKETS],
                sum: 0.0,
            },
        });
        Ok(id)
    }

    /// The figures now.
    pub fn snapshot(&self) -> MetricSnapshot {
        let registry = self.0.lock();
        let value = |id: usize| match &registry.kept[id] {
            Kept::Counter(sum) => MetricValue::Counter(*sum),
            Kept::Gauge(values) => MetricValue::Gauge(values.clone()),
            Kept::Histogram { counts, sum } => {
                let bounds = (0..BUCKETS).map(|at| match at + 1 == BUCKETS {
                    true => f64::INFINITY,
                    false => 2f64.powi(FIRST_EXPONENT + i32::try_from(at).unwrap_or(0)),
                });
                MetricValue::Histogram(bounds.zip(counts.iter().copied()).collect(), *sum)
            }
        };
        registry
            .ids
            .iter()
            .map(|(name, (id, _))| (name.clone(), value(*id)))
            .collect()
    }
}

#[derive(Debug, Clone, Copy)]
enum Report {
    Add(u64),
    Set(f64),
    Record(f64),
}

/// What a task has reported and not yet kept.
#[derive(Debug)]
pub struct TaskMetrics {
    stage: Arc<StageMetrics>,
    partition: PartitionId,
    staged: Vec<(usize, Report)>,
    message_mark: usize,
}

impl TaskMetrics {
    /// The reports of a task of a stage.
    pub fn new(stage: Arc<StageMetrics>, partition: PartitionId) -> TaskMetrics {
        TaskMetrics {
            stage,
            partition,
            staged: Vec::new(),
            message_mark: 0,
        }
    }

    pub(super) fn add(&mut self, name: &str, by: u64, most: usize) -> wasmtime::Result<()> {
        let id = self.stage.id(name, Metric::Counter, most)?;
        // A counter that is added to for each message would otherwise grow the list with the batch.
        match self
            .staged
            .get_mut(self.message_mark..)
            .and_then(|staged| staged.last_mut())
        {
            Some((last, Report::Add(sum))) if *last == id => {
                *sum = sum.saturating_add(by);
                Ok(())
            }
            _ => self.stage_report(id, Report::Add(by)),
        }
    }

    pub(super) fn set(&mut self, name: &str, value: f64, most: usize) -> wasmtime::Result<()> {
        let id = self.stage.id(name, Metric::Gauge, most)?;
        self.stage_report(id, Report::Set(value))
    }

    pub(super) fn record(&mut self, name: &str, value: f64, most: usize) -> wasmtime::Result<()> {
        let id = self.stage.id(name, Metric::Histogram, most)?;
        self.stage_report(id, Report::Record(value))
    }

    /// What is not kept yet, as text.
    #[cfg(test)]
    pub(super) fn shown(&self) -> String {
        format!("{:?}", self.staged)
    }

    fn stage_report(&mut self, id: usize, report: Report) -> wasmtime::Result<()> {
        const STAGED: usize = 1 << 20;
        if self.staged.len() == STAGED {
            return Err(exceeded(format_args!(
                "a batch may report {STAGED} figures"
            )));
        }
        self.staged.push((id, report));
        Ok(())
    }
}

impl Undo for TaskMetrics {
    fn mark_message(&mut self) {
        self.message_mark = self.staged.len();
    }

    fn undo_message(&mut self) {
        self.staged.truncate(self.message_mark);
    }

    fn undo_batch(&mut self) {
        self.staged.clear();
        self.message_mark = 0;
    }

    fn keep_batch(&mut self) {
        self.message_mark = 0;
        if self.staged.is_empty() {
            return;
        }
        let mut registry = self.stage.0.lock();
        for (id, report) in self.staged.drain(..) {
            match (&mut registry.kept[id], report) {
                (Kept::Counter(sum), Report::Add(by)) => *sum = sum.saturating_add(by),
                (Kept::Gauge(values), Report::Set(value)) => {
                    values.insert(self.partition, value);
                }
                (Kept::Histogram { counts, sum }, Report::Record(value)) => {
                    *sum += value;
                    counts[bucket(value)] += 1;
                }
                (kept, report) => panic!("a metric of kind {kept:?} got {report:?}"),
            }
        }
    }
}

/// The first bucket whose upper bound is not below the value; what is not a number goes to the last.
fn bucket(value: f64) -> usize {
    let bounds =
        (0..BUCKETS - 1).map(|at| 2f64.powi(FIRST_EXPONENT + i32::try_from(at).unwrap_or(0)));
    bounds
        .into_iter()
        .position(|bound| value <= bound)
        .unwrap_or(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: usize = 128;

    #[test]
    fn an_undone_batch_reports_nothing() {
        let stage = Arc::new(StageMetrics::default());
        let mut task = TaskMetrics::new(Arc::clone(&stage), PartitionId(3));
        task.add("seen", 1, NAMES)
            .and_then(|()| task.set("level", 2.5, NAMES))
            .expect("good names");
        task.undo_batch();
        task.add("seen", 5, NAMES).expect("a good name");
        task.mark_message();
        task.add("seen", 100, NAMES).expect("a good name");
        task.undo_message();
        task.keep_batch();
        let snapshot = stage.snapshot();
        assert_eq!(snapshot["seen"], MetricValue::Counter(5));
        assert_eq!(snapshot["level"], MetricValue::Gauge(BTreeMap::new()));
    }

    #[test]
    fn names_and_kinds_are_bounded() {
        let stage = Arc::new(StageMetrics::default());
        let mut task = TaskMetrics::new(stage, PartitionId(0));
        assert!(task.add("Upper", 1, NAMES).is_err());
        assert!(task.add("", 1, NAMES).is_err());
        task.add("n-0", 1, NAMES).expect("a good name");
        assert!(task.add("n_0", 1, NAMES).is_err(), "the same to Prometheus");
        task.undo_batch();
        for name in 1..NAMES {
            task.add(&format!("n{name}"), 1, NAMES)
                .expect("within the bound");
        }
        assert!(task.add("one-more", 1, NAMES).is_err());
        assert!(task.set("n1", 1.0, NAMES).is_err(), "another kind");
    }

    #[test]
    fn buckets_are_powers_of_two() {
        assert_eq!(bucket(1.0), 10);
        assert_eq!(bucket(1.1), 11);
        assert_eq!(bucket(0.0), 0);
        assert_eq!(bucket(f64::NAN), BUCKETS - 1);
        assert_eq!(bucket(f64::INFINITY), BUCKETS - 1);
    }
}
