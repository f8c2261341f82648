//! Dead letters of a job, whether it runs or not.

use std::sync::Arc;

use super::client::{Client, Lost};
use super::stopped::{options, unreadable};
use super::{Access, LetterAccess};
use crate::admin::letters::{self, Group, Letter, LetterAsk, WholeLetter};
use crate::checkpoint::catalog::{Catalog, StreamShape};
use crate::checkpoint::directory;
use crate::checkpoint::logs::{LogStream, Retention};
use crate::checkpoint::{Committer, CommitterOptions, Holder};
use crate::cli::access::stopped::Stopped;
use crate::cli::{Failure, exit};
use crate::config::{DeadLetterOrder, Job, System};
use crate::coordinator::{
    LetterFilter, LetterId, LetterWrite, Letters, LettersError, Outcome, StageLetters, View,
    replay_queue,
};
use crate::disk::Disk;
use crate::model::{Clock as _, SystemClock};
use crate::state::Durability;

/// The dead letters of a job.
pub(in crate::cli) fn letters<'a>(
    job: &'a Job,
    disk: &'a Disk,
) -> Access<'a, dyn LetterAccess + 'a> {
    let open = move |holder: Option<Holder>| -> Result<Box<dyn LetterAccess + 'a>, Failure> {
        Ok(match holder {
            Some(holder) => Box::new(Running {
                client: Client::new(&holder)?,
            }),
            None => Box::new(Resting { job, disk }),
        })
    };
    Access {
        job,
        open: Box::new(open),
        opened: None,
    }
}

struct Running {
    client: Client,
}

impl Running {
    fn post<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::of(exit::HOST, &error))?;
        // What was done the first time is done already the second time.
        self.client.post(path, body, Lost::AskAgain)?.parse()
    }
}

fn ask(filter: &LetterFilter, dry_run: bool) -> LetterAsk {
    LetterAsk {
        filter: filter.clone(),
        dry_run,
    }
}

impl LetterAccess for Running {
    fn groups(&mut self, filter: &LetterFilter) -> Result<Vec<Group>, Failure> {
        self.post("/dead-letters/groups", &ask(filter, false))
    }

    fn page(&mut self, filter: &LetterFilter) -> Result<Vec<Letter>, Failure> {
        self.post("/dead-letters/list", &ask(filter, false))
    }

    fn whole(&mut self, id: &LetterId) -> Result<WholeLetter, Failure> {
        self.post("/dead-letters/show", id)
    }

    fn replay(&mut self, filter: &LetterFilter, dry_run: bool) -> Result<Outcome, Failure> {
        self.post("/dead-letters/replay", &ask(filter, dry_run))
    }

    fn replay_lines(&mut self, lines: &[u8], dry_run: bool) -> Result<Outcome, Failure> {
        let now = SystemClock.now_ms();
        let path = format!("/dead-letters/replay-lines?dry-run={dry_run}&now={now}");
        // Lines without a place in the log would be queued twice.
        let answer = self.client.post(&path, lines.to_vec(), Lost::Unknown)?;
        answer.parse()
    }

    fn drop(&mut self, filter: &LetterFilter, dry_run: bool) -> Result<Outcome, Failure> {
        self.post("/dead-letters/drop", &ask(filter, dry_run))
    }
}

/// A job that does not run.
struct Resting<'a> {
    job: &'a Job,
    disk: &'a Disk,
}

