//! What was delivered to a place that takes several outputs together, by the name of that place.

use super::{Kind, Record};
use crate::model::Account;

impl Record for Account {
    type Key = String;
    const KIND: Kind = Kind::Carrier;
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Mark;
    use crate::records::testing::assert_stored_as;

    #[test]
    fn its_bytes_are_frozen() {
        let mark = |seq| Mark {
            seq,
            epoch: 2,
            nonce: 300,
        };
        let account = Account {
            state: [7; 16],
            delivered: Some(mark(1)),
            pending: None,
        };
        assert_stored_as(
            &"c".to_owned(),
            &account,
            (
                "636172726965722f63",
                "0107070707070707070707070707070707010102ac0200",
            ),
        );
    }
}
