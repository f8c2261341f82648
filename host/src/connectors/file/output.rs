//! A file for each partition of an output, to which every epoch's bytes are appended once.
//!
//! The file is `<stream>-<partition>-<number>`; it is never renamed, and its number is 0. The state of a sink, version 1,
//! is 25 bytes: the version (1), then as little-endian u64 the file's number, its inode and its length.
//!
//! | a crash after | leaves | recovery |
//! | --- | --- | --- |
//! | `sink.create-folder`, `sink.create`, the syncs of both | at most an empty file, not recorded | takes the empty file |
//! | part of `sink.write`, or all of it, synced or not | the recorded length, and up to all of what was to be delivered | cuts back to the recorded length; delivery comes again |
//! | `sink.truncate` | the recorded length | the same again |
//!
//! Invariants: bytes are only ever added after the recorded length and synced before it is recorded; a file whose inode or
//! length cannot result from such a crash is refused, and nothing is changed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::connectors::encode::{OutputFormat, encode};
use crate::connectors::{Output, Sink, SinkError, Sinks, Writers};
use crate::disk::{Create, Disk, DiskError, DurableFile, parent};
use crate::model::{Messages, Offset, PartitionId};

const VERSION: u8 = 1;

/// Files to write.
#[derive(Debug, Clone)]
pub struct FileOutputOptions {
    /// The folder, which is made if it does not exist.
    pub folder: PathBuf,
    /// The stream, by its name in the job file.
    pub stream: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// What a message becomes.
    pub format: OutputFormat,
}

/// Files as an output: each partition is one file that contains every message once.
pub struct FileOutput {
    options: Arc<FileOutputOptions>,
    disk: Disk,
    listing: Arc<Listing>,
}

/// The files of the stream in its folder. All sinks that are opened together share one listing.
#[derive(Default)]
struct Listing(Mutex<Option<(Instant, Arc<Files>)>>);

/// The numbers of the existing files, by partition.
type Files = BTreeMap<u32, Vec<u64>>;

/// How long a listing of the folder stays valid.
const LISTED_FOR: Duration = Duration::from_secs(5);

impl FileOutput {
    /// Files in a folder. Touches nothing yet.
    pub fn new(options: FileOutputOptions, disk: Disk) -> FileOutput {
        FileOutput {
            options: Arc::new(options),
            disk,
            listing: Arc::default(),
        }
    }
}

impl Output for FileOutput {
    fn partitions(&self) -> u32 {
        self.options.partitions
    }

    fn may_repeat(&self) -> bool {
        false
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn writers(&self) -> Writers<'_> {
        Writers::Apart(self)
    }
}

impl Sinks for FileOutput {
    fn sink(&self, partition: PartitionId) -> Box<dyn Sink> {
        Box::new(FileSink {
            partition: partition.0,
            disk: self.disk.clone(),
            options: Arc::clone(&self.options),
            listing: Arc::clone(&self.listing),
            open: None,
        })
    }
}

struct FileSink {
    options: Arc<FileOutputOptions>,
    listing: Arc<Listing>,
    partition: u32,
    disk: Disk,
    open: Option<Open>,
}

/// The file that is written.
struct Open {
    file: DurableFile,
    state: State,
}

/// What is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    number: u64,
    inode: u64,
    length: u64,
}

impl State {
    fn encode(self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for field in [self.number, self.inode, self.length] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<State, String> {
        let Some((&VERSION, rest)) = bytes.split_first() else {
            let version = bytes.first().copied().unwrap_or(0);
            return Err(format!(
                "its recorded state has version {version}, and this program knows {VERSION}"
            ));
        };
        match rest.as_chunks::<8>() {
            ([number, inode, length], []) => Ok(State {
                number: u64::from_le_bytes(*number),
                inode: u64::from_le_bytes(*inode),
                length: u64::from_le_bytes(*length),
            }),
            _ => Err(format!("its recorded state has {} bytes", bytes.len())),
        }
    }
}

impl FileSink {
    fn path_of(&self, number: u64) -> PathBuf {
        let FileOutputOptions { folder, stream, .. } = &*self.options;
        folder.join(format!("{stream}-{}-{number}", self.partition))
    }

