//! The files of a stream, as all its readers share them. For a follower: found as soon as they get one of the stream's
//! names, and held from then on.
//!
//! A thread of its own listens to the folders, so that a file is found even while all readers are busy or waiting. A
//! reader with nothing left to read listens itself, so that it always hears of what happened before it asked. Every
//! reader hears of all files in the same order. Invariants: a file that had one of the stream's names while its folder
//! was watched is found, unless it was deleted before it could be opened, which is logged; a file that no longer has such
//! a name stays as long as a reader holds it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tokio::sync::Notify;

use super::handle::{Handle, Id, open};
use super::look::{Pattern, Sighting, same_birth, unreadable};
use super::names::{Leads, Meaning, Names};
use super::watch::{Heard, Watch};
use crate::connectors::SourceError;

/// The pattern is matched again after this time, whatever events have come.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The same, if the kernel has no watches left.
const ASK_INTERVAL: Duration = Duration::from_millis(40);

/// Matching may take this part of the time at most: with many files it is done less often.
const LOOK_SHARE: u32 = 50;

/// The number of files opened before it is known whether they are the ones of an event.
const OPENED_AT_ONCE: usize = 16;

/// A busy writer makes more events than are worth a look each.
const PAUSE: Duration = Duration::from_millis(1);

/// The files of a stream.
pub(super) struct Files {
    shared: Arc<Shared>,
    /// How to listen.
    watch: fn() -> Watch,
    stop: Mutex<Option<OwnedFd>>,
}

struct Shared {
    pattern: Pattern,
    state: Mutex<State>,
}

/// What a reader hears of.
#[derive(Default)]
pub(super) struct News {
    /// In the order in which they are to be read.
    pub found: Vec<Arc<Handle>>,
    /// They were written to, renamed or deleted.
    pub changed: BTreeMap<u64, Arc<Handle>>,
}

/// A reader of a followed stream.
#[derive(Default)]
pub(super) struct Member {
    news: Mutex<News>,
    notify: Notify,
}

impl Member {
    pub fn take(&self) -> News {
        std::mem::take(&mut *self.news.lock())
    }

    /// Completes when there may be news.
    pub async fn told(&self) {
        self.notify.notified().await;
    }
}

struct State {
    watch: Watch,
    names: Names,
    by_id: HashMap<Id, Weak<Handle>>,
    /// Those that have one of the stream's names.
    live: BTreeMap<u64, Arc<Handle>>,
    gone: BTreeMap<u64, Weak<Handle>>,
    members: Vec<Weak<Member>>,
    found: Vec<Arc<Handle>>,
    changed: BTreeSet<u64>,
    number: u64,
    /// An event came that only a look at the folder can explain.
    look: bool,
    next_look: Instant,
    said: HashSet<String>,
    said_lack: bool,
}

impl Files {
    pub fn new(pattern: Pattern, watch: fn() -> Watch) -> Files {
        Files {
            watch,
            shared: Arc::new(Shared {
                pattern,
                state: Mutex::new(State {
                    watch: Watch::deaf(),
                    names: Names::default(),
                    by_id: HashMap::new(),
                    live: BTreeMap::new(),
                    gone: BTreeMap::new(),
                    members: Vec::new(),
                    found: Vec::new(),
                    changed: BTreeSet::new(),
                    number: 0,
                    look: true,
                    next_look: Instant::now(),
                    said: HashSet::new(),
                    said_lack: false,
                }),
            }),
            stop: Mutex::new(None),
        }
    }

    pub fn pattern(&self) -> &Pattern {
        &self.shared.pattern
    }

    /// The handle of a file that was seen, for a reader that follows nothing.
    pub fn share(&self, sighting: Sighting) -> Arc<Handle> {
        let mut state = self.shared.state.lock();
        let id = (sighting.device, sighting.inode);
        if let Some(handle) = state.known(id)
            && handle.path() == sighting.path
            && same_birth(handle.born, sighting.born)
        {
            handle.has(sighting.length);
            return handle;
        }
        let handle = Handle::new(0, sighting, None);
        state.by_id.insert(id, Arc::downgrade(&handle));
        handle
    }

    /// A reader begins to follow. It hears of everything after the files that it is given, which are all there are.
    pub fn join(&self) -> Result<(Arc<Member>, Vec<Arc<Handle>>), SourceError> {
        let mut state = self.shared.state.lock();
        let mut stop = self.stop.lock();
        if stop.is_none() {
            state.watch = (self.watch)();
            *stop = Some(self.shared.listen_on(state.watch.queue())?);
        }
        drop(stop);
        state.look = true;
        self.shared.update(&mut state)?;
        let member = Arc::new(Member::default());
        state.members.push(Arc::downgrade(&member));
        let mut files: BTreeMap<u64, Arc<Handle>> = state.live.clone();
        let gone = state.gone.iter();
        files.extend(gone.filter_map(|(number, handle)| Some((*number, handle.upgrade()?))));
        Ok((member, files.into_values().collect()))
    }

