//! A host for stateful stream-processing tasks compiled to WebAssembly components.
//!
//! Modules, in the order in which to read them; `ARCHITECTURE.md` says what each must never know.

#[cfg(not(all(
    target_os = "linux",
    target_endian = "little",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("wasm-host runs on Linux, x86-64 and aarch64");

pub mod model;

pub mod disk;

pub mod coordinator;

pub mod checkpoint;

pub mod epoch;

pub mod records;

pub mod state;

pub mod task;

pub mod crumbs;

pub mod scheduler;

pub mod runtime;

pub mod connectors;

pub mod config;

pub mod admin;

pub mod cli;
