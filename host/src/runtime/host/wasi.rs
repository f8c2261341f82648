//! `wasi:*@0.2`: linked whole, with no authority but what the job grants. No folder, no environment, no argument; sockets
//! are denied; standard input is empty; standard output and error go to the host's log. Waiting (poll, sleep) is ours: it
//! ends at the call's deadline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

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
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiView, async_trait};

use super::Guest;
use crate::runtime::fault::DeadlinePassed;
use crate::runtime::limits::RANDOM_BYTES;
use crate::runtime::logs::{Stream, TaskLog};
use crate::runtime::options::ComponentOptions;

/// What an instance is given of WASI.
pub(in crate::runtime) struct Wasi {
    pub(super) ctx: WasiCtx,
    pub(super) config: Arc<BTreeMap<String, String>>,
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
        Ok(Wasi {
            ctx: ctx.build(),
            config: Arc::clone(&options.config),
            log,
        })
    }
}

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    poll::add_to_linker::<Guest, HasTimed>(linker, |guest| Timed {
        deadline: guest.deadline,
        interrupted: guest.interrupted.clone(),
        table: guest.ctx().table,
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The table of pollables, and until when one may wait for them.
struct Timed<'a> {
    deadline: Instant,
    interrupted: watch::Receiver<bool>,
    table: &'a mut ResourceTable,
}

struct HasTimed;

impl HasData for HasTimed {
    type Data<'a> = Timed<'a>;
}

fn wait<R>(
    deadline: Instant,
    mut interrupted: watch::Receiver<bool>,
    ready: impl Future<Output = wasmtime::Result<R>>,
) -> wasmtime::Result<R> {
    in_tokio(async move {
        tokio::select! {
            biased;
            result = ready => result,
            () = tokio::time::sleep_until(deadline.into()) => Err(wasmtime::Error::new(DeadlinePassed)),
            Ok(_) = interrupted.wait_for(|interrupted| *interrupted) => Err(wasmtime::Error::new(DeadlinePassed)),
        }
    })
}

impl poll::Host for Timed<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        let interrupted = self.interrupted.clone();
        wait(
            self.deadline,
            interrupted,
            waiting::Host::poll(self.table, pollables),
        )
    }
}

impl poll::HostPollable for Timed<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        let interrupted = self.interrupted.clone();
        wait(
            self.deadline,
            interrupted,
            waiting::HostPollable::ready(self.table, pollable),
        )
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        let interrupted = self.interrupted.clone();
        wait(
            self.deadline,
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
