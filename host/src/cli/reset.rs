//! `reset`.

use super::{Failure, Global, job, stderr};
use crate::checkpoint::directory;
use crate::config::System;
use crate::connectors::file;
use crate::disk::Disk;

pub(super) fn reset(global: &Global, disk: &Disk) -> Result<(), Failure> {
    let job = job::load(&global.job)?;
    let stamp = jiff::Timestamp::now()
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string();
    let state = &*job.general.state_dir;
    let mut moved = Vec::new();
    let aside = directory::move_aside(disk, state, &stamp)?;
    moved.extend(aside.map(|aside| (state.to_path_buf(), aside)));
    for (name, stream) in &job.streams {
        if let System::FileOutput(output) = &stream.system {
            moved.extend(file::move_outputs(disk, &output.path, name, &stamp)?);
        }
    }
    if moved.is_empty() {
        stderr::say(format_args!(
            "nothing to reset: there is no state in {}",
            state.display()
        ));
    }
    for (from, to) in moved {
        stderr::say(format_args!("{} is now {}", from.display(), to.display()));
    }
    Ok(())
}
