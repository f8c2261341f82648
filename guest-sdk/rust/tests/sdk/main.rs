//! The SDK's promises, seen from a task that `wasm_host_sdk::testing` runs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod codecs;
mod harness;
mod lifecycle;
mod messages;
mod migration;
mod output;
mod rejection;
mod stores;
mod update;
