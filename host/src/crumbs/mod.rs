//! Which message a process died at, if it did: crumbs that are left before each batch, and found by the next start.
//!
//! A file of the state directory has a slot for each thread: the task, the stream and the offsets of the last batch that it took. It is
//! written without a sync: it must survive the process, not the machine. Its header says how the process ended, as far as it could
//! tell ([`death`]). After a death by itself (an abort, a fatal signal, the kernel's OOM killer) the batches that threads had taken are
//! *suspects*: the next start processes their messages one by one, while no other call runs in the process. A message at which the
//! process has died twice like that is taken to be at fault, without a call. A process that was killed from outside, or a machine
//! that lost power, makes nobody suspect.
//!
//! Must never know guests, tasks or the database: ids and offsets are numbers here.

mod death;

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use death::watch;

use crate::model::{Offset, PartitionId, StageId, StreamId, TaskId};

const MAGIC: &[u8; 8] = b"WHCRUMB1";
/// Header, and each slot.
const BLOCK: usize = 64;
/// Threads beyond these leave no crumbs.
const SLOTS: usize = 256;
/// Where the suspects are: a count, a checksum, and the entries.
const SUSPECTS_AT: usize = BLOCK * (1 + SLOTS);
const SUSPECT: usize = 40;
/// More are not remembered.
const SUSPECTS_MAX: usize = 1_024;

/// So often a process must have died with a message alone in a call.
pub const DEATHS: u32 = 2;

/// Messages of a stream, one of which a process may have died at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspects {
    /// Their task.
    pub task: TaskId,
    /// Their stream.
    pub stream: StreamId,
    /// The offset of the first.
    pub first: Offset,
    /// The offset of the last.
    pub last: Offset,
    /// How often the process died with the only one of them alone in a call.
    pub alone: u32,
}

impl Suspects {
    fn write(&self, state: u8, block: &mut [u8]) {
        block[4] = state;
        block[6..8].copy_from_slice(&self.task.stage.0.to_le_bytes());
        block[8..12].copy_from_slice(&self.task.partition.0.to_le_bytes());
        block[12..14].copy_from_slice(&self.stream.0.to_le_bytes());
        block[16..24].copy_from_slice(&self.first.to_le_bytes());
        block[24..32].copy_from_slice(&self.last.to_le_bytes());
        block[32..36].copy_from_slice(&self.alone.to_le_bytes());
        let crc = crc32c::crc32c(&block[4..SUSPECT]);
        block[..4].copy_from_slice(&crc.to_le_bytes());
    }

    /// What was written, and its state; `None` for anything else.
    fn read(block: &[u8]) -> Option<(Suspects, u8)> {
        let bytes = block.get(..SUSPECT)?;
        let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let u16_at = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        if u32_at(0)? != crc32c::crc32c(&bytes[4..]) {
            return None;
        }
        let task = TaskId {
            stage: StageId(u16_at(6)?),
            partition: PartitionId(u32_at(8)?),
        };
        let suspects = Suspects {
            task,
            stream: StreamId(u16_at(12)?),
            first: u64_at(16)?,
            last: u64_at(24)?,
            alone: u32_at(32)?,
        };
        Some((suspects, bytes[4]))
    }

    fn is_one(&self) -> bool {
        self.first == self.last
    }

    fn covers(&self, other: &Suspects) -> bool {
        (self.task, self.stream) == (other.task, other.stream)
            && self.first <= other.first
            && other.last <= self.last
    }
}

/// A slot without a call.
const NONE: u8 = 0;
/// A batch was taken.
const TAKEN: u8 = 1;
/// A message is alone in a call, and no other call runs.
const ALONE: u8 = 2;

/// The crumbs of a process.
#[derive(Debug)]
pub struct Crumbs {
    file: File,
    /// What is not known to be innocent.
    suspects: Mutex<Vec<Suspects>>,
    /// How many they are.
    open: AtomicUsize,
    /// Held in each call while there are any; by a call of a suspect alone.
    calls: RwLock<()>,
}

thread_local! {
    /// The slot of this thread; 0: none yet.
    static SLOT: Cell<usize> = const { Cell::new(0) };
}

/// How many threads have a slot.
static THREADS: AtomicUsize = AtomicUsize::new(0);

