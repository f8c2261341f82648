//! Groups of faults: what a person calls "the same error".
//!
//! A flood of equal faults is one warning, and only the first letters of a group carry what is long: the backtrace and what the
//! guest wrote.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::model::shown::{self, LinesMax};
use crate::runtime::Fault;

/// Letters of a group, in a task, that carry its backtrace and standard error.
const DETAILED_LETTERS: u32 = 10;
/// So many groups are remembered. When there are more, all are forgotten.
const GROUPS_MAX: usize = 1_000;
/// Functions of the stack that tell groups apart.
const FUNCTIONS: usize = 3;

/// What a letter carries of a backtrace at most.
const BACKTRACE: LinesMax = LinesMax {
    bytes: 8 << 10,
    line_bytes: 512,
    lines: 128,
};
/// And of standard error.
const STDERR: LinesMax = LinesMax {
    bytes: 4 << 10,
    line_bytes: 1 << 10,
    lines: 64,
};

/// Names a group: eight hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Group([u8; 4]);

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Group {
    /// The group of what has this kind and reason, and happened in these functions, innermost first.
    pub(super) fn of(kind: &str, reason: &str, functions: &[String]) -> Group {
        let mut hash = Sha256::new();
        hash.update(kind);
        hash.update([0]);
        hash.update(without_particulars(reason));
        for function in functions {
            hash.update([0]);
            hash.update(function);
        }
        let [a, b, c, d, ..]: [u8; 32] = hash.finalize().into();
        Group([a, b, c, d])
    }

    pub(super) fn of_fault(fault: &Fault) -> Group {
        let functions = fault.backtrace.functions(FUNCTIONS);
        Group::of(fault.kind.name(), &fault.message, &functions)
    }
}

/// A reason without digits and without what is quoted: those differ from message to message.
fn without_particulars(reason: &str) -> String {
    let mut kept = String::with_capacity(reason.len());
    let mut quote = None;
    for character in reason.chars() {
        match quote {
            Some(end) if character == end => quote = None,
            Some(_) => {}
            None if matches!(character, '"' | '`') => quote = Some(character),
            None if character.is_ascii_digit() => {}
            None => kept.push(character),
        }
    }
    kept
}

/// What a task has met.
#[derive(Debug, Default)]
pub(super) struct Groups {
    seen: HashMap<Group, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    faults: bool,
    passed_over: bool,
    letters: u32,
    /// The lines of the first backtrace: to look them up takes milliseconds.
    backtrace: Option<Arc<str>>,
}

/// What only the first letters of a group carry.
pub(super) struct Details {
    pub(super) backtrace: Arc<str>,
    pub(super) stderr: String,
}

impl Groups {
    fn of(&mut self, group: Group) -> &mut Seen {
        if self.seen.len() >= GROUPS_MAX && !self.seen.contains_key(&group) {
            self.seen.clear();
        }
        self.seen.entry(group).or_default()
    }

    /// Whether a fault is the first of its group.
    pub(super) fn is_new_fault(&mut self, group: Group) -> bool {
        !std::mem::replace(&mut self.of(group).faults, true)
    }

    /// Whether a message is the first of its group that is passed over.
    pub(super) fn is_new_passed_over(&mut self, group: Group) -> bool {
        !std::mem::replace(&mut self.of(group).passed_over, true)
    }

    /// What the next letter of a group carries beside its reason, if it is one of the first.
    pub(super) fn details(&mut self, group: Group, fault: &Fault) -> Option<Details> {
        let seen = self.of(group);
        if seen.letters >= DETAILED_LETTERS {
            return None;
        }
        seen.letters += 1;
        let look_up = || shown::lines(fault.backtrace.text(), BACKTRACE).into();
        Some(Details {
            backtrace: Arc::clone(seen.backtrace.get_or_insert_with(look_up)),
            stderr: shown::lines(fault.stderr.trim_end(), STDERR),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(kind: &str, reason: &str, functions: &[&str]) -> Group {
        let functions: Vec<_> = functions.iter().map(|name| (*name).to_owned()).collect();
        Group::of(kind, reason, &functions)
    }

    #[test]
    fn what_differs_from_message_to_message_makes_no_group_of_its_own() {
        let first = group("trap", "row 17 of \"a.csv\" has 3 fields", &["parse"]);
        assert_eq!(
            first,
            group("trap", "row 4 of \"b.csv\" has 99 fields", &["parse"])
        );
        assert_eq!(first.to_string().len(), 8);
        for other in [
            group("rejected", "row 17 of \"a.csv\" has 3 fields", &["parse"]),
            group("trap", "row 17 of \"a.csv\" has 3 fields", &["read"]),
            group("trap", "line 17 of \"a.csv\" has 3 fields", &["parse"]),
        ] {
            assert_ne!(first, other);
        }
        // A quote that does not end hides the rest, and does no harm.
        assert_eq!(group("trap", "a \"b", &[]), group("trap", "a \"c", &[]));
    }

    #[test]
    fn groups_are_remembered_within_bounds() {
        let mut groups = Groups::default();
        for number in 0..5 * GROUPS_MAX {
            let name = char::from_u32(0x4e00 + u32::try_from(number).unwrap()).unwrap();
            let group = group("trap", &name.to_string(), &[]);
            assert!(groups.is_new_fault(group));
            assert!(!groups.is_new_fault(group));
            assert!(groups.is_new_passed_over(group));
        }
        assert!(groups.seen.len() <= GROUPS_MAX);
    }
}
