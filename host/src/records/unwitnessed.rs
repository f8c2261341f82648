//! The mark of unsynced commits.

use serde::{Deserialize, Serialize};

use super::{Kind, Record};
use crate::model::Epoch;

/// Commits have been unsynced since this epoch, under this boot of the machine. Nothing is lost while the machine runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unwitnessed {
    /// The kernel's boot id.
    pub boot_id: String,
    /// The last epoch that was synced.
    pub synced: Epoch,
}

impl Record for Unwitnessed {
    type Key = ();
    const KIND: Kind = Kind::Unwitnessed;
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::testing::assert_stored_as;

    #[test]
    fn its_bytes_are_frozen() {
        let record = Unwitnessed {
            boot_id: "boot".to_owned(),
            synced: Epoch(300),
        };
        assert_stored_as(&(), &record, ("756e7769746e6573736564", "0104626f6f74ac02"));
    }
}