impl Crumbs {
    /// Reads what the process before has left, and begins anew.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path) -> io::Result<Crumbs> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(path)?;
        let mut former = vec![0; SUSPECTS_AT + BLOCK + SUSPECTS_MAX * SUSPECT];
        let read = read_up_to(&file, &mut former)?;
        former.truncate(read);
        let suspects = suspects(&former);
        if !suspects.is_empty() {
            tracing::warn!(
                "the process died with messages in a call: {} of them, or batches of them, are processed one by one until it is known which it was",
                suspects.len()
            );
        }
        let mut begun = vec![0; SUSPECTS_AT];
        begun[..8].copy_from_slice(MAGIC);
        begun[16..24].copy_from_slice(&death::oom_kills().to_le_bytes());
        let boot = death::boot_id();
        begun[24..24 + boot.len()].copy_from_slice(&boot);
        let crumbs = Crumbs {
            file,
            open: AtomicUsize::new(suspects.len()),
            suspects: Mutex::new(suspects),
            calls: RwLock::new(()),
        };
        // First who is suspect: what the header says of the former process is what made them so.
        crumbs.note_suspects(&crumbs.suspects.lock())?;
        crumbs.file.write_all_at(&begun, 0)?;
        death::note_in(&crumbs.file)?;
        Ok(crumbs)
    }

    /// The suspects of a task.
    pub fn of(&self, task: TaskId) -> Vec<Suspects> {
        let suspects = self.suspects.lock();
        let own = suspects.iter().filter(|suspects| suspects.task == task);
        own.copied().collect()
    }

    /// Waits while a suspect is alone in a call; `None` if nobody is suspect.
    pub fn with_others(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let is_careful = self.open.load(Ordering::Relaxed) > 0;
        is_careful.then(|| self.calls.read())
    }

    /// Waits until no other call runs.
    pub fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.calls.write()
    }

    /// A batch is taken. `alone`: it is one message, and no other call runs.
    pub fn begin(&self, batch: &Suspects, alone: bool) {
        let mut block = [0; SUSPECT];
        batch.write(if alone { ALONE } else { TAKEN }, &mut block);
        self.leave(&block);
    }

    /// It is through.
    pub fn end(&self) {
        self.leave(&[NONE; SUSPECT]);
    }

    fn leave(&self, block: &[u8]) {
        let slot = SLOT.with(|slot| {
            if slot.get() == 0 {
                slot.set(1 + THREADS.fetch_add(1, Ordering::Relaxed));
            }
            slot.get()
        });
        if slot <= SLOTS {
            // Without a crumb a death is not understood, and nothing else is worse.
            let _ = self.file.write_all_at(block, (slot * BLOCK) as u64);
        }
    }

    /// Suspects are through, or their task knows better.
    pub fn clear(&self, innocent: &Suspects) {
        let mut suspects = self.suspects.lock();
        suspects.retain(|suspects| suspects != innocent);
        self.open.store(suspects.len(), Ordering::Relaxed);
        if let Err(error) = self.note_suspects(&suspects) {
            tracing::warn!("the file `crumbs` cannot be written: {error}");
        }
    }

    /// The process ends in good order.
    pub fn close(&self) {
        let _ = self.file.write_all_at(&death::IN_ORDER.to_le_bytes(), 8);
    }

    fn note_suspects(&self, suspects: &[Suspects]) -> io::Result<()> {
        let count = suspects.len().min(SUSPECTS_MAX);
        let mut area = vec![0; BLOCK + count * SUSPECT];
        area[..4].copy_from_slice(&u32::try_from(count).unwrap_or(0).to_le_bytes());
        for (suspects, block) in suspects.iter().zip(area[BLOCK..].chunks_mut(SUSPECT)) {
            suspects.write(TAKEN, block);
        }
        self.file.write_all_at(&area, SUSPECTS_AT as u64)
    }
}

