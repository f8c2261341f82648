//! Ranges that scans of a task found empty, so that the next scan need not pass over the same deleted keys again.
//!
//! A gap is a range without an entry in what the task reads: through its layers, as of its last write. A put into it makes it
//! shorter; an undo forgets what was found since the mark. Commits do not matter: they change what lies in which layer, not
//! what the task reads. So there is nothing to share with the commit's thread.

/// The number of gaps remembered for each store.
const GAPS: usize = 4;
/// Gaps between longer keys than this are not remembered.
const KEY_BYTES: usize = 1 << 10;

/// The gaps of a store.
#[derive(Default)]
pub(super) struct Gaps {
    gaps: Vec<Gap>,
    /// The gap that is replaced next.
    oldest: usize,
}

/// No entry lies from `from`, inclusive, to `to`, exclusive (`None`: open).
struct Gap {
    from: Vec<u8>,
    to: Option<Vec<u8>>,
    /// The number of the task's last write when it was found.
    number: u64,
}

impl Gaps {
    /// A scan found no entry in a range.
    pub(super) fn note(&mut self, from: &[u8], to: Option<&[u8]>, number: u64) {
        if to.is_some_and(|to| to <= from || to.len() > KEY_BYTES) || from.len() > KEY_BYTES {
            return;
        }
        let touches = |gap: &&mut Gap| {
            gap.to.as_deref().is_none_or(|end| from <= end) && to.is_none_or(|to| *gap.from <= *to)
        };
        if let Some(gap) = self.gaps.iter_mut().find(touches) {
            if *from < *gap.from {
                gap.from = from.to_vec();
            }
            if let Some(end) = &gap.to
                && to.is_none_or(|to| **end < *to)
            {
                gap.to = to.map(<[u8]>::to_vec);
            }
            gap.number = number;
            return;
        }
        let gap = Gap {
            from: from.to_vec(),
            to: to.map(<[u8]>::to_vec),
            number,
        };
        if self.gaps.len() < GAPS {
            self.gaps.push(gap);
        } else {
            self.oldest = (self.oldest + 1) % GAPS;
            self.gaps[self.oldest] = gap;
        }
    }

    /// A key is set.
    pub(super) fn put(&mut self, key: &[u8]) {
        if self.gaps.is_empty() {
            return;
        }
        self.gaps.retain_mut(|gap| {
            if *gap.from <= *key && gap.to.as_deref().is_none_or(|to| key < to) {
                gap.to = Some(key.to_vec());
            }
            gap.to.as_ref().is_none_or(|to| gap.from < *to)
        });
    }

    /// Writes after `number` are undone.
    pub(super) fn undo_to(&mut self, number: u64) {
        self.gaps.retain(|gap| gap.number <= number);
    }

    /// Anything may have been undone.
    pub(super) fn clear(&mut self) {
        self.gaps.clear();
    }

    /// The key at which a scan up from `start` may begin; `None` if there is nothing from there on.
    pub(super) fn first_from(&self, start: &[u8]) -> Option<Vec<u8>> {
        let mut start = start.to_vec();
        // A gap that begins where another ends has become one with it, unless they grew towards each other.
        for _ in 0..GAPS {
            let inside =
                |gap: &&Gap| gap.from <= start && gap.to.as_ref().is_none_or(|to| start < *to);
            let Some(gap) = self.gaps.iter().find(inside) else {
                break;
            };
            start = gap.to.clone()?;
        }
        Some(start)
    }

    /// The key at which a scan down from `end` may begin.
    pub(super) fn last_before(&self, end: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let mut end = end;
        for _ in 0..GAPS {
            let inside = |gap: &&Gap| match (&end, &gap.to) {
                (None, to) => to.is_none(),
                (Some(end), to) => gap.from < *end && to.as_ref().is_none_or(|to| end <= to),
            };
            let Some(gap) = self.gaps.iter().find(inside) else {
                break;
            };
            end = Some(gap.from.clone());
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(gaps: &Gaps, start: &str) -> Option<String> {
        let first = gaps.first_from(start.as_bytes());
        first.map(|key| String::from_utf8(key).expect("a text"))
    }

    fn last(gaps: &Gaps, end: Option<&str>) -> Option<String> {
        let last = gaps.last_before(end.map(Into::into));
        last.map(|key| String::from_utf8(key).expect("a text"))
    }

    #[test]
    fn scans_begin_behind_what_was_found_empty() {
        let mut gaps = Gaps::default();
        gaps.note(b"b", Some(b"d"), 1);
        assert_eq!(first(&gaps, "a").as_deref(), Some("a"));
        assert_eq!(first(&gaps, "b").as_deref(), Some("d"));
        assert_eq!(first(&gaps, "c").as_deref(), Some("d"));
        assert_eq!(first(&gaps, "d").as_deref(), Some("d"));
        assert_eq!(last(&gaps, Some("b")).as_deref(), Some("b"));
        assert_eq!(last(&gaps, Some("c")).as_deref(), Some("b"));
        assert_eq!(last(&gaps, Some("d")).as_deref(), Some("b"));
        assert_eq!(last(&gaps, Some("e")).as_deref(), Some("e"));
        assert_eq!(last(&gaps, None), None);
        gaps.note(b"d", Some(b"f"), 2);
        assert_eq!(first(&gaps, "b").as_deref(), Some("f"));
        gaps.note(b"a", None, 3);
        assert_eq!(first(&gaps, "a"), None);
        assert_eq!(last(&gaps, None).as_deref(), Some("a"));
    }

    #[test]
    fn a_put_ends_a_gap_and_an_undo_forgets_it() {
        let mut gaps = Gaps::default();
        gaps.note(b"b", None, 5);
        gaps.put(b"a");
        assert_eq!(first(&gaps, "b"), None);
        gaps.put(b"c");
        assert_eq!(first(&gaps, "b").as_deref(), Some("c"));
        assert_eq!(first(&gaps, "c").as_deref(), Some("c"));
        gaps.put(b"b");
        assert_eq!(first(&gaps, "b").as_deref(), Some("b"));
        gaps.note(b"b", Some(b"d"), 5);
        gaps.undo_to(5);
        assert_eq!(first(&gaps, "b").as_deref(), Some("d"));
        gaps.undo_to(4);
        assert_eq!(first(&gaps, "b").as_deref(), Some("b"));
    }

    #[test]
    fn few_gaps_are_remembered() {
        let mut gaps = Gaps::default();
        for number in 0..100_u8 {
            gaps.note(&[2 * number], Some(&[2 * number + 1]), 0);
        }
        assert_eq!(gaps.gaps.len(), GAPS);
        gaps.note(&[7; 2000], None, 0);
        assert_eq!(gaps.first_from(&[7; 2000]), Some(vec![7; 2000]));
    }
}
