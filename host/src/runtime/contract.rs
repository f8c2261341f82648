//! Whether a component fits the contract, as far as the names of its imports and exports tell.

use wasmtime::component::Component as Code;
use wasmtime::component::types::ComponentItem;

use super::Runtime;
use super::exports::{INTERFACES, PACKAGE};
use super::imports;
use crate::model::shown::{self, NAME_BYTES, SENTENCE_BYTES};

/// Which handler a component exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// `message-handler`: one message a call.
    Message,
    /// `batch-handler`: columns.
    Batch,
}

/// Which handler the component exports.
///
/// # Errors
/// Everything that is missing, or not known here.
pub(super) fn check(runtime: &Runtime, code: &Code) -> Result<World, String> {
    let ty = code.component_type();
    let mut problems = Vec::new();
    let mut ours = Vec::new();
    for (name, _) in ty.exports(&runtime.engine) {
        if let Some(interface) = name.strip_prefix(PACKAGE) {
            let (interface, version) = interface.split_once('@').unwrap_or((interface, ""));
            if version.starts_with("0.1.") {
                if !INTERFACES.contains(&interface) {
                    problems.push(format!(
                        "it exports `{}`, which this host does not know",
                        shown::line(name, NAME_BYTES)
                    ));
                }
                ours.push(interface.to_owned());
            } else {
                problems.push(format!(
                    "it exports `{}`, and this host knows version 0.1",
                    shown::line(name, NAME_BYTES)
                ));
            }
        }
    }
    let has = |interface: &str| ours.iter().any(|found| found == interface);
    let world = match (has("message-handler"), has("batch-handler")) {
        (true, false) => Some(World::Message),
        (false, true) => Some(World::Batch),
        (true, true) => {
            problems.push(
                "it exports both `wasm-host:task/message-handler` and `wasm-host:task/batch-handler`: export one of them".into(),
            );
            None
        }
        (false, false) => {
            problems.push(
                "it exports no handler: export `wasm-host:task/message-handler@0.1.0` or `wasm-host:task/batch-handler@0.1.0`".into(),
            );
            None
        }
    };
    for (name, item) in ty.imports(&runtime.engine) {
        if !imports::provides(name) && !matches!(item.ty, ComponentItem::Type(_)) {
            problems.push(format!(
                "it imports `{}`, which this host does not provide",
                shown::line(name, NAME_BYTES)
            ));
        }
    }
    match world {
        Some(world) if problems.is_empty() => Ok(world),
        _ => Err(shown::line(problems.join("; "), SENTENCE_BYTES)),
    }
}
