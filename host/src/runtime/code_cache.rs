//! Compiled code, kept between runs.
//!
//! A file is named by the SHA-256 of the component and the engine's own hash (wasmtime's version, settings and the processor's
//! features), and holds:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | `WHCODE01` |
//! | 8..40 | SHA-256 of the rest |
//! | rest | wasmtime's serialized code |
//!
//! Loading it runs it, so it is trusted only if no other user can write it: the folder is this user's with mode 0700, and each
//! file's hash is checked before it is loaded. Whatever does not fit is compiled again. Safe to delete at any time. An empty file
//! `lock` is held by the process that compiles.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

const MAGIC: &[u8; 8] = b"WHCODE01";
const PREFIX: usize = 40;
/// How often is looked whether the lock has become free.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A folder of compiled code.
#[derive(Debug, Clone)]
pub struct CodeCache {
    folder: PathBuf,
}

impl CodeCache {
    /// The user's cache: `$XDG_CACHE_HOME/wasm-host`, or `~/.cache/wasm-host`. `None` if there is neither, or if the
    /// folder belongs to another user.
    pub fn of_user(env: &dyn Fn(&str) -> Option<String>) -> Option<CodeCache> {
        let base = match env("XDG_CACHE_HOME").filter(|path| Path::new(path).is_absolute()) {
            Some(path) => PathBuf::from(path),
            None => PathBuf::from(env("HOME")?).join(".cache"),
        };
        CodeCache::at(base.join("wasm-host"))
    }

    /// A cache in a folder, made if it does not exist.
    pub fn at(folder: PathBuf) -> Option<CodeCache> {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder);
        if let Err(error) = made {
            tracing::warn!(
                "compiled code is not kept: make {}: {error}",
                folder.display()
            );
            return None;
        }
        let found = fs::metadata(&folder).ok()?;
        let ours = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
        if !ours {
            tracing::warn!(
                "compiled code is not kept: others can write to {}",
                folder.display()
            );
            return None;
        }
        let cache = CodeCache { folder };
        cache.clear_away();
        Some(cache)
    }

    /// Removes what processes have left that were killed while they wrote.
    fn clear_away(&self) {
        /// Nobody writes for so long.
        const OLD: Duration = Duration::from_secs(3600);
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for file in files.filter(|file| file.path().extension().is_some_and(|of| of == "tmp")) {
            let changed = file.metadata().and_then(|found| found.modified());
            let age = changed.ok().and_then(|changed| changed.elapsed().ok());
            if age.is_some_and(|age| age > OLD) {
                let _ = fs::remove_file(file.path());
            }
        }
    }

    /// Waits until no other process of this user compiles; lasts until it is dropped, or the process ends. `None` if the
    /// folder has no place for a lock, or after so much time: it may be held by a process that is itself held.
    pub(super) fn turn(&self, patience: Duration) -> Option<File> {
        let began = Instant::now();
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.folder.join("lock"))
            .ok()?;
        loop {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Some(lock),
                Err(Errno::WOULDBLOCK) if began.elapsed() < patience => {
                    thread::sleep(LOOK_AGAIN);
                }
                Err(_) => return None,
            }
        }
    }

    fn path(&self, engine: &Engine, component: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        self.folder
            .join(format!("{component}-{:016x}.code", hasher.finish()))
    }

    /// The compiled code of a component, if it is there and whole.
    pub(super) fn load(&self, engine: &Engine, component: &str) -> Option<Component> {
        let path = self.path(engine, component);
        let bytes = fs::read(&path).ok()?;
        let whole = bytes.len() > PREFIX
            && bytes[..8] == *MAGIC
            && bytes[8..PREFIX] == *Sha256::digest(&bytes[PREFIX..]);
        if !whole {
            tracing::warn!("{} is damaged and is made again", path.display());
            return None;
        }
        // SAFETY: the bytes are those that `store` wrote: the hash says so, and the folder is writable by this user alone.
        // wasmtime itself checks that they are for this engine.
        #[expect(
            unsafe_code,
            reason = "loading compiled code is unsafe by its nature; see above"
        )]
        let loaded = unsafe { Component::deserialize(engine, &bytes[PREFIX..]) };
        loaded
            .map_err(|error| tracing::debug!("{} does not fit: {error:#}", path.display()))
            .ok()
    }

    /// Keeps compiled code. A failure costs a compilation next time and nothing else.
    pub(super) fn store(&self, engine: &Engine, component: &str, code: &[u8]) {
        let path = self.path(engine, component);
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(MAGIC)?;
            file.write_all(&Sha256::digest(code))?;
            file.write_all(code)?;
            file.sync_data()?;
            fs::rename(&temporary, &path)
        };
        if let Err(error) = write() {
            tracing::warn!(
                "compiled code is not kept: write {}: {error}",
                path.display()
            );
            let _ = fs::remove_file(&temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_half_written_is_removed() {
        let name = format!("wasm-host-code-left-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        for name in ["old.7.tmp", "new.8.tmp", "old.code"] {
            let file = File::create(folder.join(name)).expect("a file");
            if name.starts_with("old") {
                let day = std::time::SystemTime::now() - Duration::from_secs(86_400);
                file.set_modified(day).expect("its time is set");
            }
        }
        CodeCache::at(folder.clone()).expect("a cache");
        let left = |name: &str| folder.join(name).exists();
        assert!(!left("old.7.tmp") && left("new.8.tmp") && left("old.code"));
        fs::remove_dir_all(folder).expect("it can be removed");
    }

    #[test]
    fn turns_are_taken_and_patience_ends() {
        let name = format!("wasm-host-code-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let cache = CodeCache::at(folder.clone()).expect("a cache");
        let first = cache.turn(Duration::ZERO).expect("nobody holds it");
        assert!(cache.turn(Duration::from_millis(120)).is_none());
        let waiting = thread::spawn(move || cache.turn(Duration::from_secs(60)).is_some());
        thread::sleep(Duration::from_millis(60));
        assert!(!waiting.is_finished());
        drop(first);
        assert!(waiting.join().expect("no panic"));
        fs::remove_dir_all(folder).expect("it can be removed");
    }
}
