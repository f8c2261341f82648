//! Waiting on behalf of a guest: as long as its call may last, and not beyond the end of a drain.

use std::pin::pin;
use std::time::Duration;

use wasmtime_wasi::runtime::in_tokio;

use super::InstanceData;
use crate::runtime::Runtime;
use crate::runtime::fault::DeadlinePassed;
use crate::runtime::time::CallTime;

/// What a quick call into the file system counts for at most.
const QUICK_CALL: Duration = Duration::from_micros(250);

/// What ends a wait.
#[derive(Clone)]
pub(super) struct WaitBounds {
    pub(super) time: CallTime,
    pub(super) interrupted: tokio::sync::watch::Receiver<bool>,
}

impl WaitBounds {
    /// Those of work that begins now on this thread.
    pub(super) fn new(runtime: &Runtime, limit: Duration) -> WaitBounds {
        let mut time = CallTime::new();
        time.begin(limit);
        WaitBounds {
            time,
            interrupted: runtime.interrupted.subscribe(),
        }
    }

    /// Waits for something that the guest asked for.
    ///
    /// What it waits for goes on elsewhere if it cannot be ended: a call into a file system that hangs, say.
    pub(super) fn wait<R>(&mut self, ready: impl Future<Output = R>) -> Result<R, DeadlinePassed> {
        self.wait_counting(ready, Duration::MAX)
    }

    /// As [`WaitBounds::wait`], for a call into the file system: another thread makes it. If it is made at once, nearly all of the wait
    /// was for processors that others used.
    pub(super) fn wait_for_files<R>(
        &mut self,
        ready: impl Future<Output = R>,
    ) -> Result<R, DeadlinePassed> {
        self.wait_counting(ready, QUICK_CALL)
    }

    /// `at_once`: what a wait counts for at most that is over before it is looked at.
    fn wait_counting<R>(
        &mut self,
        ready: impl Future<Output = R>,
        at_once: Duration,
    ) -> Result<R, DeadlinePassed> {
        let WaitBounds { time, interrupted } = self;
        let mut at_once = Some(at_once);
        in_tokio(async move {
            let mut ready = pin!(ready);
            loop {
                let waiting = time.wait();
                let result = tokio::select! {
                    biased;
                    result = &mut ready => Some(Ok(result)),
                    () = tokio::time::sleep(waiting.at_most) => None,
                    Ok(_) = interrupted.wait_for(|interrupted| *interrupted) => Some(Err(DeadlinePassed)),
                };
                let first = at_once.take();
                if let Some(result) = result {
                    time.count(&waiting, first.unwrap_or(Duration::MAX));
                    return result;
                }
                time.count(&waiting, Duration::MAX);
                if time.is_over() {
                    return Err(DeadlinePassed);
                }
            }
        })
    }
}

impl InstanceData {
    /// Waits within the bounds of the running call, on the host's time.
    pub(super) fn waiting<R>(
        &mut self,
        wait: impl FnOnce(&mut InstanceData, &mut WaitBounds) -> R,
    ) -> R {
        let mut bounds = WaitBounds {
            time: self.time.clone(),
            interrupted: self.interrupted.clone(),
        };
        let host = self.meter.in_host();
        let done = wait(self, &mut bounds);
        drop(host);
        self.time = bounds.time;
        done
    }
}
