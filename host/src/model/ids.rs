//! Newtypes for ids, so that one cannot be passed for another.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl $name {
            /// As an index into a table that is ordered by this id.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(
    /// A stage, by the number that the state directory gave to its name.
    StageId(u16)
);
id!(
    /// A store, by the number that the state directory gave to its name; unique within its stage.
    StoreId(u16)
);
id!(
    /// A stream, by the number that the state directory gave to its name.
    StreamId(u16)
);
id!(
    /// A partition of a stream, or of a stage: counted from 0.
    PartitionId(u32)
);
id!(
    /// An input of a stage, by its place in the job file.
    InputIndex(u16)
);
id!(
    /// An output port of a stage, by its place in the job file.
    OutputIndex(u16)
);
id!(
    /// A store of a task, by its place in the task's list of stores.
    StoreIndex(u16)
);

id!(
    /// A file of the embedded log: counted from 1, never given again.
    SegmentId(u64)
);

impl SegmentId {
    /// The one after it.
    #[must_use]
    pub fn next(self) -> SegmentId {
        SegmentId(self.0 + 1)
    }
}

/// A task: one partition of a stage; the unit of state, order and restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// The stage it belongs to.
    pub stage: StageId,
    /// Its partition.
    pub partition: PartitionId,
}
