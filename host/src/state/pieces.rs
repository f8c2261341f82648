//! A range of keys, cut into pieces that hold no more deleted keys than can be passed over at a time.
//!
//! Where the deleted keys are is not known, so a piece that holds too many is halved until it does not. The halves wait on a
//! stack: after a piece comes its other half, then a piece of twice the length. A piece is not tried again at twice the
//! size until a few have been passed.

use super::keys::Order;

/// The number of pieces passed before a longer one is tried.
const PASSED_BEFORE_LONGER: u32 = 8;
/// Bytes of keys that the stack may hold. Beyond that, more is passed over at a time.
const STACK_BYTES: usize = 1 << 20;
/// The most times that a range is halved: the number of bits in a key of 256 bytes. Beyond that, too, more is passed over at a time.
const DEPTH_MAX: u32 = 2_048;

/// What is left of a range.
pub(super) struct Pieces {
    order: Order,
    /// What is left: from, inclusive, to, exclusive.
    from: Vec<u8>,
    to: Vec<u8>,
    /// The cuts in what is left, the nearest one last, and how often the range was halved for each: the next piece on either side
    /// is that fraction of the range.
    cuts: Vec<(Vec<u8>, u32)>,
    bytes: usize,
    /// How often the range was halved for the next piece.
    depth: u32,
    /// How often it should be halved.
    halved: u32,
    passed: u32,
    /// How many deleted keys may be passed over in the next piece.
    limit: u64,
    limit_least: u64,
}

impl Pieces {
    /// A whole range.
    pub(super) fn new(from: Vec<u8>, to: Vec<u8>, order: Order, limit: u64) -> Pieces {
        let mut pieces = Pieces {
            order,
            from,
            to,
            cuts: Vec::new(),
            bytes: 0,
            depth: 0,
            halved: 1,
            passed: 0,
            limit,
            limit_least: limit,
        };
        pieces.halve();
        pieces
    }

    /// The next piece, and how many deleted keys may be passed over in it.
    pub(super) fn next(&self) -> (&[u8], &[u8], u64) {
        match (self.order, self.cuts.last()) {
            (_, None) => (&self.from, &self.to, self.limit),
            (Order::Up, Some((cut, _))) => (&self.from, cut, self.limit),
            (Order::Down, Some((cut, _))) => (cut, &self.to, self.limit),
        }
    }

    /// The piece was empty. Returns false if it was the last one.
    pub(super) fn empty(&mut self) -> bool {
        let Some((cut, depth)) = self.cuts.pop() else {
            return false;
        };
        self.bytes -= cut.len();
        match self.order {
            Order::Up => self.from = cut,
            Order::Down => self.to = cut,
        }
        self.limit = self.limit_least;
        self.passed += 1;
        if self.passed >= PASSED_BEFORE_LONGER {
            // The more pieces in a row, the sooner: the range may have been halved very often for a single key.
            let longer = self.passed - PASSED_BEFORE_LONGER + 1;
            self.halved = self.halved.saturating_sub(longer);
        }
        // The piece after a cut is as long as the one before it.
        self.depth = depth;
        while self.depth < self.halved && self.halve() {}
        true
    }

    /// The piece holds too many deleted keys.
    pub(super) fn full(&mut self) {
        self.passed = 0;
        if self.halve() {
            self.halved = self.depth;
        } else {
            self.limit = self.limit.saturating_mul(2);
        }
    }

    /// Halves the next piece. Returns false if that is not possible.
    fn halve(&mut self) -> bool {
        let (from, to, _) = self.next();
        match middle(from, to) {
            Some(cut) if self.bytes + cut.len() <= STACK_BYTES && self.depth < DEPTH_MAX => {
                self.bytes += cut.len();
                self.depth += 1;
                self.cuts.push((cut, self.depth));
                true
            }
            _ => false,
        }
    }
}

