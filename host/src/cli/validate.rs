//! `validate`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::{Failure, Global, assemble, exit, output, stopped};
use crate::coordinator::StreamKind;
use crate::runtime::Instance;

#[derive(Args)]
pub(super) struct ValidateArgs {
    /// The job file, or a folder with a `job.toml`; default: --job
    #[arg(value_name = "JOB")]
    path: Option<PathBuf>,
}

pub(super) fn validate(global: &Global, args: &ValidateArgs) -> Result<(), Failure> {
    let job = stopped::load(args.path.as_ref().unwrap_or(&global.job))?;
    let runtime = assemble::runtime(Some(&job))?;
    let steps: Arc<dyn crate::model::Steps> = Arc::new(());
    let options = assemble::job(&job, &runtime, &steps, &BTreeMap::new())?;
    for stage in &options.stages {
        Instance::check(&stage.component).map_err(|fault| {
            Failure::new(exit::USAGE, format!("stage {:?}: {fault}", stage.name))
        })?;
    }
    for (name, stream) in &options.streams {
        if let StreamKind::External {
            input: Some(input), ..
        } = &stream.kind
            && !input.rewindable()
        {
            tracing::warn!(
                "stream {name:?} cannot be rewound: what was read since the last checkpoint is lost in a crash"
            );
        }
        if let StreamKind::External {
            output: Some(output),
            ..
        } = &stream.kind
            && output.may_repeat()
        {
            tracing::warn!(
                "stream {name:?} can repeat messages after a crash: it is written at least once"
            );
        }
    }
    if global.json {
        output::json(&job)
    } else {
        output::raw(job.render().as_bytes())
    }
}
