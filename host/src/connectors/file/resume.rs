//! Finds the files of a recorded position again, and what has happened to them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::Config;
use super::detail::{self, Beginning, Entry};
use super::files::Member;
use super::handle::Handle;
use super::look::{Pattern, Sighting, same_birth};
use super::table::{Key, Known, Table};
use crate::connectors::{OpenAt, SourceError};
use crate::model::{Offset, Position};

/// The files in folders, by inode; each folder is read once.
#[derive(Default)]
struct Folders(HashMap<PathBuf, HashMap<u64, Vec<Sighting>>>);

impl Folders {
    fn find(&mut self, folder: &Path, inode: u64) -> Result<&[Sighting], SourceError> {
        if !self.0.contains_key(folder) {
            let mut by_inode: HashMap<u64, Vec<Sighting>> = HashMap::new();
            for sighting in Pattern::all_in(folder)? {
                by_inode.entry(sighting.inode).or_default().push(sighting);
            }
            self.0.insert(folder.to_owned(), by_inode);
        }
        let found = self.0.get(folder).and_then(|files| files.get(&inode));
        Ok(found.map_or(&[], Vec::as_slice))
    }
}

/// Where a reader begins.
pub(super) struct Found {
    /// Following: how it hears of files.
    pub member: Option<Arc<Member>>,
    /// The file to go on with.
    pub first: Option<Key>,
    /// The number of the next record.
    pub record: Offset,
}

/// Finds the files of the stream and, for a recorded position, what has happened to them.
pub(super) fn find_files(
    config: &Config,
    table: &mut Table,
    at: &OpenAt,
) -> Result<Found, SourceError> {
    let (files, follow) = (&config.files, config.options.follow);
    let (member, sighted) = match follow {
        true => {
            let (member, found) = files.join()?;
            (Some(member), found)
        }
        false => {
            let sightings = files.pattern().look()?.into_iter();
            let handles = sightings.map(|sighting| files.share(sighting));
            (None, handles.collect())
        }
    };
    if sighted.is_empty() && !follow {
        return Err(SourceError::Unsupported(format!(
            "no file matches `{}`",
            files.pattern().text()
        )));
    }
    let (mut entries, mut reading, mut record) = (Vec::new(), None, 0);
    if let OpenAt::Position(Position {
        detail: Some(detail),
        ..
    }) = at
    {
        let unusable = |why: String| {
            SourceError::Unsupported(format!("the recorded position cannot be used: {why}"))
        };
        let cursor;
        (cursor, entries) = detail::decode(&detail.to_vec()).map_err(unusable)?;
        if cursor.division != config.division() {
            return Err(unusable(
                "`key` or `format` has changed, and with them which records belong to which partition; change them back, \
                 or reset the job"
                    .to_owned(),
            ));
        }
        // Records between the position's offset and the cursor's, if any, are of other partitions.
        record = cursor.record;
        reading = cursor.file.map(|file| file as usize);
    }
    let first = resume(config, table, &entries, reading, sighted)?;
    Ok(Found {
        member,
        first,
        record,
    })
}

/// Fills an empty table with the files of a recorded position as far as they are still of interest, and those that were
/// sighted. Returns the file that was being read.
fn resume(
    config: &Config,
    table: &mut Table,
    entries: &[Entry],
    reading: Option<usize>,
    sighted: Vec<Arc<Handle>>,
) -> Result<Option<Key>, SourceError> {
    let (files, follow) = (&config.files, config.options.follow);
    let mut by_inode: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        by_inode.entry(entry.inode).or_default().push(index);
    }
    let mut known: Vec<Option<Known>> = entries.iter().map(|_| None).collect();
    // Their inode has gone to another file: they were deleted after they were read.
    let mut reused = vec![false; entries.len()];
    let mut new = Vec::new();
    for handle in sighted {
        let same_inode = by_inode.get(&handle.id.1).map_or(&[][..], Vec::as_slice);
        let Some(index) = entry_of(entries, same_inode, &handle)? else {
            new.push(handle);
            continue;
        };
        let before = Known::recorded(&entries[index], Arc::clone(&handle));
        let path = recorded_path(&entries[index], files.pattern());
        let elsewhere = before.finished.is_some() && path != handle.path();
        if elsewhere && before.check_beginning(&*handle.file()?).is_err() {
            reused[index] = true;
            new.push(handle);
            continue;
        }
        before.check()?;
        known[index] = Some(before);
        if !follow {
            handle.release();
        }
    }
    let mut folders = Folders::default();
    let mut reading_now = None;
    for (index, entry) in entries.iter().enumerate() {
        let kept = match known[index].take() {
            Some(mut known) => {
                known.finished = still_finished(&known);
                Some(known)
            }
            None if reused[index] => None,
            None if !follow && entry.finished.is_some() => {
                Some(Known::recorded(entry, gone(entry, files.pattern())))
            }
            None => unsighted(config, entry, &mut folders)?,
        };
        let Some(kept) = kept else { continue };
        let key = table.add(kept);
        table.weigh(key)?;
        if reading == Some(index) {
            reading_now = Some(key);
        }
    }
    for handle in new {
        let key = table.add(Known::discovered(handle, follow)?);
        table.weigh(key)?;
    }
    Ok(reading_now)
}

