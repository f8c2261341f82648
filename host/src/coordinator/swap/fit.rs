//! What of a stage can change while the job runs, and what needs a restart. No thread, clock or disk.

use std::collections::BTreeMap;

use crate::checkpoint::catalog::StreamShape;
use crate::coordinator::{StageOptions, StreamOptions};

/// What the job file says of a stage now and cannot be had without a restart, in words; empty: nothing. `streams`: those that the job
/// that runs has.
pub(super) fn misfits(
    runs: &StageOptions,
    declared: &StageOptions,
    used: &BTreeMap<String, StreamOptions>,
    streams: &BTreeMap<String, StreamShape>,
) -> Vec<String> {
    let mut misfits = Vec::new();
    let mut differ = |what: &str, differs: bool| {
        if differs {
            misfits.push(format!("{what} changed"));
        }
    };
    let inputs = |stage: &StageOptions| -> Vec<(String, String)> {
        let inputs = stage.inputs.iter();
        let pair =
            |input: &crate::coordinator::InputOptions| (input.port.clone(), input.stream.clone());
        inputs.map(pair).collect()
    };
    differ("its inputs", inputs(runs) != inputs(declared));
    differ(
        "the number of its tasks",
        runs.partitions != declared.partitions,
    );
    differ("`dead-letters`", runs.dead_letters != declared.dead_letters);
    differ(
        "`dead-letter-order`",
        runs.parked_store != declared.parked_store,
    );
    differ(
        "`batch-messages`",
        runs.batch_messages != declared.batch_messages,
    );
    differ("`batch-bytes`", runs.batch_bytes != declared.batch_bytes);
    for (store, kind) in &runs.stores {
        match declared.stores.iter().find(|(name, _)| name == store) {
            None => misfits.push(format!("store {store:?} is no longer declared")),
            Some((_, other)) if other != kind => {
                misfits.push(format!("the type of store {store:?} changed"));
            }
            Some(_) => {}
        }
    }
    for (stream, options) in used {
        // Inputs do not change, so one that is new is only written, and comes with the code.
        let runs = streams.get(stream);
        if runs.is_some_and(|runs| *runs != options.shape()) {
            misfits.push(format!("the declaration of stream {stream:?} changed"));
        }
    }
    misfits
}
