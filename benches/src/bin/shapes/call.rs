//! A call of the guest, in each shape.

use wasm_host::model::{Batch, Column};
use wasmtime::{Store, bail};

use crate::bindings::Shapes;
use crate::bindings::wasm_host_benches::shapes::types;
use crate::given::{Feed, Packed};
use crate::host::Host;
use crate::{Cell, Shape, Work};

/// Calls the guest for a batch, and says what `touch` returns.
pub(crate) fn call(
    guest: &Shapes,
    store: &mut Store<Host>,
    cell: Cell,
    feed: &Feed,
    at: usize,
) -> wasmtime::Result<u64> {
    let batch = &feed.batches[at];
    let nothing = |()| 0;
    match cell.shape {
        Shape::One => {
            let guest = guest.wasm_host_benches_shapes_one();
            let message = row(batch, 0);
            match cell.work {
                Work::Touch => guest.call_touch(store, message),
                Work::CountSingle => guest.call_count_single(store, message).map(nothing),
                Work::CountMany => bail!("one message is not many"),
            }
        }
        Shape::Rows => {
            let guest = guest.wasm_host_benches_shapes_rows();
            // The host has columns: to make rows of them is a part of their price.
            let rows: Vec<_> = (0..batch.len()).map(|index| row(batch, index)).collect();
            match cell.work {
                Work::Touch => guest.call_touch(store, &rows),
                Work::CountSingle => guest.call_count_single(store, &rows).map(nothing),
                Work::CountMany => guest.call_count_many(store, &rows).map(nothing),
            }
        }
        Shape::Columns => {
            let guest = guest.wasm_host_benches_shapes_columns();
            let batch = columns(batch);
            match cell.work {
                Work::Touch => guest.call_touch(store, batch),
                Work::CountSingle => guest.call_count_single(store, batch).map(nothing),
                Work::CountMany => guest.call_count_many(store, batch).map(nothing),
            }
        }
        Shape::Packed => {
            let guest = guest.wasm_host_benches_shapes_packed();
            let batch = packed(batch, &feed.packed[at]);
            match cell.work {
                Work::Touch => guest.call_touch(store, batch),
                Work::CountSingle => guest.call_count_single(store, batch).map(nothing),
                Work::CountMany => guest.call_count_many(store, batch).map(nothing),
            }
        }
    }
}

fn row(batch: &Batch, index: usize) -> types::Message<'_> {
    let message = batch.messages.get(index);
    types::Message {
        offset: batch.offsets[index],
        timestamp: message.timestamp,
        key: message.key,
        value: message.value,
        headers: &[],
    }
}

fn columns(batch: &Batch) -> types::Batch<'_> {
    let column = |column| {
        let (ends, data, absent) = Column::parts(column);
        types::BytesColumnParam { ends, data, absent }
    };
    types::Batch {
        offsets: &batch.offsets,
        messages: types::MessagesParam {
            keys: batch.messages.keys.as_ref().map(column),
            values: column(&batch.messages.values),
            timestamps: &batch.messages.timestamps,
            headers: None,
        },
    }
}

fn packed<'a>(batch: &'a Batch, numbers: &'a Packed) -> types::PackedBatch<'a> {
    let column = |column, ends| types::PackedColumnParam {
        ends,
        data: Column::parts(column).1,
        absent: &[],
    };
    let keys = batch.messages.keys.as_ref();
    types::PackedBatch {
        offsets: &numbers.offsets,
        messages: types::PackedMessagesParam {
            keys: keys.map(|keys| column(keys, &numbers.key_ends)),
            values: column(&batch.messages.values, &numbers.value_ends),
            timestamps: &numbers.timestamps,
            headers: None,
        },
    }
}
