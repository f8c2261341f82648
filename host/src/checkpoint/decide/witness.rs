//! Whether a database and its witness belong together. Facts in, a verdict out.

use crate::checkpoint::StateId;
use crate::checkpoint::witness::Block;
use crate::model::CommitKey;

/// What database and witness say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::checkpoint) enum Verdict {
    /// They agree.
    Agree,
    /// The database is one write ahead: a crash came between the two. The witness must be written before anything
    /// else.
    WitnessBehind,
    /// Acknowledged writes are gone.
    CommitsLost { witness: Block },
    /// They cannot belong together.
    Foreign(String),
}

/// Compares the database's commit key with the witness's newest valid block.
pub(in crate::checkpoint) fn judge(
    state_id: StateId,
    commit: &CommitKey,
    newest: Option<Block>,
) -> Verdict {
    let Some(witness) = newest else {
        return Verdict::Foreign("the witness has no valid block".into());
    };
    if witness.state_id != state_id {
        return Verdict::Foreign(format!(
            "the witness belongs to state {}, the directory to state {state_id}",
            witness.state_id
        ));
    }
    if commit.seq == witness.seq && commit.nonce == witness.nonce && commit.epoch == witness.epoch {
        Verdict::Agree
    } else if commit.seq == witness.seq.next() && commit.prev_nonce == witness.nonce {
        Verdict::WitnessBehind
    } else if commit.seq < witness.seq {
        Verdict::CommitsLost { witness }
    } else {
        Verdict::Foreign(format!(
            "the database is at write {} and the witness at write {}, and one is not the other's successor",
            commit.seq, witness.seq
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Nonce, Seq};

    const STATE: StateId = StateId([7; 16]);

    fn commit(seq: u64, nonce: u64, prev_nonce: u64) -> CommitKey {
        CommitKey {
            seq: Seq(seq),
            epoch: Epoch(seq),
            nonce: Nonce(nonce),
            prev_nonce: Nonce(prev_nonce),
        }
    }

    fn block(seq: u64, nonce: u64) -> Block {
        Block {
            state_id: STATE,
            seq: Seq(seq),
            epoch: Epoch(seq),
            nonce: Nonce(nonce),
            listed: None,
        }
    }

    #[test]
    fn every_case_of_the_table() {
        let verdict = |commit, witness| judge(STATE, &commit, Some(witness));
        assert_eq!(verdict(commit(5, 50, 40), block(5, 50)), Verdict::Agree);
        assert_eq!(
            verdict(commit(6, 60, 50), block(5, 50)),
            Verdict::WitnessBehind
        );
        let lost = verdict(commit(4, 40, 30), block(5, 50));
        assert_eq!(
            lost,
            Verdict::CommitsLost {
                witness: block(5, 50)
            }
        );
        let foreign = |commit, witness| matches!(verdict(commit, witness), Verdict::Foreign(_));
        assert!(foreign(commit(7, 70, 60), block(5, 50)), "a gap");
        assert!(
            foreign(commit(6, 60, 51), block(5, 50)),
            "another predecessor"
        );
        assert!(
            foreign(commit(5, 51, 40), block(5, 50)),
            "same write, another nonce"
        );
        let other = Block {
            state_id: StateId([8; 16]),
            ..block(5, 50)
        };
        assert!(foreign(commit(5, 50, 40), other), "another state");
        assert!(
            matches!(judge(STATE, &commit(5, 50, 40), None), Verdict::Foreign(_)),
            "no block"
        );
    }
}
