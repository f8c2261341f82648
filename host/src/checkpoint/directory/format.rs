//! The file `FORMAT`: the version of the layout, and whose directory it is.
//!
//! JSON: `{"format":5,"job":…,"state-id":…}`. A version that is not known is refused, whatever else the file holds. Version 1 has
//! no segments of the log, version 2 nothing of held tasks and dead letters, version 3 nothing of swaps, version 4 nothing of holds; the first
//! start makes them version 5.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{damaged, refused};
use crate::checkpoint::{OpenError, StateId};
use crate::disk::{Disk, DiskError};

/// The version of the directory's layout and of everything in it.
const FORMAT: u32 = 5;
/// The oldest version that is read.
const OLDEST: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FormatFile {
    format: u32,
    job: String,
    state_id: String,
}

/// Writes the file, which must not be there.
pub(super) fn write(
    disk: &Disk,
    file: &Path,
    job: &str,
    state_id: StateId,
) -> Result<(), DiskError> {
    disk.write_new(file, &text(job, state_id))
}

/// Gives a directory of an older version the present one, before anything in it is changed.
pub(super) fn upgrade(disk: &Disk, path: &Path, identity: &Identity) -> Result<(), DiskError> {
    if identity.version == FORMAT {
        return Ok(());
    }
    let file = path.join("FORMAT");
    disk.before_at("open.format", "write", &file)?;
    disk.replace(&file, &text(&identity.job, identity.state_id))
}

fn text(job: &str, state_id: StateId) -> Vec<u8> {
    let format = FormatFile {
        format: FORMAT,
        job: job.to_owned(),
        state_id: state_id.to_string(),
    };
    serde_json::to_vec(&format).unwrap_or_default()
}

/// What the file says.
pub(super) struct Identity {
    version: u32,
    job: String,
    pub(super) state_id: StateId,
}

/// The identity of the directory at `path`, if it is one of `job`.
pub(super) fn read(path: &Path, job: &str) -> Result<Identity, OpenError> {
    let text = fs::read(path.join("FORMAT"))
        .map_err(|error| damaged(path, &format!("its FORMAT file cannot be read: {error}")))?;
    // The version is read alone first: a later one may have other fields.
    let version = serde_json::from_slice::<serde_json::Value>(&text)
        .ok()
        .and_then(|value| value.get("format")?.as_u64());
    match version {
        Some(version) if (u64::from(OLDEST)..=u64::from(FORMAT)).contains(&version) => {}
        Some(version) => {
            return Err(refused(
                path,
                &format!(
                    "it has format {version}, this wasm-host knows {OLDEST} to {FORMAT}: use the newer wasm-host that wrote it"
                ),
            ));
        }
        None => return Err(damaged(path, "its FORMAT file is damaged")),
    }
    let format: FormatFile = serde_json::from_slice(&text)
        .map_err(|error| damaged(path, &format!("its FORMAT file is damaged: {error}")))?;
    if format.job != job {
        return Err(refused(
            path,
            &format!(
                "it belongs to job {:?}, not {:?}: give this job another `state-dir`, or rename it back",
                format.job, job
            ),
        ));
    }
    let state_id = format.state_id.parse();
    let no_id = |()| damaged(path, "its FORMAT file has no valid state-id");
    Ok(Identity {
        version: format.format,
        job: format.job,
        state_id: state_id.map_err(no_id)?,
    })
}
