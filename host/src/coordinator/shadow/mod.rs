//! Shadow: new code is tried beside the code that runs, on the same messages, and nothing of what it does is kept.
//!
//! A thread of low priority reads the inputs itself, from the positions of a checkpoint on, and gives each batch to both codes: each works on
//! what that checkpoint has committed and on what it has written above it. [`pair`] compares what they do, [`report`] counts. Live
//! tasks know nothing of it, and nothing of it is durable.

mod pair;
mod report;
mod run;
mod side;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

pub use report::{Difference, Made, ShadowReport};
use run::Run;

use super::View;
use super::tasks::{StageNow, TaskFactory};
use crate::model::Clock;

/// Guests run on its stack, as on that of a worker.
const STACK: usize = 4 << 20;

/// How long new code is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShadowLength {
    /// As many messages as this are compared.
    Messages(u64),
    /// So long.
    Time(Duration),
}

/// New code that is tried.
pub(super) struct Shadow {
    /// The number of its swap.
    pub(super) id: u64,
    /// The new code.
    pub(super) candidate: Arc<StageNow>,
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What is tried, beside what.
pub(super) struct Tried {
    pub(super) id: u64,
    pub(super) control: Arc<StageNow>,
    pub(super) candidate: Arc<StageNow>,
    pub(super) length: ShadowLength,
    pub(super) report: Arc<Mutex<ShadowReport>>,
}

impl Shadow {
    /// Begins. `done` is told how it has ended: at its end, or why it could not go on.
    pub(super) fn start(
        tried: Tried,
        factory: Arc<TaskFactory>,
        view: View,
        clock: Arc<dyn Clock>,
        io: tokio::runtime::Handle,
        done: impl Fn(Result<(), String>) + Send + 'static,
    ) -> std::io::Result<Shadow> {
        let stops = Arc::new(AtomicBool::new(false));
        let (id, candidate) = (tried.id, Arc::clone(&tried.candidate));
        let run = Run {
            factory,
            control: tried.control,
            candidate: tried.candidate,
            view,
            clock,
            length: tried.length,
            report: tried.report,
            stops: Arc::clone(&stops),
        };
        let thread = thread::Builder::new().name("shadow".into());
        let thread = thread.stack_size(STACK).spawn(move || {
            let _io = io.enter();
            done(run.run());
        })?;
        Ok(Shadow {
            id,
            candidate,
            stops,
            thread: Some(thread),
        })
    }

    /// Whether it has not stopped yet.
    pub(super) fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    /// Tells it to stop: it does after the call that runs, which is not waited for here.
    pub(super) fn stop(&self) {
        self.stops.store(true, Ordering::Relaxed);
    }

    /// Waits until it has stopped.
    pub(super) fn join(mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
