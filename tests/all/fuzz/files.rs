//! A guest that holds files by their streams only, and asks for its folders again and again, to have its files miscounted.

use super::guest::{ARGUMENTS, Guest, Handler, RETURNED, SCRATCH, op};
use super::round::{open_files, run_alone};
use super::world::{Components, DESCRIPTORS, Grants};

struct Calls<'a> {
    guest: &'a Guest,
    script: Vec<u8>,
}

impl Calls<'_> {
    fn emit(&mut self, words: [u32; 4]) {
        self.script
            .extend(words.into_iter().flat_map(u32::to_le_bytes));
    }

    fn put(&mut self, at: u32, bytes: &[u8]) {
        self.emit([op::WRITE, at, u32::try_from(bytes.len()).expect("few"), 0]);
        self.script.extend(bytes);
        self.script.resize(self.script.len().next_multiple_of(4), 0);
    }

    /// Calls a function, the first argument of which is the handle that lies at an address.
    fn call(&mut self, interface: &str, name: &str, handle: u32, arguments: &[u64]) {
        let is_it = |import: &super::guest::Import| {
            import.interface.starts_with(interface) && import.name == name
        };
        let index = self.guest.imports.iter().position(is_it);
        let index = index.unwrap_or_else(|| panic!("{interface} has no {name}"));
        let arguments: Vec<u8> = arguments.iter().flat_map(|it| it.to_le_bytes()).collect();
        self.put(ARGUMENTS, &arguments);
        if handle != 0 {
            self.emit([op::COPY, ARGUMENTS, handle, 4]);
        }
        self.emit([op::CALL, u32::try_from(index).expect("few"), 0, 0]);
    }
}

/// Where the folder's handle is kept.
const FOLDER: u32 = RETURNED + 64;
const FILE: u32 = RETURNED + 128;
const STREAM: u32 = RETURNED + 192;

/// Opens so many files, and keeps a stream of each only.
fn script(guest: &Guest, files: usize) -> Vec<u8> {
    let types = "wasi:filesystem/types";
    let mut calls = Calls {
        guest,
        script: Vec::new(),
    };
    calls.put(SCRATCH, b"file");
    for _ in 0..files {
        let to = [RETURNED.into()];
        calls.call("wasi:filesystem/preopens", "get-directories", 0, &to);
        calls.emit([op::COPY_FIRST, FOLDER, RETURNED, 0]);
        // To be read.
        let open = [0, 0, SCRATCH.into(), 4, 0, 1, FILE.into()];
        calls.call(types, "[method]descriptor.open-at", FOLDER, &open);
        let file = FILE + 4;
        let stream = [0, 0, STREAM.into()];
        calls.call(types, "[method]descriptor.read-via-stream", file, &stream);
        calls.call(types, "[resource-drop]descriptor", file, &[0]);
        calls.call(types, "[resource-drop]descriptor", FOLDER, &[0]);
    }
    calls.script
}

#[test]
fn files_are_counted_while_only_a_stream_holds_them() {
    let guest = Guest::new();
    let components = Components::load(&guest, 0);
    let component = components.get(Handler::Message, Grants::Folder);
    // One file more than it may have is not opened, and the guest traps for want of its handle.
    let open = |files| {
        run_alone(component, &script(&guest, files), || {
            open_files(&components.granted())
        })
    };
    let most = (1..15).map(open).max();
    assert_eq!(most, Some(DESCRIPTORS), "files are open in a guest");
}
