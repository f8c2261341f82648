//! Marks: what a transaction says of the write of the database that it has delivered, and what a start concludes from it.
//!
//! A mark is the last record of each transaction, in a topic of the job's own with one partition. Its key is `delivered`; its value
//! is JSON, so that a person can read it:
//!
//! | member | what |
//! | --- | --- |
//! | `version` | 1 |
//! | `state` | the id of the state directory, hexadecimal |
//! | `seq`, `epoch`, `nonce` | the write of the database; `nonce` hexadecimal |
//! | `host` | the machine that has delivered it, and the number of its process |

use serde::{Deserialize, Serialize};

use crate::connectors::Lost;
use crate::model::{Account, Mark};

/// The key of every mark: only the last one matters.
pub(super) const KEY: &[u8] = b"delivered";
const VERSION: u32 = 1;

/// A mark, as it is stored in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    version: u32,
    pub(super) state: String,
    seq: u64,
    pub(super) epoch: u64,
    nonce: String,
    pub(super) host: String,
}

impl Marker {
    /// The mark of a write of a state directory.
    pub(super) fn new(state: &[u8; 16], mark: &Mark) -> Marker {
        Marker {
            version: VERSION,
            state: hexadecimal(state),
            seq: mark.seq,
            epoch: mark.epoch,
            nonce: format!("{:016x}", mark.nonce),
            host: format!("{}, process {}", host_name(), std::process::id()),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the value of a record.
    ///
    /// # Errors
    /// It is no mark, or of another version. In words.
    pub(super) fn decode(value: &[u8]) -> Result<Marker, String> {
        let marker: Marker = serde_json::from_slice(value)
            .map_err(|error| format!("the last record is no mark of a job: {error}"))?;
        match marker.version {
            VERSION => Ok(marker),
            other => Err(format!(
                "the last mark has version {other}, and this program knows {VERSION}"
            )),
        }
    }

    /// Whether it is of the same write as another.
    pub(super) fn is_of(&self, other: &Marker) -> bool {
        self.mark() == other.mark()
    }

    fn mark(&self) -> Mark {
        Mark {
            seq: self.seq,
            epoch: self.epoch,
            nonce: u64::from_str_radix(&self.nonce, 16).unwrap_or_default(),
        }
    }
}

/// What a start does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// What the database still has to deliver, if it has anything, is delivered.
    Deliver,
    /// It was delivered.
    Delivered,
    /// The directory and the cluster do not belong together. In words, with what to do.
    Refuse(String),
}

/// Holds what the database has recorded against the last mark.
pub(super) fn verdict(account: &Account, last: Option<&Marker>, lost: Lost) -> Verdict {
    let known = |mark: &Option<Mark>| mark.is_some() && last.map(Marker::mark) == *mark;
    let Some(marker) = last else {
        let never = account.delivered.is_none() && account.pending.is_none();
        return match (account.delivered, lost) {
            // The first delivery may have been cut short.
            (None, _) => Verdict::Deliver,
            _ if never => Verdict::Deliver,
            (Some(_), Lost::Deliver) => Verdict::Deliver,
            (Some(_), Lost::Skip) => Verdict::Delivered,
            (Some(_), Lost::Refuse | Lost::TakeOver) => Verdict::Refuse(
                "there is no mark of what was delivered, although something was: the topic was emptied or made anew, or `group-id` changed. \
                 `run --undelivered deliver` delivers what the state directory still holds, which may be there already; `run --undelivered skip` takes it for delivered"
                    .to_owned(),
            ),
        };
    };
    if known(&account.pending) {
        return Verdict::Delivered;
    }
    if known(&account.delivered) || lost == Lost::TakeOver {
        return Verdict::Deliver;
    }
    let take_over = "once it has stopped for good, `run --take-over` begins with what this directory has, and what is in Kafka already may come again";
    let (host, epoch) = (&marker.host, marker.epoch);
    Verdict::Refuse(if marker.state != hexadecimal(&account.state) {
        format!(
            "another state directory (id {}) has delivered epoch {epoch} for this job, on {host}: two of them would write everything twice. Give this job another `group-id`; or, {take_over}",
            marker.state
        )
    } else {
        format!(
            "this state directory is a copy, or an older one: it has not made the write of epoch {epoch} that was delivered last, on {host}. Use the newest; or, {take_over}"
        )
    })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(seq: u64) -> Mark {
        Mark {
            seq,
            epoch: seq,
            nonce: seq << 40,
        }
    }

    const STATE: [u8; 16] = [7; 16];

    fn account(delivered: Option<u64>, pending: Option<u64>) -> Account {
        Account {
            state: STATE,
            delivered: delivered.map(mark),
            pending: pending.map(mark),
        }
    }

    #[test]
    fn its_bytes_are_frozen() {
        let marker = Marker {
            host: "h, process 1".to_owned(),
            ..Marker::new(&STATE, &mark(3))
        };
        let frozen = br#"{"version":1,"state":"07070707070707070707070707070707","seq":3,"epoch":3,"nonce":"0000030000000000","host":"h, process 1"}"#;
        assert_eq!(marker.encode(), frozen);
        assert_eq!(Marker::decode(frozen), Ok(marker));
        let newer = String::from_utf8_lossy(frozen).replace("\"version\":1", "\"version\":2");
        assert!(Marker::decode(newer.as_bytes()).is_err());
        assert!(Marker::decode(b"hello").is_err());
    }

    /// The table: what is recorded, the last mark, what the operator says, what follows (`None`: refused).
    #[test]
    fn every_case_has_its_verdict() {
        use Verdict::{Deliver, Delivered};
        let cases = [
            ((None, None), None, Lost::Refuse, Some(Deliver)),
            ((None, Some(1)), None, Lost::Refuse, Some(Deliver)),
            ((None, Some(1)), Some(1), Lost::Refuse, Some(Delivered)),
            ((Some(1), Some(2)), Some(2), Lost::Refuse, Some(Delivered)),
            ((Some(1), Some(2)), Some(1), Lost::Refuse, Some(Deliver)),
            ((Some(1), None), Some(1), Lost::Refuse, Some(Deliver)),
            // An older copy, a newer one, a foreign one.
            ((Some(1), None), Some(2), Lost::Refuse, None),
            ((Some(2), Some(3)), Some(1), Lost::Refuse, None),
            ((None, None), Some(1), Lost::Refuse, None),
            ((None, None), Some(1), Lost::TakeOver, Some(Deliver)),
            ((Some(1), Some(2)), Some(9), Lost::TakeOver, Some(Deliver)),
            ((Some(1), Some(2)), Some(2), Lost::TakeOver, Some(Delivered)),
            // The topic is lost.
            ((Some(1), Some(2)), None, Lost::Refuse, None),
            ((Some(1), Some(2)), None, Lost::TakeOver, None),
            ((Some(1), Some(2)), None, Lost::Deliver, Some(Deliver)),
            ((Some(1), Some(2)), None, Lost::Skip, Some(Delivered)),
        ];
        for ((delivered, pending), last, lost, expected) in cases {
            let last = last.map(|seq| Marker::new(&STATE, &mark(seq)));
            let found = verdict(&account(delivered, pending), last.as_ref(), lost);
            match expected {
                Some(expected) => assert_eq!(found, expected, "{delivered:?} {pending:?} {last:?}"),
                None => assert!(matches!(found, Verdict::Refuse(_)), "{found:?}"),
            }
        }
    }

    #[test]
    fn the_same_write_of_another_history_is_refused() {
        let other = Mark {
            nonce: 1,
            ..mark(2)
        };
        let last = Marker::new(&STATE, &other);
        let found = verdict(&account(Some(1), Some(2)), Some(&last), Lost::Refuse);
        assert!(
            matches!(&found, Verdict::Refuse(why) if why.contains("a copy")),
            "{found:?}"
        );
        let last = Marker::new(&[8; 16], &other);
        let found = verdict(&account(Some(1), Some(2)), Some(&last), Lost::Refuse);
        assert!(matches!(&found, Verdict::Refuse(why) if why.contains("another state directory")));
    }
}