    /// Nothing was ever recorded: there must be no file yet, or an empty one left by an earlier first start.
    fn check_start(&self) -> Result<(), SinkError> {
        let folder = &self.options.folder;
        let path = self.path_of(0);
        let files = self.files()?;
        let mine = files.range(self.partition..=self.partition);
        let unknown = files.range(self.options.partitions..);
        for (partition, number) in mine
            .chain(unknown)
            .flat_map(|(partition, numbers)| numbers.iter().map(move |number| (partition, number)))
        {
            let found = folder.join(format!("{}-{partition}-{number}", self.options.stream));
            let fresh = found == path && length_of(&found)? == 0;
            if !fresh {
                return Err(refused(
                    &found,
                    &format!(
                        "the folder holds files of stream `{}` that this job has not written; move them aside \
                         (`wasm-host reset` does it with the state), or choose another folder",
                        self.options.stream
                    ),
                ));
            }
        }
        Ok(())
    }

    fn start(&self) -> Result<Open, SinkError> {
        self.check_start()?;
        let folder = &self.options.folder;
        let path = self.path_of(0);
        make_folder(&self.disk, folder)?;
        let file = make_file(&self.disk, &path)?;
        let metadata = file.metadata()?;
        let state = State {
            number: 0,
            inode: metadata.ino(),
            length: 0,
        };
        Ok(Open { file, state })
    }

    /// Whether the file is the one that was recorded, and holds nothing but what the job can have written. Returns its length.
    fn check_resume(&self, state: State, undelivered: u64) -> Result<u64, SinkError> {
        let folder = &self.options.folder;
        let path = self.path_of(state.number);
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(refused(
                    &path,
                    "the job has written this file, and it is gone; bring it back, or `wasm-host reset`",
                ));
            }
            Err(error) => return Err(DiskError::of("look at", &path)(error).into()),
        };
        let length = metadata.len();
        let most = state.length.saturating_add(undelivered);
        let what = if metadata.ino() != state.inode {
            Some("it is not the file that the job has written, but another of that name".to_owned())
        } else if length < state.length {
            Some(format!(
                "it has {length} bytes, but the job has written {}",
                state.length
            ))
        } else if length > most {
            Some(format!(
                "it has {length} bytes, but the job can have written {most} at most"
            ))
        } else {
            None
        };
        if let Some(what) = what {
            let what =
                format!("{what}; bring back the file as the job left it, or `wasm-host reset`");
            return Err(refused(&path, &what));
        }
        let files = self.files()?;
        let numbers = files.get(&self.partition).map_or(&[][..], Vec::as_slice);
        if let Some(number) = numbers.iter().find(|number| **number > state.number) {
            return Err(refused(
                &folder.join(format!(
                    "{}-{}-{number}",
                    self.options.stream, self.partition
                )),
                "the job has not written this file; move it aside",
            ));
        }
        Ok(length)
    }

    fn decode(&self, recorded: &[u8]) -> Result<State, SinkError> {
        State::decode(recorded).map_err(|what| refused(&self.options.folder, &what))
    }

    /// Cuts the file back to what was recorded.
    fn resume(&self, recorded: &[u8], undelivered: u64) -> Result<Open, SinkError> {
        let state = self.decode(recorded)?;
        let length = self.check_resume(state, undelivered)?;
        let path = self.path_of(state.number);
        let file = self.disk.open(&path, Create::No)?;
        if length > state.length {
            file.truncate("sink.truncate", state.length)?;
            file.sync("sink.sync")?;
        }
        Ok(Open { file, state })
    }

    /// The files of the stream in the folder.
    fn files(&self) -> Result<Arc<Files>, SinkError> {
        let mut listed = self.listing.0.lock();
        match &*listed {
            Some((at, files)) if at.elapsed() < LISTED_FOR => Ok(Arc::clone(files)),
            _ => {
                let files = Arc::new(self.list()?);
                *listed = Some((Instant::now(), Arc::clone(&files)));
                Ok(files)
            }
        }
    }

    fn list(&self) -> Result<Files, SinkError> {
        let FileOutputOptions { folder, stream, .. } = &*self.options;
        let mut files = Files::new();
        for (_, partition, number) in output_files(folder, stream)? {
            files.entry(partition).or_default().push(number);
        }
        files
            .values_mut()
            .for_each(|numbers| numbers.sort_unstable());
        Ok(files)
    }
}

impl Sink for FileSink {
    fn check(&self, recorded: Option<&[u8]>, undelivered: u64) -> Result<(), SinkError> {
        match recorded {
            None => self.check_start(),
            Some(recorded) => self
                .check_resume(self.decode(recorded)?, undelivered)
                .map(drop),
        }
    }

