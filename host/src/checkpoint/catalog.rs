//! Names and their numbers: what the state directory knows of the job's stages, stores and streams, held against what the
//! job file declares now.
//!
//! Numbers are given by name, once; the place of a stage or store in the job file means nothing. What is new starts empty.
//! What is gone must be dropped by name, because its state would be deleted. What has another number of partitions is
//! refused, because keys would be in the wrong place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::OpenError;
use super::decide::{Chosen, Wanted, choose_code, migration};
use crate::model::{PartitionId, StageId, StoreId, StreamId, TaskId};
use crate::records::{
    self, Code, Encoded, HoldRecord, LogRecord, Record, StageRecord, StreamRecord, TaskRecord,
    TopicRecord,
};
use crate::state::keys::StorePrefix;
use crate::state::{Db, Family, Order, StateError, WriteSet};

/// What a job declares, as far as the state directory is concerned.
#[derive(Debug, Clone, Default)]
pub struct JobShape {
    /// The stages by name.
    pub stages: BTreeMap<String, StageShape>,
    /// The streams that the job uses, by name.
    pub streams: BTreeMap<String, StreamShape>,
}

/// A stage as declared.
#[derive(Debug, Clone)]
pub struct StageShape {
    /// Its number of tasks.
    pub partitions: u32,
    /// The SHA-256 of the component that is to run, hexadecimal.
    pub component: String,
    /// That of the component in the job's file, if it was looked at.
    pub file: Option<String>,
    /// Why that component is to run.
    pub wanted: Wanted,
    /// The version of the state that the component reads and writes; 0: it names none.
    pub state_version: u32,
    /// Its stores.
    pub stores: BTreeSet<String>,
}

/// A stream as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamShape {
    /// Its number of partitions.
    pub partitions: u32,
    /// The system it belongs to.
    pub system: String,
    /// The topic that it is, if it is one and brokers were asked.
    pub topic: Option<TopicRecord>,
}

impl StreamShape {
    /// A stream of the embedded log.
    pub fn log(partitions: u32) -> StreamShape {
        StreamShape {
            partitions,
            system: StreamRecord::LOG.to_owned(),
            topic: None,
        }
    }
}

/// What the operator allows to be deleted.
#[derive(Debug, Clone, Default)]
pub struct Drops {
    /// Stages.
    pub stages: BTreeSet<String>,
    /// Stores, as stage and store.
    pub stores: BTreeSet<(String, String)>,
}

/// The numbers of everything that the job declares.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Stages by name.
    pub stages: BTreeMap<String, StageRecord>,
    /// Streams by name.
    pub streams: BTreeMap<String, StreamRecord>,
    /// The topics that streams of Kafka are, by the names of the streams.
    topics: BTreeMap<String, TopicRecord>,
    /// Stages whose component is another than at the last checkpoint: name, then the component before.
    pub components_changed: Vec<(String, String)>,
    /// Stages that no longer declare dead letters, and have letters queued for replay.
    pub queues_that_wait: Vec<String>,
    changes: Vec<Change>,
    with_checkpoint: Vec<Encoded>,
}

#[derive(Debug)]
enum Change {
    Put(Encoded),
    DropStage(String),
    DropTask(TaskId),
    DropStore(TaskId, StoreId),
}

