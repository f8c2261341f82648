//! `wasm-host:task/batch-handler`: a batch in one call, as columns.

use crate::model::{Batch, Column};
use crate::runtime::bindings::wasm_host::task::types;
use crate::runtime::context::{Rights, TaskContext};
use crate::runtime::fault::{Fault, FaultKind};
use crate::runtime::instance::Instance;
use crate::runtime::limits::DETAIL_BYTES;
use crate::runtime::sandbox::Returned;
use crate::runtime::secrets::Secrets;

/// A message of a batch that the guest refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Index into the batch.
    pub index: usize,
    /// Why.
    pub reason: String,
    /// The guest's own detail.
    pub detail: Option<Vec<u8>>,
}

impl Instance {
    /// Processes a batch in one call.
    ///
    /// # Panics
    /// If the component has no batch handler.
    pub fn process_batch(
        &mut self,
        context: Box<TaskContext>,
        batch: &Batch,
    ) -> Returned<Result<Vec<Rejection>, String>> {
        let Some(handler) = &self.handlers.batch else {
            panic!("a batch is given to a component without a batch handler");
        };
        self.messages += batch.len() as u64;
        let keys = batch.messages.keys.as_ref().map(column);
        let headers = batch
            .messages
            .headers
            .as_ref()
            .map(|headers| types::HeadersColumnParam {
                ends: bytemuck::cast_slice(&headers.ends),
                names: column(&headers.names),
                values: column(&headers.values),
            });
        let (input, offsets) = batch.shown();
        let argument = types::Batch {
            input: u32::from(input.0),
            partition: batch.partition.0,
            offsets: bytemuck::cast_slice(offsets),
            messages: types::MessagesParam {
                keys,
                values: column(&batch.messages.values),
                timestamps: bytemuck::cast_slice(&batch.messages.timestamps),
                headers,
            },
        };
        let (context, result) = self.sandbox.call(context, Rights::Write, |store| {
            handler.call_process(store, argument)
        });
        let result = result.and_then(|answer| match answer {
            Ok(rejections) => check(rejections, batch.len(), self.secrets()).map(Ok),
            Err(reason) => Ok(Err(super::cut(self.secrets(), &reason))),
        });
        (context, result)
    }
}

fn column(column: &Column) -> types::BytesColumnParam<'_> {
    let (ends, data, absent) = column.parts();
    types::BytesColumnParam {
        ends: bytemuck::cast_slice(ends),
        data,
        absent: bytemuck::cast_slice(absent),
    }
}

/// Checks rejections of a batch of `len` messages, and puts them into its order.
fn check(
    given: Vec<types::Rejection>,
    len: usize,
    secrets: &Secrets,
) -> Result<Vec<Rejection>, Fault> {
    let mut rejections = Vec::with_capacity(given.len());
    let mut seen = vec![false; if given.is_empty() { 0 } else { len }];
    for rejection in given {
        let index = rejection.index as usize;
        let why = match seen.get_mut(index) {
            None => format!("a rejection of message {index}, but the batch has {len}"),
            Some(true) => format!("message {index} is rejected twice"),
            Some(first) => {
                *first = true;
                rejections.push(Rejection {
                    index,
                    reason: super::cut(secrets, &rejection.reason),
                    detail: rejection.detail.map(|mut detail| {
                        secrets.cut(&mut detail, DETAIL_BYTES);
                        detail
                    }),
                });
                continue;
            }
        };
        return Err(Fault::new(FaultKind::Trap, why));
    }
    rejections.sort_by_key(|rejection| rejection.index);
    Ok(rejections)
}
