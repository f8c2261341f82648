//! `wasi:keyvalue/{store,atomics,batch}`, drafts 0.2.0-draft and 0.2.0-draft2, on the stores of the stage: a bucket is a store.
//!
//! Our stores promise more than these interfaces, which are only eventually consistent: a task reads its own writes at once, and
//! what a batch wrote is undone with it. Keys are strings here, so keys that are not UTF-8 can be neither named nor listed. A
//! broken limit is an `error.other`, because these interfaces have a place for it; writing outside of a batch and staging more
//! than a call may trap, as they do in `wasm-host:task/state`.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};
use wasmtime::component::{
    ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType, WasmList, WasmStr,
};
use wasmtime::{StoreContextMut, bail};

use super::deadline::Deadline;
use super::state::{host_failed, index, write};
use super::{InstanceData, with_memory};
use crate::model::{Column, StoreIndex};
use crate::runtime::context::TaskContext;
use crate::runtime::limits::{CALL_RETURNS_BYTES, ENTRY_BYTES, Limits};
use crate::state::{IncrementError, Order, ScanOptions};

/// Keys of a page of `list-keys`, and their bytes.
const PAGE_KEYS: usize = 1_000;
const PAGE_BYTES: usize = 64 << 10;
/// Places of `list-keys` that an instance may come back to, if cursors are numbers; the oldest is forgotten first.
const PLACES: usize = 16;

/// What handles are of. A bucket is the store's index.
struct Bucket;

