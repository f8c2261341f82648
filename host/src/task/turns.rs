//! Whose turn it is while letters are replayed: messages that were letters cost more than others (they are decoded twice, and their keys are
//! seldom in a cache), so inputs and the replay queue share the task's time, and not its batches.

use std::time::Duration;

/// The replay queue gets one part of so many, as long as there is something else to do.
const PARTS: u32 = 3;

/// How a task's time is shared between its inputs and its replay queue.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// How long the inputs may work before the queue has its next turn.
    owed: Duration,
}

impl Turns {
    /// Whether the inputs come before the queue.
    pub(super) fn inputs_first(&self) -> bool {
        !self.owed.is_zero()
    }

    /// A step took so long while both had something to do.
    pub(super) fn note(&mut self, of_queue: bool, took: Duration) {
        match of_queue {
            true => self.owed += took * (PARTS - 1),
            false => self.owed = self.owed.saturating_sub(took),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_has_a_third_of_the_time_whatever_its_batches_cost() {
        for (of_input, of_queue) in [(1, 1), (1, 40), (30, 2)] {
            let (mut turns, mut spent) = (Turns::default(), [0; 2]);
            for _ in 0..10_000 {
                let is_queue = !turns.inputs_first();
                let took = if is_queue { of_queue } else { of_input };
                turns.note(is_queue, Duration::from_micros(took));
                spent[usize::from(is_queue)] += took;
            }
            let share = spent[1] * 1_000 / (spent[0] + spent[1]);
            let rounding = 1_000 * of_input / (of_input + of_queue);
            assert!(
                share.abs_diff(333) < 20 + rounding && share > 30,
                "{of_input} {of_queue}: {share}"
            );
        }
    }
}
