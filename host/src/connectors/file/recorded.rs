//! The files of a table as they are recorded: encoded in parts that successive details share.
//!
//! A tree of [`FAN`] branches at each node, by key. Invariant: to record a change takes as much work as the tree is deep,
//! however many files there are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::table::Key;
use crate::model::Detail;

/// The number of files, or nodes, below a node.
const FAN: u32 = 32;

/// Levels of nodes below the root.
const LEVELS: usize = 3;

/// Some files, one after the other.
#[derive(Clone, Default)]
pub(super) struct Part {
    pub files: u32,
    pub entries: Detail,
    pub births: Detail,
}

impl Part {
    fn join<'a>(parts: impl Iterator<Item = &'a Part>) -> Part {
        let (mut files, mut entries, mut births) = (0, Vec::new(), Vec::new());
        for part in parts {
            files += part.files;
            entries.push(part.entries.clone());
            births.push(part.births.clone());
        }
        Part {
            files,
            entries: Detail::join(entries),
            births: Detail::join(births),
        }
    }
}

/// All files, in parts.
#[derive(Default)]
pub(super) struct Recorded {
    /// The lowest first; a node is numbered by the first key below it, divided by the keys that a node there has.
    levels: [BTreeMap<u32, Part>; LEVELS],
    /// Nodes of the lowest level that must be encoded again.
    changed: BTreeSet<u32>,
}

impl Recorded {
    /// A file has changed, come or gone.
    pub fn touch(&mut self, key: Key) {
        self.changed.insert(key / FAN);
    }

    /// Encodes again what has changed; `encode` returns the files of some keys.
    pub fn renew(&mut self, encode: impl Fn(Range<Key>) -> Part) {
        let mut changed = std::mem::take(&mut self.changed);
        for number in &changed {
            self.put(0, *number, encode(below(*number)));
        }
        for level in 1..LEVELS {
            changed = changed.iter().map(|number| number / FAN).collect();
            for number in &changed {
                let nodes = self.levels[level - 1].range(below(*number));
                let part = Part::join(nodes.map(|(_, part)| part));
                self.put(level, *number, part);
            }
        }
    }

    fn put(&mut self, level: usize, number: u32, part: Part) {
        match part.files {
            0 => drop(self.levels[level].remove(&number)),
            _ => drop(self.levels[level].insert(number, part)),
        }
    }

    /// All files, as of when they were last encoded.
    pub fn all(&self) -> Part {
        Part::join(self.levels[LEVELS - 1].values())
    }

    /// How many files come before the node of a key, and where that begins.
    pub fn before(&self, key: Key) -> (u32, Key) {
        assert!(self.changed.is_empty(), "files are counted as they were");
        let (mut files, mut to) = (0, key / FAN);
        for (level, nodes) in self.levels.iter().enumerate() {
            let from = match level + 1 == LEVELS {
                true => 0,
                false => to / FAN * FAN,
            };
            let nodes = nodes.range(from..to);
            files += nodes.map(|(_, part)| part.files).sum::<u32>();
            to /= FAN;
        }
        (files, key / FAN * FAN)
    }
}

/// The keys, or nodes, below a node.
fn below(number: u32) -> Range<u32> {
    let first = number * FAN;
    first..first.saturating_add(FAN)
}