impl Catalog {
    /// Reads what the directory knows, without comparing it with anything.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(db: &Db) -> Result<Catalog, StateError> {
        Ok(Catalog {
            stages: records::list::<StageRecord>(db)?.into_iter().collect(),
            streams: records::list::<StreamRecord>(db)?.into_iter().collect(),
            topics: records::list::<TopicRecord>(db)?.into_iter().collect(),
            ..Catalog::default()
        })
    }

    /// Holds the directory against the job.
    ///
    /// # Errors
    /// They do not fit, or the directory cannot be read. Nothing is changed.
    pub fn resolve(
        path: &Path,
        db: &Db,
        shape: &JobShape,
        drops: &Drops,
    ) -> Result<Catalog, OpenError> {
        let known = Self::known(path, db)?;
        let mut differences = Vec::new();
        for stage in drops
            .stages
            .iter()
            .filter(|stage| shape.stages.contains_key(*stage))
        {
            differences.push(format!("--drop-stage {stage}: the job file declares it"));
        }
        for (stage, store) in &drops.stores {
            let declared = shape.stages.get(stage);
            if declared.is_some_and(|declared| declared.stores.contains(store)) {
                differences.push(format!(
                    "--drop-store {stage}/{store}: the job file declares it"
                ));
            }
        }
        let mut catalog = Catalog::default();
        let state = |source| OpenError::State {
            path: path.to_owned(),
            source,
        };
        let holds = records::list::<HoldRecord>(db).map_err(state)?;
        let undecided = holds.iter().filter(|(_, hold)| hold.is_undecided());
        let undecided = undecided.map(|(stage, _)| *stage).collect();
        catalog.resolve_stages(&known, shape, drops, &undecided, &mut differences);
        let waiting = keys_that_wait(&known, db, shape);
        differences.extend(waiting.map_err(state)?);
        differences.extend(known.held_and_dropped(&holds, shape, drops));
        catalog.resolve_streams(&known, &shape.streams, &mut differences);
        catalog.queues_that_wait =
            queues_that_wait(&known, db, shape).map_err(|source| OpenError::State {
                path: path.to_owned(),
                source,
            })?;
        catalog.unless(path, &differences)
    }

    /// Holds the directory against one stream of the job, and leaves the rest alone.
    ///
    /// # Errors
    /// As [`Catalog::resolve`].
    pub fn resolve_stream(
        path: &Path,
        db: &Db,
        name: &str,
        shape: StreamShape,
    ) -> Result<Catalog, OpenError> {
        let known = Self::known(path, db)?;
        let mut differences = Vec::new();
        let mut catalog = Catalog::default();
        let streams = BTreeMap::from([(name.to_owned(), shape)]);
        catalog.resolve_streams(&known, &streams, &mut differences);
        catalog.unless(path, &differences)
    }

    fn known(path: &Path, db: &Db) -> Result<Catalog, OpenError> {
        Catalog::read(db).map_err(|source| OpenError::State {
            path: path.to_owned(),
            source,
        })
    }

    fn unless(self, path: &Path, differences: &[String]) -> Result<Catalog, OpenError> {
        if differences.is_empty() {
            return Ok(self);
        }
        Err(OpenError::Refused {
            path: path.to_owned(),
            why: format!("it does not fit the job file: {}", differences.join("; ")),
        })
    }

    /// What would be dropped of stages that hold what they have done.
    fn held_and_dropped(
        &self,
        holds: &[(StageId, HoldRecord)],
        shape: &JobShape,
        drops: &Drops,
    ) -> Vec<String> {
        let mut differences = Vec::new();
        for (name, record) in &self.stages {
            let is_dropped = !shape.stages.contains_key(name)
                || drops.stores.iter().any(|(stage, _)| stage == name);
            if is_dropped && holds.iter().any(|(stage, _)| *stage == record.id) {
                differences.push(format!(
                    "stage {name:?} holds its output, so nothing of it can be dropped: run it, and decide with `wasm-host swap {name} --promote` or `--rollback`"
                ));
            }
        }
        differences
    }

    fn resolve_stages(
        &mut self,
        known: &Catalog,
        shape: &JobShape,
        drops: &Drops,
        undecided: &BTreeSet<StageId>,
        differences: &mut Vec<String>,
    ) {
        let mut next_stage = known
            .stages
            .values()
            .map(|stage| stage.id.0 + 1)
            .max()
            .unwrap_or(0);
        for (name, declared) in &shape.stages {
            let mut record = match known.stages.get(name) {
                Some(record) => record.clone(),
                None => {
                    next_stage += 1;
                    let id = StageId(next_stage - 1);
                    StageRecord::new(id, declared.partitions, &declared.component)
                }
            };
            if record.partitions != declared.partitions {
                differences.push(format!(
                    "stage {name:?} has {} tasks in the state and {} in the job file (the number of tasks is fixed: give its \
                     inputs {} partitions, or copy the input to a stream with another number and give the stage another name, with \
                     --drop-stage for this one)",
                    record.partitions, declared.partitions, record.partitions
                ));
            }
            self.resolve_stores(name, &mut record, declared, drops, differences);
            let recorded = known.stages.get(name);
            let holds = undecided.contains(&record.id);
            if !is_to_run(recorded, holds, declared) {
                differences.push(format!(
                    "stage {name:?} has another component in the state than a moment ago: another process has run the job; run once more"
                ));
            }
            differences.extend(misfit_of_state(name, recorded, declared));
            self.resolve_code(name, recorded, holds, &mut record, declared);
            self.stages.insert(name.clone(), record);
        }
        for (name, record) in known
            .stages
            .iter()
            .filter(|(name, _)| !shape.stages.contains_key(*name))
        {
            if !drops.stages.contains(name) {
                differences.push(format!(
                    "stage {name:?} is no longer declared; `--drop-stage {name}` deletes its state and positions"
                ));
                continue;
            }
            self.changes.push(Change::DropStage(name.clone()));
            for partition in (0..record.partitions).map(PartitionId) {
                let task = TaskId {
                    stage: record.id,
                    partition,
                };
                self.changes.push(Change::DropTask(task));
                record
                    .stores
                    .values()
                    .for_each(|store| self.changes.push(Change::DropStore(task, *store)));
            }
        }
    }

    fn resolve_code(
        &mut self,
        name: &String,
        recorded: Option<&StageRecord>,
        holds: bool,
        record: &mut StageRecord,
        declared: &StageShape,
    ) {
        // While a stage holds what it does, another file waits.
        let is_chosen = |file: &&String| !holds || **file == record.code.component;
        let file = declared.file.as_ref().filter(is_chosen);
        let is_same = record.code.component == declared.component;
        if let Some(file) = file.filter(|_| is_same) {
            record.file.clone_from(file);
        }
        if is_same {
            // A host that did not know of versions may have recorded it.
            record.state_version = declared.state_version;
        }
        if recorded != Some(record) {
            self.changes.push(Change::Put(Encoded::new(name, record)));
        }
        if !is_same {
            // Not before a checkpoint contains what the new component did: until then the old one is what a return goes to.
            self.components_changed
                .push((name.clone(), record.code.component.clone()));
            record.take_code(Code {
                component: declared.component.clone(),
                label: String::new(),
            });
            record.file.clone_from(file.unwrap_or(&declared.component));
            self.with_checkpoint.push(Encoded::new(name, record));
        }
    }

    fn resolve_stores(
        &mut self,
        stage: &str,
        record: &mut StageRecord,
        declared: &StageShape,
        drops: &Drops,
        differences: &mut Vec<String>,
    ) {
        for store in &declared.stores {
            record.add_store(store);
        }
        let gone: Vec<String> = record
            .stores
            .keys()
            .filter(|store| !declared.stores.contains(*store) && !StageRecord::is_hidden(store))
            .cloned()
            .collect();
        for store in gone {
            if !drops.stores.contains(&(stage.to_owned(), store.clone())) {
                differences.push(format!(
                    "store {store:?} of stage {stage:?} is no longer declared; `--drop-store {stage}/{store}` deletes its entries"
                ));
            } else if let Some(id) = record.stores.remove(&store) {
                for partition in (0..record.partitions).map(PartitionId) {
                    let task = TaskId {
                        stage: record.id,
                        partition,
                    };
                    self.changes.push(Change::DropStore(task, id));
                }
            }
        }
    }

    fn resolve_streams(
        &mut self,
        known: &Catalog,
        streams: &BTreeMap<String, StreamShape>,
        differences: &mut Vec<String>,
    ) {
        let mut next = known
            .streams
            .values()
            .map(|stream| stream.id.0 + 1)
            .max()
            .unwrap_or(0);
        for (name, declared) in streams {
            let record = match known.streams.get(name) {
                Some(record) => record.clone(),
                None => {
                    next += 1;
                    let record = StreamRecord {
                        id: StreamId(next - 1),
                        partitions: declared.partitions,
                        system: declared.system.clone(),
                    };
                    self.changes.push(Change::Put(Encoded::new(name, &record)));
                    record
                }
            };
            if record.system != declared.system {
                differences.push(format!(
                    "stream {name:?} was of system {:?} and is now of system {:?} (positions and content do not carry over: give \
                     the new stream another name)",
                    record.system, declared.system
                ));
            } else if record.partitions != declared.partitions {
                differences.push(format!(
                    "stream {name:?} has {} partitions in the state and {} in the job file (the number is fixed: give the new \
                     stream another name)",
                    record.partitions, declared.partitions
                ));
            }
            if let Some(topic) = &declared.topic {
                match known.topics.get(name) {
                    Some(recorded) => differences.extend(recorded.misfit(name, topic)),
                    None => self.record(name, topic),
                }
            }
            self.streams.insert(name.clone(), record);
        }
    }

    /// A record becomes true with the next checkpoint in which a component has done something.
    pub fn record_with_checkpoint<R: Record>(&mut self, key: &R::Key, record: &R) {
        self.with_checkpoint.push(Encoded::new(key, record));
    }

    /// A record becomes true now.
    pub fn record<R: Record>(&mut self, key: &R::Key, record: &R) {
        self.changes.push(Change::Put(Encoded::new(key, record)));
    }

    /// All records of a kind below a key are removed with the next checkpoint in which a component has done something.
    pub fn forget_below<R: Record>(&mut self, key: &R::Key) {
        self.with_checkpoint.push(Encoded::none_below::<R>(key));
    }

    /// Which swap of a stage is not over: together with the component, if that is another.
    pub fn watch(&mut self, stage: &str, swap: Option<u64>) {
        let Some(record) = self.stages.get_mut(stage) else {
            return;
        };
        record.swap = swap;
        let new = Encoded::new(&stage.to_owned(), record);
        match self
            .with_checkpoint
            .iter_mut()
            .find(|old| new.replaces(old))
        {
            Some(old) => *old = new,
            None => self.changes.push(Change::Put(new)),
        }
    }

    /// Records that become true with the next checkpoint.
    pub(super) fn with_checkpoint(&self) -> &[Encoded] {
        &self.with_checkpoint
    }

    /// Whether something must be written before the job may run.
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Adds what is new and what is dropped to a write.
    pub fn write_into(&self, writes: &mut WriteSet<'_>) {
        for change in &self.changes {
            match change {
                Change::Put(record) => record.write_into(writes),
                Change::DropStage(name) => records::delete::<StageRecord>(writes, name),
                Change::DropTask(task) => records::delete::<TaskRecord>(writes, task),
                Change::DropStore(task, store) => {
                    let (lower, upper) = StorePrefix::new(*task, *store).range(None, None);
                    writes.delete_range(Family::State, &lower, &upper);
                }
            }
        }
    }
}

