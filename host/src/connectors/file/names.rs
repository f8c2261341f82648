//! Which paths lead to files of a followed stream, according to the events in their folders.
//!
//! It reads and opens nothing. Invariant: if no event was lost, [`Names`] has the current path of each file that ever
//! had one of the stream's names, whatever its name is now and whether it has been opened or not.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::handle::Id;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happened {
    /// A file of this name was made.
    Created,
    /// The file was renamed, from this name.
    From(u32),
    /// The file was renamed, to this name.
    To(u32),
    Deleted,
    /// The file was written to.
    Written,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Leads {
    /// A file that has not been opened yet; the number, which grows, tells it from the next one of that name.
    Unseen(u64),
    To(Id),
}

/// What an event means for the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// There is a file to look at.
    Unseen,
    Written(Id),
    Renamed(Id),
    /// The file has lost the name that it had.
    Deleted(Id),
    /// A file came and went, and was never opened.
    Missed(PathBuf),
}

/// The paths of a stream's files.
#[derive(Default)]
pub(super) struct Names {
    paths: HashMap<PathBuf, Leads>,
    /// Renamed from one of the paths, and the new name is not known yet.
    moving: HashMap<u32, (PathBuf, Leads)>,
    /// The number of paths to files that have not been opened.
    unseen: usize,
    number: u64,
}

impl Names {
    /// Takes an event; `fits` says whether a path is one of the stream's names.
    pub fn hear(
        &mut self,
        path: &Path,
        happened: Happened,
        fits: impl Fn(&Path) -> bool,
    ) -> Vec<Meaning> {
        let mut meanings = Vec::new();
        match happened {
            Happened::Written => {
                if let Some(Leads::To(id)) = self.paths.get(path) {
                    meanings.push(Meaning::Written(*id));
                }
            }
            Happened::Created if fits(path) => {
                meanings.extend(self.lose(path));
                let number = self.next();
                self.unseen_at(path, number);
                meanings.push(Meaning::Unseen);
            }
            Happened::Created => meanings.extend(self.lose(path)),
            Happened::Deleted => meanings.extend(self.lose(path)),
            Happened::From(cookie) => match self.take(path) {
                Some(leads) => drop(self.moving.insert(cookie, (path.to_owned(), leads))),
                // It came before the folder was watched.
                None if fits(path) => {
                    let leads = Leads::Unseen(self.next());
                    self.moving.insert(cookie, (path.to_owned(), leads));
                }
                None => {}
            },
            Happened::To(cookie) => {
                meanings.extend(self.lose(path));
                match self.moving.remove(&cookie) {
                    Some((_, Leads::To(id))) => {
                        self.lead(path, id);
                        meanings.push(Meaning::Renamed(id));
                    }
                    Some((_, Leads::Unseen(number))) => {
                        self.unseen_at(path, number);
                        meanings.push(Meaning::Unseen);
                    }
                    None if fits(path) => {
                        let number = self.next();
                        self.unseen_at(path, number);
                        meanings.push(Meaning::Unseen);
                    }
                    None => {}
                }
            }
        }
        meanings
    }

    /// Where a path leads.
    pub fn get(&self, path: &Path) -> Option<Leads> {
        self.paths.get(path).copied()
    }

    /// A path was seen to lead to a file.
    pub fn lead(&mut self, path: &Path, id: Id) {
        self.take(path);
        self.paths.insert(path.to_owned(), Leads::To(id));
    }

    /// Forgets a path.
    pub fn take(&mut self, path: &Path) -> Option<Leads> {
        let leads = self.paths.remove(path);
        self.unseen -= usize::from(matches!(leads, Some(Leads::Unseen(_))));
        leads
    }

    /// The paths of files that have not been opened.
    pub fn unseen(&self) -> Vec<(PathBuf, Leads)> {
        if self.unseen == 0 {
            return Vec::new();
        }
        let unseen = |(path, leads): (&PathBuf, &Leads)| {
            matches!(leads, Leads::Unseen(_)).then(|| (path.clone(), *leads))
        };
        self.paths.iter().filter_map(unseen).collect()
    }

