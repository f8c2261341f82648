//! `wasm-host:task/migration`: state of an earlier version. Its calls are for instances that are not opened.

use std::sync::Arc;

use crate::model::{PartitionId, StageId, TaskId};
use crate::runtime::component::Component;
use crate::runtime::context::{Rights, TaskContext, TaskInfo};
use crate::runtime::fault::{Fault, FaultKind};
use crate::runtime::instance::Instance;
use crate::runtime::metrics::TaskMetrics;
use crate::runtime::sandbox::Returned;
use crate::state::TaskState;

/// What `migrate` answers: where it goes on, or nothing more.
pub type Resume = Option<Vec<u8>>;

/// The version of the state that a component reads and writes; 0 if it names none.
///
/// # Errors
/// It cannot be asked, or says what no version is.
pub fn state_version(component: &Arc<Component>) -> Result<u32, Fault> {
    if component.exports.migration.is_none() {
        return Ok(0);
    }
    let (context, made) = Instance::unopened(component, Box::new(context_of_nobody()));
    let (_, version) = made?.state_version(context);
    match version? {
        0 => Err(Fault::new(
            FaultKind::Instantiate,
            "`state-version` is 0, which is that of state without a version: versions begin with 1",
        )),
        version => Ok(version),
    }
}

/// For a call that belongs to no task.
fn context_of_nobody() -> TaskContext {
    let id = TaskId {
        stage: StageId(0),
        partition: PartitionId(0),
    };
    let info = TaskInfo {
        id,
        job: String::new(),
        stage: String::new(),
        partitions: 1,
        inputs: Vec::new(),
        outputs: Vec::new(),
        stores: Vec::new(),
        may_request_stop: false,
    };
    let metrics = TaskMetrics::new(Arc::default(), id.partition);
    TaskContext::new(
        Arc::new(info),
        TaskState::new(id, Vec::new()),
        metrics,
        Vec::new(),
    )
}

impl Instance {
    fn state_version(&mut self, context: Box<TaskContext>) -> Returned<u32> {
        let Some(migration) = &self.handlers.migration else {
            return (context, Ok(0));
        };
        self.sandbox.call(context, Rights::Read, |store| {
            migration.call_state_version(store)
        })
    }

    /// Migrates a part of a task's state.
    ///
    /// # Panics
    /// If the component has no `migration`.
    pub fn migrate(
        &mut self,
        context: Box<TaskContext>,
        old: u32,
        resume: Option<&[u8]>,
    ) -> Returned<Result<Resume, String>> {
        let Some(migration) = &self.handlers.migration else {
            panic!("a component without `migration` is to migrate");
        };
        let (context, result) = self.sandbox.call(context, Rights::WriteState, |store| {
            migration.call_migrate(store, old, resume)
        });
        let most = self.sandbox.component().limits().value_bytes;
        let result = result.and_then(|answer| match answer {
            Ok(Some(resume)) if resume.len() > most => Err(Fault::new(
                FaultKind::Limit,
                format!(
                    "`resume` has {} bytes, more than `value-bytes` = {most}",
                    resume.len()
                ),
            )),
            Ok(resume) => Ok(Ok(resume)),
            Err(reason) => Ok(Err(super::cut(self.secrets(), &reason))),
        });
        (context, result)
    }
}
