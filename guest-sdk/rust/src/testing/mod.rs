//! Runs a task in `cargo test`, without Wasm, against a host in memory that keeps the contract.
//!
//! ```
//! use wasm_host_sdk::prelude::*;
//! use wasm_host_sdk::testing::Setup;
//!
//! #[derive(Default)]
//! struct Counter;
//!
//! #[task]
//! impl Counter {
//!     fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
//!         let counts = cx.store::<Str, I64>("counts")?;
//!         counts.update(batch, Message::key_str, |_, count| *count.get_or_insert_default() += 1)
//!     }
//! }
//!
//! let mut task = Setup::new().store("counts").start::<Counter>().unwrap();
//! task.store::<Str, I64>("counts").put("LAX", &41);
//! let fed = task.feed([("LAX", ""), ("JFK", ""), ("LAX", "")]);
//! assert!(fed.rejected.is_empty());
//! assert_eq!(task.store::<Str, I64>("counts").get("LAX"), Some(43));
//! assert_eq!(task.calls().state(), 2);
//! ```
//!
//! It has the contract's meaning: an error of a batch undoes it, and the messages come again one by one; a rejected
//! message is undone; reads see own writes and scans do not see later ones; store time stands still during a
//! batch. What traps in a host panics here, with a sentence that begins with "trap:". It has no deadlines, no limit of
//! memory, and no files or clocks by `wasi`.

mod entries;
mod harness;
mod host;
pub(crate) mod imports;
mod limits;
mod messages;
mod partition;
mod ports;
mod setup;
mod stores;

pub use entries::Entries;
pub use harness::{Fed, Harness};
pub use host::{Calls, Line};
pub use messages::{Incoming, Rejected, Sent};
pub use setup::Setup;
