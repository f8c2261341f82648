//! Values of WIT types, as a script puts them into arguments and memory.

use rand::RngExt as _;
use wit_parser::abi::{FlatTypes, WasmType};
use wit_parser::{Handle, Int, Resolve, Type, TypeDefKind, Variant};

use super::guest::{Import, PAGES, RETURNED, SLOTS, op};
use super::script::{Script, slot_at};

/// What an argument is: 8 bytes, or what a slot for a handle holds when the script runs.
#[derive(Debug, Clone, Copy)]
pub enum Taken {
    Raw(u64),
    Slot(u32),
}

/// A value.
#[derive(Debug, Clone)]
enum Value {
    One(Taken),
    /// Address and length.
    List(u32, u32),
    Fields(Vec<Value>),
    Case(u32, Option<Box<Value>>),
}

/// A piece of memory: its bytes, and where handles go.
struct Image {
    bytes: Vec<u8>,
    handles: Vec<(usize, u32)>,
}

const STORES: [&str; 2] = ["first", "second"];
const PATHS: [&str; 12] = [
    "a",
    "b",
    "file",
    "folder",
    "folder/x",
    "link",
    "out",
    ".",
    "..",
    "../outside/secret",
    "/etc/passwd",
    "folder/../../outside/secret",
];
const TEXTS: [&str; 10] = [
    "",
    "first",
    "out",
    "key",
    "k\u{0}",
    "\u{202e}x\u{1b}[2J",
    "127.0.0.1",
    "localhost",
    "long-long-long-long-long-long-long-long-long-long-long-long-long-long",
    "€uro",
];