    /// Adds a file that has none of the stream's names, because a reader knows it.
    pub fn adopt(&self, sighting: Sighting) -> Arc<Handle> {
        let mut state = self.shared.state.lock();
        let id = (sighting.device, sighting.inode);
        if let Some(handle) = state.known(id)
            && same_birth(handle.born, sighting.born)
        {
            return handle;
        }
        let path = sighting.path.clone();
        let handle = state.add(sighting, None);
        handle.named(&path, false);
        state.part(&handle);
        // Its folder is to be watched.
        state.look = true;
        handle
    }

    /// Processes the events until now.
    pub fn update(&self) -> Result<(), SourceError> {
        self.shared.update(&mut self.shared.state.lock())
    }

    /// Logs something about a path, once for all readers that log the same.
    pub fn say(&self, path: &Path, what: &str) {
        let text = format!("{}: {what}", path.display());
        if self.shared.state.lock().said.insert(text.clone()) {
            tracing::warn!("{text}");
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.get_mut() {
            // The counter is far from full.
            let _ = rustix::io::write(stop, &1u64.to_ne_bytes());
        }
    }
}

impl Shared {
    /// Starts the thread that listens, and returns what ends it when it is written to.
    fn listen_on(self: &Arc<Shared>, queue: Option<Arc<OwnedFd>>) -> Result<OwnedFd, SourceError> {
        let failed = |source: io::Error| SourceError::Read {
            path: self.pattern.base().to_owned(),
            source,
        };
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let stop = stop.map_err(|error| failed(error.into()))?;
        let stopped = stop.try_clone().map_err(failed)?;
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new().name("file-watch".to_owned());
        let listen = move || while shared.wait(queue.as_deref(), &stopped) {};
        thread.spawn(listen).map_err(failed)?;
        Ok(stop)
    }

    /// Waits until something happens, and notifies the readers. Returns false when no reader is left.
    fn wait(&self, queue: Option<&OwnedFd>, stopped: &OwnedFd) -> bool {
        let until = self.state.lock().next_look;
        let timeout = until.saturating_duration_since(Instant::now()) + PAUSE;
        let timeout = Timespec::try_from(timeout).ok();
        let mut fds = vec![PollFd::new(stopped, PollFlags::IN)];
        fds.extend(queue.map(|queue| PollFd::new(queue, PollFlags::IN)));
        let polled = poll(&mut fds, timeout.as_ref());
        if polled.is_ok() && !fds[0].revents().is_empty() {
            return false;
        }
        let mut state = self.state.lock();
        if self.update(&mut state).is_err() {
            // Each reader meets the error itself: the look is still due.
            state.next_look = Instant::now() + LOOK_INTERVAL;
            state.wake_all();
        } else if Instant::now() >= until && !state.gone.is_empty() {
            // What has gone is read to its end after a while.
            state.wake_all();
        }
        drop(state);
        std::thread::sleep(PAUSE);
        true
    }

    fn update(&self, state: &mut State) -> Result<(), SourceError> {
        state.settle(&self.pattern)?;
        // A look may find folders to watch, in which more may have happened before they were watched.
        for _ in 0..3 {
            if !state.look && Instant::now() < state.next_look {
                break;
            }
            state.look_at(&self.pattern)?;
            state.settle(&self.pattern)?;
        }
        state.tell();
        Ok(())
    }
}

impl State {
    fn known(&self, id: Id) -> Option<Arc<Handle>> {
        self.by_id.get(&id).and_then(Weak::upgrade)
    }

    /// A new file.
    fn add(&mut self, sighting: Sighting, file: Option<File>) -> Arc<Handle> {
        self.number += 1;
        self.names
            .lead(&sighting.path, (sighting.device, sighting.inode));
        let handle = Handle::new(self.number, sighting, file);
        self.by_id.insert(handle.id, Arc::downgrade(&handle));
        handle
    }

    /// Processes events and opens new files, until no more events have come meanwhile.
    fn settle(&mut self, pattern: &Pattern) -> Result<(), SourceError> {
        self.hear(pattern)?;
        loop {
            let opened = self.open_unseen()?;
            if opened.is_empty() {
                return Ok(());
            }
            self.admit(opened, pattern)?;
        }
    }

