//! Where a guest was when it trapped: its frames, and the lines of its source.
//!
//! A trap notes names and offsets, which takes microseconds. The lines are looked up when the frames are shown: to read a
//! component's DWARF takes milliseconds, and most traps are never shown.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use addr2line::gimli::{self, EndianSlice, LittleEndian};
use wasmparser::{Parser, Payload};
use wasmtime::WasmBacktrace;

use super::component::Component;
use super::sandbox::caught;
use crate::model::shown::{self, LinesMax};

/// What is shown of a guest's stack: names in it are as long as its component has them.
const SHOWN: LinesMax = LinesMax {
    bytes: 16 << 10,
    line_bytes: 512,
    lines: 128,
};

/// The longest name that is looked at.
const NAME_BYTES: usize = 4 << 10;
/// The most functions that are named for one frame: itself, and what was inlined.
const PLACES_MAX: usize = 16;

/// What the functions are called in which languages' runtimes panic.
const MACHINERY: [&str; 11] = [
    "abort",
    "__rust",
    "rust_",
    "std::",
    "core::panicking",
    "core::option::",
    "core::result::",
    "runtime.",
    "__cxa_",
    "__abort",
    "<std::",
];

/// The stack of a guest, innermost frame first; none where there was no guest.
#[derive(Clone, Default)]
pub struct Backtrace {
    frames: Arc<[Frame]>,
    component: Option<Arc<Component>>,
}

#[derive(Debug)]
struct Frame {
    /// The core module's own name.
    module: Option<String>,
    function: u32,
    /// Mangled.
    name: Option<String>,
    /// Where in the component's bytes.
    offset: Option<usize>,
}

/// A function of the source at a place in the code: those that were inlined come first.
struct Place {
    name: Option<String>,
    at: Option<String>,
}

impl Backtrace {
    pub(super) fn of(trace: &WasmBacktrace, component: &Arc<Component>) -> Backtrace {
        let frame = |frame: &wasmtime::FrameInfo| Frame {
            module: frame.module().name().map(str::to_owned),
            function: frame.func_index(),
            name: frame.func_name().map(str::to_owned),
            offset: frame.module_offset(),
        };
        Backtrace {
            frames: trace.frames().iter().map(frame).collect(),
            component: Some(Arc::clone(component)),
        }
    }

    /// Whether there are no frames.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The innermost function that has a name, demangled.
    pub(super) fn innermost_name(&self) -> Option<String> {
        let name = self.frames.iter().find_map(|frame| frame.name.as_deref())?;
        caught(|| demangled(name)).ok()
    }

    /// The names of the innermost functions, demangled, but for those with which a language's runtime panics.
    pub fn functions(&self, most: usize) -> Vec<String> {
        let names = || {
            let frames = self.frames.iter().map(Frame::plain_name);
            let own = frames.filter(|name| !MACHINERY.iter().any(|part| name.starts_with(part)));
            own.take(most).collect()
        };
        caught(names).unwrap_or_default()
    }

    /// The frames with their lines, 16 KiB at most.
    pub fn text(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        let bytes = self.component.as_deref().map(Component::bytes);
        let offsets: Vec<_> = self.frames.iter().map(|frame| frame.offset).collect();
        // What is damaged in the DWARF of a component costs the lines.
        let places = caught(|| places(bytes?, &offsets)).ok().flatten();
        let places = places.unwrap_or_default();
        let text = Text {
            frames: &self.frames,
            places: &places,
        };
        caught(|| shown::lines(text, SHOWN)).unwrap_or_default()
    }
}

impl fmt::Debug for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.frames.fmt(f)
    }
}

struct Text<'a> {
    frames: &'a [Frame],
    /// Of each frame, or none at all.
    places: &'a [Vec<Place>],
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("error while executing at wasm backtrace:")?;
        for (number, frame) in self.frames.iter().enumerate() {
            write!(f, "\n  {number:>3}: ")?;
            if let Some(offset) = frame.offset {
                write!(f, "{offset:#8x} - ")?;
            }
            let places = self.places.get(number).map_or(&[][..], Vec::as_slice);
            if places.is_empty() {
                let module = frame.module.as_deref().unwrap_or("<unknown>");
                write!(f, "{module}!{}", frame.name())?;
            }
            for (index, place) in places.iter().enumerate() {
                if index > 0 {
                    f.write_str("\n                - ")?;
                }
                match &place.name {
                    Some(name) => f.write_str(&demangled(name))?,
                    None if index == 0 => f.write_str(&frame.name())?,
                    None => f.write_str("<inlined function>")?,
                }
                if let Some(at) = &place.at {
                    write!(f, "\n                    at {at}")?;
                }
            }
        }
        Ok(())
    }
}

