//! A component: compiled, linked, and checked against the contract.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component as Code, InstancePre};

use super::Runtime;
use super::bindings::exports::wasm_host::task as exports;
use super::compile::compile;
use super::imports::{self, InstanceData};
use super::options::ComponentOptions;
use crate::model::shown::{self, NAME_BYTES, SENTENCE_BYTES};

/// Which handler a component exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// `message-handler`: one message a call.
    Message,
    /// `batch-handler`: columns.
    Batch,
}

/// Why a component cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// The file could not be read.
    #[error("read component {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what the job pinned.
    #[error("component {} has SHA-256 {found}, but the job pins {pinned}", path.display())]
    Pinned {
        /// The file.
        path: PathBuf,
        /// Of the file.
        found: String,
        /// Of the job.
        pinned: String,
    },
    /// It is no component, or does not fit the contract.
    #[error("component {}: {why}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What it lacks, or what it wants.
        why: String,
    },
}

impl ComponentError {
    fn unfit(path: &Path, why: impl Display) -> ComponentError {
        ComponentError::Unfit {
            path: path.to_owned(),
            why: shown::line(why, SENTENCE_BYTES),
        }
    }
}

/// The exports that the host may call, where the component has them.
pub(super) struct Exports {
    pub(super) message: Option<exports::message_handler::GuestIndices>,
    pub(super) batch: Option<exports::batch_handler::GuestIndices>,
    pub(super) lifecycle: Option<exports::lifecycle::GuestIndices>,
    pub(super) end_of_input: Option<exports::end_of_input::GuestIndices>,
}

/// A component that instances can be made of.
pub struct Component {
    pub(super) runtime: Runtime,
    pub(super) pre: InstancePre<InstanceData>,
    pub(super) exports: Exports,
    pub(super) options: ComponentOptions,
    sha256: String,
    bytes: Vec<u8>,
    world: World,
}

impl Component {
    /// Reads, compiles (or takes from the cache) and links a component.
    ///
    /// # Errors
    /// It cannot be read, is not the pinned one, or does not fit the contract: then with everything that it lacks.
    pub fn load(
        runtime: &Runtime,
        path: &Path,
        options: ComponentOptions,
    ) -> Result<Arc<Component>, ComponentError> {
        let bytes = read(path)?;
        let sha256 = sha256(&bytes);
        if let Some(pinned) = &options.sha256
            && !pinned.eq_ignore_ascii_case(&sha256)
        {
            return Err(ComponentError::Pinned {
                path: path.to_owned(),
                found: sha256,
                pinned: pinned.clone(),
            });
        }
        let unfit = |why: String| ComponentError::unfit(path, why);
        let code = compile(runtime, path, &bytes, &sha256).map_err(unfit)?;
        let linker = imports::linker(runtime).map_err(|error| unfit(format!("{error:#}")))?;
        let world = check(runtime, &code).map_err(unfit)?;
        let misfit = |error| {
            ComponentError::unfit(
                path,
                format_args!("it does not fit the contract: {error:#}"),
            )
        };
        let pre = linker.instantiate_pre(&code).map_err(misfit)?;
        let exports = find_exports(&code, &pre).map_err(misfit)?;
        Ok(Arc::new(Component {
            runtime: runtime.clone(),
            pre,
            exports,
            options,
            sha256,
            bytes,
            world,
        }))
    }

    /// Ends every call of its instances that runs, as the deadline would.
    pub fn interrupt(&self) {
        self.runtime.interrupt(self.options.limits.call_deadline);
    }

    /// The component itself.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The SHA-256 of its bytes, lower-case hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Which handler it exports.
    pub fn world(&self) -> World {
        self.world
    }

    /// Whether it wants to be called at the end of bounded inputs.
    pub fn has_on_end(&self) -> bool {
        self.exports.end_of_input.is_some()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ComponentError> {
    std::fs::read(path).map_err(|source| ComponentError::Read {
        path: path.to_owned(),
        source,
    })
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

const PACKAGE: &str = "wasm-host:task/";

/// The exports of ours that this host calls.
const CALLED: [&str; 4] = [
    "message-handler",
    "batch-handler",
    "lifecycle",
    "end-of-input",
];

/// Finds the world, and says everything that is missing or not known here.
fn check(runtime: &Runtime, code: &Code) -> Result<World, String> {
    let ty = code.component_type();
    let mut problems = Vec::new();
    let mut ours = Vec::new();
    for (name, _) in ty.exports(&runtime.engine) {
        if let Some(interface) = name.strip_prefix(PACKAGE) {
            let (interface, version) = interface.split_once('@').unwrap_or((interface, ""));
            if version.starts_with("0.1.") {
                if !CALLED.contains(&interface) {
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

fn find_exports(code: &Code, pre: &InstancePre<InstanceData>) -> wasmtime::Result<Exports> {
    let ty = code.component_type();
    let engine = pre.engine();
    let name = |interface: &str| {
        let wanted = format!("{PACKAGE}{interface}@0.1.");
        ty.exports(engine)
            .map(|(name, _)| name.to_owned())
            .find(|name| name.starts_with(&wanted))
    };
    Ok(Exports {
        message: name("message-handler")
            .map(|_| exports::message_handler::GuestIndices::new(pre))
            .transpose()?,
        batch: name("batch-handler")
            .map(|_| exports::batch_handler::GuestIndices::new(pre))
            .transpose()?,
        lifecycle: name("lifecycle")
            .map(|_| exports::lifecycle::GuestIndices::new(pre))
            .transpose()?,
        end_of_input: name("end-of-input")
            .map(|_| exports::end_of_input::GuestIndices::new(pre))
            .transpose()?,
    })
}

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
    let bytes = read(path)?;
    let sha256 = sha256(&bytes);
    let code =
        compile(runtime, path, &bytes, &sha256).map_err(|why| ComponentError::unfit(path, why))?;
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
