//! A stage by its name: its number, its stores, its code.

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
    /// Its code at the last checkpoint.
    pub code: Code,
    /// Its stores, by name.
    pub stores: BTreeMap<String, StoreId>,
    /// The component in the job's file when `code` was chosen: SHA-256, hexadecimal. A file with another one was changed since.
    pub file: String,
    /// The last code before this one that no swap has taken back: the way back.
    pub previous: Option<Code>,
    /// Components that were taken back, the oldest first, [`StageRecord::ROLLED_BACK_MAX`] at most: SHA-256, hexadecimal.
    pub rolled_back: Vec<String>,
    /// The version of its state, if a component has ever named one; 0: none has.
    pub state_version: u32,
    /// The number of the swap that is not over, if there is one.
    pub swap: Option<u64>,
}

/// The code of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Code {
    /// The component: SHA-256, hexadecimal.
    pub component: String,
    /// What a person calls it; may be empty.
    pub label: String,
}

impl StageRecord {
    /// The store in which a task notes which keys wait for a dead letter. No name in a job file has a colon.
    pub const PARKED: &str = "parked:";
    /// How many components that were taken back are remembered.
    pub const ROLLED_BACK_MAX: usize = 10;

    /// A stage that is new, with the code in the job's file.
    pub fn new(id: StageId, partitions: u32, component: &str) -> StageRecord {
        StageRecord {
            id,
            partitions,
            code: Code {
                component: component.to_owned(),
                label: String::new(),
            },
            stores: BTreeMap::new(),
            file: component.to_owned(),
            previous: None,
            rolled_back: Vec::new(),
            state_version: 0,
            swap: None,
        }
    }

    /// Other code takes over. The way back is from one component to another, and stays what it is as long as code is watched.
    pub fn take_code(&mut self, code: Code) {
        self.rolled_back.retain(|back| *back != code.component);
        let before = std::mem::replace(&mut self.code, code);
        if self.swap.take().is_none() {
            self.previous = Some(before);
        }
        let is_itself = |way: &Code| way.component == self.code.component;
        if self.previous.as_ref().is_some_and(is_itself) {
            self.previous = None;
        }
    }

    /// The code that comes back if what runs next fails. `is_same`: that is the recorded code.
    pub fn way_back(&self, is_same: bool) -> Option<&Code> {
        match self.swap {
            // Code that is watched is no way back.
            Some(_) => self.previous.as_ref(),
            None => (!is_same).then_some(&self.code),
        }
    }

    /// The code before comes back, and this one is not taken again by itself.
    pub fn go_back(&mut self, before: Code) {
        let gone = std::mem::replace(&mut self.code, before).component;
        self.rolled_back.retain(|back| *back != gone);
        self.rolled_back.push(gone);
        let more = self
            .rolled_back
            .len()
            .saturating_sub(StageRecord::ROLLED_BACK_MAX);
        self.rolled_back.drain(..more);
        self.previous = None;
        self.swap = None;
    }

    /// Gives a store a number, if it has none.
    pub fn add_store(&mut self, name: &str) {
        if !self.stores.contains_key(name) {
            let next = self.stores.values().map(|store| store.0 + 1).max();
            let id = StoreId(next.unwrap_or(0));
            self.stores.insert(name.to_owned(), id);
        }
    }

    /// Whether a store is the host's own, and not shown.
    pub fn is_hidden(store: &str) -> bool {
        store.contains(':')
    }
}

impl Record for StageRecord {
    type Key = String;
    const KIND: Kind = Kind::Stage;
    const VERSION: u8 = 2;

    fn upgrade(version: u8, fields: &[u8]) -> Option<Result<StageRecord, postcard::Error>> {
        (version == 1).then(|| postcard::from_bytes(fields).map(StageRecordV1::upgraded))
    }
}

/// Version 1: the code was always that of the file.
#[derive(Deserialize)]
struct StageRecordV1 {
    id: StageId,
    partitions: u32,
    component: String,
    stores: BTreeMap<String, StoreId>,
}

impl StageRecordV1 {
    fn upgraded(self) -> StageRecord {
        StageRecord {
            stores: self.stores,
            ..StageRecord::new(self.id, self.partitions, &self.component)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::testing::assert_stored_as;

    fn record() -> StageRecord {
        StageRecord {
            stores: [("counts".to_owned(), StoreId(2))].into(),
            ..StageRecord::new(StageId(1), 300, "ab01")
        }
    }

    #[test]
    fn its_bytes_are_frozen() {
        let record = StageRecord {
            code: Code {
                component: "ab01".to_owned(),
                label: "v2".to_owned(),
            },
            file: "cd".to_owned(),
            previous: Some(Code {
                component: "ef".to_owned(),
                label: String::new(),
            }),
            rolled_back: vec!["99".to_owned()],
            state_version: 3,
            swap: Some(200),
            ..record()
        };
        assert_stored_as(
            &"count".to_owned(),
            &record,
            (
                "73746167652f636f756e74",
                "0201ac02046162303102763201\
                 06636f756e747302\
                 026364010265660001023939030\
                 1c801",
            ),
        );
    }

    #[test]
    fn version_1_is_read() {
        let fields = [
            0x01, 0xac, 0x02, 0x04, 0x61, 0x62, 0x30, 0x31, 0x01, 0x06, 0x63, 0x6f, 0x75, 0x6e,
            0x74, 0x73, 0x02,
        ];
        assert_eq!(StageRecord::upgrade(1, &fields), Some(Ok(record())));
        assert_eq!(StageRecord::upgrade(3, &fields), None);
    }
}
