//! The thread of a shadow: windows of what is committed, and the messages behind it, task by task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::ShadowLength;
use super::pair::{Given, Pair, TWICE};
use super::report::ShadowReport;
use super::side::Side;
use crate::connectors::{FetchBounds, Fetched, Polled, Source};
use crate::coordinator::View;
use crate::coordinator::tasks::{StageNow, TaskFactory};
use crate::model::{Batch, Clock, InputIndex, Offset, PartitionId, StreamId, TaskId, shown};
use crate::records::{self, TaskRecord};
use crate::state::Snapshot;

/// Later than everything else.
const NICE: i32 = 19;
/// What both codes may have written above what is committed, bytes.
const MEMORY: usize = 256 << 20;
/// A snapshot keeps old versions: it is not kept longer.
const WINDOW: Duration = Duration::from_secs(600);
/// Messages of which the code that runs is compared with itself, and how long it waits for them.
const ITSELF: u64 = 1_000;
const ITSELF_TIME: Duration = Duration::from_secs(2);
/// How long a task has its turn.
const TURN: Duration = Duration::from_millis(100);
/// How often it looks whether there is more.
const LOOK: Duration = Duration::from_millis(20);

/// What a shadow is made of.
pub(super) struct Run {
    pub(super) factory: Arc<TaskFactory>,
    pub(super) control: Arc<StageNow>,
    pub(super) candidate: Arc<StageNow>,
    /// What is committed.
    pub(super) view: View,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) length: ShadowLength,
    pub(super) report: Arc<Mutex<ShadowReport>>,
    pub(super) stops: Arc<AtomicBool>,
}

/// A task in a window.
struct Place {
    name: String,
    pair: Pair,
    sources: Vec<Reading>,
}

/// An input of it.
struct Reading {
    source: Box<dyn Source>,
    stream: String,
    has_ended: bool,
}

/// What is committed at one moment, and the tasks above it.
struct Window {
    snapshot: Arc<Snapshot>,
    began: Instant,
    places: BTreeMap<PartitionId, Place>,
}

impl Window {
    fn at(snapshot: Arc<Snapshot>) -> Window {
        Window {
            snapshot,
            began: Instant::now(),
            places: BTreeMap::new(),
        }
    }

    fn bytes(&mut self) -> usize {
        let places = self.places.values_mut();
        places.map(|place| place.pair.bytes()).sum()
    }
}

/// Which messages were compared before: the next offset of each input.
type Seen = BTreeMap<(PartitionId, usize), Offset>;

impl Run {
    /// Compares until it has come to its end, or is told to stop.
    ///
    /// # Errors
    /// Why it cannot go on.
    pub(super) fn run(&self) -> Result<(), String> {
        // A thread that may not be nicer works as well.
        let _ = rustix::process::nice(NICE);
        let first = self.view.snapshot();
        self.compare_with_itself(Arc::clone(&first))?;
        let began = Instant::now();
        let mut seen = Seen::new();
        let mut window = Window::at(first);
        while !self.is_over(began) {
            let found = self.round(
                &mut window,
                &self.candidate,
                &mut seen,
                &self.report,
                &|| self.is_over(began),
            );
            let is_full = window.began.elapsed() >= WINDOW || window.bytes() >= MEMORY;
            match found {
                Ok(_) if is_full => window = Window::at(self.view.snapshot()),
                Ok(0) => std::thread::sleep(LOOK),
                Ok(_) => {}
                Err(Stopped::Gone(why)) => {
                    // Retention has gone on: so does this, from where the job is.
                    tracing::debug!("a shadow begins anew: {why}");
                    std::thread::sleep(LOOK);
                    window = Window::at(self.view.snapshot());
                }
                Err(Stopped::By(why)) => return Err(why),
            }
        }
        Ok(())
    }

    /// Whether the code that runs does the same twice.
    fn compare_with_itself(&self, snapshot: Arc<Snapshot>) -> Result<(), String> {
        let report = Mutex::new(ShadowReport::default());
        let (mut window, mut seen) = (Window::at(snapshot), Seen::new());
        let is_over = || {
            let compared = report.lock().compared;
            compared >= ITSELF || self.stops.load(Ordering::Relaxed)
        };
        let until = Instant::now() + ITSELF_TIME;
        while !is_over() && Instant::now() < until && window.bytes() < MEMORY {
            match self.round(&mut window, &self.control, &mut seen, &report, &is_over) {
                // There is no more, and what comes is not waited for.
                Ok(0) | Err(Stopped::Gone(_)) => break,
                Ok(_) => {}
                Err(Stopped::By(why)) => return Err(why),
            }
        }
        self.report.lock().is_unstable |= report.lock().differing > 0;
        Ok(())
    }

    fn is_over(&self, began: Instant) -> bool {
        let is_long = match self.length {
            ShadowLength::Messages(messages) => self.report.lock().compared >= messages,
            ShadowLength::Time(time) => began.elapsed() >= time,
        };
        is_long || self.stops.load(Ordering::Relaxed)
    }

