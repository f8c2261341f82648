//! The commit key: the number and nonce of the last synced write.

use super::{Kind, Record};
use crate::model::CommitKey;

impl Record for CommitKey {
    type Key = ();
    const KIND: Kind = Kind::Commit;
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Nonce, Seq};
    use crate::records::testing::assert_stored_as;

    #[test]
    fn its_bytes_are_frozen() {
        let record = CommitKey {
            seq: Seq(300),
            epoch: Epoch(299),
            nonce: Nonce(0x0102_0304_0506_0708),
            prev_nonce: Nonce(1),
        };
        assert_stored_as(
            &(),
            &record,
            ("636f6d6d6974", "01ac02ab02888e98a8c0e080810101"),
        );
    }
}