    /// Opens files that are new, the oldest first.
    fn open_unseen(&self) -> Result<Vec<(PathBuf, Leads, Option<File>)>, SourceError> {
        let mut unseen = self.names.unseen();
        unseen.sort_unstable_by_key(|(_, leads)| *leads);
        let mut opened = Vec::new();
        for (path, leads) in unseen.into_iter().take(OPENED_AT_ONCE) {
            let file = open_new(&path)?;
            opened.push((path, leads, file));
        }
        Ok(opened)
    }

    /// Takes files that were opened. A name that has been given to another file since then is not what was opened.
    fn admit(
        &mut self,
        opened: Vec<(PathBuf, Leads, Option<File>)>,
        pattern: &Pattern,
    ) -> Result<(), SourceError> {
        self.hear(pattern)?;
        let mut fresh = Vec::new();
        for (path, leads, file) in opened {
            if self.names.get(&path) == Some(leads) {
                self.names.take(&path);
                // An event of a write that was heard just now belonged to no known file: measure after it.
                fresh.extend(file.map(|file| sight(path, file)).transpose()?);
            }
        }
        self.take(fresh, pattern);
        Ok(())
    }

    /// Applies the events.
    fn hear(&mut self, pattern: &Pattern) -> Result<(), SourceError> {
        let mut written = BTreeMap::new();
        for heard in self.watch.take() {
            let (path, happened) = match heard {
                Heard::Path(path, happened) => (path, happened),
                Heard::Folders => {
                    self.look = true;
                    continue;
                }
                Heard::Overflow => {
                    self.look = true;
                    tracing::warn!(
                        "{}: more has happened in its folder than could be kept track of; a file that came and was renamed \
                         meanwhile may have been missed, unless the pattern fits its new name too",
                        pattern.text()
                    );
                    continue;
                }
            };
            for meaning in self.names.hear(&path, happened, |path| pattern.fits(path)) {
                match meaning {
                    Meaning::Unseen => {}
                    Meaning::Missed(path) => missed(&path),
                    Meaning::Written(id) => {
                        written.extend(self.known(id).map(|handle| (handle.number, handle)));
                    }
                    Meaning::Renamed(id) => {
                        if let Some(handle) = self.known(id) {
                            handle.named(&path, pattern.fits(&path));
                            self.place(&handle);
                        }
                    }
                    Meaning::Deleted(id) => {
                        if let Some(handle) = self.known(id) {
                            handle.deleted();
                            self.place(&handle);
                        }
                    }
                }
            }
        }
        for (number, handle) in written {
            if handle.refresh()? {
                self.changed.insert(number);
            }
        }
        Ok(())
    }

    /// Puts a file where it belongs now.
    fn place(&mut self, handle: &Arc<Handle>) {
        self.changed.insert(handle.number);
        match handle.gone() {
            None => {
                self.gone.remove(&handle.number);
                self.live.insert(handle.number, Arc::clone(handle));
            }
            Some(_) => self.part(handle),
        }
    }

    /// Keeps a file only as long as a reader does.
    fn part(&mut self, handle: &Arc<Handle>) {
        self.live.remove(&handle.number);
        self.gone.insert(handle.number, Arc::downgrade(handle));
    }

    /// Looks at everything that matches the pattern.
    fn look_at(&mut self, pattern: &Pattern) -> Result<(), SourceError> {
        let began = Instant::now();
        self.look = true;
        let mut seen = HashSet::new();
        let mut fresh = Vec::new();
        for sighting in pattern.look()? {
            let id = (sighting.device, sighting.inode);
            // The inode of a file that is not open may have gone to another.
            let known = self.known(id).filter(|handle| {
                let same = same_birth(handle.born, sighting.born);
                same && (handle.is_open() || !handle.is_lost() && handle.path() == sighting.path)
            });
            match known {
                Some(handle) => {
                    seen.insert(handle.number);
                    self.see(&handle, &sighting, pattern);
                }
                None => fresh.push(sighting),
            }
        }
        fresh.sort_by(Sighting::by_age);
        for sighting in fresh {
            if let Some(file) = open_new(&sighting.path)? {
                seen.extend(self.take(vec![sight(sighting.path, file)?], pattern));
            }
        }
        let unseen = self.live.keys().filter(|number| !seen.contains(number));
        for number in unseen.copied().collect::<Vec<_>>() {
            if let Some(handle) = self.live.get(&number).cloned() {
                handle.unnamed();
                self.place(&handle);
            }
        }
        self.names
            .give_up_moving()
            .iter()
            .for_each(|path| missed(path));
        self.gone.retain(|_, handle| handle.strong_count() > 0);
        // They may be where no events come from, and are read until they no longer grow.
        for handle in self.gone.values().filter_map(Weak::upgrade) {
            if let Some(length) = handle.measure()?
                && handle.has(length)
            {
                self.changed.insert(handle.number);
            }
        }
        self.by_id.retain(|_, handle| handle.strong_count() > 0);
        let by_id = &self.by_id;
        self.names.retain(|id| by_id.contains_key(&id));
        self.look = self.set_folders(pattern);
        let interval = match self.watch.hears_all() {
            true => LOOK_INTERVAL,
            false => ASK_INTERVAL,
        };
        if let Some(why) = self.watch.lacks()
            && !std::mem::replace(&mut self.said_lack, true)
        {
            tracing::warn!(
                "{}: the kernel does not tell of all that happens in its folder ({why}), so it is looked at every {} ms; a \
                 file that comes and goes in between is missed. Raise fs.inotify.max_user_instances and \
                 fs.inotify.max_user_watches",
                pattern.text(),
                ASK_INTERVAL.as_millis()
            );
        }
        self.next_look = Instant::now() + interval.max(began.elapsed() * LOOK_SHARE);
        Ok(())
    }