impl Frame {
    /// Without the hash that the compiler adds to it.
    fn plain_name(&self) -> String {
        match &self.name {
            Some(name) if name.len() <= NAME_BYTES => match rustc_demangle::try_demangle(name) {
                Ok(rust) => format!("{rust:#}"),
                Err(_) => demangled(name),
            },
            _ => self.name(),
        }
    }

    fn name(&self) -> String {
        match &self.name {
            Some(name) => demangled(name),
            None => format!("<wasm function {}>", self.function),
        }
    }
}

/// A name is demangled as far as it is short: what is written for a hostile one has no end.
fn demangled(name: &str) -> String {
    let mut text = Bounded(String::new());
    let written = if name.len() > NAME_BYTES {
        Err(fmt::Error)
    } else if let Ok(rust) = rustc_demangle::try_demangle(name) {
        write!(text, "{rust}")
    } else if let Ok(cpp) = cpp_demangle::Symbol::new(name) {
        cpp.structured_demangle(&mut text, &cpp_demangle::DemangleOptions::default())
    } else {
        Err(fmt::Error)
    };
    match written {
        Ok(()) => text.0,
        Err(fmt::Error) => cut(name).to_owned(),
    }
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES)]
}

/// A text of some length, and an error beyond.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if self.0.len() + more.len() > NAME_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(more);
        Ok(())
    }
}

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// The places of each offset into the bytes of a component.
fn places(component: &[u8], offsets: &[Option<usize>]) -> Option<Vec<Vec<Place>>> {
    let modules = modules(component)?;
    let mut contexts: Vec<Option<addr2line::Context<Bytes<'_>>>> = Vec::new();
    contexts.resize_with(modules.len(), || None);
    let mut place_at = |offset: usize| {
        let index = modules
            .iter()
            .position(|module| (module.code..module.code_end).contains(&offset))?;
        let module = &modules[index];
        if contexts[index].is_none() {
            contexts[index] = module.context();
        }
        let context = contexts[index].as_ref()?;
        // DWARF counts from the beginning of the code section.
        let probe = (offset - module.code) as u64;
        let mut frames = context.find_frames(probe).skip_all_loads().ok()?;
        let mut places = Vec::new();
        while places.len() < PLACES_MAX
            && let Ok(Some(frame)) = frames.next()
        {
            let name = frame.function.as_ref();
            let name = name.and_then(|name| {
                let name = name.raw_name().ok()?;
                Some(cut(&name).to_owned())
            });
            let at = frame.location.as_ref().and_then(location);
            places.push(Place { name, at });
        }
        Some(places)
    };
    let place = |offset: &Option<usize>| offset.and_then(&mut place_at).unwrap_or_default();
    Some(offsets.iter().map(place).collect())
}

fn location(location: &addr2line::Location<'_>) -> Option<String> {
    let mut text = cut(location.file?).to_owned();
    if let Some(line) = location.line {
        let _ = write!(text, ":{line}");
        if let Some(column) = location.column {
            let _ = write!(text, ":{column}");
        }
    }
    Some(text)
}

/// A core module of a component that has DWARF.
#[derive(Default)]
struct CoreModule<'a> {
    /// Where its code section begins and ends, in the component.
    code: usize,
    code_end: usize,
    sections: Vec<(&'a str, &'a [u8])>,
}

impl<'a> CoreModule<'a> {
    fn context(&self) -> Option<addr2line::Context<Bytes<'a>>> {
        let section = |id: gimli::SectionId| {
            let found = self.sections.iter().find(|(name, _)| *name == id.name());
            let bytes = found.map_or(&[][..], |(_, bytes)| bytes);
            Ok::<_, gimli::Error>(EndianSlice::new(bytes, LittleEndian))
        };
        let dwarf = gimli::Dwarf::load(section).ok()?;
        addr2line::Context::from_dwarf(dwarf).ok()
    }
}

/// The core modules of a component, those of nested components included.
fn modules(component: &[u8]) -> Option<Vec<CoreModule<'_>>> {
    let mut modules = Vec::new();
    // Modules do not nest, so the last one that began is the one that goes on.
    for payload in Parser::new(0).parse_all(component) {
        match payload.ok()? {
            Payload::ModuleSection { .. } => modules.push(CoreModule::default()),
            Payload::CodeSectionStart { range, .. } => {
                let module: &mut CoreModule<'_> = modules.last_mut()?;
                (module.code, module.code_end) = (range.start, range.end);
            }
            Payload::CustomSection(section) if section.name().starts_with(".debug_") => {
                if let Some(module) = modules.last_mut() {
                    module.sections.push((section.name(), section.data()));
                }
            }
            _ => {}
        }
    }
    modules.retain(|module| !module.sections.is_empty());
    Some(modules)
}