/// A key about half way between two, or `None` if nothing is between them.
fn middle(from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let digit = |key: &[u8], at: usize| key.get(at).copied().map_or(0, u16::from);
    let mut sum = vec![0_u16; from.len().max(to.len()) + 1];
    let mut carry = 0;
    for (at, place) in sum.iter_mut().enumerate().rev() {
        let both = digit(from, at) + digit(to, at) + carry;
        (*place, carry) = (both & 0xff, both >> 8);
    }
    let mut half = Vec::with_capacity(sum.len());
    for place in sum {
        let both = carry << 8 | place;
        carry = both & 1;
        half.push((both >> 1).to_be_bytes()[1]);
    }
    // As short as it can be: it only has to be about half way.
    let differs = (0..half.len()).find(|at| u16::from(half[*at]) != digit(from, *at))?;
    half.truncate(differs + 2);
    (*half > *from && *half < *to).then_some(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_middle_lies_between() {
        let keys: [&[u8]; 12] = [
            b"",
            b"\0",
            b"\0\0",
            b"\x01",
            b"\x01\0",
            b"\x01\x01",
            b"\x01\xff\xff",
            b"\x02",
            b"\x02\0\0\x01",
            b"\x7f",
            b"\xff",
            b"\xff\xff\xff",
        ];
        for (at, from) in keys.iter().enumerate() {
            for to in &keys[at + 1..] {
                let nothing_between =
                    to.starts_with(from) && to[from.len()..].iter().all(|byte| *byte == 0);
                match middle(from, to) {
                    Some(middle) => assert!(
                        *middle > **from && *middle < **to,
                        "{from:?} {to:?}: {middle:?}"
                    ),
                    None => assert!(nothing_between, "{from:?} {to:?}"),
                }
            }
        }
        assert_eq!(middle(b"\x10", b"\x20").as_deref(), Some(&b"\x18\0"[..]));
    }

    /// Walks over a range with these deleted keys. Returns how many keys were passed over, in how many pieces.
    fn pass(deleted: &[Vec<u8>], order: Order, limit: u64) -> (u64, u32) {
        let (from, to) = (b"store".to_vec(), b"storf".to_vec());
        let mut pieces = Pieces::new(from.clone(), to.clone(), order, limit);
        let (mut cost, mut count, mut seen) = (0, 0, 0);
        let mut edge = match order {
            Order::Up => from.clone(),
            Order::Down => to.clone(),
        };
        loop {
            let (low, high, limit) = pieces.next();
            assert!(low < high, "a piece of nothing");
            let begin = deleted.partition_point(|key| **key < *low);
            let end = deleted.partition_point(|key| **key < *high);
            let inside = (end - begin) as u64;
            count += 1;
            if inside > limit {
                cost += limit;
                pieces.full();
                continue;
            }
            let (near, far) = match order {
                Order::Up => (low, high),
                Order::Down => (high, low),
            };
            assert_eq!(near, edge, "the pieces follow one another");
            edge = far.to_vec();
            cost += inside;
            seen += inside;
            if !pieces.empty() {
                break;
            }
        }
        assert_eq!(seen, deleted.len() as u64);
        assert_eq!(edge, if order == Order::Up { to } else { from });
        (cost, count)
    }

    #[test]
    fn a_range_is_passed_over_once_and_in_small_pieces() {
        let key =
            |number: u32| [b"store/timers/", &number.to_be_bytes()[..], b"/of somebody"].concat();
        let deleted: Vec<_> = (0..200_000).map(key).collect();
        for order in [Order::Up, Order::Down] {
            assert_eq!(pass(&[], order, 100).0, 0);
            let (cost, count) = pass(&deleted, order, 100);
            assert!(cost < 2 * 200_000, "{cost}");
            assert!(count < 8_000, "{count}");
        }
        // A key that is too much by itself, for example after very many writes of it.
        let same = vec![key(7); 5_000];
        for order in [Order::Up, Order::Down] {
            let (cost, _) = pass(&same, order, 100);
            assert!(cost < 500_000, "{cost}");
        }
    }
}
