//! Which of many messages a guest fails at: the calls to make after a fault. Outcomes in, the next call out; no guest, clock or
//! disk.
//!
//! A batch that faults is undone, and its messages are *suspects* until they are through. They are tried again in pieces of
//! ⌈√n⌉; the messages of a piece that faults, one by one; one that faults, alone in a new instance. A message is *condemned* when it
//! has failed alone in a new instance so many times. For one bad message among `n` that makes about `2 √n` calls and
//! `3 + attempts` faults: halving would make fewer calls and more faults, and faults are what is dear.
//!
//! Suspects that all pass were too much together: for some time batches are smaller.

/// A batch of no more messages is not tried in pieces.
const FEW: usize = 8;
/// After so many batches that pass, twice as many messages are tried together.
const CLEAN: u32 = 20;

/// Where the search is. It begins and ends with no suspects.
#[derive(Debug)]
pub(super) struct Isolation {
    attempts_max: u32,
    /// Messages that are not through, from the first that waits on.
    suspects: usize,
    /// How many of them are tried together.
    piece: usize,
    /// So many of them, from the first on, are tried one by one.
    singles: usize,
    /// The first is tried alone in a new instance; how often it has failed so.
    alone: Option<u32>,
    /// How many messages were in the batch; 0: they were not too many, whatever comes.
    together: usize,
    limit: Option<Limit>,
}

/// How many messages may be tried together.
#[derive(Debug)]
struct Limit {
    messages: usize,
    /// That many were too many.
    too_many: usize,
    /// Batches that passed since it was set.
    clean: u32,
}

/// A call with the first messages that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    /// How many; of one that is yet to be made all, if fewer wait.
    pub(super) messages: usize,
    /// Whether the instance has processed nothing before.
    pub(super) new_instance: bool,
}

/// What a fault means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is not known yet which message it was.
    Again,
    /// It is the first message that waits.
    Condemned,
}

impl Isolation {
    /// No suspects. `attempts_max`: how often a message must fail alone; at least 1.
    pub(super) fn new(attempts_max: u32) -> Isolation {
        assert!(attempts_max > 0, "nobody is condemned without a fault");
        Isolation {
            attempts_max,
            suspects: 0,
            piece: 0,
            singles: 0,
            alone: None,
            together: 0,
            limit: None,
        }
    }

    /// Whether there are suspects: nothing else of their input may be processed.
    pub(super) fn has_suspects(&self) -> bool {
        self.suspects > 0
    }

    /// Whether what passes matters to it.
    pub(super) fn is_busy(&self) -> bool {
        self.suspects > 0 || self.limit.is_some()
    }

    /// What to try next.
    pub(super) fn next(&self) -> Call {
        let messages = if self.suspects == 0 {
            let limit = self.limit.as_ref();
            limit.map_or(usize::MAX, |limit| limit.messages)
        } else if self.singles > 0 {
            1
        } else {
            self.piece.min(self.suspects)
        };
        Call {
            messages,
            new_instance: self.alone.is_some(),
        }
    }

    /// The first `messages` that waited are processed.
    pub(super) fn passed(&mut self, messages: usize) {
        if self.suspects == 0 {
            self.widen();
            return;
        }
        self.leave(messages);
        if self.suspects == 0 && self.together > 1 {
            self.limit = Some(Limit {
                messages: self.together / 2,
                too_many: self.together,
                clean: 0,
            });
        }
    }

    /// A call came to nothing. `deadline`: the guest's time was over, and to try many together again would take as long.
    pub(super) fn faulted(&mut self, call: Call, deadline: bool) -> Verdict {
        let is_first = self.suspects == 0;
        if is_first {
            self.suspects = call.messages;
            self.together = call.messages;
        }
        if call.messages > 1 {
            let few = deadline || call.messages <= FEW;
            if is_first && !few {
                self.piece = ceil_sqrt(call.messages);
            } else {
                self.singles = call.messages;
            }
            return Verdict::Again;
        }
        self.singles = self.singles.max(1);
        let failed = self.alone.unwrap_or(0) + u32::from(call.new_instance);
        self.alone = Some(failed);
        match failed >= self.attempts_max {
            true => Verdict::Condemned,
            false => Verdict::Again,
        }
    }

