#![doc = include_str!("../README.md")]
//! ## Where things are
//!
//! - [`task`](macro@task): which methods the `impl` block may have. The component exports those and nothing else.
//! - [`Batch`], [`Message`]: what comes in, as views that copy nothing.
//! - [`Store`]: typed state. [`Store::update`] is the way to use it in a hot path.
//! - [`Output`]: what goes out, typed, in one `send-many` for each port and batch.
//! - [`Context`]: stores, outputs, configuration, figures, and the identity of the task.
//! - [`Migration`]: state that an earlier version of the task has left.
//! - [`Codec`]: JSON, Postcard, text, raw bytes, counters, or a format of your own.
//! - [`Error`]: how to refuse a message or a whole call.
//! - [`testing`]: runs a task in `cargo test`, without Wasm, against a host in memory.
//!
//! The SDK adds ergonomics and no semantics: whatever it does, it does by the calls of the contract in `wit/`, whose
//! limits and traps are the host's.

#[doc(hidden)]
pub mod bindings;

mod backend;
mod call;
mod codec;
mod column;
mod context;
mod error;
pub mod log;
mod message;
mod migration;
mod output;
mod packed;
mod range;
mod scratch;
mod sends;
mod store;
mod task;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod update;

pub use codec::{Codec, Fixed, I64, Json, Ordered, Postcard, Raw, Str};
pub use context::{Context, Input, InputKind};
pub use error::{Error, OrReject, Outcome};
pub use message::{Batch, Headers, Message, Messages};
pub use migration::{Migrated, Migration};
pub use output::{Draft, Output};
pub use range::{Entry, Keys, Range, Scan};
/// Serde, for a task that has no dependency on it: derive with `#[serde(crate = "wasm_host_sdk::serde")]`.
pub use serde;
pub use store::Store;
pub use task::{Progress, Shape, Task};
pub use wasm_host_sdk_macros::task;

/// All that a task usually names.
pub mod prelude {
    pub use crate::{
        Batch, Codec, Context, Error, Fixed, I64, Json, Message, Migrated, Migration, OrReject,
        Ordered, Output, Postcard, Progress, Raw, Store, Str, debug, error, info, reject, task,
        trace, warn,
    };
}

/// For the code that `#[task]` writes only.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings::{
        batch_handler, end_of_input, imports, lifecycle, message_handler, migration,
    };
    pub use crate::migration::migrate;
    pub use crate::task::{Home, Instance};
}
