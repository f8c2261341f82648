//! A transaction: its states, and what follows from each error.
//!
//! ```text
//! Fresh --init--> Ready --begin--> Open --send, drain--> Sent --commit--> Ready, Stale or Broken
//! ```
//!
//! A producer that is stale or broken is destroyed, and never used again: a new one takes the same transactional id, which aborts
//! what the old one left open. What a broken one has come to, only a reader of committed records can say.
//!
//! *Stale*: commit succeeded, but EndTxn was sent more than once. librdkafka repeats it after a lost connection, and says nothing. The
//! broker may execute the first copy later, in the middle of the next transaction of the same producer, and commit half of it.

use std::time::{Duration, Instant};

use super::cluster::millis;
use super::native::{Producer, SendError, TransactionError};
use super::parcel::Damaged;
use crate::model::MessageRef;

/// Where a producer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It has not taken the transactional id.
    Fresh,
    /// A transaction can begin.
    Ready,
    /// A transaction is open.
    Open,
    /// Everything of the transaction is with the brokers.
    Sent,
    /// The last transaction is committed. Nothing more may be done with it.
    Stale,
    /// Something failed.
    Broken,
}

/// A call of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Init,
    Begin,
    Send,
    Drain,
    Commit,
}

/// What an error of a call means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// The client says that the same call can be made again, and resumes.
    Retriable,
    /// Anything else.
    Other,
}

/// What follows from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The same call, for as long as it is waited for.
    Again,
    /// The producer is broken.
    Break,
}

/// What follows from each error of each call. Only taking the id is repeated: it has no effect on data. A commit is not, although
/// the client would resume it: the copies of EndTxn would be more.
const TABLE: [(Call, Class, Then); 10] = [
    (Call::Init, Class::Retriable, Then::Again),
    (Call::Init, Class::Other, Then::Break),
    (Call::Begin, Class::Retriable, Then::Break),
    (Call::Begin, Class::Other, Then::Break),
    (Call::Send, Class::Retriable, Then::Again),
    (Call::Send, Class::Other, Then::Break),
    (Call::Drain, Class::Retriable, Then::Break),
    (Call::Drain, Class::Other, Then::Break),
    (Call::Commit, Class::Retriable, Then::Break),
    (Call::Commit, Class::Other, Then::Break),
];

fn then(call: Call, class: Class) -> Then {
    let row = TABLE.iter().find(|row| (row.0, row.1) == (call, class));
    row.map_or(Then::Break, |row| row.2)
}

impl TransactionError {
    fn class(&self) -> Class {
        match self.is_retriable {
            true => Class::Retriable,
            false => Class::Other,
        }
    }
}

/// How long one call waits before it is asked whether to give up.
const SLICE: Duration = Duration::from_secs(1);
/// How long a flush takes before it is looked whether something failed.
const FLUSH: Duration = Duration::from_millis(100);
/// How often a queue that is full is looked at.
const LOOK: Duration = Duration::from_micros(200);

/// A producer on its way through transactions.
pub(super) struct Transactions {
    producer: Producer,
    state: State,
    timeout: Duration,
    /// The counter is looked at. Only a test does without.
    counts_end_txn: bool,
}

/// Why something did not succeed, in words. The producer is broken.
pub(super) type Failed = String;

impl Transactions {
    /// Transactions of a producer that has just been made.
    pub(super) fn new(producer: Producer, timeout: Duration, counts_end_txn: bool) -> Transactions {
        Transactions {
            producer,
            state: State::Fresh,
            timeout,
            counts_end_txn,
        }
    }

    /// Whether a transaction can begin.
    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    fn enter(&mut self, call: Call, from: State, to: State) {
        assert_eq!(self.state, from, "{call:?} in a wrong state");
        self.state = to;
    }

    fn broken(&mut self, call: Call, why: &str) -> Failed {
        self.state = State::Broken;
        format!("{}: {why}", format!("{call:?}").to_lowercase())
    }

    /// Takes the transactional id.
    pub(super) fn init(&mut self, gives_up: &dyn Fn() -> bool) -> Result<(), Failed> {
        let until = Instant::now() + self.timeout;
        loop {
            let Err(error) = self.producer.init(millis(SLICE)) else {
                self.enter(Call::Init, State::Fresh, State::Ready);
                return Ok(());
            };
            let again = then(Call::Init, error.class()) == Then::Again;
            if !again || gives_up() || Instant::now() >= until {
                return Err(self.broken(Call::Init, &error.why));
            }
        }
    }