    /// How often the first message that waits has failed alone in a new instance.
    pub(super) fn failed_alone(&self) -> u32 {
        self.alone.unwrap_or(0)
    }

    /// What has failed so far counts no more.
    pub(super) fn try_again(&mut self) {
        self.alone = None;
    }

    /// There are no suspects: who failed will fail again.
    pub(super) fn forget(&mut self) {
        self.together = 0;
        self.suspects = 0;
        self.singles = 0;
        self.alone = None;
    }

    /// How many messages are tried together at most, if there is a bound.
    pub(super) fn limit(&self) -> Option<usize> {
        self.limit.as_ref().map(|limit| limit.messages)
    }

    /// The first message that waited is condemned, and dealt with.
    pub(super) fn condemned(&mut self) {
        self.together = 0;
        self.leave(1);
    }

    /// A call with `messages` was undone because the message at `index` must not be passed: those before it are to be processed
    /// first. Not for a call with one message.
    pub(super) fn stop_before(&mut self, index: usize, messages: usize) {
        match self.suspects {
            0 => {
                self.suspects = index + 1;
                self.piece = index.max(1);
            }
            _ => self.singles = messages,
        }
        self.together = 0;
    }

    /// The first message that waits was undone, and is to be tried again before others.
    pub(super) fn suspect_first(&mut self) {
        self.suspects = self.suspects.max(1);
        self.singles = self.singles.max(1);
        self.together = 0;
    }

    fn leave(&mut self, messages: usize) {
        self.suspects = self.suspects.saturating_sub(messages);
        self.singles = self.singles.saturating_sub(messages);
        self.alone = None;
        if self.suspects == 0 {
            self.singles = 0;
        }
    }

    /// A batch passed at once.
    fn widen(&mut self) {
        let Some(limit) = &mut self.limit else { return };
        limit.clean += 1;
        if limit.clean >= CLEAN {
            limit.clean = 0;
            limit.messages *= 2;
            if limit.messages >= limit.too_many {
                self.limit = None;
            }
        }
    }
}

