//! `wasm-host:task/message-handler`: one message a call.

use crate::model::{Batch, HeadersColumn};
use crate::runtime::bindings::wasm_host::task::types;
use crate::runtime::context::{Rights, TaskContext};
use crate::runtime::instance::Instance;
use crate::runtime::sandbox::Returned;

impl Instance {
    /// Processes message `index` of a batch in one call.
    ///
    /// # Panics
    /// If the component has no message handler.
    pub fn process_message(
        &mut self,
        context: Box<TaskContext>,
        batch: &Batch,
        index: usize,
    ) -> Returned<Result<(), String>> {
        let Some(handler) = &self.handlers.message else {
            panic!("a message is given to a component without a message handler");
        };
        self.messages += 1;
        let message = batch.messages.get(index);
        let headers: Vec<types::HeaderParam<'_>> = match &batch.messages.headers {
            None => Vec::new(),
            Some(column) => headers_of(column, index),
        };
        let (input, offsets) = batch.shown();
        let argument = types::Message {
            input: u32::from(input.0),
            partition: batch.partition.0,
            offset: offsets[index],
            timestamp: message.timestamp,
            key: message.key,
            value: message.value,
            headers: &headers,
        };
        let (context, result) = self.sandbox.call(context, Rights::Write, |store| {
            handler.call_process(store, argument)
        });
        let secrets = self.secrets();
        let cut = |reason: String| super::cut(secrets, &reason);
        (context, result.map(|answer| answer.map_err(cut)))
    }
}

fn headers_of(column: &HeadersColumn, index: usize) -> Vec<types::HeaderParam<'_>> {
    let header = |at: usize| types::HeaderParam {
        // Names were checked when they came in; a guest cannot be given one that is not UTF-8.
        name: std::str::from_utf8(column.names.get(at).unwrap_or_default()).unwrap_or_default(),
        value: column.values.get(at),
    };
    column.range(index).map(header).collect()
}
