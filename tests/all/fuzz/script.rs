//! Scripts: drawn by the types of what they call, so that most calls are good ones, with a share of hostile values.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::guest::{
    ARGUMENTS, DONE, Guest, HANDLES, Import, LAST_SCRIPT, PAGES, REALLOC_WAYS, RESULT, RETURNED,
    SCRATCH, SLOTS, op,
};
use super::values::Taken;

/// What a script may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// What has the same outcome whenever it is called.
    Pure,
    /// Everything.
    All,
}

/// The handles that a guest holds, as far as the one who writes its scripts knows: by resource, by slot.
pub type Held = Vec<[bool; SLOTS as usize]>;

/// A script as it is written.
pub struct Script<'a> {
    pub(super) guest: &'a Guest,
    pub(super) random: &'a mut StdRng,
    pub(super) bytes: Vec<u8>,
    /// One value in so many is hostile; 0: none is.
    pub(super) hostile: u32,
    /// Where the next arguments that lie in memory go.
    pub(super) scratch: u32,
    /// How many rows columns have in the call that is written.
    pub(super) rows: usize,
    pub(super) held: &'a mut Held,
    /// Slots of handles that the call which is written gives away.
    pub(super) given_up: Vec<u32>,
    /// Where somebody listens.
    pub(super) port: u16,
    /// The interfaces that it keeps to, mostly; none: all.
    theme: &'static [&'static str],
    pub(super) interface: String,
    pub(super) name: String,
    /// Names of what is called, to show.
    pub called: Vec<String>,
}

/// Writes scripts for a guest.
pub struct Writer<'a> {
    guest: &'a Guest,
    /// The imports that a script may call, by reach.
    pure: Vec<usize>,
    all: Vec<usize>,
    held: Held,
    /// See [`Script::hostile`].
    hostile: u32,
    port: u16,
}

/// Calls that may last until the deadline, or reach out to the network.
const SLOW: [&str; 4] = ["block", "poll", "subscribe-duration", "resolve-addresses"];

/// Interfaces that a script may keep to, so that their calls meet.
const THEMES: [&[&str]; 6] = [
    &["wasm-host:task/state", "wasi:keyvalue/"],
    &["wasm-host:task/output", "wasm-host:task/metrics"],
    &["wasi:keyvalue/atomics", "wasi:keyvalue/store"],
    &["wasi:filesystem/", "wasi:io/streams"],
    &["wasi:sockets/", "wasi:io/"],
    &["wasi:io/", "wasi:cli/", "wasi:clocks/"],
];

fn is_pure(import: &Import) -> bool {
    let ours = [
        "wasm-host:",
        "wasi:keyvalue/",
        "wasi:config/",
        "wasi:logging/",
    ];
    ours.iter().any(|name| import.interface.starts_with(name))
}

impl<'a> Writer<'a> {
    pub fn new(guest: &'a Guest, port: u16) -> Writer<'a> {
        let of = |is: &dyn Fn(&Import) -> bool| {
            let found = guest.imports.iter().enumerate();
            found
                .filter(|(_, import)| is(import))
                .map(|(at, _)| at)
                .collect()
        };
        Writer {
            guest,
            pure: of(&is_pure),
            all: of(&|_| true),
            held: vec![Default::default(); guest.resources.len()],
            hostile: 0,
            port,
        }
    }

    /// A new instance, which holds nothing.
    pub fn begin(&mut self, random: &mut StdRng) {
        self.hostile = [0, 0, 0, 0, 400, 100, 30, 8][random.random_range(0..8)];
        self.held.fill(Default::default());
    }

    /// A script, and what it calls.
    pub fn write(&mut self, reach: Reach, random: &mut StdRng) -> (Vec<u8>, Vec<String>) {
        // Cursors end with the call that opened them.
        for (resource, held) in self.guest.resources.iter().zip(&mut self.held) {
            if self.guest.resolve.types[*resource].name.as_deref() == Some("cursor") {
                held.fill(false);
            }
        }
        let calls = random.random_range(1..24);
        let themes = if reach == Reach::Pure {
            3
        } else {
            THEMES.len()
        };
        let theme = match random.random_bool(0.5) {
            true => THEMES[random.random_range(0..themes)],
            false => &[],
        };
        let mut script = Script {
            guest: self.guest,
            hostile: self.hostile,
            random,
            bytes: Vec::new(),
            scratch: SCRATCH,
            rows: 0,
            held: &mut self.held,
            given_up: Vec::new(),
            port: self.port,
            theme,
            interface: String::new(),
            name: String::new(),
            called: Vec::new(),
        };
        let imports = match reach {
            Reach::Pure => [&self.pure, &self.pure],
            Reach::All => [&self.pure, &self.all],
        };
        for _ in 0..calls {
            script.step(imports);
        }
        script.end();
        (script.bytes, script.called)
    }
}

impl Script<'_> {
    pub(super) fn one_in(&mut self, number: u32) -> bool {
        number > 0 && self.random.random_range(0..number) == 0
    }

