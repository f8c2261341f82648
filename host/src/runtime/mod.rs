//! Guests: compiled code, instances, limits, one file for each interface that a guest may import (`imports/`) or export
//! (`exports/`), and the list of what a batch may change (`undo`).
//!
//! A task lends its [`TaskContext`] to an instance for the time of one call; host functions reach that and nothing else. A
//! trap, a deadline or a panic of ours in a call therefore concerns one batch, and the task undoes it. Must
//! never know connectors, checkpoints or HTTP. No type of wasmtime leaves this module.
//!
//! Invariants: an instance that trapped is never entered again; every call has a deadline; what a call can make the host
//! hold is bounded.

mod backtrace;
mod bindings;
mod code_cache;
mod compile;
mod compiler;
mod component;
mod context;
mod contract;
mod engine;
mod exports;
mod fault;
mod folders;
mod imports;
mod inspect;
mod instance;
mod limits;
mod logs;
mod meter;
mod metrics;
mod options;
mod sandbox;
mod secrets;
mod sections;
mod time;
mod undo;

pub use backtrace::Backtrace;
pub use code_cache::CodeCache;
pub use compiler::{ChildArgs, Compiler, compile_in_child};
pub use component::{Component, ComponentError, read_component, sha256};
pub use context::{OutputPort, Requests, TaskContext, TaskInfo};
pub use contract::World;
pub use engine::{Runtime, RuntimeOptions};
pub use exports::{EndProgress, Rejection, state_version};
pub use fault::{Fault, FaultKind};
pub use inspect::{Inspection, inspect};
pub use instance::{Instance, Wear};
pub use limits::{CompileLimits, Limits, LogRate, Recycle};
pub use meter::CallTimes;
pub use metrics::{Metric, MetricSnapshot, MetricValue, StageMetrics, TaskMetrics};
pub use options::{ComponentOptions, DirectoryGrant};
pub use sandbox::is_in_call;
pub use secrets::Secrets;
