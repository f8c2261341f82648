//! The host's side of an instance: a hash table as state and output, and functions that take rows, columns and packed columns.

use wasmtime::component::{ComponentType, Lift, Linker, Lower, WasmList, WasmStr};
use wasmtime::{ResourceLimiter, StoreContextMut, bail, ensure};
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::given::Table;

/// What an instance's store holds.
pub(crate) struct Host {
    /// It is taken out while a host function reads the guest's memory, which is in the store too.
    pub(crate) table: Option<Box<Table>>,
    pub(crate) memory_bytes: usize,
    wasi: WasiCtx,
    resources: ResourceTable,
}

impl Host {
    pub(crate) fn new(table: Box<Table>) -> Host {
        Host {
            table: Some(table),
            memory_bytes: 0,
            wasi: WasiCtxBuilder::new().inherit_stderr().build(),
            resources: ResourceTable::new(),
        }
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.resources,
        }
    }
}

/// It limits nothing: it counts.
impl ResourceLimiter for Host {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.memory_bytes += desired - current;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }
}

#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(dead_code, reason = "lifted because the host does, and of no use here")]
struct Header {
    name: WasmStr,
    value: Option<WasmList<u8>>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(dead_code, reason = "lifted because the host does, and of no use here")]
struct Outgoing {
    key: Option<WasmList<u8>>,
    value: Option<WasmList<u8>>,
    headers: Vec<Header>,
    timestamp: Option<i64>,
    partition: Option<u32>,
}

/// A column in the guest's memory; of packed ones the numbers are bytes.
#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(dead_code, reason = "lifted because the host does, and of no use here")]
struct GuestColumn<N> {
    ends: WasmList<N>,
    data: WasmList<u8>,
    absent: WasmList<N>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(dead_code, reason = "lifted because the host does, and of no use here")]
struct GuestHeaders<N> {
    ends: WasmList<N>,
    names: GuestColumn<N>,
    values: GuestColumn<N>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(dead_code, reason = "lifted because the host does, and of no use here")]
struct GuestMessages<N, T> {
    keys: Option<GuestColumn<N>>,
    values: GuestColumn<N>,
    timestamps: WasmList<T>,
    headers: Option<GuestHeaders<N>>,
}

/// A column on its way to the guest.
#[derive(ComponentType, Lower)]
#[component(record)]
struct HostColumn<N> {
    ends: Vec<N>,
    data: Vec<u8>,
    absent: Vec<N>,
}

type Call<'a> = StoreContextMut<'a, Host>;

/// What the numbers of a column are made of.
trait Number: Lift {
    /// How many make a number.
    const EACH: usize;
    fn read<'a>(list: &WasmList<Self>, memory: &'a Call<'_>) -> impl Iterator<Item = u32> + 'a;
    fn list(numbers: Vec<u32>) -> Vec<Self>;
}

impl Number for u32 {
    const EACH: usize = 1;

    fn read<'a>(list: &WasmList<u32>, memory: &'a Call<'_>) -> impl Iterator<Item = u32> + 'a {
        list.as_le_slice(memory).iter().copied()
    }

    fn list(numbers: Vec<u32>) -> Vec<u32> {
        numbers
    }
}

impl Number for u8 {
    const EACH: usize = 4;

    fn read<'a>(list: &WasmList<u8>, memory: &'a Call<'_>) -> impl Iterator<Item = u32> + 'a {
        let numbers = list.as_le_slice(memory).as_chunks().0.iter();
        numbers.map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn list(numbers: Vec<u32>) -> Vec<u8> {
        let mut list = vec![0; numbers.len() * 4];
        for (bytes, number) in list.as_chunks_mut().0.iter_mut().zip(numbers) {
            *bytes = number.to_le_bytes();
        }
        list
    }
}

impl<N: Number> GuestColumn<N> {
    fn entries<'a>(
        &self,
        memory: &'a Call<'_>,
    ) -> impl Iterator<Item = wasmtime::Result<&'a [u8]>> + 'a {
        let data = self.data.as_le_slice(memory);
        let mut start = 0;
        N::read(&self.ends, memory).map(move |end| {
            let end = end as usize;
            let Some(entry) = data.get(start..end) else {
                bail!("an entry from {start} to {end} of {} bytes", data.len());
            };
            start = end;
            Ok(entry)
        })
    }
}

