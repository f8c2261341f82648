//! A component looked at without a job.

use std::collections::BTreeMap;
use std::path::Path;

use wasmtime::component::types::ComponentItem;

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
    /// What a job must give for the rest of its imports to be of use: the key of the job file, and the interfaces.
    pub needs: BTreeMap<&'static str, Vec<String>>,
}

/// What makes an import useful: the key of `[[stage]]`, `[stage.capabilities]` or `[stage]`.
const NEEDS: [(&str, &str); 8] = [
    ("wasi:filesystem/", "directories"),
    ("wasi:cli/environment@", "environment"),
    ("wasi:sockets/", "network"),
    ("wasi:config/", "config"),
    ("wasi:keyvalue/", "stores"),
    ("wasm-host:task/state@", "stores"),
    ("wasm-host:task/output@", "outputs"),
    ("wasm-host:task/context@", "request-stop"),
];

/// Reads a component without a job.
///
/// # Errors
/// It cannot be read or does not compile.
pub fn inspect(runtime: &Runtime, path: &Path) -> Result<Inspection, ComponentError> {
    let limits = Limits::default();
    let bytes = read(path, limits.component_bytes)?;
    let sha256 = sha256(&bytes);
    let code = compile(runtime, path, &bytes, &sha256, limits.compile)?;
    let ty = code.component_type();
    let imports: Vec<String> = ty
        .imports(&runtime.engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    let mut needs = BTreeMap::<_, Vec<String>>::new();
    for (name, item) in ty.imports(&runtime.engine) {
        let need = NEEDS.iter().find(|(prefix, _)| name.starts_with(prefix));
        match need {
            // The rest of this interface needs nothing.
            Some((_, "request-stop")) if !has_function(runtime, &item.ty, "request-stop") => {}
            Some((_, key)) => needs.entry(*key).or_default().push(name.to_owned()),
            None => {}
        }
    }
    Ok(Inspection {
        sha256,
        bytes: bytes.len() as u64,
        world: check(runtime, &code),
        exports: ty
            .exports(&runtime.engine)
            .map(|(name, _)| name.to_owned())
            .collect(),
        imports,
        needs,
    })
}

fn has_function(runtime: &Runtime, interface: &ComponentItem, name: &str) -> bool {
    let ComponentItem::ComponentInstance(interface) = interface else {
        return false;
    };
    let mut functions = interface.exports(&runtime.engine);
    functions.any(|(function, _)| function == name)
}