    pub(super) fn is_hostile(&mut self) -> bool {
        self.one_in(self.hostile)
    }

    pub(super) fn emit(&mut self, op: u32, a: u32, b: u32, c: u32) {
        for word in [op, a, b, c] {
            self.bytes.extend(word.to_le_bytes());
        }
    }

    /// Puts bytes into the guest's memory.
    pub(super) fn put(&mut self, at: u32, bytes: &[u8]) {
        self.emit(op::WRITE, at, u32::try_from(bytes.len()).expect("few"), 0);
        self.bytes.extend(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn step(&mut self, imports: [&Vec<usize>; 2]) {
        if self.hostile > 0 && self.one_in(4 * self.hostile) {
            return self.disturb();
        }
        // What is held adds up in loops.
        let loops = if self.theme.contains(&"wasi:filesystem/") {
            5
        } else {
            25
        };
        if self.one_in(loops) {
            let most = [3, 10, 40, 200][self.random.random_range(0..4)];
            let times = self.random.random_range(2..=most);
            self.emit(op::LOOP, times, 0, 0);
            self.called.push(format!("{times} times:"));
            for _ in 0..self.random.random_range(1..4) {
                let index = self.choose(imports);
                self.call(index);
            }
            self.called.push(";".into());
            return self.emit(op::AGAIN, 0, 0, 0);
        }
        let index = self.choose(imports);
        self.call(index);
    }

    /// Something other than a call.
    fn disturb(&mut self) {
        let number = self.number();
        match self.random.random_range(0..12) {
            0 => self.emit(op::TRAP, 0, 0, 0),
            1 => self.emit(op::RECURSE, 0, 0, 0),
            2 => {
                let pages = self.random.random_range(0..40);
                self.emit(op::GROW, pages, 0, 0);
            }
            3 if self.one_in(20) => self.emit(op::SPIN, 0, 0, 0),
            4 => self.emit(op::CALL, number, 0, 0),
            5 => self.emit(op::COPY, number, RETURNED, 4),
            6 => {
                let script = self.bytes.clone();
                self.put(LAST_SCRIPT, &script[..script.len().min(8192 - 16)]);
            }
            _ => {
                // What never ends takes its whole time.
                let way = self.random.random_range(0..=REALLOC_WAYS);
                let way = if way == 6 && !self.one_in(10) { 0 } else { way };
                let after = self.random.random_range(0..6);
                self.called.push(format!("realloc {way} after {after}"));
                self.emit(op::REALLOC, way, after, 0);
            }
        }
    }

    /// An import whose handles are there, mostly.
    fn choose(&mut self, [some, all]: [&Vec<usize>; 2]) -> usize {
        let imports = if self.random.random_bool(0.4) {
            some
        } else {
            all
        };
        for _ in 0..40 {
            let index = imports[self.random.random_range(0..imports.len())];
            let import = &self.guest.imports[index];
            let slow = SLOW.iter().any(|name| import.name.contains(name));
            let exits = import.interface.starts_with("wasi:cli/exit");
            let stops = import.name == "request-stop";
            if (slow && !self.one_in(20)) || ((exits || stops) && !self.one_in(50)) {
                continue;
            }
            if import.drops.is_some() && !self.one_in(3) {
                continue;
            }
            let fits = |name: &&str| import.interface.starts_with(*name);
            if !self.theme.is_empty() && !self.theme.iter().any(fits) && !self.one_in(12) {
                continue;
            }
            if self.has_handles(import) || self.is_hostile() {
                return index;
            }
        }
        imports[0]
    }

    fn has_handles(&self, import: &Import) -> bool {
        let mut needed: Vec<usize> = import.drops.into_iter().collect();
        for (_, ty) in &import.params {
            needed.extend(self.handle_of(ty));
        }
        let has = |resource: &usize| self.held[*resource].iter().any(|held| *held);
        needed.iter().all(has)
    }

    fn call(&mut self, index: usize) {
        let guest = self.guest;
        let import = &guest.imports[index];
        self.interface.clone_from(&import.interface);
        self.name.clone_from(&import.name);
        self.called
            .push(format!("{}.{}", import.interface, import.name));
        self.rows = self.random.random_range(0..6);
        if self.scratch > SCRATCH + 40_000 {
            self.scratch = SCRATCH;
        }
        let mut arguments = self.arguments(import);
        let given_up = std::mem::take(&mut self.given_up);
        let returns_to = RETURNED + 256 * self.random.random_range(0..8);
        if import.returns_to {
            let to = if self.is_hostile() {
                self.address()
            } else {
                returns_to
            };
            arguments.push(Taken::Raw(to.into()));
        }
        if self.is_hostile() && !arguments.is_empty() {
            let at = self.random.random_range(0..arguments.len());
            arguments[at] = Taken::Raw(self.any());
        }
        let mut raw = Vec::new();
        for argument in &arguments {
            let value = match argument {
                Taken::Raw(value) => *value,
                Taken::Slot(_) => 0,
            };
            raw.extend(value.to_le_bytes());
        }
        self.put(ARGUMENTS, &raw);
        for (at, argument) in (ARGUMENTS..).step_by(8).zip(&arguments) {
            if let Taken::Slot(slot) = argument {
                self.emit(op::COPY, at, *slot, 4);
            }
        }
        let [one, other] = self.needed_slots(&arguments);
        self.emit(op::CALL, u32::try_from(index).expect("few"), one, other);
        for slot in given_up {
            self.put(slot, &[0; 4]);
        }
        if let Some(result) = &import.result {
            let from = if import.returns_to {
                returns_to
            } else {
                RESULT
            };
            self.keep_handles(result, from, None);
        }
    }

    /// The slots of the first two handles among arguments, if the call is to be left out without them.
    fn needed_slots(&mut self, arguments: &[Taken]) -> [u32; 2] {
        let mut slots = arguments.iter().filter_map(|argument| match argument {
            Taken::Slot(slot) => Some(*slot),
            Taken::Raw(_) => None,
        });
        let needed = [slots.next().unwrap_or(0), slots.next().unwrap_or(0)];
        if self.is_hostile() { [0, 0] } else { needed }
    }

    /// Where a handle that is returned is remembered.
    pub(super) fn free_slot(&mut self, resource: usize) -> u32 {
        let held = &mut self.held[resource];
        let free = held.iter().position(|held| !held);
        let slot = free.unwrap_or_else(|| self.random.random_range(0..held.len()));
        held[slot] = true;
        slot_at(resource, slot)
    }

    fn end(&mut self) {
        let most = if self.hostile > 0 { 40 } else { 3_000 };
        match self.random.random_range(0..most) {
            _ if self.one_in(30) => {
                // A rejection, or what is none.
                let text = self.text_at();
                let mut result = vec![0; 12];
                result[0] = 1;
                result[4..12].copy_from_slice(&text);
                self.put(RETURNED, &result);
                self.emit(op::RETURN, RETURNED, 0, 0);
            }
            2 => {
                let address = self.address();
                self.emit(op::RETURN, address, 0, 0);
            }
            3 => self.emit(op::TRAP, 0, 0, 0),
            4 => self.emit(op::RETURN, RETURNED, 0, 0),
            5 => self.emit(op::RETURN, DONE, 0, 0),
            _ => self.emit(op::END, 0, 0, 0),
        }
    }

    /// An address, seldom a good one.
    pub(super) fn address(&mut self) -> u32 {
        let end = PAGES << 16;
        match self.random.random_range(0..6) {
            0 => end - self.random.random_range(0..40),
            1 => u32::MAX - self.random.random_range(0..40),
            2 => self.random.random_range(0..end),
            3 => RETURNED + self.random.random_range(0..64),
            4 => 0,
            _ => self.random.random(),
        }
    }

    /// A number, often at some bound.
    pub(super) fn number(&mut self) -> u32 {
        const BOUNDS: [u32; 12] = [
            0,
            1,
            4,
            64,
            1000,
            4096,
            65_536,
            16 << 20,
            64 << 20,
            i32::MAX as u32,
            1 << 31,
            u32::MAX,
        ];
        let bound = BOUNDS[self.random.random_range(0..BOUNDS.len())];
        match self.random.random_range(0..4) {
            0 => bound.wrapping_add(1),
            1 => bound.wrapping_sub(1),
            2 => self.random.random_range(0..32),
            _ => bound,
        }
    }

    /// Any 8 bytes.
    pub(super) fn any(&mut self) -> u64 {
        match self.random.random_range(0..6) {
            0 => self.random.random(),
            1 => u64::from(self.address()),
            2 => u64::MAX - u64::from(self.number()),
            3 => i64::MAX.cast_unsigned() - 1 + u64::from(self.random.random_range(0..3_u32)),
            4 => {
                [f64::NAN, f64::INFINITY, -0.0, f64::MIN][self.random.random_range(0..4)].to_bits()
            }
            _ => self.number().into(),
        }
    }
}

/// Where a slot for a handle is.
pub(super) fn slot_at(resource: usize, slot: usize) -> u32 {
    HANDLES + 4 * u32::try_from(resource * SLOTS as usize + slot).expect("few")
}

/// The random numbers of one round.
pub fn random_of(seed: u64, round: u64) -> StdRng {
    StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round)
}
