//! Figures that guests report: staged with the batch, kept or dropped with it.

use std::collections::{BTreeMap, HashMap};
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
    /// The names by how they are shown, in which two may be the same.
    shown: HashMap<String, String>,
    kept: Vec<Kept>,
}

/// The figures of a stage, shared by its tasks.
#[derive(Debug, Default)]
pub struct StageMetrics(Mutex<Registry>);

/// What a name is to a stage, or to what a task has not kept yet.
enum Found {
    /// It is a figure of the stage.
    Known(usize),
    /// The task has used it, and not kept it.
    Used(usize),
    /// It is new, and could become one.
    New,
}

fn shown_as(name: &str) -> String {
    name.replace('-', "_")
}

impl Registry {
    /// Looks a name up for a report of this kind. `new`: names that the task has used and not kept.
    fn find(&self, name: &str, metric: Metric, new: &NewNames) -> wasmtime::Result<Found> {
        let of_another_kind = |known: Metric| {
            Err(format_err!(
                "metric {name:?} is a {known:?} and is used as a {metric:?}"
            ))
        };
        if let Some((id, known)) = self.ids.get(name) {
            return match *known == metric {
                true => Ok(Found::Known(*id)),
                false => of_another_kind(*known),
            };
        }
        if let Some(at) = new.ids.get(name) {
            let own = new.list[*at].metric;
            return match own == metric {
                true => Ok(Found::Used(*at)),
                false => of_another_kind(own),
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
        let of_stage = self.shown.get(&shown_as(name));
        if let Some(known) = of_stage.or_else(|| new.shown.get(&shown_as(name))) {
            return Err(format_err!(
                "metric {} and metric {known:?} would have the same name in /metrics",
                shown::name(name)
            ));
        }
        Ok(Found::New)
    }

    /// A new figure of the stage.
    fn add(&mut self, name: String, metric: Metric) -> usize {
        let id = self.kept.len();
        self.shown.insert(shown_as(&name), name.clone());
        self.ids.insert(name, (id, metric));
        self.kept.push(match metric {
            Metric::Counter => Kept::Counter(0),
            Metric::Gauge => Kept::Gauge(BTreeMap::new()),
            Metric::Histogram => Kept::Histogram {
                counts: vec![0; BUCKETS],
                sum: 0.0,
            },
        });
        id
    }
}

impl StageMetrics {
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

/// The figure of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    /// One of the stage.
    Known(usize),
    /// One that becomes a figure of the stage when the batch is kept: what is undone takes no names from others.
    New(usize),
}

#[derive(Debug)]
struct NewName {
    name: String,
    metric: Metric,
    /// So many names may the stage have.
    most: usize,
}

/// Names that a task has used and not kept, in the order of their first use.
#[derive(Debug, Default)]
struct NewNames {
    list: Vec<NewName>,
    ids: HashMap<String, usize>,
    /// By how they are shown.
    shown: HashMap<String, String>,
}

impl NewNames {
    fn push(&mut self, new: NewName) -> usize {
        let at = self.list.len();
        self.ids.insert(new.name.clone(), at);
        self.shown.insert(shown_as(&new.name), new.name.clone());
        self.list.push(new);
        at
    }

    /// Forgets all but the first.
    fn truncate(&mut self, left: usize) {
        for gone in self.list.drain(left.min(self.list.len())..) {
            self.ids.remove(&gone.name);
            self.shown.remove(&shown_as(&gone.name));
        }
    }
}

/// What a task has reported and not yet kept.
#[derive(Debug)]
pub struct TaskMetrics {
    stage: Arc<StageMetrics>,
    partition: PartitionId,
    staged: Vec<(Name, Report)>,
    new: NewNames,
    /// How many reports and new names there were when the message began.
    message_mark: (usize, usize),
}

impl TaskMetrics {
    /// The reports of a task of a stage.
    pub fn new(stage: Arc<StageMetrics>, partition: PartitionId) -> TaskMetrics {
        TaskMetrics {
            stage,
            partition,
            staged: Vec::new(),
            new: NewNames::default(),
            message_mark: (0, 0),
        }
    }

    /// The figure of a name. `most`: so many names may a stage have.
    fn name(&mut self, name: &str, metric: Metric, most: usize) -> wasmtime::Result<Name> {
        let registry = self.stage.0.lock();
        match registry.find(name, metric, &self.new)? {
            Found::Known(id) => return Ok(Name::Known(id)),
            Found::Used(at) => return Ok(Name::New(at)),
            Found::New => {}
        }
        // Other tasks may have kept some of this task's meanwhile.
        let own = self.new.list.iter();
        let own = own.filter(|own| !registry.ids.contains_key(&own.name));
        if registry.kept.len() + own.count() >= most {
            return Err(exceeded(format_args!(
                "metric {name:?}: a stage may use {most} names (`metric-names`)"
            )));
        }
        drop(registry);
        Ok(Name::New(self.new.push(NewName {
            name: name.to_owned(),
            metric,
            most,
        })))
    }

    pub(super) fn add(&mut self, name: &str, by: u64, most: usize) -> wasmtime::Result<()> {
        let name = self.name(name, Metric::Counter, most)?;
        // A counter that is added to for each message would otherwise grow the list with the batch.
        match self
            .staged
            .get_mut(self.message_mark.0..)
            .and_then(|staged| staged.last_mut())
        {
            Some((last, Report::Add(sum))) if *last == name => {
                *sum = sum.saturating_add(by);
                Ok(())
            }
            _ => self.stage_report(name, Report::Add(by)),
        }
    }

    pub(super) fn set(&mut self, name: &str, value: f64, most: usize) -> wasmtime::Result<()> {
        let name = self.name(name, Metric::Gauge, most)?;
        self.stage_report(name, Report::Set(value))
    }

    pub(super) fn record(&mut self, name: &str, value: f64, most: usize) -> wasmtime::Result<()> {
        let name = self.name(name, Metric::Histogram, most)?;
        self.stage_report(name, Report::Record(value))
    }

    /// What is not kept yet, as text.
    #[cfg(test)]
    pub(super) fn shown(&self) -> String {
        format!("{:?} {:?}", self.staged, self.new)
    }

    fn stage_report(&mut self, name: Name, report: Report) -> wasmtime::Result<()> {
        const STAGED: usize = 1 << 20;
        if self.staged.len() == STAGED {
            return Err(exceeded(format_args!(
                "a batch may report {STAGED} figures"
            )));
        }
        self.staged.push((name, report));
        Ok(())
    }
}

impl Undo for TaskMetrics {
    fn mark_message(&mut self) {
        self.message_mark = (self.staged.len(), self.new.list.len());
    }

    fn undo_message(&mut self) {
        let (staged, new) = self.message_mark;
        self.staged.truncate(staged);
        self.new.truncate(new);
    }

    fn undo_batch(&mut self) {
        self.staged.clear();
        self.new.truncate(0);
        self.message_mark = (0, 0);
    }

    fn keep_batch(&mut self) {
        self.message_mark = (0, 0);
        if self.staged.is_empty() {
            return;
        }
        let mut registry = self.stage.0.lock();
        let none = NewNames::default();
        let mut become_known = |own: NewName| match registry.find(&own.name, own.metric, &none) {
            Ok(Found::Known(id)) => Some(id),
            Ok(Found::New) if registry.kept.len() < own.most => {
                Some(registry.add(own.name, own.metric))
            }
            // Other tasks have kept names since. From now on the guest is told.
            Ok(Found::New | Found::Used(_)) => {
                tracing::warn!(
                    "figure {:?} is left out: the stage has `metric-names`",
                    own.name
                );
                None
            }
            Err(error) => {
                tracing::warn!("a figure is left out: {error}");
                None
            }
        };
        let new = std::mem::take(&mut self.new).list.into_iter();
        let new: Vec<Option<usize>> = new.map(&mut become_known).collect();
        for (name, report) in self.staged.drain(..) {
            let id = match name {
                Name::Known(id) => Some(id),
                Name::New(at) => new[at],
            };
            let Some(id) = id else { continue };
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
        assert_eq!(snapshot.get("level"), None, "what is undone takes no name");
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
        task.add("n_0", 1, NAMES).expect("nobody uses the other");
        for name in 1..NAMES {
            task.add(&format!("n{name}"), 1, NAMES)
                .expect("within the bound");
        }
        assert!(task.add("one-more", 1, NAMES).is_err());
        assert!(task.set("n1", 1.0, NAMES).is_err(), "another kind");
    }

    #[test]
    fn names_of_a_message_that_is_undone_are_free_for_other_tasks() {
        let stage = Arc::new(StageMetrics::default());
        let task = |partition| TaskMetrics::new(Arc::clone(&stage), PartitionId(partition));
        let (mut bad, mut good) = (task(0), task(1));
        bad.mark_message();
        bad.set("ticks", 1.0, 2).expect("a good name");
        bad.add("other", 1, 2).expect("a good name");
        assert!(bad.add("third", 1, 2).is_err());
        // Before that is undone, and after it.
        good.add("ticks", 1, 2).expect("it is nobody's");
        good.add("mine", 1, 2).expect("within the bound");
        good.keep_batch();
        bad.undo_message();
        bad.keep_batch();
        good.add("ticks", 1, 2).expect("it is a counter");
        good.keep_batch();
        let snapshot = stage.snapshot();
        let names: Vec<_> = snapshot.keys().collect();
        assert_eq!(names, ["mine", "ticks"]);
        assert_eq!(snapshot["ticks"], MetricValue::Counter(2));
        // Two that keep a name as two kinds: the first one counts.
        bad.set("level", 1.0, 9).expect("a good name");
        good.add("level", 1, 9).expect("it is nobody's");
        bad.keep_batch();
        good.keep_batch();
        assert!(matches!(stage.snapshot()["level"], MetricValue::Gauge(_)));
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