    /// Begins a transaction.
    pub(super) fn begin(&mut self) -> Result<(), Failed> {
        match self.producer.begin() {
            Ok(()) => {
                self.enter(Call::Begin, State::Ready, State::Open);
                // Of the transaction before, if anything.
                let _ = self.producer.take_undelivered();
                Ok(())
            }
            Err(error) => Err(self.broken(Call::Begin, &error.why)),
        }
    }

    /// What sends and waits, with or without a transaction.
    fn plain(&mut self) -> Plain<'_> {
        Plain {
            producer: &mut self.producer,
            timeout: self.timeout,
        }
    }

    /// Sends a message in the open transaction.
    pub(super) fn send(
        &mut self,
        topic: &str,
        partition: i32,
        message: &MessageRef<'_>,
    ) -> Result<(), Failed> {
        let sent = self.plain().send(topic, partition, message);
        sent.map_err(|why| self.broken(Call::Send, &why))
    }

    /// Waits until the brokers have every message of the transaction.
    pub(super) fn drain(&mut self, gives_up: &dyn Fn() -> bool) -> Result<(), Failed> {
        let drained = self.plain().drain(gives_up);
        drained.map_err(|why| self.broken(Call::Drain, &why))?;
        self.enter(Call::Drain, State::Open, State::Sent);
        Ok(())
    }

    /// Commits what was sent. Whether it is committed after an error, only a reader can say.
    pub(super) fn commit(&mut self) -> Result<(), Failed> {
        let before = self.producer.end_txn_sent();
        match self.producer.commit(millis(self.timeout)) {
            Ok(()) => {
                self.enter(Call::Commit, State::Sent, State::Ready);
                if self.counts_end_txn && self.producer.end_txn_sent() != before + 1 {
                    self.state = State::Stale;
                }
                Ok(())
            }
            Err(error) => Err(self.broken(Call::Commit, &error.why)),
        }
    }

    /// Drops what was sent.
    pub(super) fn abort(&mut self) -> Result<(), Failed> {
        let aborted = self.producer.abort(millis(self.timeout));
        // It was for this alone.
        self.state = State::Broken;
        aborted.map_err(|error| error.why)
    }

    /// Where it is.
    pub(super) fn state(&self) -> State {
        self.state
    }
}

/// A producer that sends and waits.
pub(super) struct Plain<'a> {
    pub(super) producer: &'a mut Producer,
    /// How long a message may take.
    pub(super) timeout: Duration,
}

impl Plain<'_> {
    /// Sends a message; waits for space in the queue.
    pub(super) fn send(
        &mut self,
        topic: &str,
        partition: i32,
        message: &MessageRef<'_>,
    ) -> Result<(), Failed> {
        let mut until = None;
        loop {
            match self.producer.send(topic, partition, message) {
                Ok(()) => return Ok(()),
                Err(SendError::Refused(why)) => return Err(why),
                Err(SendError::Full) => {}
            }
            let until = *until.get_or_insert_with(|| Instant::now() + self.timeout);
            let again = then(Call::Send, Class::Retriable) == Then::Again;
            if !again || Instant::now() >= until {
                return Err("the queue stays full".to_owned());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until the brokers have every message.
    pub(super) fn drain(&mut self, gives_up: &dyn Fn() -> bool) -> Result<(), Failed> {
        let until = Instant::now() + self.timeout;
        loop {
            let left = self.producer.flush(millis(FLUSH));
            if let Some(why) = self.producer.take_undelivered() {
                return Err(why);
            }
            if left == 0 {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(format!(
                    "{left} messages were not acknowledged within the transaction timeout"
                ));
            }
            if gives_up() {
                return Err("given up".to_owned());
            }
        }
    }
}

impl From<Damaged> for Failed {
    fn from(_: Damaged) -> Failed {
        "what the state directory holds for delivery is damaged".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_every_call_is_in_the_table_once() {
        let calls = [
            Call::Init,
            Call::Begin,
            Call::Send,
            Call::Drain,
            Call::Commit,
        ];
        for call in calls {
            for class in [Class::Retriable, Class::Other] {
                let rows = TABLE.iter().filter(|row| (row.0, row.1) == (call, class));
                assert_eq!(rows.count(), 1, "{call:?} {class:?}");
            }
        }
        assert_eq!(TABLE.len(), calls.len() * 2);
    }
}