impl Script<'_> {
    /// The resource of a handle.
    pub(super) fn handle_of(&self, ty: &Type) -> Option<usize> {
        let Type::Id(id) = ty else { return None };
        match &self.guest.resolve.types[*id].kind {
            TypeDefKind::Handle(Handle::Own(of) | Handle::Borrow(of)) => {
                Some(self.guest.resource(*of))
            }
            TypeDefKind::Type(ty) => self.handle_of(ty),
            _ => None,
        }
    }

    /// The core arguments of a call, but for where its result goes.
    pub(super) fn arguments(&mut self, import: &Import) -> Vec<Taken> {
        if let Some(resource) = import.drops {
            return vec![self.handle(resource, true)];
        }
        let mut values = Vec::new();
        for (name, ty) in &import.params {
            let value = self.value(ty, name);
            values.push((value, *ty));
        }
        if import.indirect {
            let sizes = &self.guest.sizes;
            let types: Vec<Type> = values.iter().map(|(_, ty)| *ty).collect();
            let mut image = Image::new(sizes.params(&types).size.size_wasm32());
            let places = sizes.field_offsets(&types);
            for ((place, ty), (value, _)) in places.iter().zip(&values) {
                self.store(value, ty, &mut image, place.size_wasm32());
            }
            return vec![Taken::Raw(self.place(image).into())];
        }
        let mut flat = Vec::new();
        for (value, ty) in &values {
            self.flatten(value, ty, &mut flat);
        }
        flat
    }

    /// A held handle of this resource; seldom, or if there is none, any number.
    fn handle(&mut self, resource: usize, gives_up: bool) -> Taken {
        let held = (0..SLOTS as usize).filter(|slot| self.held[resource][*slot]);
        let held: Vec<usize> = held.collect();
        if self.is_hostile() || held.is_empty() {
            return match self.random.random_range(0..3) {
                0 => Taken::Raw(self.number().into()),
                1 => {
                    let other = self.random.random_range(0..self.held.len());
                    Taken::Slot(slot_at(other, 0))
                }
                _ => Taken::Raw(self.random.random_range(0..20)),
            };
        }
        let slot = held[self.random.random_range(0..held.len())];
        if gives_up {
            self.held[resource][slot] = false;
            self.given_up.push(slot_at(resource, slot));
        }
        Taken::Slot(slot_at(resource, slot))
    }

    fn value(&mut self, ty: &Type, name: &str) -> Value {
        match ty {
            Type::Bool => {
                let most = if self.is_hostile() { u64::MAX } else { 1 };
                Value::One(Taken::Raw(self.random.random_range(0..=most)))
            }
            Type::String => self.text(name),
            Type::Id(id) => {
                let guest = self.guest;
                let definition = &guest.resolve.types[*id];
                self.defined(&definition.kind, definition.name.as_deref(), name)
            }
            Type::F64 | Type::F32 => Value::One(Taken::Raw(match self.one_in(3) {
                true => self.any(),
                false => f64::from(self.random.random_range(0..100)).to_bits(),
            })),
            Type::Char => Value::One(Taken::Raw(self.random.random_range(0..0x12_0000))),
            Type::U32 if name == "partition" && !self.is_hostile() => {
                Value::One(Taken::Raw(self.random.random_range(0..3)))
            }
            _ => Value::One(Taken::Raw(match self.one_in(12) || self.is_hostile() {
                true => self.any(),
                false => self.random.random_range(0..40),
            })),
        }
    }

    fn defined(&mut self, kind: &TypeDefKind, type_name: Option<&str>, name: &str) -> Value {
        if type_name == Some("bytes-column") && !self.is_hostile() {
            return self.column(name);
        }
        if type_name == Some("headers-column") && !self.is_hostile() {
            return self.headers();
        }
        if type_name == Some("ipv4-socket-address") && self.one_in(2) {
            let one = |number: u16| Value::One(Taken::Raw(number.into()));
            let address = Value::Fields([127, 0, 0, 1].map(one).to_vec());
            return Value::Fields(vec![one(self.port), address]);
        }
        match kind {
            TypeDefKind::Type(ty) => self.value(ty, name),
            TypeDefKind::Record(record) => {
                let fields = record.fields.iter();
                Value::Fields(
                    fields
                        .map(|field| self.value(&field.ty, &field.name))
                        .collect(),
                )
            }
            TypeDefKind::Tuple(tuple) => {
                let types = tuple.types.iter();
                Value::Fields(types.map(|ty| self.value(ty, name)).collect())
            }
            TypeDefKind::Flags(flags) => {
                let all = (1_u64 << flags.flags.len()) - 1;
                let few = [0, 1, 3][self.random.random_range(0..3)];
                let some = self.random.random();
                let flags: u64 = if self.one_in(4) { some } else { few };
                let flags = if self.is_hostile() {
                    flags
                } else {
                    flags & all
                };
                Value::One(Taken::Raw(flags))
            }
            TypeDefKind::Enum(cases) => {
                let case = self.case(cases.cases.len());
                Value::One(Taken::Raw(case.into()))
            }
            TypeDefKind::Variant(variant) => {
                let case = self.case(variant.cases.len());
                let ty = variant.cases.get(case as usize).and_then(|case| case.ty);
                self.of_case(case, ty, name)
            }
            TypeDefKind::Option(ty) => {
                let case = match name {
                    // What the host does not do yet.
                    "options" | "ttl-ms" if !self.one_in(50) => 0,
                    _ => self.case(2),
                };
                self.of_case(case, (case == 1).then_some(*ty), name)
            }
            TypeDefKind::Result(result) => {
                let case = self.case(2);
                let ty = if case == 0 { result.ok } else { result.err };
                self.of_case(case, ty, name)
            }
            TypeDefKind::List(Type::U8) => self.list_of_bytes(name),
            TypeDefKind::List(ty) => self.list(ty, name),
            TypeDefKind::Handle(Handle::Own(of)) => {
                Value::One(self.handle(self.guest.resource(*of), true))
            }
            TypeDefKind::Handle(Handle::Borrow(of)) => {
                Value::One(self.handle(self.guest.resource(*of), false))
            }
            other => panic!("a parameter of a kind that is not known here: {other:?}"),
        }
    }

    fn of_case(&mut self, case: u32, ty: Option<Type>, name: &str) -> Value {
        Value::Case(case, ty.map(|ty| Box::new(self.value(&ty, name))))
    }

    fn case(&mut self, cases: usize) -> u32 {
        match self.is_hostile() {
            true => self.number(),
            false => self
                .random
                .random_range(0..u32::try_from(cases).expect("few")),
        }
    }

    fn list(&mut self, ty: &Type, name: &str) -> Value {
        let len = match self.one_in(40) {
            true => self.random.random_range(0..40),
            false => self.random.random_range(0..4),
        };
        let size = self.guest.sizes.size(ty).size_wasm32();
        let mut image = Image::new(size * len);
        for at in 0..len {
            let value = self.value(ty, name);
            self.store(&value, ty, &mut image, at * size);
        }
        let at = self.place(image);
        self.list_at(at, u32::try_from(len).expect("few"))
    }

    /// A list that lies there, or one that does not.
    fn list_at(&mut self, at: u32, len: u32) -> Value {
        if !self.is_hostile() {
            return Value::List(at, len);
        }
        match self.random.random_range(0..4) {
            0 => Value::List(self.address(), len),
            1 => Value::List(at, self.number()),
            2 => Value::List(at + 1, len),
            _ => Value::List(self.address(), self.number()),
        }
    }

    fn bytes_at(&mut self, bytes: &[u8]) -> Value {
        let at = self.place(Image {
            bytes: bytes.to_vec(),
            handles: Vec::new(),
        });
        self.list_at(at, u32::try_from(bytes.len()).expect("few"))
    }

    /// Bytes: few, or what an earlier call returned, or as many as a limit allows and one more.
    fn bytes(&mut self, name: &str) -> Vec<u8> {
        let few = ["key", "keys", "start", "end"].contains(&name);
        if few && !self.one_in(8) {
            return format!("k{}", self.random.random_range(0..8)).into_bytes();
        }
        let len = match self.random.random_range(0..12) {
            0 => 0,
            1 => super::world::KEY_BYTES + usize::from(self.one_in(50)),
            2 if self.one_in(4) && name == "value" => {
                super::world::VALUE_BYTES + usize::from(self.one_in(10))
            }
            3 => 8,
            _ => self.random.random_range(0..24),
        };
        (0..len).map(|_| self.random.random()).collect()
    }

    fn list_of_bytes(&mut self, name: &str) -> Value {
        if name == "partitions" {
            let rows = self.rows;
            let most: u32 = if self.is_hostile() { 4 } else { 3 };
            let partitions: Vec<u8> = (0..rows)
                .flat_map(|_| self.random.random_range(0..most).to_le_bytes())
                .collect();
            return self.bytes_at(&partitions);
        }
        if name == "timestamps" {
            let rows = if self.one_in(3) { 0 } else { 8 * self.rows };
            let times: Vec<u8> = (0..rows).map(|_| self.random.random()).collect();
            return self.bytes_at(&times);
        }
        if self.one_in(6) {
            // What some call returned: so it comes to be compared.
            let at = RETURNED + 4 * self.random.random_range(0..512);
            let len = self.random.random_range(0..48);
            return self.list_at(at, len);
        }
        let bytes = self.bytes(name);
        self.bytes_at(&bytes)
    }

    fn column(&mut self, name: &str) -> Value {
        let rows = match self.one_in(30) {
            true => self.random.random_range(0..80),
            false => self.rows,
        };
        self.column_of(name, rows)
    }

    fn column_of(&mut self, name: &str, rows: usize) -> Value {
        let (mut ends, mut data, mut absent) = (Vec::new(), Vec::new(), Vec::new());
        let may_be_absent = name == "values" || self.one_in(10);
        for row in 0..rows {
            if may_be_absent && self.one_in(5) {
                absent.extend(u32::try_from(row).expect("few").to_le_bytes());
            } else {
                data.extend(match name {
                    "names" => b"name".to_vec(),
                    name => self.bytes(name),
                });
            }
            ends.extend(u32::try_from(data.len()).expect("few").to_le_bytes());
        }
        for list in [&mut ends, &mut absent] {
            if self.is_hostile() && !list.is_empty() {
                let at = self.random.random_range(0..list.len());
                list[at] = self.random.random();
                list.truncate(self.random.random_range(0..=list.len()));
            }
        }
        Value::Fields(vec![
            self.bytes_at(&ends),
            self.bytes_at(&data),
            self.bytes_at(&absent),
        ])
    }

    fn headers(&mut self) -> Value {
        let mut ends = Vec::new();
        let mut all = 0;
        for _ in 0..self.rows {
            all += self.random.random_range(0..3);
            ends.extend(u32::to_le_bytes(all));
        }
        let all = all as usize;
        Value::Fields(vec![
            self.bytes_at(&ends),
            self.column_of("names", all),
            self.column_of("values", all),
        ])
    }

    fn text(&mut self, name: &str) -> Value {
        let metric = match self.name.as_str() {
            "counter-add" => Some('c'),
            "gauge-set" => Some('g'),
            "histogram-record" => Some('h'),
            _ => None,
        };
        let number = self.random.random_range(0..8);
        let text = match name {
            _ if self.hostile > 0 && self.one_in(15) => {
                TEXTS[self.random.random_range(0..TEXTS.len())].to_owned()
            }
            _ if self.is_hostile() => {
                let bytes: Vec<u8> = (0..number).map(|_| self.random.random()).collect();
                return self.bytes_at(&bytes);
            }
            "name" | "identifier" if self.name.contains("open") => STORES[number % 2].to_owned(),
            "name" if let Some(kind) = metric => format!("{kind}{number}"),
            "port" => ["out", "other"][number % 2].to_owned(),
            _ if self.interface.starts_with("wasi:filesystem") => {
                PATHS[self.random.random_range(0..PATHS.len())].to_owned()
            }
            "name" if self.interface.starts_with("wasi:sockets") => "127.0.0.1".to_owned(),
            _ => format!("k{number}"),
        };
        self.bytes_at(text.as_bytes())
    }

    /// Address and length of a text, for a result.
    pub(super) fn text_at(&mut self) -> [u8; 8] {
        let Value::List(at, len) = self.text("reason") else {
            panic!("a text is a list");
        };
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&at.to_le_bytes());
        bytes[4..].copy_from_slice(&len.to_le_bytes());
        bytes
    }

    /// Puts a piece of memory somewhere.
    fn place(&mut self, image: Image) -> u32 {
        let at = self.scratch.next_multiple_of(8);
        let end = at + u32::try_from(image.bytes.len()).expect("few");
        assert!(end <= PAGES << 16, "the arguments of a call fit");
        self.scratch = end;
        if !image.bytes.is_empty() {
            self.put(at, &image.bytes);
        }
        for (place, slot) in image.handles {
            self.emit(op::COPY, at + u32::try_from(place).expect("few"), slot, 4);
        }
        at
    }

    fn flatten(&self, value: &Value, ty: &Type, into: &mut Vec<Taken>) {
        let resolve = &self.guest.resolve;
        match (value, ty) {
            (Value::One(taken), _) => into.push(*taken),
            (Value::List(at, len), _) => {
                into.extend([Taken::Raw((*at).into()), Taken::Raw((*len).into())]);
            }
            (Value::Fields(fields), _) => {
                for (value, ty) in fields.iter().zip(fields_of(resolve, ty)) {
                    self.flatten(value, &ty, into);
                }
            }
            (Value::Case(case, payload), _) => {
                let end = into.len() + flat_len(resolve, ty);
                into.push(Taken::Raw((*case).into()));
                let payload_ty = case_of(resolve, ty, *case);
                if let (Some(payload), Some(ty)) = (payload, payload_ty) {
                    self.flatten(payload, &ty, into);
                }
                into.resize(end, Taken::Raw(0));
            }
        }
    }

    fn store(&self, value: &Value, ty: &Type, image: &mut Image, at: usize) {
        let (resolve, sizes) = (&self.guest.resolve, &self.guest.sizes);
        match value {
            Value::One(Taken::Raw(raw)) => {
                let size = sizes.size(ty).size_wasm32();
                image.bytes[at..at + size].copy_from_slice(&raw.to_le_bytes()[..size]);
            }
            Value::One(Taken::Slot(slot)) => image.handles.push((at, *slot)),
            Value::List(address, len) => {
                image.bytes[at..at + 4].copy_from_slice(&address.to_le_bytes());
                image.bytes[at + 4..at + 8].copy_from_slice(&len.to_le_bytes());
            }
            Value::Fields(fields) => {
                let types = fields_of(resolve, ty);
                for ((place, ty), value) in sizes.field_offsets(&types).iter().zip(fields) {
                    self.store(value, ty, image, at + place.size_wasm32());
                }
            }
            Value::Case(case, payload) => {
                let (tag_bytes, offset) = self.layout(ty);
                image.bytes[at..at + tag_bytes].copy_from_slice(&case.to_le_bytes()[..tag_bytes]);
                if let (Some(payload), Some(ty)) = (payload, case_of(resolve, ty, *case)) {
                    self.store(payload, &ty, image, at + offset);
                }
            }
        }
    }

    /// The size of a variant's tag, and where the payload is.
    fn layout(&self, ty: &Type) -> (usize, usize) {
        let (resolve, sizes) = (&self.guest.resolve, &self.guest.sizes);
        let cases = cases_of(resolve, ty);
        let tag = match cases.len() {
            0..=256 => Int::U8,
            _ => Int::U16,
        };
        let bytes = if tag == Int::U8 { 1 } else { 2 };
        let offset = sizes.payload_offset(tag, cases.iter().map(Option::as_ref));
        (bytes, offset.size_wasm32())
    }

    /// Remembers the handles of a result that lies at `at`; if `only_if`, then if the byte there is that.
    pub(super) fn keep_handles(&mut self, ty: &Type, at: u32, only_if: Option<(u32, u32)>) {
        if let Some(resource) = self.handle_of(ty) {
            let slot = self.free_slot(resource);
            self.put(slot, &[0; 4]);
            return match only_if {
                None => self.emit(op::COPY, slot, at, 4),
                Some((place, byte)) => self.emit(op::COPY_IF | (byte << 16), slot, at, place),
            };
        }
        let Type::Id(id) = ty else { return };
        let guest = self.guest;
        match &guest.resolve.types[*id].kind {
            TypeDefKind::List(ty) => {
                let fields = fields_of(&guest.resolve, ty);
                let first = fields.first().unwrap_or(ty);
                if let Some(resource) = self.handle_of(first) {
                    let slot = self.free_slot(resource);
                    self.emit(op::COPY_FIRST, slot, at, 0);
                }
            }
            TypeDefKind::Record(_) | TypeDefKind::Tuple(_) => {
                let types = fields_of(&guest.resolve, ty);
                for (place, ty) in guest.sizes.field_offsets(&types) {
                    let place = u32::try_from(place.size_wasm32()).expect("few");
                    self.keep_handles(ty, at + place, only_if);
                }
            }
            TypeDefKind::Type(ty) => self.keep_handles(ty, at, only_if),
            TypeDefKind::Option(_) | TypeDefKind::Result(_) | TypeDefKind::Variant(_) => {
                let (_, offset) = self.layout(ty);
                let offset = u32::try_from(offset).expect("few");
                for (case, payload) in (0..).zip(cases_of(&guest.resolve, ty)) {
                    if let Some(payload) = payload {
                        self.keep_handles(&payload, at + offset, Some((at, case)));
                    }
                }
            }
            _ => {}
        }
    }
}

