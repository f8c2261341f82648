//! What has been read for a task and not processed. Bounded: a reader waits for space, so a slow task holds up its own
//! readers and no others.
//!
//! Each input has a lane, and lanes take turns.

mod lane;
mod read_ahead;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::connectors::{Fetched, SourceError};
use crate::model::{Detail, InputIndex, Offset, Position};
use lane::Lane;
pub use read_ahead::{ReadAhead, Space};

/// Something that a reader found. (Sinks *deliver*.)
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all of them are messages: a box would cost an allocation for each batch"
)]
pub enum Arrival {
    /// Where the reader begins: comes first, and only if no position was stored.
    Begin {
        /// The position there.
        position: Position,
        /// `Some` if another start would choose another position: told when a checkpoint has recorded this one. The reader waits
        /// for that.
        chosen: Option<Recorded>,
    },
    /// Where reading goes on, after something that was not a message of this task.
    Passed(Position),
    /// Messages, as one batch.
    Messages(Fetched),
    /// A record that is not a message.
    Undecodable {
        /// Its offset.
        offset: Offset,
        /// Its bytes, as far as they were read.
        raw: Vec<u8>,
        /// How many bytes it has.
        length: u64,
        /// Why.
        reason: String,
        /// Where reading goes on after it.
        end_detail: Option<Detail>,
    },
    /// There is no more for now, and the job need not wait for more before it ends.
    Lull,
    /// The input has ended.
    End(Position),
    /// The reader failed.
    Failed(SourceError),
}

/// Told when something is recorded by a checkpoint.
pub type Recorded = tokio::sync::oneshot::Sender<()>;

/// The inbox of a task.
#[derive(Debug)]
pub struct Inbox {
    /// One for each input.
    lanes: Vec<Lane>,
    /// The lane whose turn it is. Only the task moves it.
    turn: AtomicUsize,
    read_ahead: Arc<ReadAhead>,
}

impl Inbox {
    /// An empty one.
    pub fn new(inputs: usize, read_ahead: Arc<ReadAhead>) -> Inbox {
        Inbox {
            lanes: (0..inputs).map(|_| Lane::default()).collect(),
            turn: AtomicUsize::new(0),
            read_ahead,
        }
    }

    /// Completes when an arrival of about `bytes` finds space in the lane of an input.
    pub async fn space(&self, input: usize, bytes: usize) -> Space<'_> {
        let lane = &self.lanes[input];
        loop {
            // Asked for before looking, so that neither is missed.
            let (taken, room) = (lane.space.notified(), self.read_ahead.room.notified());
            if lane.has_space(&self.read_ahead, 1) {
                return Space::take(&self.read_ahead, bytes);
            }
            tokio::select! {
                () = taken => {}
                () = room => {}
            }
        }
    }

    /// Whether the lane of an input has space for one arrival and one more.
    pub fn has_space_for_two(&self, input: usize) -> bool {
        self.lanes[input].has_space(&self.read_ahead, 2)
    }

    /// Adds an arrival to the lane of an input.
    pub fn push(&self, input: usize, arrival: Arrival) {
        self.read_ahead.add(arrival.bytes());
        self.lanes[input].push(arrival);
    }

    /// Puts back the rest of a batch: it comes first again.
    pub(super) fn push_front(&self, input: InputIndex, arrival: Arrival) {
        self.read_ahead.add(arrival.bytes());
        self.lanes[input.index()].push_front(arrival);
    }

    /// Takes the oldest arrival of the first lane that has one, from the lane on whose turn it is.
    pub(super) fn next(&self) -> Option<(InputIndex, Arrival)> {
        self.next_among(self.lanes.len())
    }

    /// The same of all lanes but the last.
    pub(super) fn next_but_last(&self) -> Option<(InputIndex, Arrival)> {
        self.next_among(self.lanes.len() - 1)
    }

    fn next_among(&self, lanes: usize) -> Option<(InputIndex, Arrival)> {
        let turn = self.turn.load(Ordering::Relaxed).min(lanes);
        let lanes = (turn..lanes).chain(0..turn);
        let (taken, arrival) = lanes
            .filter_map(|at| Some((at, self.lanes[at].pop()?)))
            .next()?;
        self.turn
            .store((taken + 1) % self.lanes.len(), Ordering::Relaxed);
        let input = InputIndex(u16::try_from(taken).unwrap_or(u16::MAX));
        Some((input, self.taken(arrival)))
    }

    /// Takes the oldest arrival of an input; it is nobody else's turn.
    pub(super) fn next_of(&self, input: InputIndex) -> Option<(InputIndex, Arrival)> {
        let arrival = self.lanes[input.index()].pop()?;
        Some((input, self.taken(arrival)))
    }

    fn taken(&self, arrival: Arrival) -> Arrival {
        self.read_ahead.remove(arrival.bytes());
        arrival
    }

    /// Whether something waits in the last lane, and in another.
    pub(super) fn last_and_others_wait(&self) -> bool {
        let Some((last, others)) = self.lanes.split_last() else {
            return false;
        };
        !last.is_empty() && !others.iter().all(Lane::is_empty)
    }

    /// Whether something of an input waits.
    pub(super) fn has_arrivals(&self, input: InputIndex) -> bool {
        !self.lanes[input.index()].is_empty()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(Lane::is_empty)
    }
}