    fn recover(&mut self, recorded: Option<&[u8]>, undelivered: u64) -> Result<Vec<u8>, SinkError> {
        let open = match recorded {
            None => self.start()?,
            Some(recorded) => self.resume(recorded, undelivered)?,
        };
        let state = open.state.encode();
        self.open = Some(open);
        Ok(state)
    }

    fn encode(&self, first: Offset, messages: &Messages, into: &mut Vec<u8>) {
        let options = &self.options;
        encode(
            options.format,
            &options.stream,
            self.partition,
            first,
            messages,
            into,
        );
    }

    fn deliver(&mut self, encoded: &[u8]) -> Result<Vec<u8>, SinkError> {
        let Some(Open { file, state }) = &mut self.open else {
            return Err(refused(
                &self.options.folder,
                "a sink must recover before it delivers",
            ));
        };
        if !encoded.is_empty() {
            let metadata = file.metadata()?;
            let is_there = fs::metadata(file.path())
                .is_ok_and(|found| (found.dev(), found.ino()) == (metadata.dev(), metadata.ino()));
            if !is_there {
                return Err(refused(
                    file.path(),
                    "it was removed, renamed or replaced while the job wrote to it; bring it back as it was, or `wasm-host reset`",
                ));
            }
            let length = metadata.len();
            if length != state.length {
                let expected = state.length;
                return Err(refused(
                    file.path(),
                    &format!(
                        "it has {length} bytes, not {expected}: something else writes to it; stop that first"
                    ),
                ));
            }
            file.write_at("sink.write", encoded, state.length)?;
            file.sync_data("sink.sync")?;
            state.length += encoded.len() as u64;
        }
        Ok(state.encode())
    }
}

/// Partition and number in the name of a stream's file.
fn parse_name(name: &str, stream: &str) -> Option<(u32, u64)> {
    let (partition, number) = name
        .strip_prefix(stream)?
        .strip_prefix('-')?
        .split_once('-')?;
    let (partition, number) = (partition.parse::<u32>().ok()?, number.parse::<u64>().ok()?);
    (name == format!("{stream}-{partition}-{number}")).then_some((partition, number))
}

/// The files of an output stream in its folder, with partition and number.
fn output_files(folder: &Path, stream: &str) -> Result<Vec<(PathBuf, u32, u64)>, DiskError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DiskError::of("read", folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(DiskError::of("read", folder))?;
        let name = entry.file_name();
        if let Some((partition, number)) = name.to_str().and_then(|name| parse_name(name, stream)) {
            found.push((entry.path(), partition, number));
        }
    }
    Ok(found)
}

/// Moves the files of an output stream into a folder within theirs, named after `stamp`. Returns where each was and is.
///
/// # Errors
/// The disk's answer; some files may have been moved.
pub fn move_outputs(
    disk: &Disk,
    folder: &Path,
    stream: &str,
    stamp: &str,
) -> Result<Vec<(PathBuf, PathBuf)>, DiskError> {
    let files = output_files(folder, stream)?;
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let aside = folder.join(format!("reset-{stamp}"));
    disk.make_folders(&aside)?;
    let mut moved = Vec::new();
    for (from, ..) in files {
        let to = aside.join(from.file_name().unwrap_or_default());
        disk.rename(&from, &to)?;
        moved.push((from, to));
    }
    disk.sync_folder(&aside)?;
    disk.sync_folder(folder)?;
    Ok(moved)
}

fn length_of(path: &Path) -> Result<u64, SinkError> {
    Ok(fs::metadata(path)
        .map_err(DiskError::of("look at", path))?
        .len())
}

fn refused(path: &Path, what: &str) -> SinkError {
    SinkError::Refused {
        path: path.to_owned(),
        what: what.to_owned(),
    }
}

/// Makes the folder and its parents, if they do not exist.
fn make_folder(disk: &Disk, folder: &Path) -> Result<(), SinkError> {
    if !folder.is_dir() {
        disk.before_at("sink.create-folder", "make", folder)?;
        disk.make_folders(folder)?;
    }
    Ok(())
}

/// Makes an empty file that is durable with its name.
fn make_file(disk: &Disk, path: &Path) -> Result<DurableFile, SinkError> {
    disk.before_at("sink.create", "make", path)?;
    let file = disk.open(path, Create::IfMissing)?;
    file.sync("sink.sync")?;
    let folder = parent(path);
    disk.before_at("sink.sync-folder", "sync", folder)?;
    disk.sync_folder(folder)?;
    Ok(file)
}