    /// Forgets files that were renamed long ago to an unwatched folder. Returns those that had not been opened.
    pub fn give_up_moving(&mut self) -> Vec<PathBuf> {
        let moved = self.moving.drain().map(|(_, moved)| moved);
        moved
            .filter(|(_, leads)| matches!(leads, Leads::Unseen(_)))
            .map(|(path, _)| path)
            .collect()
    }

    /// Forgets the paths whose files are not kept.
    pub fn retain(&mut self, kept: impl Fn(Id) -> bool) {
        self.paths.retain(|_, leads| match leads {
            Leads::To(id) => kept(*id),
            Leads::Unseen(_) => true,
        });
    }

    fn unseen_at(&mut self, path: &Path, number: u64) {
        self.take(path);
        self.paths.insert(path.to_owned(), Leads::Unseen(number));
        self.unseen += 1;
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// The file at a path is gone.
    fn lose(&mut self, path: &Path) -> Option<Meaning> {
        self.take(path).map(|leads| match leads {
            Leads::To(id) => Meaning::Deleted(id),
            Leads::Unseen(_) => Meaning::Missed(path.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::default()
    }

    fn hear(names: &mut Names, path: &str, happened: Happened) -> Vec<Meaning> {
        names.hear(Path::new(path), happened, |path| path == Path::new("/l"))
    }

    fn rename(names: &mut Names, from: &str, to: &str, cookie: u32) -> Vec<Meaning> {
        let mut meanings = hear(names, from, Happened::From(cookie));
        meanings.extend(hear(names, to, Happened::To(cookie)));
        meanings
    }

    fn unseen(names: &Names) -> Vec<String> {
        let mut paths: Vec<String> = names
            .unseen()
            .into_iter()
            .map(|(path, _)| path.display().to_string())
            .collect();
        paths.sort();
        paths
    }

    #[test]
    fn what_had_the_name_is_followed_through_rotations() {
        let mut names = names();
        names.lead(Path::new("/l"), (1, 1));
        // A file from elsewhere is renamed first, and is not one of the stream's.
        assert_eq!(rename(&mut names, "/l.1", "/l.2", 1), []);
        assert_eq!(
            rename(&mut names, "/l", "/l.1", 2),
            [Meaning::Renamed((1, 1))]
        );
        assert_eq!(hear(&mut names, "/l", Happened::Created), [Meaning::Unseen]);
        rename(&mut names, "/l.2", "/l.3", 3);
        assert_eq!(
            rename(&mut names, "/l.1", "/l.2", 4),
            [Meaning::Renamed((1, 1))]
        );
        assert_eq!(rename(&mut names, "/l", "/l.1", 5), [Meaning::Unseen]);
        hear(&mut names, "/l", Happened::Created);
        assert_eq!(unseen(&names), ["/l", "/l.1"]);
        assert_eq!(names.get(Path::new("/l.2")), Some(Leads::To((1, 1))));
        assert_eq!(names.get(Path::new("/l.3")), None);
        assert_eq!(
            hear(&mut names, "/l.2", Happened::Written),
            [Meaning::Written((1, 1))]
        );
        assert_eq!(
            hear(&mut names, "/l.2", Happened::Deleted),
            [Meaning::Deleted((1, 1))]
        );
    }

    #[test]
    fn a_file_that_went_unseen_is_reported() {
        let mut names = names();
        hear(&mut names, "/l", Happened::Created);
        let missed = |path: &str| vec![Meaning::Missed(PathBuf::from(path))];
        assert_eq!(hear(&mut names, "/l", Happened::Deleted), missed("/l"));
        hear(&mut names, "/l", Happened::Created);
        rename(&mut names, "/l", "/m", 1);
        assert_eq!(rename(&mut names, "/x", "/m", 2), missed("/m"));
        hear(&mut names, "/l", Happened::Created);
        hear(&mut names, "/l", Happened::From(3));
        assert_eq!(unseen(&names), [""; 0]);
        assert_eq!(names.give_up_moving(), [PathBuf::from("/l")]);
        assert!(names.give_up_moving().is_empty());
    }

    #[test]
    fn a_file_that_is_renamed_onto_the_name_takes_its_place() {
        let mut names = names();
        names.lead(Path::new("/l"), (1, 1));
        assert_eq!(
            rename(&mut names, "/new", "/l", 1),
            [Meaning::Deleted((1, 1)), Meaning::Unseen]
        );
        assert_eq!(unseen(&names), ["/l"]);
    }
}