    fn set_folders(&mut self, pattern: &Pattern) -> bool {
        let gone = self.gone.values().filter_map(Weak::upgrade);
        let files = self.live.values().cloned().chain(gone);
        let folders: HashSet<PathBuf> = files
            .filter_map(|handle| Some(handle.path().parent()?.to_owned()))
            .chain([pattern.base().to_owned()])
            .collect();
        self.watch.set_folders(folders.into_iter())
    }

    /// Adds files that were opened because they were new, in this order. Returns their numbers.
    fn take(&mut self, fresh: Vec<(Sighting, File)>, pattern: &Pattern) -> Vec<u64> {
        let mut numbers = Vec::new();
        for (sighting, file) in fresh {
            let handle = match self.known((sighting.device, sighting.inode)) {
                Some(handle) if handle.fits(&file) => {
                    self.see(&handle, &sighting, pattern);
                    handle
                }
                before => {
                    if let Some(before) = before {
                        before.deleted();
                        self.place(&before);
                    }
                    let path = sighting.path.clone();
                    let handle = self.add(sighting, Some(file));
                    handle.named(&path, pattern.fits(&path));
                    self.place(&handle);
                    self.changed.remove(&handle.number);
                    self.found.push(Arc::clone(&handle));
                    handle
                }
            };
            numbers.push(handle.number);
        }
        numbers
    }

    /// A file that is known was seen under a name.
    fn see(&mut self, handle: &Arc<Handle>, sighting: &Sighting, pattern: &Pattern) {
        self.names.lead(&sighting.path, handle.id);
        let named = handle.named(&sighting.path, pattern.fits(&sighting.path));
        let grown = handle.has(sighting.length);
        if named || grown {
            self.place(handle);
        }
    }

    /// Notifies the readers of what is new.
    fn tell(&mut self) {
        let found = std::mem::take(&mut self.found);
        let changed: Vec<Arc<Handle>> = std::mem::take(&mut self.changed)
            .into_iter()
            .filter_map(|number| {
                let gone = || self.gone.get(&number).and_then(Weak::upgrade);
                self.live.get(&number).cloned().or_else(gone)
            })
            .collect();
        if found.is_empty() && changed.is_empty() {
            return;
        }
        self.members.retain(|member| member.strong_count() > 0);
        for member in self.members.iter().filter_map(Weak::upgrade) {
            let mut news = member.news.lock();
            news.found.extend_from_slice(&found);
            let changed = changed.iter();
            news.changed
                .extend(changed.map(|handle| (handle.number, Arc::clone(handle))));
            drop(news);
            member.notify.notify_one();
        }
    }

    fn wake_all(&self) {
        for member in self.members.iter().filter_map(Weak::upgrade) {
            member.notify.notify_one();
        }
    }
}

fn missed(path: &Path) {
    tracing::warn!(
        "{}: a file had this name and was gone before it could be read: what it held is not read",
        path.display()
    );
}

/// Opens a file that was just seen or heard of. `None` if it is gone or not a regular file.
fn open_new(path: &Path) -> Result<Option<File>, SourceError> {
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path.to_owned())(error)),
    };
    let metadata = file.metadata().map_err(unreadable(path.to_owned()))?;
    Ok(metadata.is_file().then_some(file))
}

/// What an open file looks like now.
fn sight(path: PathBuf, file: File) -> Result<(Sighting, File), SourceError> {
    let metadata = file.metadata().map_err(unreadable(path.clone()))?;
    Ok((Sighting::new(path, &metadata), file))
}

#[cfg(test)]
mod tests;
