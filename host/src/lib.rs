//! A host for stateful stream-processing tasks compiled to WebAssembly components.

pub mod checkpoint;
pub mod connectors;
pub mod model;
pub mod runtime;
pub mod state;
pub mod config;
pub mod scheduler;
pub mod task;