/// Whether the component that is to run is the one that follows from what is recorded.
fn is_to_run(recorded: Option<&StageRecord>, holds: bool, declared: &StageShape) -> bool {
    let file = declared.file.as_deref().unwrap_or_default();
    let chosen = choose_code(recorded, holds, file, declared.wanted);
    match (chosen, recorded) {
        (Chosen::Recorded(_), Some(recorded)) => recorded.code.component == declared.component,
        _ => declared.file.is_none() || file == declared.component,
    }
}

/// Why other code of a stage cannot read its state as it is.
fn misfit_of_state(
    name: &str,
    recorded: Option<&StageRecord>,
    declared: &StageShape,
) -> Option<String> {
    let recorded = recorded.filter(|recorded| recorded.code.component != declared.component)?;
    match migration(recorded.state_version, declared.state_version) {
        Ok(None) => None,
        Ok(Some(old)) => Some(format!(
            "the state of stage {name:?} has to be migrated from version {old} to {}, which another process may have begun: run once more",
            declared.state_version
        )),
        Err(why) => Some(format!(
            "stage {name:?}: {why}; `run --pinned` runs the recorded component"
        )),
    }
}

/// Stages that no longer declare dead letters, and whose replay queue has letters.
fn queues_that_wait(known: &Catalog, db: &Db, shape: &JobShape) -> Result<Vec<String>, StateError> {
    let mut waiting = Vec::new();
    for (name, record) in &known.stages {
        let queue = StreamRecord::replay_queue(name);
        let declared = shape.stages.contains_key(name) && !shape.streams.contains_key(&queue);
        let Some(queue) = known.streams.get(&queue).filter(|_| declared) else {
            continue;
        };
        for partition in (0..record.partitions).map(PartitionId) {
            let log: LogRecord = records::get(db, &(queue.id, partition))?.unwrap_or_default();
            let task = TaskId {
                stage: record.id,
                partition,
            };
            let task: TaskRecord = records::get(db, &task)?.unwrap_or_default();
            let position = task.positions.get(&queue.id);
            if log.end > position.map_or(log.start, |position| position.next) {
                waiting.push(name.clone());
                break;
            }
        }
    }
    Ok(waiting)
}

/// Stages that no longer keep the order of keys, and have keys that wait for their letters.
fn keys_that_wait(known: &Catalog, db: &Db, shape: &JobShape) -> Result<Vec<String>, StateError> {
    let mut differences = Vec::new();
    for (name, record) in &known.stages {
        let declared = shape.stages.get(name);
        let gone = declared.is_some_and(|stage| !stage.stores.contains(StageRecord::PARKED));
        let Some(store) = record.stores.get(StageRecord::PARKED).filter(|_| gone) else {
            continue;
        };
        for partition in (0..record.partitions).map(PartitionId) {
            let task = TaskId {
                stage: record.id,
                partition,
            };
            let (lower, upper) = StorePrefix::new(task, *store).range(None, None);
            let walk = db.walk(Family::State, lower, upper, Order::Up);
            if walk.entry()?.is_some() {
                differences.push(format!(
                    "keys of task {name}/{partition} wait for their dead letters, and `dead-letter-order` is \"key\" no more: replay or drop the letters first, and run once more"
                ));
            }
        }
    }
    Ok(differences)
}
