//! Reading a stage of the job file again while the job runs, for a swap.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::assemble::{
    Clusters, Missing, component_options, demanded, group_of, limits_of, most_folders,
    sha256_of_file, stage_options, stream,
};
use super::exit;
use super::job::variable;
use crate::checkpoint::decide::Wanted;
use crate::config::{self, Job, Look};
use crate::coordinator::{LoadedStage, StageLoader, StreamOptions, SwapState};
use crate::disk::Disk;
use crate::model::{Clock, SystemClock};
use crate::runtime::{Component, Instance, Runtime, read_component, sha256};

/// Reads a stage of the job file again while the job runs.
pub(super) struct Loader {
    file: PathBuf,
    policy: Option<PathBuf>,
    runtime: Runtime,
    clusters: Clusters,
    disk: Disk,
    /// Folders that an instance had open when the job started, at most.
    folders: usize,
}

impl StageLoader for Loader {
    fn load(
        &self,
        stage: &str,
        component: Option<Vec<u8>>,
        enter: &dyn Fn(SwapState),
    ) -> Result<LoadedStage, String> {
        let look = match component {
            Some(_) => Look::Folders,
            None => Look::Components,
        };
        let mut job = config::load(&self.file, &variable, look, self.policy.as_deref())
            .map_err(|wrong| format!("the job file cannot be used\n{wrong}"))?;
        let resolved = self.clusters.resolve(&mut job, Missing::Refuse);
        resolved.map_err(|failure| failure.text)?;
        let declared = job.stages.iter().find(|declared| declared.name == stage);
        let declared = declared.ok_or("the job file does not declare the stage any more")?;
        let limits = limits_of(&declared.limits);
        self.runtime.fits(&limits)?;
        let folders = declared.capabilities.directories.len();
        if folders > self.folders {
            return Err(format!(
                "an instance would have {folders} folders, and the largest stage had {} when the job started: that needs a restart of the job",
                self.folders
            ));
        }
        let path = match component {
            Some(_) => Path::new("of the swap"),
            None => &declared.component,
        };
        let (bytes, file) = match component {
            Some(bytes) if bytes.len() as u64 > limits.component_bytes => {
                return Err(format!(
                    "the component has more than `component-bytes` = {}",
                    limits.component_bytes
                ));
            }
            Some(bytes) => (bytes, sha256_of_file(declared).ok()),
            None => {
                let pin = demanded(declared);
                let bytes = read_component(path, &limits, pin.as_deref());
                let bytes = bytes.map_err(|error| exit::chain(&error))?;
                let file = sha256(&bytes);
                (bytes, Some(file))
            }
        };
        enter(SwapState::Compiling);
        let options = component_options(declared);
        let component = Component::of_bytes(&self.runtime, path, bytes, options)
            .map_err(|error| exit::chain(&error))?;
        Instance::check(&component).map_err(|fault| fault.to_string())?;
        Ok(LoadedStage {
            streams: self.streams(&job, declared)?,
            options: stage_options(declared, component, file, Wanted::ByRule)
                .map_err(|failure| failure.text)?,
        })
    }
}

impl Loader {
    /// For a job that runs within `policy`.
    pub(super) fn shared(
        job: &Job,
        policy: Option<&Path>,
        runtime: &Runtime,
        clusters: Clusters,
        disk: &Disk,
    ) -> Arc<Loader> {
        Arc::new(Loader {
            file: job.file.clone(),
            policy: policy.map(Path::to_owned),
            runtime: runtime.clone(),
            clusters,
            disk: disk.clone(),
            folders: most_folders(job),
        })
    }

    /// The streams that a stage uses.
    fn streams(
        &self,
        job: &Job,
        declared: &config::Stage,
    ) -> Result<BTreeMap<String, StreamOptions>, String> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let inputs = declared.inputs.iter().map(|input| &input.stream);
        let outputs = declared.outputs.iter().map(|output| &output.stream);
        let used = inputs.chain(outputs).chain(&declared.dead_letters);
        let options = |name: &String| {
            let from = (&self.clusters, group_of(job, name));
            let options = stream(name, &job.streams[name], from, &clock, &self.disk)
                .map_err(|why| format!("stream {name:?}: {why}"))?;
            Ok((name.clone(), options))
        };
        used.map(options).collect()
    }
}
