//! `wasi:*@0.2`: linked whole, with no rights but what the job grants. No argument; folders, variables and remote addresses by
//! name only; standard input is empty; standard output and error go to the host's log. Waiting (poll, sleep) is ours: it
//! ends at the call's deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::clocks::{HostMonotonicClock, HostWallClock};
use wasmtime_wasi::p2::bindings::io::poll as waiting;
use wasmtime_wasi::p2::bindings::sync::filesystem::types;
use wasmtime_wasi::p2::bindings::sync::io::{poll, streams};
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamResult};
use wasmtime_wasi::runtime::spawn_blocking;
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, async_trait};

use super::waiting::WaitBounds;
use super::{HasInstanceData, InstanceData};
use crate::runtime::Runtime;
use crate::runtime::context::Given;
use crate::runtime::folders::Folder;
use crate::runtime::logs::{Stream, TaskLog};
use crate::runtime::options::ComponentOptions;

/// What an instance is given of WASI.
pub(in crate::runtime) struct Wasi {
    pub(super) ctx: WasiCtx,
    pub(super) log: Arc<Mutex<TaskLog>>,
}

impl Wasi {
    /// Nothing but what `options` grant.
    pub(in crate::runtime) fn new(
        runtime: &Runtime,
        options: &ComponentOptions,
        folders: &Arc<[Folder]>,
        given: &Given,
    ) -> Result<Wasi, String> {
        let log = Arc::clone(&given.log);
        let mut ctx = WasiCtxBuilder::new();
        let has_network = !options.network.is_empty();
        ctx.allow_tcp(has_network);
        ctx.allow_udp(false);
        ctx.allow_ip_name_lookup(has_network);
        let remotes = Arc::clone(&options.network);
        ctx.socket_addr_check(move |address, used| {
            let remotes = Arc::clone(&remotes);
            Box::pin(async move {
                match used {
                    SocketAddrUse::TcpConnect => is_granted(&remotes, address).await,
                    // What a socket is bound to before it connects; it cannot listen there.
                    SocketAddrUse::TcpBind => {
                        !remotes.is_empty() && address.ip().is_unspecified() && address.port() == 0
                    }
                    _ => false,
                }
            })
        });
        ctx.envs(&options.environment);
        if options.store_time || given.random.is_some() {
            ctx.wall_clock(StoreClock(Arc::clone(&given.clock)));
            ctx.monotonic_clock(StoreClock(Arc::clone(&given.clock)));
        }
        if let Some(random) = &given.random {
            ctx.secure_random(random.clone());
            ctx.insecure_random(random.clone());
            ctx.insecure_random_seed(0);
        }
        ctx.max_random_size(options.limits.random_bytes);
        ctx.stdout(Writer::new(Stream::Output, &log));
        ctx.stderr(Writer::new(Stream::Error, &log));
        let ctx = match folders.is_empty() {
            true => ctx.build(),
            false => {
                let folders = Arc::clone(folders);
                // Folders may lie on a file system that hangs.
                let granted = spawn_blocking(move || grant(ctx, &folders));
                let mut bounds = WaitBounds::new(runtime, options.limits.call_deadline);
                bounds
                    .wait(granted)
                    .map_err(|_| "the granted folders could not be opened in time".to_owned())??
            }
        };
        Ok(Wasi { ctx, log })
    }
}

/// Whether an address is one of those of a granted host, at its port.
async fn is_granted(remotes: &[(String, u16)], address: SocketAddr) -> bool {
    for (host, port) in remotes.iter().filter(|(_, port)| *port == address.port()) {
        let found = tokio::net::lookup_host((host.as_str(), *port)).await;
        if found.is_ok_and(|mut found| found.any(|found| found.ip() == address.ip())) {
            return true;
        }
    }
    false
}

/// Store time, as both of WASI's clocks.
struct StoreClock(Arc<AtomicI64>);

impl StoreClock {
    fn time(&self) -> Duration {
        let ms = self.0.load(Ordering::Relaxed);
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }
}

impl HostWallClock for StoreClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        self.time()
    }
}

impl HostMonotonicClock for StoreClock {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        u64::try_from(self.time().as_nanos()).unwrap_or(u64::MAX)
    }
}

fn grant(mut ctx: WasiCtxBuilder, folders: &[Folder]) -> Result<WasiCtx, String> {
    folders
        .iter()
        .try_for_each(|folder| folder.give(&mut ctx))?;
    Ok(ctx.build())
}

pub(super) fn link(linker: &mut Linker<InstanceData>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    poll::add_to_linker::<InstanceData, HasInstanceData>(linker, |guest| guest)?;
    streams::add_to_linker::<InstanceData, HasInstanceData>(linker, |guest| guest)?;
    types::add_to_linker::<InstanceData, HasInstanceData>(linker, |guest| guest)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl InstanceData {
    /// Waits for pollables.
    pub(super) fn wait_for<R>(
        &mut self,
        ready: impl AsyncFnOnce(&mut ResourceTable) -> wasmtime::Result<R>,
    ) -> wasmtime::Result<R> {
        let done = self.waiting(|guest, bounds| bounds.wait(ready(&mut guest.table)));
        done.map_err(wasmtime::Error::new)?
    }
}

impl poll::Host for InstanceData {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.wait_for(async |table| waiting::Host::poll(table, pollables).await)
    }
}

impl poll::HostPollable for InstanceData {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.wait_for(async |table| waiting::HostPollable::ready(table, pollable).await)
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.wait_for(async |table| waiting::HostPollable::block(table, pollable).await)
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        waiting::HostPollable::drop(&mut self.table, pollable)
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
