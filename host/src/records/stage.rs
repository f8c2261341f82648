//! A stage by its name: its number, its stores, its component.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Kind, Record};
use crate::model::{StageId, StoreId};

/// A stage that the state directory knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Its number.
    pub id: StageId,
    /// How many tasks it has; fixed.
    pub partitions: u32,
    /// The component of the last checkpoint: SHA-256, hexadecimal.
    pub component: String,
    /// Its stores, by name.
    pub stores: BTreeMap<String, StoreId>,
}

impl StageRecord {
    /// The store in which a task notes which keys wait for a dead letter. No name in a job file has a colon.
    pub const PARKED: &str = "parked:";

    /// Whether a store is the host's own, and not shown.
    pub fn is_hidden(store: &str) -> bool {
        store.contains(':')
    }
}

impl Record for StageRecord {
    type Key = String;
    const KIND: Kind = Kind::Stage;
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::testing::assert_stored_as;

    #[test]
    fn its_bytes_are_frozen() {
        let record = StageRecord {
            id: StageId(1),
            partitions: 300,
            component: "ab01".to_owned(),
            stores: [("counts".to_owned(), StoreId(2))].into(),
        };
        assert_stored_as(
            &"count".to_owned(),
            &record,
            (
                "73746167652f636f756e74",
                "0101ac0204616230310106636f756e747302",
            ),
        );
    }
}