impl Drop for Inbox {
    /// What was read for a task that is gone is read ahead no more.
    fn drop(&mut self) {
        for lane in &self.lanes {
            while let Some(arrival) = lane.pop() {
                self.read_ahead.remove(arrival.bytes());
            }
        }
    }
}

impl Arrival {
    /// Where reading goes on after it, if it says so.
    pub fn end(&self) -> Option<Position> {
        match self {
            Arrival::Begin { position, .. }
            | Arrival::Passed(position)
            | Arrival::End(position) => Some(position.clone()),
            Arrival::Messages(fetched) => Some(Position {
                next: fetched.offsets.last()? + 1,
                detail: fetched.end_detail.clone(),
            }),
            Arrival::Undecodable {
                offset, end_detail, ..
            } => Some(Position {
                next: offset + 1,
                detail: end_detail.clone(),
            }),
            Arrival::Lull | Arrival::Failed(_) => None,
        }
    }

    /// About what it takes in memory.
    fn bytes(&self) -> usize {
        match self {
            Arrival::Messages(fetched) => {
                fetched.messages.data_len() + fetched.offsets.len() * MESSAGE_BYTES
            }
            Arrival::Undecodable { raw, .. } => raw.len(),
            _ => 0,
        }
    }
}

/// What a message takes in addition to its bytes: offset, timestamp, the ends of key and value.
const MESSAGE_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MessageRef;

    fn arrival(bytes: usize) -> Arrival {
        let mut fetched = Fetched::default();
        fetched.offsets.push(0);
        let value = vec![0; bytes];
        fetched
            .messages
            .push(MessageRef::new(None, Some(&value), 0));
        Arrival::Messages(fetched)
    }

    #[tokio::test]
    async fn what_is_read_ahead_of_all_tasks_is_bounded_and_each_has_something() {
        let read_ahead = Arc::new(ReadAhead::new(1_000));
        let (first, second) = (
            Inbox::new(1, Arc::clone(&read_ahead)),
            Inbox::new(1, Arc::clone(&read_ahead)),
        );
        let space = first.space(0, 500).await;
        first.push(0, arrival(2_000));
        drop(space);
        assert!(read_ahead.bytes() > 1_000);
        // Another task's input has its first arrival all the same, and no second one.
        drop(second.space(0, 500).await);
        second.push(0, arrival(10));
        let more = second.space(0, 500);
        tokio::pin!(more);
        assert!(futures_poll(&mut more).await.is_none());
        assert!(first.next().is_some());
        assert!(
            futures_poll(&mut more).await.is_some(),
            "there is room again"
        );
        assert!(second.next().is_some());
        assert_eq!(read_ahead.bytes(), 0);
        // What a task leaves unread does not count for ever.
        first.push(0, arrival(500));
        drop(first);
        assert_eq!(read_ahead.bytes(), 0);
    }

    #[test]
    fn lanes_take_turns() {
        let inbox = Inbox::new(3, Arc::new(ReadAhead::new(1_000)));
        for input in [0, 0, 0, 2, 2] {
            inbox.push(input, arrival(1));
        }
        let mut order = Vec::new();
        while let Some((input, _)) = inbox.next() {
            order.push(input.0);
            if order.len() == 3 {
                // What is put back has no other turn than the rest of its lane.
                inbox.push_front(input, arrival(1));
            }
        }
        assert_eq!(order, [0, 2, 0, 2, 0, 0]);
    }

    #[test]
    fn the_last_lane_is_left_out() {
        let inbox = Inbox::new(3, Arc::new(ReadAhead::new(1_000)));
        for input in [0, 0, 1, 2] {
            inbox.push(input, arrival(1));
        }
        assert!(inbox.last_and_others_wait());
        let taken = || inbox.next_but_last().map(|(input, _)| input.0);
        assert_eq!(
            [taken(), taken(), taken(), taken()],
            [Some(0), Some(1), Some(0), None]
        );
        assert!(!inbox.last_and_others_wait());
        assert_eq!(inbox.next().map(|(input, _)| input.0), Some(2));
    }

    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<()> {
        tokio::select! {
            biased;
            _ = future => Some(()),
            () = std::future::ready(()) => None,
        }
    }
}