fn ceil_sqrt(n: usize) -> usize {
    let root = n.isqrt();
    root + usize::from(root * root < n)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTEMPTS: u32 = 2;

    /// A guest of which the messages 0.. fail in different ways.
    #[derive(Clone, Default)]
    struct Guest {
        /// Messages that always fail.
        poison: u32,
        /// Messages that fail once.
        flaky: u32,
        /// More messages in a call fail.
        together_max: usize,
        /// Calls with a fault are over because of the deadline.
        deadline: bool,
        /// One message a call.
        message_world: bool,
    }

    #[derive(Default)]
    struct Seen {
        processed: Vec<usize>,
        condemned: Vec<usize>,
        calls: usize,
        faults: usize,
    }

    /// What becomes of messages 0 to `count`, in one batch.
    fn run(mut guest: Guest, count: usize) -> Seen {
        let (mut isolation, mut seen) = (Isolation::new(ATTEMPTS), Seen::default());
        let (mut at, mut is_new) = (0, false);
        while at < count {
            let attempt = isolation.next();
            is_new |= attempt.new_instance;
            let messages = match guest.message_world {
                true => 1,
                false => attempt.messages.min(count - at),
            };
            seen.calls += 1;
            assert!(seen.calls < 10_000, "it does not end");
            let called = at..at + messages;
            let failing: u32 = called.clone().map(|message| 1 << message).sum();
            let fails =
                (guest.poison | guest.flaky) & failing != 0 || messages > guest.together_max;
            // A flaky one that was met is so no more; the first of them ends the call.
            let met = called
                .clone()
                .find(|message| guest.flaky >> message & 1 == 1);
            if let Some(met) = met {
                guest.flaky &= !(1 << met);
            }
            if !fails {
                seen.processed.extend(called);
                at += messages;
                isolation.passed(messages);
                is_new = false;
                continue;
            }
            seen.faults += 1;
            let call = Call {
                messages,
                new_instance: is_new,
            };
            let verdict = isolation.faulted(call, guest.deadline);
            is_new = true;
            if verdict == Verdict::Condemned {
                assert_eq!(messages, 1);
                seen.condemned.push(at);
                at += 1;
                isolation.condemned();
            }
        }
        assert!(!isolation.has_suspects() || count == 0);
        seen
    }

    fn in_order(seen: &Seen, poison: u32, count: usize) {
        let is_bad = |message: &usize| poison >> message & 1 == 1;
        let (bad, good): (Vec<usize>, Vec<usize>) = (0..count).partition(is_bad);
        assert_eq!(seen.condemned, bad);
        assert_eq!(seen.processed, good);
    }

    #[test]
    fn exactly_the_poison_of_every_small_batch_is_condemned_in_order() {
        for count in 0..=12 {
            for poison in 0..1 << count {
                for (deadline, message_world) in [(false, false), (true, false), (false, true)] {
                    let guest = Guest {
                        poison,
                        together_max: usize::MAX,
                        deadline,
                        message_world,
                        ..Guest::default()
                    };
                    let seen = run(guest, count);
                    in_order(&seen, poison, count);
                    let bad = poison.count_ones() as usize;
                    // A batch, its pieces, and what fails in each.
                    let faults = 1 + bad * (2 + ATTEMPTS as usize);
                    assert!(seen.faults <= faults.min(1 + 4 + bad * 3), "{poison:b}");
                    assert!(seen.calls <= 1 + 4 + count + bad * 3, "{poison:b}");
                }
            }
        }
    }

    #[test]
    fn who_fails_once_and_who_fails_beside_others_is_innocent() {
        for count in 0..=12_usize {
            for flaky in 0..1 << count {
                for poison in [0, 0b1, 0b10_0100_0000, 0b111] {
                    let poison = poison & ((1 << count) - 1) & !flaky;
                    for message_world in [false, true] {
                        let guest = Guest {
                            poison,
                            flaky,
                            together_max: usize::MAX,
                            message_world,
                            ..Guest::default()
                        };
                        in_order(&run(guest, count), poison, count);
                    }
                }
            }
            for together_max in 1..=count {
                for deadline in [false, true] {
                    let guest = Guest {
                        together_max,
                        deadline,
                        ..Guest::default()
                    };
                    in_order(&run(guest, count), 0, count);
                }
            }
        }
    }

    #[test]
    fn one_bad_message_in_500_costs_no_more_than_50_calls_and_5_faults() {
        for bad in 0..500 {
            let (mut isolation, mut calls, mut faults) = (Isolation::new(ATTEMPTS), 0, 0);
            let (mut at, mut is_new) = (0, false);
            while at < 500 {
                let attempt = isolation.next();
                let messages = attempt.messages.min(500 - at);
                is_new |= attempt.new_instance;
                calls += 1;
                if !(at..at + messages).contains(&bad) {
                    at += messages;
                    isolation.passed(messages);
                    is_new = false;
                    continue;
                }
                faults += 1;
                let call = Call {
                    messages,
                    new_instance: is_new,
                };
                is_new = true;
                if isolation.faulted(call, false) == Verdict::Condemned {
                    assert_eq!(at, bad);
                    at += 1;
                    isolation.condemned();
                }
            }
            assert!(calls <= 50, "{calls} calls for message {bad}");
            assert!(faults <= 3 + ATTEMPTS, "{faults} faults for message {bad}");
        }
    }

    #[test]
    fn batches_that_were_too_much_together_become_smaller_and_grow_again() {
        let mut isolation = Isolation::new(ATTEMPTS);
        let call = Call {
            messages: 100,
            new_instance: false,
        };
        assert_eq!(isolation.faulted(call, true), Verdict::Again);
        for _ in 0..100 {
            assert_eq!(isolation.next().messages, 1);
            isolation.passed(1);
        }
        assert_eq!(isolation.next().messages, 50);
        (0..CLEAN).for_each(|_| isolation.passed(50));
        assert_eq!(isolation.next().messages, usize::MAX);
    }

    #[test]
    fn what_comes_before_a_message_that_must_not_be_passed_is_processed_first() {
        let mut isolation = Isolation::new(ATTEMPTS);
        isolation.stop_before(7, 20);
        assert_eq!(isolation.next().messages, 7);
        isolation.passed(7);
        assert_eq!(isolation.next().messages, 1);
        assert!(isolation.has_suspects());
        let mut isolation = Isolation::new(ATTEMPTS);
        isolation.stop_before(0, 20);
        assert_eq!(isolation.next().messages, 1);
        isolation.passed(1);
        assert_eq!(isolation.next().messages, usize::MAX);
    }
}