pub(crate) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    let mut store = linker.instance("wasm-host-benches:shapes/store")?;
    store.func_wrap("get", get)?;
    store.func_wrap("put", put)?;
    store.func_wrap("send", send)?;
    store.func_wrap("get-many", get_many::<u32>)?;
    store.func_wrap("put-many", put_many::<u32>)?;
    store.func_wrap("send-many", send_many::<u32, i64>)?;
    store.func_wrap("get-many-packed", get_many::<u8>)?;
    store.func_wrap("put-many-packed", put_many::<u8>)?;
    store.func_wrap("send-many-packed", send_many::<u8, u8>)
}

fn with_table<R>(
    mut call: Call<'_>,
    f: impl FnOnce(&mut Table, &Call<'_>) -> wasmtime::Result<R>,
) -> wasmtime::Result<R> {
    let Some(mut table) = call.data_mut().table.take() else {
        bail!("a host function called a host function");
    };
    let result = f(&mut table, &call);
    call.data_mut().table = Some(table);
    result
}

fn get(call: Call<'_>, (key,): (WasmList<u8>,)) -> wasmtime::Result<(Option<Vec<u8>>,)> {
    with_table(call, |table, memory| {
        let found = table.get(key.as_le_slice(memory));
        Ok((found.map(<[u8]>::to_vec),))
    })
}

fn put(call: Call<'_>, (key, value): (WasmList<u8>, WasmList<u8>)) -> wasmtime::Result<()> {
    with_table(call, |table, memory| {
        table.put(key.as_le_slice(memory), value.as_le_slice(memory))
    })
}

fn send(call: Call<'_>, (port, message): (WasmStr, Outgoing)) -> wasmtime::Result<()> {
    with_table(call, |table, memory| {
        check_port(&port, memory)?;
        let (Some(key), Some(value)) = (&message.key, &message.value) else {
            bail!("a message without a key or a value");
        };
        table.send(key.as_le_slice(memory), value.as_le_slice(memory))
    })
}

fn check_port(port: &WasmStr, memory: &Call<'_>) -> wasmtime::Result<()> {
    let port = port.to_str(memory)?;
    ensure!(port == "out", "there is no port {port}");
    Ok(())
}

fn get_many<N: Number>(
    call: Call<'_>,
    (keys,): (GuestColumn<N>,),
) -> wasmtime::Result<(HostColumn<N>,)> {
    with_table(call, |table, memory| {
        let len = keys.ends.len() / N::EACH;
        let (mut ends, mut absent) = (Vec::with_capacity(len), Vec::new());
        let mut data = Vec::with_capacity(len * 32);
        for (index, key) in (0..).zip(keys.entries(memory)) {
            match table.get(key?) {
                Some(state) => data.extend_from_slice(state),
                None => absent.push(index),
            }
            ends.push(u32::try_from(data.len())?);
        }
        let found = HostColumn {
            ends: N::list(ends),
            data,
            absent: N::list(absent),
        };
        Ok((found,))
    })
}

fn put_many<N: Number>(
    call: Call<'_>,
    (keys, values): (GuestColumn<N>, GuestColumn<N>),
) -> wasmtime::Result<()> {
    with_table(call, |table, memory| {
        for (key, value) in keys.entries(memory).zip(values.entries(memory)) {
            table.put(key?, value?)?;
        }
        Ok(())
    })
}

fn send_many<N: Number, T>(
    call: Call<'_>,
    (port, messages, _): (WasmStr, GuestMessages<N, T>, Option<WasmList<N>>),
) -> wasmtime::Result<()> {
    with_table(call, |table, memory| {
        check_port(&port, memory)?;
        let Some(keys) = &messages.keys else {
            bail!("messages without keys");
        };
        for (key, value) in keys.entries(memory).zip(messages.values.entries(memory)) {
            table.send(key?, value?)?;
        }
        Ok(())
    })
}
