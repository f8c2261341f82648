//! The only seam between a task and its host.
//!
//! In a component these are the imports of the contract; natively, modules of the same shape that lead to the host in
//! memory of [`testing`](crate::testing). Nothing else in the crate asks what it is compiled for, but the
//! exports and the panic hook.

#[cfg(target_family = "wasm")]
pub(crate) use crate::bindings::imports::{
    wasi::{config::store as config, logging::logging},
    wasm_host::task::{context, metrics, output, state},
};

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::imports::{config, context, logging, metrics, output, state};

/// The records of the contract, the same everywhere.
pub(crate) use crate::bindings::imports::wasm_host::task::types;
