//! `wasm-host:task/output`.

use wasmtime::component::{ComponentType, Lift, Linker, WasmList, WasmStr};
use wasmtime::{StoreContextMut, ensure, format_err};

use super::column::{ColumnView, GuestColumn, packed};
use super::state::{check_key, check_value};
use super::{InstanceData, with_memory};
use crate::model::{
    Clock as _, HeadersColumn, MessageRef, OutputIndex, PartitionId, SystemClock, shown,
};
use crate::runtime::context::TaskContext;
use crate::runtime::limits::{ENTRY_BYTES, Limits, exceeded};

#[derive(ComponentType, Lift)]
#[component(record)]
struct Header {
    name: WasmStr,
    value: Option<WasmList<u8>>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct Outgoing {
    key: Option<WasmList<u8>>,
    value: Option<WasmList<u8>>,
    headers: Vec<Header>,
    timestamp: Option<i64>,
    partition: Option<u32>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct GuestHeaders {
    ends: WasmList<u8>,
    names: GuestColumn,
    values: GuestColumn,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct GuestMessages {
    keys: Option<GuestColumn>,
    values: GuestColumn,
    timestamps: WasmList<u8>,
    headers: Option<GuestHeaders>,
}

type Call<'a> = StoreContextMut<'a, InstanceData>;

pub(super) fn link(linker: &mut Linker<InstanceData>) -> wasmtime::Result<()> {
    let mut output = linker.instance("wasm-host:task/output@0.1.1")?;
    output.func_wrap("send", send)?;
    output.func_wrap("send-many", send_many)?;
    Ok(())
}

fn send(mut call: Call<'_>, (port, message): (WasmStr, Outgoing)) -> wasmtime::Result<()> {
    call.data_mut().sending("send")?;
    let mut headers = HeadersColumn::default();
    for header in &message.headers {
        let name = header.name.to_str(&call)?;
        headers.names.push(Some(name.as_bytes()));
        headers
            .values
            .push(header.value.as_ref().map(|value| value.as_le_slice(&call)));
    }
    headers.ends.push(u32::try_from(headers.names.len())?);
    with_memory(call, |context, memory| {
        let port = find_port(context, &port.to_str(memory)?)?;
        let key = message.key.as_ref().map(|key| key.as_le_slice(memory));
        let value = message
            .value
            .as_ref()
            .map(|value| value.as_le_slice(memory));
        let timestamp = message.timestamp.unwrap_or(context.timestamp);
        let partition = message.partition;
        let message = MessageRef::new(key, value, timestamp).with_headers(&headers, 0);
        stage(context, memory.data().limits(), port, partition, message)
    })
}

fn send_many(
    mut call: Call<'_>,
    (port, messages, partitions): (WasmStr, GuestMessages, Option<WasmList<u8>>),
) -> wasmtime::Result<()> {
    call.data_mut().sending("send-many")?;
    with_memory(call, |context, memory| {
        let port = find_port(context, &port.to_str(memory)?)?;
        let limits = memory.data().limits();
        let values = messages.values.view(memory, "values")?;
        let len = values.len();
        let keys = match &messages.keys {
            Some(keys) => Some(same_length(keys.view(memory, "keys")?, len, "keys")?),
            None => None,
        };
        let timestamps = packed(&messages.timestamps, memory, &"`timestamps`")?;
        ensure!(
            timestamps.is_empty() || timestamps.len() == len,
            "send-many has {} timestamps for {len} values",
            timestamps.len()
        );
        let partitions = partitions
            .as_ref()
            .map(|partitions| packed(partitions, memory, &"`partitions`"))
            .transpose()?;
        if let Some(partitions) = partitions {
            ensure!(
                partitions.len() == len,
                "send-many has {} partitions for {len} values",
                partitions.len()
            );
        }
        let headers = match &messages.headers {
            Some(headers) => Some(own_headers(headers, memory, len)?),
            None => None,
        };
        let mut keys = keys.as_ref().map(ColumnView::iter);
        for (index, value) in values.iter().enumerate() {
            let key = keys.as_mut().and_then(Iterator::next).flatten();
            let timestamp = timestamps.get(index).copied();
            let timestamp = timestamp.map_or(context.timestamp, i64::from_le_bytes);
            let mut message = MessageRef::new(key, value, timestamp);
            if let Some(headers) = &headers {
                message = message.with_headers(headers, index);
            }
            stage(
                context,
                limits,
                port,
                partitions.map(|partitions| u32::from_le_bytes(partitions[index])),
                message,
            )?;
        }
        Ok(())
    })
}

fn same_length<'a>(
    column: ColumnView<'a>,
    len: usize,
    what: &str,
) -> wasmtime::Result<ColumnView<'a>> {
    ensure!(
        column.len() == len,
        "send-many has {} {what} for {len} values",
        column.len()
    );
    Ok(column)
}

fn own_headers(
    headers: &GuestHeaders,
    memory: &StoreContextMut<'_, InstanceData>,
    messages: usize,
) -> wasmtime::Result<HeadersColumn> {
    let ends = packed(&headers.ends, memory, &"`ends` of headers")?;
    let column = HeadersColumn {
        ends: ends.iter().copied().map(u32::from_le_bytes).collect(),
        names: headers.names.view(memory, "header names")?.iter().collect(),
        values: headers
            .values
            .view(memory, "header values")?
            .iter()
            .collect(),
    };
    column.check(messages).map_err(wasmtime::Error::msg)?;
    Ok(column)
}

fn find_port(context: &TaskContext, name: &str) -> wasmtime::Result<OutputIndex> {
    let ports = &context.info.outputs;
    match ports.iter().position(|port| port.name == name) {
        Some(index) => Ok(OutputIndex(u16::try_from(index)?)),
        None => {
            let known: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
            Err(format_err!(
                "the stage declares no output port {}; it has {known:?}",
                shown::name(name)
            ))
        }
    }
}

/// Checks a message against the limits and adds it to what the task has sent.
fn stage(
    context: &mut TaskContext,
    limits: &Limits,
    port: OutputIndex,
    partition: Option<u32>,
    message: MessageRef<'_>,
) -> wasmtime::Result<()> {
    let (key, value) = (
        message.key.map_or(0, <[u8]>::len),
        message.value.map_or(0, <[u8]>::len),
    );
    check_key(limits, key)?;
    check_value(limits, value)?;
    let (mut headers, mut header_bytes) = (0, 0);
    for (name, value) in message.headers() {
        headers += 1;
        header_bytes += name.len() + value.map_or(0, <[u8]>::len);
    }
    if headers > limits.headers {
        return Err(exceeded(format_args!(
            "a message may have {} headers (`headers`), and this one has {headers}",
            limits.headers
        )));
    }
    if header_bytes > limits.header_bytes {
        return Err(exceeded(format_args!(
            "the headers of a message may have {} bytes (`header-bytes`), and these have {header_bytes}",
            limits.header_bytes
        )));
    }
    context
        .budget
        .stage(key + value + header_bytes + (1 + headers) * ENTRY_BYTES)?;
    let to = &context.info.outputs[port.index()];
    if let Some(bounds) = &to.bounds
        && let Some(why) = bounds.refuses(&message, SystemClock.now_ms())
    {
        let port = &to.name;
        return Err(exceeded(format_args!(
            "a message to output port {port:?} is refused: {why}"
        )));
    }
    let partitions = to.partitions;
    let partition = match partition {
        Some(partition) if partition < partitions => PartitionId(partition),
        Some(partition) => {
            return Err(format_err!(
                "partition {partition} of output port {:?} does not exist: it has {partitions}",
                context.info.outputs[port.index()].name
            ));
        }
        None => context.partition_for(port, message.key),
    };
    context.send(port, partition, message);
    Ok(())
}