impl Image {
    fn new(len: usize) -> Image {
        Image {
            bytes: vec![0; len],
            handles: Vec::new(),
        }
    }
}

fn kind_of<'a>(resolve: &'a Resolve, ty: &Type) -> Option<&'a TypeDefKind> {
    let Type::Id(id) = ty else { return None };
    match &resolve.types[*id].kind {
        TypeDefKind::Type(ty) => kind_of(resolve, ty),
        kind => Some(kind),
    }
}

fn fields_of(resolve: &Resolve, ty: &Type) -> Vec<Type> {
    match kind_of(resolve, ty) {
        Some(TypeDefKind::Record(record)) => record.fields.iter().map(|field| field.ty).collect(),
        Some(TypeDefKind::Tuple(tuple)) => tuple.types.clone(),
        _ => Vec::new(),
    }
}

/// The payload of each case.
fn cases_of(resolve: &Resolve, ty: &Type) -> Vec<Option<Type>> {
    match kind_of(resolve, ty) {
        Some(TypeDefKind::Option(ty)) => vec![None, Some(*ty)],
        Some(TypeDefKind::Result(result)) => vec![result.ok, result.err],
        Some(TypeDefKind::Variant(Variant { cases })) => cases.iter().map(|case| case.ty).collect(),
        _ => Vec::new(),
    }
}

fn case_of(resolve: &Resolve, ty: &Type, case: u32) -> Option<Type> {
    *cases_of(resolve, ty).get(case as usize)?
}

fn flat_len(resolve: &Resolve, ty: &Type) -> usize {
    let mut storage = [WasmType::I32; 64];
    let mut flat = FlatTypes::new(&mut storage);
    resolve.push_flat(ty, &mut flat);
    flat.to_vec().len()
}
