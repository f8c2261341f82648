//! `watch = true`: a component whose file changes is swapped in.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Job;
use crate::coordinator::{Handle, JobEnded, SwapRequest};
use crate::runtime::sha256;

/// How often files are looked at. One that is still being written changes between two looks.
const LOOK: Duration = Duration::from_millis(300);

/// What says that a file is another one, or has other content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

/// The component of a stage.
struct Watched {
    stage: String,
    path: PathBuf,
    /// As it was when it was read last, or was found to be no other code.
    taken: Option<Seen>,
    /// As it was at the last look.
    last: Option<Seen>,
    /// As it was when its swap was refused, which was said: it is asked for again.
    put_off: Option<Seen>,
}

/// The components of a job's stages, as they are now.
pub(super) struct Watch(Vec<Watched>);

impl Watch {
    /// Before they are read.
    pub(super) fn new(job: &Job) -> Watch {
        let watched = |stage: &crate::config::Stage| {
            let path = stage.component.to_path_buf();
            let now = look(&path);
            Watched {
                stage: stage.name.clone(),
                path,
                taken: now,
                last: now,
                put_off: None,
            }
        };
        Watch(job.stages.iter().map(watched).collect())
    }

    /// Swaps in what changes, until the job ends.
    pub(super) async fn run(watch: Option<Watch>, handle: Handle) {
        let Some(Watch(mut components)) = watch else {
            return;
        };
        loop {
            tokio::time::sleep(LOOK).await;
            for watched in &mut components {
                if watched.look(&handle).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl Watched {
    async fn look(&mut self, handle: &Handle) -> Result<(), JobEnded> {
        let now = look(&self.path);
        let is_settled = now == std::mem::replace(&mut self.last, now);
        if now.is_none() || now == self.taken || !is_settled {
            return Ok(());
        }
        let Ok(bytes) = std::fs::read(&self.path) else {
            return Ok(());
        };
        let status = handle.status().await?;
        let mut stages = status.stages.iter();
        let runs = stages.find(|(name, _)| *name == self.stage);
        if runs.is_some_and(|(_, runs)| runs.code.component == sha256(&bytes)) {
            self.taken = now;
            return Ok(());
        }
        if self.put_off != now {
            tracing::info!(stage = %self.stage, "the component's file has changed: it is swapped in");
        }
        let request = SwapRequest {
            stage: self.stage.clone(),
            ..SwapRequest::default()
        };
        match handle.swap(request).await? {
            Ok(_) => self.taken = now,
            // Another swap is under way, or the stage holds what it does: later.
            Err(why) => {
                if self.put_off != now {
                    tracing::warn!(stage = %self.stage, "not yet: {why}");
                }
                self.put_off = now;
            }
        }
        Ok(())
    }
}

fn look(path: &PathBuf) -> Option<Seen> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Seen {
        inode: metadata.ino(),
        bytes: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    })
}
