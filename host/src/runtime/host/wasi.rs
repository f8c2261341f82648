//! `wasi:*@0.2`: linked whole, with no authority but what the job grants. No folder, no environment, no argument; sockets
//! are denied; standard input is empty; standard output and error go to the host's log. Waiting (poll, sleep) is ours: it
//! ends at the call's deadline.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use tokio::sync::watch;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::bindings::io::poll as waiting;
use wasmtime_wasi::p2::bindings::sync::io::poll;
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamResult};
use wasmtime_wasi::runtime::in_tokio;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, async_trait};
use wasmtime_wasi_config::WasiConfigVariables;

use super::Guest;
use crate::runtime::engine::TICK;
use crate::runtime::fault::DeadlinePassed;
use crate::runtime::limits::RANDOM_BYTES;
use crate::runtime::logs::{Stream, TaskLog};
use crate::runtime::options::ComponentOptions;
use crate::runtime::time::CallTime;

/// What an instance is given of WASI.
pub(in crate::runtime) struct Wasi {
    pub(super) ctx: WasiCtx,
    pub(super) config: Arc<WasiConfigVariables>,
    pub(super) log: Arc<Mutex<TaskLog>>,
}

impl Wasi {
    /// Nothing but what `options` grant.
    pub(in crate::runtime) fn new(
        options: &ComponentOptions,
        log: Arc<Mutex<TaskLog>>,
    ) -> Result<Wasi, String> {
        let mut ctx = WasiCtxBuilder::new();
        ctx.allow_tcp(false);
        ctx.allow_udp(false);
        ctx.allow_ip_name_lookup(false);
        ctx.max_random_size(RANDOM_BYTES);
        ctx.stdout(Writer::new(Stream::Output, &log));
        ctx.stderr(Writer::new(Stream::Error, &log));
        for grant in &options.directories {
            let perms = if grant.write {
                FsPerms::ReadWrite
            } else {
                FsPerms::ReadOnly
            };
            ctx.preopened_dir(&grant.host, &grant.guest, perms)
                .map_err(|error| {
                    format!("the granted folder {}: {error:#}", grant.host.display())
                })?;
        }
        let mut config = WasiConfigVariables::new();
        for (key, value) in &options.config {
            config.insert(key, value);
        }
        Ok(Wasi {
            ctx: ctx.build(),
            config: Arc::new(config),
            log,
        })
    }
}

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    poll::add_to_linker::<Guest, HasTimed>(linker, |guest| Timed {
        time: &mut guest.time,
        interrupted: guest.interrupted.clone(),
        table: &mut guest.table,
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The table of pollables, and how long one may wait for them.
struct Timed<'a> {
    time: &'a mut CallTime,
    interrupted: watch::Receiver<bool>,
    table: &'a mut ResourceTable,
}

struct HasTimed;

impl HasData for HasTimed {
    type Data<'a> = Timed<'a>;
}

/// Waits for something that the guest asked for, as long as its call may last.
fn wait<R>(
    time: &mut CallTime,
    mut interrupted: watch::Receiver<bool>,
    ready: impl Future<Output = wasmtime::Result<R>>,
) -> wasmtime::Result<R> {
    in_tokio(async move {
        let mut ready = pin!(ready);
        let mut waiting = time.wait();
        let mut over = false;
        loop {
            // Looked at once more when it seems to be over: whoever counts the time in which nobody ran may be late himself.
            let left = time.left().max(TICK);
            let result = tokio::select! {
                biased;
                result = &mut ready => Some(result),
                () = tokio::time::sleep(left) => None,
                Ok(_) = interrupted.wait_for(|interrupted| *interrupted) => Some(Err(wasmtime::Error::new(DeadlinePassed))),
            };
            time.count(&mut waiting);
            if let Some(result) = result {
                return result;
            }
            if std::mem::replace(&mut over, time.is_over()) && over {
                return Err(wasmtime::Error::new(DeadlinePassed));
            }
        }
    })
}

impl poll::Host for Timed<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        let interrupted = self.interrupted.clone();
        wait(
            self.time,
            interrupted,
            waiting::Host::poll(self.table, pollables),
        )
    }
}

impl poll::HostPollable for Timed<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        let interrupted = self.interrupted.clone();
        wait(
            self.time,
            interrupted,
            waiting::HostPollable::ready(self.table, pollable),
        )
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        let interrupted = self.interrupted.clone();
        wait(
            self.time,
            interrupted,
            waiting::HostPollable::block(self.table, pollable),
        )
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        waiting::HostPollable::drop(self.table, pollable)
    }
}

/// Standard output or error of an instance.
#[derive(Clone)]
struct Writer {
    stream: Stream,
    log: Arc<Mutex<TaskLog>>,
}

impl Writer {
    fn new(stream: Stream, log: &Arc<Mutex<TaskLog>>) -> Writer {
        Writer {
            stream,
            log: Arc::clone(log),
        }
    }
}

impl IsTerminal for Writer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Writer {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.lock().written(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}
