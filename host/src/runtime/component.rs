//! A component: compiled, linked, and checked against the contract.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use wasmtime::component::InstancePre;

use super::Runtime;
use super::compile::compile;
use super::contract::{World, check};
use super::exports::Exports;
use super::folders::{self, Folder};
use super::imports::{self, InstanceData};
use super::limits::Limits;
use super::options::ComponentOptions;
use crate::model::shown::{self, SENTENCE_BYTES};

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
    /// The host could not compile it, whatever it is.
    #[error("component {}: {why}", path.display())]
    Host {
        /// The file.
        path: PathBuf,
        /// What failed.
        why: String,
    },
    /// It is not a component, or does not fit the contract.
    #[error("component {}: {why}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What it lacks, or what it imports in vain.
        why: String,
    },
}

impl ComponentError {
    pub(super) fn unfit(path: &Path, why: impl Display) -> ComponentError {
        ComponentError::Unfit {
            path: path.to_owned(),
            why: shown::line(why, SENTENCE_BYTES),
        }
    }
}

/// A component that instances can be made of.
pub struct Component {
    pub(super) runtime: Runtime,
    pub(super) pre: InstancePre<InstanceData>,
    pub(super) exports: Exports,
    pub(super) options: ComponentOptions,
    pub(super) folders: Arc<[Folder]>,
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
        let bytes = read_component(path, &options.limits, options.sha256.as_deref())?;
        Component::of_bytes(runtime, path, bytes, options)
    }

    /// The same of bytes that were read already. `path` is where they are from.
    ///
    /// # Errors
    /// It does not fit the contract.
    pub fn of_bytes(
        runtime: &Runtime,
        path: &Path,
        bytes: Vec<u8>,
        options: ComponentOptions,
    ) -> Result<Arc<Component>, ComponentError> {
        let sha256 = sha256(&bytes);
        let unfit = |why: String| ComponentError::unfit(path, why);
        let code = compile(runtime, path, &bytes, &sha256, options.limits.compile)?;
        let linker = imports::linker(runtime).map_err(|error| unfit(format!("{error:#}")))?;
        let world = check(runtime, &code).map_err(unfit)?;
        let misfit = |error| {
            ComponentError::unfit(
                path,
                format_args!("it does not fit the contract: {error:#}"),
            )
        };
        let pre = linker.instantiate_pre(&code).map_err(misfit)?;
        let exports = Exports::find(&code, &pre).map_err(misfit)?;
        let folders = folders::open(&options.directories).map_err(unfit)?;
        Ok(Arc::new(Component {
            runtime: runtime.clone(),
            pre,
            exports,
            options,
            folders: folders.into(),
            sha256,
            bytes,
            world,
        }))
    }

    /// Ends every call that runs, as its deadline would. `longest`: no call of any component has a longer one.
    pub fn interrupt(&self, longest: Duration) {
        self.runtime.interrupt(longest);
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

    /// What it was given.
    pub fn grants(&self) -> &ComponentOptions {
        &self.options
    }

    /// What its instances may use.
    pub fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// Whether it wants to be called at the end of bounded inputs.
    pub fn has_on_end(&self) -> bool {
        self.exports.end_of_input.is_some()
    }
}

/// The bytes of a component's file, which is the one that is demanded.
///
/// # Errors
/// It cannot be read, is too large, or is another.
pub fn read_component(
    path: &Path,
    limits: &Limits,
    demanded: Option<&str>,
) -> Result<Vec<u8>, ComponentError> {
    let bytes = read(path, limits.component_bytes)?;
    match demanded {
        Some(pinned) => is_pinned(path, &bytes, pinned).map(|()| bytes),
        None => Ok(bytes),
    }
}

fn is_pinned(path: &Path, bytes: &[u8], pinned: &str) -> Result<(), ComponentError> {
    let found = sha256(bytes);
    match pinned.eq_ignore_ascii_case(&found) {
        true => Ok(()),
        false => Err(ComponentError::Pinned {
            path: path.to_owned(),
            found,
            pinned: pinned.to_owned(),
        }),
    }
}

/// The bytes of a component's file, which has no more than `most`.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>, ComponentError> {
    let mut bytes = Vec::new();
    let opened = File::open(path);
    let read = opened.and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut bytes));
    match read {
        Ok(read) if read as u64 > most => Err(ComponentError::unfit(
            path,
            format_args!("it has more than `component-bytes` = {most}"),
        )),
        Ok(_) => Ok(bytes),
        Err(source) => Err(ComponentError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The SHA-256 of bytes, lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