/// Up to where a file has been read to its end, if it has not grown since.
fn still_finished(known: &Known) -> Option<u64> {
    known
        .finished
        .filter(|length| known.handle.length() <= *length)
}

/// Which entry a file is, if any. On another device it must also have the same beginning.
fn entry_of(
    entries: &[Entry],
    same_inode: &[usize],
    handle: &Arc<Handle>,
) -> Result<Option<usize>, SourceError> {
    let born = |index: &&usize| same_birth(entries[**index].born, handle.born);
    let same_device = |index: &&usize| entries[**index].device == handle.id.0;
    if let Some(index) = same_inode.iter().filter(born).find(same_device) {
        return Ok(Some(*index));
    }
    for index in same_inode.iter().filter(born) {
        let beginning = &entries[*index].beginning;
        let file = handle.file()?;
        if beginning.length > 0
            && beginning
                .fits(&file)
                .map_err(super::look::unreadable(handle.path()))?
        {
            return Ok(Some(*index));
        }
    }
    Ok(None)
}

fn recorded_path(entry: &Entry, pattern: &Pattern) -> PathBuf {
    let path = PathBuf::from(OsString::from_vec(entry.path.clone()));
    pattern.base().join(path)
}

/// A file of a bounded stream that was read to its end, and may be gone.
fn gone(entry: &Entry, pattern: &Pattern) -> Arc<Handle> {
    let sighting = Sighting {
        path: recorded_path(entry, pattern),
        device: entry.device,
        inode: entry.inode,
        length: entry.finished.unwrap_or(entry.position),
        modified: SystemTime::UNIX_EPOCH,
        born: entry.born,
    };
    Handle::new(0, sighting, None)
}

/// A file that the pattern does not name any more: looks for it in the folder where it was.
fn unsighted(
    config: &Config,
    entry: &Entry,
    folders: &mut Folders,
) -> Result<Option<Known>, SourceError> {
    let (files, follow) = (&config.files, config.options.follow);
    let path = recorded_path(entry, files.pattern());
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut failed = None;
    let found = folders.find(folder, entry.inode)?.iter();
    for sighting in found.filter(|found| same_birth(found.born, entry.born)) {
        let handle = match follow {
            true => files.adopt(sighting.clone()),
            false => files.share(sighting.clone()),
        };
        let mut known = Known::recorded(entry, handle);
        match known.check() {
            Ok(()) => {
                if follow {
                    let now = known.handle.path();
                    files.say(
                        &path,
                        &format!(
                            "it was renamed to {} while the job did not read it, which is no name of the stream; files that \
                             came after it and were renamed too may have been missed. A pattern that fits the new names \
                             as well, such as `{}*`, misses none",
                            now.display(),
                            files.pattern().text()
                        ),
                    );
                }
                known.finished = still_finished(&known);
                return Ok(Some(known));
            }
            Err(error) => failed = Some(error),
        }
    }
    leave_behind(config, entry, path, failed).map(|()| None)
}

/// What becomes of a file that is under no name any more. `failed`: why what was found is not it.
///
/// # Errors
/// The rest of it is missing.
fn leave_behind(
    config: &Config,
    entry: &Entry,
    path: PathBuf,
    failed: Option<SourceError>,
) -> Result<(), SourceError> {
    let (files, follow) = (&config.files, config.options.follow);
    if let Some(length) = entry.finished {
        files.say(
            &path,
            &format!(
                "it is gone; it was read to its end, {length} bytes, and whether it had more when it went is not known. \
                 Nor are files known that came and were renamed or deleted while the job did not run",
            ),
        );
        return Ok(());
    }
    if entry.position == 0 && entry.beginning == Beginning::default() {
        files.say(&path, "it is gone, and nothing of it was read");
        return Ok(());
    }
    if failed.is_none() && config.options.drop_unread {
        files.say(
            &path,
            &format!(
                "it is gone; when that was last recorded, it was read in part, up to byte {}. What it had after that and was \
                 not committed is lost, how much is not known (`drop-unread`)",
                entry.position
            ),
        );
        return Ok(());
    }
    let else_drop = match follow {
        true => ", set `drop-unread = true` to go on without the rest",
        false => "",
    };
    Err(failed.unwrap_or_else(|| SourceError::Changed {
        path,
        what: format!(
            "it was read in part, up to byte {}, and is gone; bring it back (also under another name){else_drop}, or \
             `reset` the job",
            entry.position
        ),
    }))
}