impl Resting<'_> {
    fn stages(&self) -> Vec<StageLetters> {
        let stages = self.job.stages.iter().filter_map(|stage| {
            let stream = stage.dead_letters.as_ref()?;
            let system = self.job.streams.get(stream).map(|stream| &stream.system);
            Some(StageLetters {
                stage: stage.name.clone(),
                inputs: stage
                    .inputs
                    .iter()
                    .map(|input| input.stream.clone())
                    .collect(),
                partitions: match stage.partitions {
                    Some(partitions) => partitions,
                    None => self.recorded(&stage.name),
                },
                stream: stream.clone(),
                in_log: matches!(system, Some(System::Log(_))),
                in_order: *stage.dead_letter_order == DeadLetterOrder::Key,
            })
        });
        stages.collect()
    }

    /// How many tasks a stage had.
    fn recorded(&self, stage: &str) -> u32 {
        let stopped = Stopped::look(self.job).ok();
        let catalog = stopped.and_then(|stopped| stopped.view().catalog().ok());
        let record = catalog.and_then(|catalog| catalog.stages.get(stage).cloned());
        record.map_or(0, |record| record.partitions)
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&Letters) -> Result<T, LettersError>,
    ) -> Result<T, Failure> {
        let stopped = Stopped::look(self.job)?;
        let name = self.job.general.name.clone();
        let letters = Letters::new(stopped.view().clone(), name, self.stages());
        Ok(read(&letters)?)
    }

    /// Does something with the letters, and with the right to write.
    fn write<T>(
        &self,
        write: impl FnOnce(&Letters, &mut Committer) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let opened = directory::open(&options(self.job, self.disk.clone(), 0))?;
        let Some(directory) = opened else {
            // The same error as of those that read.
            return Err(Stopped::look(self.job).err().unwrap_or_else(|| {
                Failure::new(exit::USAGE, "the job has no state yet".to_owned())
            }));
        };
        let (path, db) = (directory.path.clone(), Arc::clone(&directory.db));
        let mut queues = Vec::new();
        let mut news = Vec::new();
        for stage in self.stages() {
            // A job that has not run since `dead-letters` was declared has no queue.
            let (name, shape) = (
                replay_queue(&stage.stage),
                StreamShape::log(stage.partitions),
            );
            let catalog = Catalog::resolve_stream(&path, &db, &name, shape)?;
            queues.push(LogStream {
                id: catalog.streams[&name].id,
                partitions: stage.partitions,
                retention: Retention::default(),
                letters: false,
            });
            if catalog.has_changes() {
                news.push(catalog);
            }
        }
        if news.len() > 1 {
            let why = "the job has not run since `dead-letters` was declared: run it first";
            return Err(Failure::new(exit::USAGE, why.to_owned()));
        }
        let options = CommitterOptions {
            logs: queues,
            external: Vec::new(),
            mirrored: Vec::new(),
            reads: Vec::new(),
            durability: Durability::Sync,
            disk: self.disk.clone(),
        };
        let mut committer = Committer::open(directory, &options)?;
        for catalog in &news {
            committer.register(catalog, &[])?;
        }
        let view = View::of_stopped(db, &path).map_err(unreadable)?;
        let letters = Letters::new(view, self.job.general.name.clone(), self.stages());
        let answer = write(&letters, &mut committer);
        committer.close();
        answer
    }
}

impl LetterAccess for Resting<'_> {
    fn groups(&mut self, filter: &LetterFilter) -> Result<Vec<Group>, Failure> {
        self.read(|letters| letters::groups(letters, filter))
    }

    fn page(&mut self, filter: &LetterFilter) -> Result<Vec<Letter>, Failure> {
        self.read(|letters| letters::page(letters, filter))
    }

    fn whole(&mut self, id: &LetterId) -> Result<WholeLetter, Failure> {
        self.read(|letters| letters::whole(letters, id))
    }

    fn replay(&mut self, filter: &LetterFilter, dry_run: bool) -> Result<Outcome, Failure> {
        self.write(|letters, committer| {
            letters.replay(filter, |write| written(&write, committer, dry_run))
        })
    }

    fn replay_lines(&mut self, lines: &[u8], dry_run: bool) -> Result<Outcome, Failure> {
        let now = SystemClock.now_ms();
        let lines = letters::typed(lines, now);
        let lines = lines.map_err(|why| Failure::new(exit::USAGE, why))?;
        self.write(|letters, committer| {
            letters.replay_lines(&lines, |write| written(&write, committer, dry_run))
        })
    }

    fn drop(&mut self, filter: &LetterFilter, dry_run: bool) -> Result<Outcome, Failure> {
        self.write(|letters, committer| {
            letters.drop(filter, |write| written(&write, committer, dry_run))
        })
    }
}

fn written(write: &LetterWrite, committer: &mut Committer, dry_run: bool) -> Result<u64, Failure> {
    match dry_run {
        true => Ok(write.letters()),
        false => Ok(write.execute(committer, SystemClock.now_ms())?),
    }
}

impl From<LettersError> for Failure {
    fn from(error: LettersError) -> Failure {
        match error {
            LettersError::Refused(why) => Failure::new(exit::USAGE, why),
            LettersError::Log(error) => error.into(),
        }
    }
}