/// What `atomics.cas` of 0.2.0-draft2 holds: a key, and the hash of its value when it was last looked at.
struct Cas {
    store: StoreIndex,
    key: Vec<u8>,
    seen: Option<[u8; 32]>,
}

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    /// Never given: a stage sees no store that it may not use.
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum CasError {
    #[component(name = "store-error")]
    Store(Error),
    #[component(name = "cas-failed")]
    Failed(Resource<Cas>),
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct KeyResponse<C> {
    keys: Vec<String>,
    cursor: Option<C>,
}

type Call<'a> = StoreContextMut<'a, InstanceData>;
type Answer<T> = wasmtime::Result<(Result<T, Error>,)>;

/// Where `list-keys` went on after, by number.
#[derive(Default)]
pub(super) struct Places {
    next: u64,
    kept: VecDeque<(u64, String)>,
}

impl Places {
    fn keep(&mut self, key: String) -> u64 {
        if self.kept.len() == PLACES {
            self.kept.pop_front();
        }
        self.next += 1;
        self.kept.push_back((self.next, key));
        self.next
    }

    fn find(&self, number: u64) -> Option<&str> {
        let found = self.kept.iter().find(|(kept, _)| *kept == number)?;
        Some(&found.1)
    }
}

pub(super) fn link(linker: &mut Linker<InstanceData>) -> wasmtime::Result<()> {
    let mut first = linker.instance("wasi:keyvalue/store@0.2.0-draft")?;
    store(&mut first)?;
    first.func_wrap("[method]bucket.list-keys", list_keys_by_number)?;
    let mut first = linker.instance("wasi:keyvalue/atomics@0.2.0-draft")?;
    first.func_wrap("increment", increment_unsigned)?;
    let mut first = linker.instance("wasi:keyvalue/batch@0.2.0-draft")?;
    batch(&mut first)?;
    first.func_wrap("get-many", get_many_found)?;

    let mut second = linker.instance("wasi:keyvalue/store@0.2.0-draft2")?;
    store(&mut second)?;
    second.func_wrap("[method]bucket.list-keys", list_keys_by_key)?;
    let mut second = linker.instance("wasi:keyvalue/atomics@0.2.0-draft2")?;
    second.resource("cas", ResourceType::host::<Cas>(), |mut call, rep| {
        call.data_mut()
            .table
            .delete(Resource::<Cas>::new_own(rep))?;
        Ok(())
    })?;
    second.func_wrap("[static]cas.new", cas_new)?;
    second.func_wrap("[method]cas.current", cas_current)?;
    second.func_wrap("swap", swap)?;
    second.func_wrap("increment", increment)?;
    let mut second = linker.instance("wasi:keyvalue/batch@0.2.0-draft2")?;
    batch(&mut second)?;
    second.func_wrap("get-many", get_many)?;
    Ok(())
}

/// What both drafts of `store` have.
fn store(instance: &mut LinkerInstance<'_, InstanceData>) -> wasmtime::Result<()> {
    instance.resource("bucket", ResourceType::host::<Bucket>(), |mut call, _| {
        let guest = call.data_mut();
        guest.store_handles = guest.store_handles.saturating_sub(1);
        Ok(())
    })?;
    instance.func_wrap("open", open)?;
    instance.func_wrap("[method]bucket.get", get)?;
    instance.func_wrap("[method]bucket.set", set)?;
    instance.func_wrap("[method]bucket.delete", delete)?;
    instance.func_wrap("[method]bucket.exists", exists)
}

/// What both drafts of `batch` have.
fn batch(instance: &mut LinkerInstance<'_, InstanceData>) -> wasmtime::Result<()> {
    instance.func_wrap("set-many", set_many)?;
    instance.func_wrap("delete-many", delete_many)
}

/// A store by its name; if the stage has only one, also by the empty name.
fn open(mut call: Call<'_>, (name,): (WasmStr,)) -> Answer<Resource<Bucket>> {
    let name = name.to_str(&call)?.into_owned();
    let guest = call.data_mut();
    let stores = &guest.context()?.info.stores;
    let only = name.is_empty() && stores.len() == 1;
    let Some(index) = stores.iter().position(|store| only || *store == name) else {
        return Ok((Err(Error::NoSuchStore),));
    };
    guest.one_more_store_handle()?;
    Ok((Ok(Resource::new_own(u32::try_from(index)?)),))
}

fn get(call: Call<'_>, (bucket, key): (Resource<Bucket>, WasmStr)) -> Answer<Option<Vec<u8>>> {
    on_key(call, &bucket, key, |context, _, store, key| {
        context.budget.operate(1)?;
        context.state_mut().get(store, key).map_err(host_failed)
    })
}

fn exists(call: Call<'_>, (bucket, key): (Resource<Bucket>, WasmStr)) -> Answer<bool> {
    on_key(call, &bucket, key, |context, _, store, key| {
        context.budget.operate(1)?;
        let found = context.state_mut().get(store, key).map_err(host_failed)?;
        Ok(found.is_some())
    })
}

fn set(
    mut call: Call<'_>,
    (bucket, key, value): (Resource<Bucket>, WasmStr, WasmList<u8>),
) -> Answer<()> {
    call.data_mut().writing("set")?;
    with_memory(call, |context, memory| {
        let key = key.to_str(memory)?;
        let value = value.as_le_slice(memory);
        let (store, limits) = (index(bucket.rep())?, memory.data().limits());
        Ok((put(context, limits, store, key.as_bytes(), value)?,))
    })
}

fn delete(mut call: Call<'_>, (bucket, key): (Resource<Bucket>, WasmStr)) -> Answer<()> {
    call.data_mut().writing("delete")?;
    on_key(call, &bucket, key, |context, limits, store, key| {
        write(context, limits, store, key, None)
    })
}

fn list_keys_by_key(
    mut call: Call<'_>,
    (bucket, cursor): (Resource<Bucket>, Option<WasmStr>),
) -> Answer<KeyResponse<String>> {
    let after = cursor.map(|key| key.to_str(&call).map(|key| key.into_owned()));
    let page = page(&mut call, &bucket, after.transpose()?.as_deref())?;
    Ok((page.map(|(keys, more)| KeyResponse {
        cursor: keys.last().filter(|_| more).cloned(),
        keys,
    }),))
}

fn list_keys_by_number(
    mut call: Call<'_>,
    (bucket, cursor): (Resource<Bucket>, Option<u64>),
) -> Answer<KeyResponse<u64>> {
    let after = match cursor.map(|number| call.data().places.find(number).map(str::to_owned)) {
        Some(None) => return Ok((Err(other("the cursor is none of the last that were given")),)),
        Some(after) => after,
        None => None,
    };
    let page = page(&mut call, &bucket, after.as_deref())?;
    Ok((page.map(|(keys, more)| KeyResponse {
        cursor: keys
            .last()
            .filter(|_| more)
            .map(|last| call.data_mut().places.keep(last.clone())),
        keys,
    }),))
}

/// Keys of a store after a key, and whether there may be more.
fn page(
    call: &mut Call<'_>,
    bucket: &Resource<Bucket>,
    after: Option<&str>,
) -> wasmtime::Result<Result<(Vec<String>, bool), Error>> {
    let _host = call.data().meter.in_host();
    let mut deadline = Deadline::of(call);
    let (context, limits) = call.data_mut().context_and_limits()?;
    if context.state_mut().cursors_open() >= limits.cursors {
        let open = limits.cursors;
        return Ok(Err(other(&format!("{open} cursors are open"))));
    }
    // The least key that is greater.
    let start = after.map(|key| [key.as_bytes(), &[0]].concat());
    let options = ScanOptions {
        order: Order::Up,
        keys_only: true,
    };
    let store = index(bucket.rep())?;
    let cursor = context
        .state_mut()
        .scan(store, start.as_deref(), None, options);
    let found = context
        .state_mut()
        .scan_next(cursor, PAGE_KEYS, PAGE_BYTES, &mut || deadline.is_over());
    context.state_mut().scan_close(cursor);
    let found = found.map_err(host_failed)?;
    let found = found.map_or_else(Column::default, |entries| entries.keys);
    context.budget.scan(found.len(), found.data_len())?;
    let mut keys = Vec::with_capacity(found.len());
    for key in found.iter().flatten() {
        match std::str::from_utf8(key) {
            Ok(key) => keys.push(key.to_owned()),
            Err(_) => return Ok(Err(other("the store has a key that is not UTF-8"))),
        }
    }
    let more = !keys.is_empty();
    Ok(Ok((keys, more)))
}

fn increment(
    mut call: Call<'_>,
    (bucket, key, delta): (Resource<Bucket>, WasmStr, i64),
) -> Answer<i64> {
    call.data_mut().writing("increment")?;
    let sum = on_key(call, &bucket, key, |context, _, store, key| {
        add(context, store, key, delta)
    })?;
    Ok((sum.0.and_then(|sum| sum),))
}

/// In the first draft a counter has no sign; it is stored like any other.
fn increment_unsigned(
    mut call: Call<'_>,
    (bucket, key, delta): (Resource<Bucket>, WasmStr, u64),
) -> Answer<u64> {
    call.data_mut().writing("increment")?;
    let Ok(delta) = i64::try_from(delta) else {
        return Ok((Err(other("a counter ends at 2^63 - 1")),));
    };
    let sum = on_key(call, &bucket, key, |context, _, store, key| {
        // The other draft, and `state`, may have left it below 0. What cannot be answered is not done either.
        let counted = counted(context.state_mut().counter(store, key))?;
        if let Ok(value) = counted
            && let Some(sum) = value.checked_add(delta)
            && sum < 0
        {
            return Ok(Err(other(&format!(
                "the counter would be {sum}, and this draft has no negative ones"
            ))));
        }
        add(context, store, key, delta)
    })?;
    Ok((sum.0.and_then(|sum| sum).map(i64::cast_unsigned),))
}

fn add(
    context: &mut TaskContext,
    store: StoreIndex,
    key: &[u8],
    delta: i64,
) -> wasmtime::Result<Result<i64, Error>> {
    context.budget.stage(key.len() + 8 + ENTRY_BYTES)?;
    counted(context.state_mut().increment(store, key, delta))
}

/// The guest learns only what is wrong with the counter.
fn counted(counter: Result<i64, IncrementError>) -> wasmtime::Result<Result<i64, Error>> {
    match counter {
        Ok(value) => Ok(Ok(value)),
        Err(IncrementError::State(error)) => Err(host_failed(error)),
        Err(error) => Ok(Err(other(&error.to_string()))),
    }
}

fn get_many_found(
    call: Call<'_>,
    given: (Resource<Bucket>, Vec<String>),
) -> Answer<Vec<Option<Entry>>> {
    let found = many(call, given)?;
    let pairs = |found: Found| {
        let pair = |(key, value): (String, Option<Vec<u8>>)| Some((key, value?));
        found.into_iter().map(pair).collect()
    };
    Ok((found.map(pairs),))
}

fn get_many(call: Call<'_>, given: (Resource<Bucket>, Vec<String>)) -> Answer<Found> {
    Ok((many(call, given)?,))
}

type Entry = (String, Vec<u8>);
type Found = Vec<(String, Option<Vec<u8>>)>;

fn many(
    mut call: Call<'_>,
    (bucket, keys): (Resource<Bucket>, Vec<String>),
) -> wasmtime::Result<Result<Found, Error>> {
    let _host = call.data().meter.in_host();
    let store = index(bucket.rep())?;
    let mut deadline = Deadline::of(&call);
    let (context, limits) = call.data_mut().context_and_limits()?;
    context.budget.operate(keys.len())?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    for key in keys {
        deadline.check()?;
        if let Err(error) = check_key(limits, key.as_bytes()) {
            return Ok(Err(error));
        }
        let value = context
            .state_mut()
            .get(store, key.as_bytes())
            .map_err(host_failed)?;
        bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        if bytes > CALL_RETURNS_BYTES {
            return Ok(Err(other(&format!(
                "one call returns at most {CALL_RETURNS_BYTES} bytes; ask for fewer keys"
            ))));
        }
        found.push((key, value));
    }
    Ok(Ok(found))
}

fn set_many(mut call: Call<'_>, (bucket, entries): (Resource<Bucket>, Vec<Entry>)) -> Answer<()> {
    let _host = call.data().meter.in_host();
    let store = index(bucket.rep())?;
    call.data_mut().writing("set-many")?;
    let (context, limits) = call.data_mut().context_and_limits()?;
    // None of them is set if one cannot be.
    for (key, value) in &entries {
        if let Err(error) = check_key(limits, key.as_bytes()).and(check_value(limits, value)) {
            return Ok((Err(error),));
        }
    }
    for (key, value) in &entries {
        write(context, limits, store, key.as_bytes(), Some(value))?;
    }
    Ok((Ok(()),))
}

fn delete_many(mut call: Call<'_>, (bucket, keys): (Resource<Bucket>, Vec<String>)) -> Answer<()> {
    let _host = call.data().meter.in_host();
    let store = index(bucket.rep())?;
    call.data_mut().writing("delete-many")?;
    let (context, limits) = call.data_mut().context_and_limits()?;
    for key in &keys {
        if let Err(error) = check_key(limits, key.as_bytes()) {
            return Ok((Err(error),));
        }
    }
    for key in &keys {
        write(context, limits, store, key.as_bytes(), None)?;
    }
    Ok((Ok(()),))
}

fn cas_new(
    mut call: Call<'_>,
    (bucket, key): (Resource<Bucket>, WasmStr),
) -> Answer<Resource<Cas>> {
    let _host = call.data().meter.in_host();
    let key = key.to_str(&call)?.into_owned().into_bytes();
    let store = index(bucket.rep())?;
    let (context, limits) = call.data_mut().context_and_limits()?;
    if let Err(error) = check_key(limits, &key) {
        return Ok((Err(error),));
    }
    context.budget.operate(1)?;
    let value = context.state_mut().get(store, &key).map_err(host_failed)?;
    let seen = hash(value.as_deref());
    Ok((Ok(call.data_mut().table.push(Cas { store, key, seen })?),))
}

/// The value now; a swap is held against it from here on.
fn cas_current(mut call: Call<'_>, (cas,): (Resource<Cas>,)) -> Answer<Option<Vec<u8>>> {
    let _host = call.data().meter.in_host();
    let guest = call.data_mut();
    let Some(context) = &mut guest.context else {
        bail!("a host function was called outside of any call");
    };
    context.budget.operate(1)?;
    let cas = guest.table.get_mut(&cas)?;
    let value = context
        .state_mut()
        .get(cas.store, &cas.key)
        .map_err(host_failed)?;
    cas.seen = hash(value.as_deref());
    Ok((Ok(value),))
}

/// Only the task's own guest writes to its store: a value has changed only if the guest itself changed it meanwhile.
fn swap(
    mut call: Call<'_>,
    (cas, value): (Resource<Cas>, Vec<u8>),
) -> wasmtime::Result<(Result<(), CasError>,)> {
    let _host = call.data().meter.in_host();
    let guest = call.data_mut();
    let mut cas = guest.table.delete(cas)?;
    guest.writing("swap")?;
    let (context, limits) = guest.context_and_limits()?;
    let now = context
        .state_mut()
        .get(cas.store, &cas.key)
        .map_err(host_failed)?;
    let now = hash(now.as_deref());
    if now == cas.seen {
        let put = put(context, limits, cas.store, &cas.key, &value)?;
        return Ok((put.map_err(CasError::Store),));
    }
    cas.seen = now;
    Ok((Err(CasError::Failed(guest.table.push(cas)?)),))
}

fn hash(value: Option<&[u8]>) -> Option<[u8; 32]> {
    value.map(|value| Sha256::digest(value).into())
}

/// Does something with a key, if it is within the limit.
fn on_key<T>(
    call: Call<'_>,
    bucket: &Resource<Bucket>,
    key: WasmStr,
    act: impl FnOnce(&mut TaskContext, &Limits, StoreIndex, &[u8]) -> wasmtime::Result<T>,
) -> Answer<T> {
    with_memory(call, |context, memory| {
        let (key, limits) = (key.to_str(memory)?, memory.data().limits());
        if let Err(error) = check_key(limits, key.as_bytes()) {
            return Ok((Err(error),));
        }
        let store = index(bucket.rep())?;
        Ok((Ok(act(context, limits, store, key.as_bytes())?),))
    })
}

fn put(
    context: &mut TaskContext,
    limits: &Limits,
    store: StoreIndex,
    key: &[u8],
    value: &[u8],
) -> wasmtime::Result<Result<(), Error>> {
    if let Err(error) = check_key(limits, key).and(check_value(limits, value)) {
        return Ok(Err(error));
    }
    write(context, limits, store, key, Some(value)).map(Ok)
}

fn check_key(limits: &Limits, key: &[u8]) -> Result<(), Error> {
    let limit = limits.key_bytes;
    if key.len() > limit {
        let bytes = key.len();
        return Err(other(&format!(
            "a key of {bytes} bytes exceeds the limit `key-bytes` = {limit}"
        )));
    }
    Ok(())
}

fn check_value(limits: &Limits, value: &[u8]) -> Result<(), Error> {
    let limit = limits.value_bytes;
    if value.len() > limit {
        let bytes = value.len();
        return Err(other(&format!(
            "a value of {bytes} bytes exceeds the limit `value-bytes` = {limit}"
        )));
    }
    Ok(())
}

fn other(why: &str) -> Error {
    Error::Other(why.to_owned())
}
