//! A component looked at without a job.

use std::path::Path;

use super::Runtime;
use super::compile::compile;
use super::component::{ComponentError, read, sha256};
use super::contract::{World, check};
use super::limits::Limits;

/// What a component says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// The handler, or why it cannot be a task.
    pub world: Result<World, String>,
    /// What it imports, in order.
    pub imports: Vec<String>,
    /// What it exports, in order.
    pub exports: Vec<String>,
    /// Interfaces that do nothing without a grant: files and sockets.
    pub capabilities: Vec<String>,
}

/// Reads a component without a job.
///
/// # Errors
/// It cannot be read or does not compile.
pub fn inspect(runtime: &Runtime, path: &Path) -> Result<Inspection, ComponentError> {
    let limits = Limits::default();
    let bytes = read(path, limits.component_bytes)?;
    let sha256 = sha256(&bytes);
    let code = compile(runtime, path, &bytes, &sha256, limits.compile)
        .map_err(|why| ComponentError::unfit(path, why))?;
    let ty = code.component_type();
    let imports: Vec<String> = ty
        .imports(&runtime.engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    let granted = ["wasi:filesystem/", "wasi:sockets/"];
    let capabilities = imports
        .iter()
        .filter(|name| granted.iter().any(|prefix| name.starts_with(prefix)))
        .cloned()
        .collect();
    Ok(Inspection {
        sha256,
        bytes: bytes.len() as u64,
        world: check(runtime, &code),
        exports: ty
            .exports(&runtime.engine)
            .map(|(name, _)| name.to_owned())
            .collect(),
        imports,
        capabilities,
    })
}