    /// Gives each task its turn. Returns how many messages there were.
    fn round(
        &self,
        window: &mut Window,
        candidate: &Arc<StageNow>,
        seen: &mut Seen,
        report: &Mutex<ShadowReport>,
        is_over: &dyn Fn() -> bool,
    ) -> Result<usize, Stopped> {
        let mut messages = 0;
        for partition in (0..self.control.options.partitions).map(PartitionId) {
            if is_over() {
                break;
            }
            if !window.places.contains_key(&partition) {
                let place = self.place(partition, candidate, &window.snapshot, is_over)?;
                window.places.insert(partition, place);
            }
            let Some(place) = window.places.get_mut(&partition) else {
                continue;
            };
            let until = Instant::now() + TURN;
            while Instant::now() < until && !is_over() {
                let found = self.step(place, partition, seen, report, is_over)?;
                if found == 0 {
                    break;
                }
                messages += found;
                if place.pair.bytes() >= MEMORY {
                    break;
                }
            }
            place.pair.control.rest();
            place.pair.candidate.rest();
        }
        Ok(messages)
    }

    /// Reads a batch of each input, and has both process it. Returns how many messages these were.
    fn step(
        &self,
        place: &mut Place,
        partition: PartitionId,
        seen: &mut Seen,
        report: &Mutex<ShadowReport>,
        is_over: &dyn Fn() -> bool,
    ) -> Result<usize, Stopped> {
        let mut messages = 0;
        let options = &self.control.options;
        let bounds = FetchBounds {
            messages: options.batch_messages,
            bytes: options.batch_bytes,
        };
        for (at, reading) in place.sources.iter_mut().enumerate() {
            if reading.has_ended {
                continue;
            }
            let polled = reading.source.poll(bounds);
            let fetched: Fetched =
                match polled.map_err(|error| Stopped::Gone(shown::chain(&error)))? {
                    Polled::Messages(fetched) => fetched,
                    Polled::End { .. } => {
                        reading.has_ended = true;
                        continue;
                    }
                    // What is no message concerns neither.
                    Polled::Undecodable { .. } | Polled::Skipped { .. } | Polled::Idle => continue,
                };
            let batch = Batch {
                input: InputIndex(u16::try_from(at).unwrap_or(u16::MAX)),
                partition,
                offsets: fetched.offsets,
                messages: fetched.messages,
                origin: None,
            };
            messages += batch.len();
            let new_from = seen.entry((partition, at)).or_default();
            let given = Given {
                task: &place.name,
                stream: &reading.stream,
                batch: &batch,
                now: self.clock.now_ms(),
                new_from: *new_from,
                is_over,
                streams: &|stream| self.stream_name(stream),
            };
            let mut found = ShadowReport::default();
            place
                .pair
                .process(&given, &mut found)
                .map_err(|error| Stopped::By(shown::chain(&error)))?;
            report.lock().add(found);
            let next = batch.offsets.last().map_or(0, |last| last + 1);
            *new_from = next.max(*new_from);
        }
        Ok(messages)
    }

    /// A task as it was committed, with both codes.
    fn place(
        &self,
        partition: PartitionId,
        candidate: &Arc<StageNow>,
        snapshot: &Arc<Snapshot>,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Place, Stopped> {
        let by = |error: crate::state::StateError| Stopped::By(shown::chain(&error));
        let id = TaskId {
            stage: self.control.record.id,
            partition,
        };
        let record: Option<TaskRecord> = records::get_at(snapshot, &id).map_err(by)?;
        let side = |now: &Arc<StageNow>| {
            let context = self.factory.trial(now, partition, snapshot).map_err(by)?;
            let (ports, _) = self.factory.ports(&now.options);
            let stores = now.options.stores.iter().map(|(name, _)| name.clone());
            let component = Arc::clone(&now.options.component);
            Ok::<Side, Stopped>(Side::new(component, ports, stores.collect(), context))
        };
        let (control, mut new) = (side(&self.control)?, side(candidate)?);
        let name = format!("{}/{partition}", self.control.options.name);
        if let (Some(old), Some(_)) = (candidate.migrates_from, &record) {
            let until = Instant::now() + candidate.options.swap.migration_timeout;
            let goes_on = |bytes| match bytes {
                _ if is_over() => Err(None),
                MEMORY.. => Err(Some("it takes more memory than a shadow has".to_owned())),
                _ if Instant::now() >= until => {
                    Err(Some("`migration-timeout` has passed".to_owned()))
                }
                _ => Ok(()),
            };
            new.migrate(old, &goes_on).map_err(|why| match why {
                None => Stopped::Gone("it is over".to_owned()),
                Some(why) => Stopped::By(format!("task {name} cannot migrate its state: {why}")),
            })?;
        }
        let record = record.unwrap_or_default();
        let inputs = self.control.options.inputs.iter();
        let sources = inputs.map(|input| {
            let at = self.factory.opens_at(input, &record);
            let source = self.factory.source(&self.control.options, &input.stream);
            let source = source.open(partition, at);
            Ok(Reading {
                source: source.map_err(|error| Stopped::Gone(shown::chain(&error)))?,
                stream: input.stream.clone(),
                has_ended: false,
            })
        });
        Ok(Place {
            name,
            sources: sources.collect::<Result<_, Stopped>>()?,
            pair: Pair {
                control,
                candidate: new,
                compares_state: candidate.migrates_from.is_none(),
                twice: TWICE,
            },
        })
    }

    fn stream_name(&self, id: StreamId) -> String {
        let name = self.factory.stream_name(id);
        name.unwrap_or_else(|| id.to_string())
    }
}

/// Why a window does not go on.
enum Stopped {
    /// What it reads is not there any more.
    Gone(String),
    /// It cannot be tried at all.
    By(String),
}