fn read_up_to(file: &File, into: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < into.len() {
        match file.read_at(&mut into[read..], read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

/// Who is suspect after what a process has left.
fn suspects(former: &[u8]) -> Vec<Suspects> {
    if former.get(..8) != Some(MAGIC) || former.len() < SUSPECTS_AT {
        return Vec::new();
    }
    let area = &former[SUSPECTS_AT..];
    let count = area
        .first_chunk()
        .map_or(0, |count| u32::from_le_bytes(*count) as usize);
    let entries = area.get(BLOCK..).unwrap_or_default().chunks(SUSPECT);
    let before = entries
        .take(count.min(SUSPECTS_MAX))
        .filter_map(Suspects::read);
    let before: Vec<Suspects> = before.map(|(suspects, _)| suspects).collect();
    match death::of(former) {
        death::Death::InOrder => Vec::new(),
        death::Death::FromOutside => before,
        death::Death::ByItself => {
            let slots = former[BLOCK..SUSPECTS_AT].chunks(BLOCK);
            after_death(before, slots.filter_map(Suspects::read))
        }
    }
}

/// Who is suspect after a death: who was before, and who was in a call.
fn after_death(
    mut suspects: Vec<Suspects>,
    in_call: impl Iterator<Item = (Suspects, u8)>,
) -> Vec<Suspects> {
    for (batch, state) in in_call {
        let alone = u32::from(state == ALONE && batch.is_one());
        let is_it = |known: &Suspects| known.is_one() && known.covers(&batch);
        if let Some(known) = suspects.iter_mut().find(|known| is_it(known)) {
            known.alone += alone;
        } else if alone > 0 || state == TAKEN && !suspects.iter().any(|all| all.covers(&batch)) {
            // One that was alone is nearer than the batch that it is of.
            suspects.push(Suspects { alone, ..batch });
        }
    }
    suspects.truncate(SUSPECTS_MAX);
    suspects
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first: Offset, last: Offset) -> Suspects {
        Suspects {
            task: TaskId {
                stage: StageId(1),
                partition: PartitionId(2),
            },
            stream: StreamId(3),
            first,
            last,
            alone: 0,
        }
    }

    #[test]
    fn the_first_death_names_the_batch_and_the_next_two_the_message() {
        let first = after_death(Vec::new(), [(batch(10, 19), TAKEN)].into_iter());
        assert_eq!(first, [batch(10, 19)]);
        let second = after_death(first, [(batch(14, 14), ALONE)].into_iter());
        let once = Suspects {
            alone: 1,
            ..batch(14, 14)
        };
        assert_eq!(second, [batch(10, 19), once]);
        let third = after_death(second, [(batch(14, 14), ALONE)].into_iter());
        assert_eq!(third[1].alone, DEATHS);
        // Another thread's batch that was not alone is no reason to condemn it.
        let other = after_death(
            Vec::new(),
            [(batch(7, 7), TAKEN), (batch(7, 7), TAKEN)].into_iter(),
        );
        assert_eq!(other, [batch(7, 7)]);
    }

    #[test]
    fn calls_go_on_beside_a_suspect_that_is_not_called() {
        let name = format!("wasm-host-crumbs-held-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let crumbs = Crumbs::open(&path).expect("a file");
        crumbs.open.store(1, Ordering::Relaxed);
        let one = crumbs.with_others().expect("somebody is suspect");
        let other = crumbs.with_others().expect("somebody is suspect");
        assert!(crumbs.calls.try_write().is_none());
        drop((one, other));
        let alone = crumbs.alone();
        assert!(crumbs.calls.try_read().is_none());
        drop(alone);
        std::fs::remove_file(path).expect("removed");
    }

    #[test]
    fn what_is_no_crumb_is_none() {
        let mut block = [0; BLOCK];
        assert!(Suspects::read(&block).is_none_or(|(_, state)| state == NONE));
        batch(1, 2).write(ALONE, &mut block[..SUSPECT]);
        assert_eq!(Suspects::read(&block), Some((batch(1, 2), ALONE)));
        block[20] ^= 1;
        assert_eq!(Suspects::read(&block), None);
        for wrong in [&b""[..], b"WHCRUMB1", &[0; SUSPECTS_AT + BLOCK]] {
            assert!(suspects(wrong).is_empty());
        }
    }

    #[test]
    fn only_a_death_by_itself_makes_suspects() {
        let folder = std::env::temp_dir().join(format!("wasm-host-crumbs-{}", std::process::id()));
        let crumbs = Crumbs::open(&folder).expect("a file");
        crumbs.begin(&batch(1, 5), false);
        drop(crumbs);
        // Killed from outside.
        let crumbs = Crumbs::open(&folder).expect("a file");
        assert!(crumbs.with_others().is_none());
        crumbs.begin(&batch(1, 5), false);
        crumbs
            .file
            .write_all_at(&death::ABORT.to_le_bytes(), 8)
            .expect("written");
        drop(crumbs);
        let crumbs = Crumbs::open(&folder).expect("a file");
        assert_eq!(crumbs.of(batch(0, 0).task), [batch(1, 5)]);
        drop(crumbs);
        // They stay so until they are through.
        let crumbs = Crumbs::open(&folder).expect("a file");
        assert!(crumbs.with_others().is_some());
        crumbs.clear(&batch(1, 5));
        assert!(crumbs.with_others().is_none());
        crumbs.close();
        std::fs::remove_file(folder).expect("removed");
    }
}
