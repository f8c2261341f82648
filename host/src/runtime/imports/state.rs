//! `wasm-host:task/state`.
//!
//! A store's handle is the store's index, a cursor's its id: neither needs a table to be looked up in.

use wasmtime::component::{
    ComponentType, Lift, Linker, Lower, Resource, ResourceType, WasmList, WasmStr,
};
use wasmtime::{StoreContextMut, bail, ensure, format_err};

use super::column::{GuestColumn, HostColumn};
use super::deadline::Deadline;
use super::{InstanceData, with_memory};
use crate::model::{Column, StoreIndex};
use crate::runtime::context::TaskContext;
use crate::runtime::fault::{DeadlinePassed, HostFailed};
use crate::runtime::limits::{CALL_RETURNS_BYTES, ENTRY_BYTES, Limits, exceeded};
use crate::state::{CursorId, IncrementError, Order, ScanOptions, StateError};

/// Keys whose values are brought into the processor's caches at a time.
const WARMED: usize = 32;

/// The types that handles are of.
struct Store;
struct Cursor;

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum OpenError {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "other")]
    Other(String),
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct PutOptions {
    #[component(name = "ttl-ms")]
    ttl_ms: Option<u64>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct Range {
    start: Option<WasmList<u8>>,
    end: Option<WasmList<u8>>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct Options {
    reverse: bool,
    #[component(name = "keys-only")]
    keys_only: bool,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct Entries {
    keys: HostColumn,
    values: HostColumn,
}

type Call<'a> = StoreContextMut<'a, InstanceData>;

pub(super) fn link(linker: &mut Linker<InstanceData>) -> wasmtime::Result<()> {
    let mut state = linker.instance("wasm-host:task/state@0.1.1")?;
    state.resource("store", ResourceType::host::<Store>(), |mut call, _| {
        let guest = call.data_mut();
        guest.store_handles = guest.store_handles.saturating_sub(1);
        Ok(())
    })?;
    state.resource("cursor", ResourceType::host::<Cursor>(), |mut call, id| {
        // Dropped in or after the call that opened it; after it there is nothing left to close.
        if let Some(context) = &mut call.data_mut().context {
            context.state_mut().scan_close(CursorId::from_bits(id));
        }
        Ok(())
    })?;
    state.func_wrap("[static]store.open", open)?;
    state.func_wrap("[method]store.get", get)?;
    state.func_wrap("[method]store.put", put)?;
    state.func_wrap("[method]store.delete", delete)?;
    state.func_wrap("[method]store.increment", increment)?;
    state.func_wrap("[method]store.get-many", get_many)?;
    state.func_wrap("[method]store.put-many", put_many)?;
    state.func_wrap("[method]store.delete-range", delete_range)?;
    state.func_wrap("[method]store.scan", scan)?;
    state.func_wrap("[method]cursor.next", next)?;
    Ok(())
}

fn open(
    mut call: Call<'_>,
    (name,): (WasmStr,),
) -> wasmtime::Result<(Result<Resource<Store>, OpenError>,)> {
    let name = name.to_str(&call)?.into_owned();
    let guest = call.data_mut();
    let stores = &guest.context()?.info.stores;
    let Some(index) = stores.iter().position(|store| *store == name) else {
        return Ok((Err(OpenError::NoSuchStore),));
    };
    guest.one_more_store_handle()?;
    Ok((Ok(Resource::new_own(u32::try_from(index)?)),))
}

fn get(
    call: Call<'_>,
    (store, key): (Resource<Store>, WasmList<u8>),
) -> wasmtime::Result<(Option<Vec<u8>>,)> {
    with_memory(call, |context, memory| {
        let key = key.as_le_slice(memory);
        check_key(memory.data().limits(), key.len())?;
        context.budget.operate(1)?;
        Ok((context
            .state_mut()
            .get(index(store.rep())?, key)
            .map_err(host_failed)?,))
    })
}

fn put(
    mut call: Call<'_>,
    (store, key, value, options): (
        Resource<Store>,
        WasmList<u8>,
        WasmList<u8>,
        Option<PutOptions>,
    ),
) -> wasmtime::Result<()> {
    call.data_mut().writing("put")?;
    check_options(options.as_ref())?;
    with_memory(call, |context, memory| {
        let (key, value) = (key.as_le_slice(memory), value.as_le_slice(memory));
        let limits = memory.data().limits();
        write(context, limits, index(store.rep())?, key, Some(value))
    })
}

fn delete(
    mut call: Call<'_>,
    (store, key): (Resource<Store>, WasmList<u8>),
) -> wasmtime::Result<()> {
    call.data_mut().writing("delete")?;
    with_memory(call, |context, memory| {
        let (key, limits) = (key.as_le_slice(memory), memory.data().limits());
        write(context, limits, index(store.rep())?, key, None)
    })
}

fn increment(
    mut call: Call<'_>,
    (store, key, by): (Resource<Store>, WasmList<u8>, i64),
) -> wasmtime::Result<(i64,)> {
    call.data_mut().writing("increment")?;
    with_memory(call, |context, memory| {
        let key = key.as_le_slice(memory);
        check_key(memory.data().limits(), key.len())?;
        context.budget.stage(key.len() + 8 + ENTRY_BYTES)?;
        match context.state_mut().increment(index(store.rep())?, key, by) {
            Ok(sum) => Ok((sum,)),
            Err(IncrementError::State(error)) => Err(host_failed(error)),
            Err(error) => Err(format_err!("increment: {error}")),
        }
    })
}

fn get_many(
    call: Call<'_>,
    (store, keys): (Resource<Store>, GuestColumn),
) -> wasmtime::Result<(HostColumn,)> {
    let mut deadline = Deadline::of(&call);
    with_memory(call, |context, memory| {
        let store = index(store.rep())?;
        let limits = memory.data().limits();
        let keys = keys.view(memory, "keys")?;
        // Each takes up to 8 bytes in addition to its value: where it ends, and that it is absent.
        let most = CALL_RETURNS_BYTES / 8;
        if keys.len() > most {
            return Err(exceeded(format_args!(
                "get-many has {} keys, and one call returns at most {most} values; ask for fewer keys",
                keys.len()
            )));
        }
        context.budget.operate(keys.len())?;
        // A first guess, which a guest cannot drive beyond 2 MiB.
        let likely = keys.len().min(1 << 15);
        let mut found = Column::with_capacity(likely, likely * 32);
        let mut ahead = keys.iter();
        for (at, key) in keys.iter().enumerate() {
            if at % WARMED == 0 {
                let some = ahead.by_ref().take(WARMED).flatten();
                context.state_mut().warm(store, some);
            }
            deadline.check()?;
            let key = present(key)?;
            check_key(limits, key.len())?;
            context
                .state_mut()
                .get_into(store, key, &mut found)
                .map_err(host_failed)?;
            if found.data_len() > CALL_RETURNS_BYTES {
                return Err(exceeded(format_args!(
                    "one call returns at most {CALL_RETURNS_BYTES} bytes, and get-many came to {}; ask for fewer keys",
                    found.data_len()
                )));
            }
        }
        Ok((found.into(),))
    })
}

fn put_many(
    mut call: Call<'_>,
    (store, keys, values, options): (
        Resource<Store>,
        GuestColumn,
        GuestColumn,
        Option<PutOptions>,
    ),
) -> wasmtime::Result<()> {
    call.data_mut().writing("put-many")?;
    check_options(options.as_ref())?;
    with_memory(call, |context, memory| {
        let (store, limits) = (index(store.rep())?, memory.data().limits());
        let keys = keys.view(memory, "keys")?;
        let values = values.view(memory, "values")?;
        ensure!(
            keys.len() == values.len(),
            "put-many has {} keys and {} values",
            keys.len(),
            values.len()
        );
        for (key, value) in keys.iter().zip(values.iter()) {
            write(context, limits, store, present(key)?, value)?;
        }
        Ok(())
    })
}

fn delete_range(
    mut call: Call<'_>,
    (store, range): (Resource<Store>, Range),
) -> wasmtime::Result<()> {
    call.data_mut().writing("delete-range")?;
    with_memory(call, |context, memory| {
        let (start, end) = bounds(&range, memory)?;
        let bytes = start.map_or(0, <[u8]>::len) + end.map_or(0, <[u8]>::len);
        context.budget.stage(bytes + 2 * ENTRY_BYTES)?;
        context
            .state_mut()
            .delete_range(index(store.rep())?, start, end);
        Ok(())
    })
}

fn scan(
    call: Call<'_>,
    (store, range, options): (Resource<Store>, Range, Options),
) -> wasmtime::Result<(Resource<Cursor>,)> {
    with_memory(call, |context, memory| {
        context.budget.operate(1)?;
        let most = memory.data().limits().cursors;
        if context.state_mut().cursors_open() >= most {
            return Err(exceeded(format_args!(
                "a task may have {most} cursors open (`cursors`); drop those that are not needed"
            )));
        }
        let (start, end) = bounds(&range, memory)?;
        let options = ScanOptions {
            order: if options.reverse {
                Order::Down
            } else {
                Order::Up
            },
            keys_only: options.keys_only,
        };
        let id = context
            .state_mut()
            .scan(index(store.rep())?, start, end, options);
        Ok((Resource::new_own(id.to_bits()),))
    })
}

fn next(
    mut call: Call<'_>,
    (cursor, max_entries, max_bytes): (Resource<Cursor>, u32, u32),
) -> wasmtime::Result<(Entries,)> {
    ensure!(max_entries > 0, "next asks for 0 entries");
    let mut deadline = Deadline::of(&call);
    let meter = call.data().meter;
    let context = call.data_mut().context()?;
    let bytes = (max_bytes as usize).min(CALL_RETURNS_BYTES);
    let host = meter.in_host();
    let found = context
        .state_mut()
        .scan_next(
            CursorId::from_bits(cursor.rep()),
            max_entries as usize,
            bytes,
            &mut || deadline.is_over(),
        )
        .map_err(host_failed);
    drop(host);
    match found? {
        Some(found) => {
            let bytes = found.keys.data_len() + found.values.data_len();
            context.budget.scan(found.keys.len(), bytes)?;
            Ok((Entries {
                keys: found.keys.into(),
                values: found.values.into(),
            },))
        }
        None => bail!("the cursor has ended: it lives as long as the call that opened it"),
    }
}

/// The store of a handle.
pub(super) fn index(rep: u32) -> wasmtime::Result<StoreIndex> {
    Ok(StoreIndex(u16::try_from(rep)?))
}

fn present(key: Option<&[u8]>) -> wasmtime::Result<&[u8]> {
    key.ok_or_else(|| format_err!("a key in the column of keys is absent"))
}

pub(super) fn check_key(limits: &Limits, bytes: usize) -> wasmtime::Result<()> {
    let limit = limits.key_bytes;
    if bytes > limit {
        return Err(exceeded(format_args!(
            "a key of {bytes} bytes exceeds the limit `key-bytes` = {limit}"
        )));
    }
    Ok(())
}

pub(super) fn check_value(limits: &Limits, bytes: usize) -> wasmtime::Result<()> {
    let limit = limits.value_bytes;
    if bytes > limit {
        return Err(exceeded(format_args!(
            "a value of {bytes} bytes exceeds the limit `value-bytes` = {limit}"
        )));
    }
    Ok(())
}

pub(super) fn write(
    context: &mut TaskContext,
    limits: &Limits,
    store: StoreIndex,
    key: &[u8],
    value: Option<&[u8]>,
) -> wasmtime::Result<()> {
    let bytes = value.map_or(0, <[u8]>::len);
    check_key(limits, key.len())?;
    check_value(limits, bytes)?;
    context.budget.stage(key.len() + bytes + ENTRY_BYTES)?;
    context.state_mut().put(store, key, value);
    Ok(())
}

type Bounds<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

fn bounds<'a>(
    range: &Range,
    memory: &'a StoreContextMut<'_, InstanceData>,
) -> wasmtime::Result<Bounds<'a>> {
    let start = range.start.as_ref().map(|key| key.as_le_slice(memory));
    let end = range.end.as_ref().map(|key| key.as_le_slice(memory));
    for key in [start, end].into_iter().flatten() {
        check_key(memory.data().limits(), key.len())?;
    }
    Ok((start, end))
}

fn check_options(options: Option<&PutOptions>) -> wasmtime::Result<()> {
    match options.and_then(|options| options.ttl_ms) {
        Some(_) => bail!("`ttl-ms` is not supported yet: entries stay until they are deleted"),
        None => Ok(()),
    }
}

pub(super) fn host_failed(error: StateError) -> wasmtime::Error {
    if matches!(error, StateError::TimeOver) {
        return wasmtime::Error::new(DeadlinePassed);
    }
    wasmtime::Error::new(HostFailed::from(error))
}
