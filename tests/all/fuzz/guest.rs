//! The guest: a core module that reads a script and calls what it imports with the raw arguments that the script has prepared. It
//! imports every function of every interface that the host provides, and the drop of every resource.

use std::fmt::Write as _;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::{
    Function, InterfaceId, LiftLowerAbi, ManglingAndAbi, Resolve, ResourceIntrinsic, SizeAlign,
    Type, TypeDefKind, TypeId, WasmImport, WorldId, WorldItem, WorldKey,
};

use crate::harness::in_repository;

/// Where the core result of a call is left: 8 bytes.
pub const RESULT: u32 = 16;
/// A result that says "done": zeros.
pub const DONE: u32 = 32;
/// The arguments of a call, 8 bytes each.
pub const ARGUMENTS: u32 = 64;
/// Handles that calls returned: by resource, [`SLOTS`] of 4 bytes each.
pub const HANDLES: u32 = 256;
/// Handles of a resource that are remembered.
pub const SLOTS: u32 = 8;
/// Where calls return what is more than one value.
pub const RETURNED: u32 = 4096;
/// The script of `close` and `on-end`.
pub const LAST_SCRIPT: u32 = 8192;
/// What arguments point to. `cabi_realloc` begins at the second page.
pub const SCRATCH: u32 = 16_384;
/// The memory at the beginning, in pages.
pub const PAGES: u32 = 4;

/// Instructions: four words each, the first of which is one of these, and data behind some.
pub mod op {
    /// Ends the script in good order.
    pub const END: u32 = 0;
    /// To, length; then the bytes, padded to whole words.
    pub const WRITE: u32 = 1;
    /// To, from, length.
    pub const COPY: u32 = 2;
    /// Which import, and where two handles are without which it is left out; 0: none.
    pub const CALL: u32 = 3;
    /// What `cabi_realloc` does from now on, after how many calls.
    pub const REALLOC: u32 = 4;
    /// Never ends.
    pub const SPIN: u32 = 5;
    /// Ends the script with this address as the result.
    pub const RETURN: u32 = 6;
    /// Pages.
    pub const GROW: u32 = 7;
    /// Traps.
    pub const TRAP: u32 = 8;
    /// Calls itself until the stack is full.
    pub const RECURSE: u32 = 9;
    /// The instructions up to the next [`AGAIN`], this often.
    pub const LOOP: u32 = 10;
    pub const AGAIN: u32 = 11;
    /// To, from, address of a byte: four bytes are copied if the byte is that in the higher half of the first word.
    pub const COPY_IF: u32 = 12;
    /// To, address of a list, offset: four bytes of the list's first element are copied if it has one.
    pub const COPY_FIRST: u32 = 13;
}

/// How many ways `cabi_realloc` has to misbehave, beside 0, which is to behave.
pub const REALLOC_WAYS: u32 = 10;

const WORLD: &str = "
    package fuzz:guest;
    world all {
      include wasm-host:task/imports@0.1.1;
      include wasi:cli/imports@0.2.12;
      import wasi:keyvalue/store@0.2.0-draft;
      import wasi:keyvalue/atomics@0.2.0-draft;
      import wasi:keyvalue/batch@0.2.0-draft;
      import wasi:keyvalue/store@0.2.0-draft2;
      import wasi:keyvalue/atomics@0.2.0-draft2;
      import wasi:keyvalue/batch@0.2.0-draft2;
      import wasi:config/store@0.2.0-draft;
      import wasi:config/runtime@0.2.0-draft;
      export wasm-host:task/lifecycle@0.1.1;
      export wasm-host:task/end-of-input@0.1.1;
    }
    world messages { include all; export wasm-host:task/message-handler@0.1.1; }
    world batches { include all; export wasm-host:task/batch-handler@0.1.1; }";

const CONFIG_DRAFT: &str = "
    package wasi:config@0.2.0-draft;
    interface store {
      variant error { upstream(string), io(string) }
      get: func(key: string) -> result<option<string>, error>;
      get-all: func() -> result<list<tuple<string, string>>, error>;
    }
    interface runtime {
      variant error { upstream(string), io(string) }
      get: func(key: string) -> result<option<string>, error>;
      get-all: func() -> result<list<tuple<string, string>>, error>;
    }";

/// Which handler the guest exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handler {
    Message,
    Batch,
}

/// A function that the guest imports, or the drop of a resource.
pub struct Import {
    /// The interface, with its version.
    pub interface: String,
    pub name: String,
    pub params: Vec<(String, Type)>,
    pub result: Option<Type>,
    /// The parameters and results of the core function.
    pub core: (Vec<WasmType>, Vec<WasmType>),
    /// All parameters lie in memory.
    pub indirect: bool,
    /// The last core parameter says where the result goes.
    pub returns_to: bool,
    /// It drops a handle of this resource.
    pub drops: Option<usize>,
}

/// The guest's interfaces.
pub struct Guest {
    pub resolve: Resolve,
    pub sizes: SizeAlign,
    pub imports: Vec<Import>,
    /// Resources, by their number.
    pub resources: Vec<TypeId>,
    world: (WorldId, WorldId),
}

impl Guest {
    pub fn new() -> Guest {
        let mut resolve = Resolve::default();
        let folder = in_repository("tests/wit/wasi");
        for name in ["io", "clocks", "random", "filesystem", "sockets", "cli"] {
            add(&mut resolve, &folder.join(format!("{name}.wit")));
        }
        for name in ["keyvalue-draft", "keyvalue-draft2"] {
            add(&mut resolve, &in_repository("tests/wit").join(name));
        }
        resolve
            .push_source("config.wit", CONFIG_DRAFT)
            .expect("WIT");
        resolve.push_dir(in_repository("wit")).expect("our WIT");
        let package = resolve.push_source("world.wit", WORLD).expect("WIT");
        let world = |name| {
            resolve
                .select_world(&[package], Some(name))
                .expect("a world")
        };
        let world = (world("messages"), world("batches"));
        let mut sizes = SizeAlign::default();
        sizes.fill(&resolve);
        let mut guest = Guest {
            resolve,
            sizes,
            imports: Vec::new(),
            resources: Vec::new(),
            world,
        };
        guest.find_imports();
        guest
    }

    fn find_imports(&mut self) {
        let imports = self.resolve.worlds[self.world.0].imports.clone();
        for (key, item) in imports {
            let WorldItem::Interface { id, .. } = item else {
                continue;
            };
            self.find_resources(&key, id);
            let functions = self.resolve.interfaces[id].functions.clone();
            for function in functions.values() {
                let import = self.import(&key, function);
                self.imports.push(import);
            }
        }
    }

    fn find_resources(&mut self, key: &WorldKey, interface: InterfaceId) {
        let types = self.resolve.interfaces[interface].types.clone();
        for resource in types.into_values() {
            if self.resolve.types[resource].kind != TypeDefKind::Resource {
                continue;
            }
            let (interface, name) = self.resolve.wasm_import_name(
                ManglingAndAbi::Legacy(LiftLowerAbi::Sync),
                WasmImport::ResourceIntrinsic {
                    interface: Some(key),
                    resource,
                    intrinsic: ResourceIntrinsic::ImportedDrop,
                },
            );
            self.imports.push(Import {
                interface,
                name,
                params: Vec::new(),
                result: None,
                core: (vec![WasmType::I32], Vec::new()),
                indirect: false,
                returns_to: false,
                drops: Some(self.resources.len()),
            });
            self.resources.push(resource);
        }
    }

    fn import(&self, key: &WorldKey, function: &Function) -> Import {
        let (interface, name) = self.resolve.wasm_import_name(
            ManglingAndAbi::Legacy(LiftLowerAbi::Sync),
            WasmImport::Func {
                interface: Some(key),
                func: function,
            },
        );
        let signature = self
            .resolve
            .wasm_signature(AbiVariant::GuestImport, function);
        let param = |param: &wit_parser::Param| (param.name.clone(), param.ty);
        Import {
            interface,
            name,
            params: function.params.iter().map(param).collect(),
            result: function.result,
            core: (signature.params, signature.results),
            indirect: signature.indirect_params,
            returns_to: signature.retptr,
            drops: None,
        }
    }

    /// The number of the resource of a handle.
    pub fn resource(&self, mut id: TypeId) -> usize {
        while let TypeDefKind::Type(Type::Id(other)) = self.resolve.types[id].kind {
            id = other;
        }
        let found = self.resources.iter().position(|resource| *resource == id);
        found.expect("a resource of an import")
    }

    /// The component.
    pub fn component(&self, handler: Handler) -> Vec<u8> {
        let world = match handler {
            Handler::Message => self.world.0,
            Handler::Batch => self.world.1,
        };
        let mut module = wat::parse_str(self.module(handler)).expect("a module");
        embed_component_metadata(&mut module, &self.resolve, world, StringEncoding::UTF8)
            .expect("metadata");
        let mut encoder = ComponentEncoder::default();
        let encoder = encoder.validate(true).module(&module).expect("a module");
        encoder.encode().expect("a component")
    }

    fn module(&self, handler: Handler) -> String {
        let mut text = "(module\n(type $call (func))\n".to_owned();
        for (index, import) in self.imports.iter().enumerate() {
            let types = |types: &[WasmType]| -> String {
                types.iter().map(|ty| format!(" {}", core(*ty))).collect()
            };
            let (params, results) = (types(&import.core.0), types(&import.core.1));
            writeln!(
                text,
                "(import {:?} {:?} (func $i{index} (param{params}) (result{results})))",
                import.interface, import.name
            )
            .expect("text");
        }
        let names: String = (0..self.imports.len())
            .map(|at| format!(" $c{at}"))
            .collect();
        writeln!(text, "(table funcref (elem{names}))").expect("text");
        for (index, import) in self.imports.iter().enumerate() {
            text += &trampoline(index, import);
        }
        text += &INTERPRETER.replace("{pages}", &PAGES.to_string());
        text += match handler {
            Handler::Message => MESSAGE,
            Handler::Batch => BATCH,
        };
        text + ")"
    }
}

fn add(resolve: &mut Resolve, path: &std::path::Path) {
    match path.is_dir() {
        true => resolve.push_dir(path).map(|_| ()),
        false => resolve.push_file(path).map(|_| ()),
    }
    .expect("WIT");
}

fn core(ty: WasmType) -> &'static str {
    match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
        WasmType::I64 | WasmType::PointerOrI64 => "i64",
        WasmType::F32 => "f32",
        WasmType::F64 => "f64",
    }
}

/// Calls an import with the arguments that lie in memory, and leaves its result there.
fn trampoline(index: usize, import: &Import) -> String {
    let load = |(at, ty): (usize, &WasmType)| {
        let address = ARGUMENTS as usize + 8 * at;
        format!("({}.load (i32.const {address})) ", core(*ty))
    };
    let arguments: String = import.core.0.iter().enumerate().map(load).collect();
    let call = format!("(call $i{index} {arguments})");
    match import.core.1.first() {
        None => format!("(func $c{index} (type $call) {call})\n"),
        Some(ty) => format!(
            "(func $c{index} (type $call) (i64.store (i32.const {RESULT}) (i64.const 0)) \
             ({}.store (i32.const {RESULT}) {call}))\n",
            core(*ty)
        ),
    }
}

/// The constants above are written out in it.
const INTERPRETER: &str = r#"
(memory (export "memory") {pages} 24)
(global $heap (mut i32) (i32.const 65536))
(global $way (mut i32) (i32.const 0))
(global $after (mut i32) (i32.const 0))

(func $spin (loop $l (br $l)))
(func $recurse (param i32) (result i32)
  (i32.add (call $recurse (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))

(func $alloc (param $align i32) (param $size i32) (result i32)
  (local $at i32)
  (local.set $at (i32.and
    (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
    (i32.sub (i32.const 0) (local.get $align))))
  (global.set $heap (i32.add (local.get $at) (local.get $size)))
  (if (i32.or (i32.lt_u (global.get $heap) (local.get $at))
              (i32.gt_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
    (then
      (if (i32.gt_u (local.get $size) (i32.const 4000000)) (then unreachable))
      (if (i32.eq (i32.const -1) (memory.grow (i32.add (i32.const 1)
                    (i32.shr_u (local.get $size) (i32.const 16)))))
        (then unreachable))))
  (local.get $at))

(func $realloc (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $size i32) (result i32)
  (local $at i32)
  (if (i32.eqz (global.get $way)) (then (return (call $alloc (local.get $align) (local.get $size)))))
  (if (global.get $after)
    (then
      (global.set $after (i32.sub (global.get $after) (i32.const 1)))
      (return (call $alloc (local.get $align) (local.get $size)))))
  (local.set $at (call $alloc (local.get $align) (local.get $size)))
  (block $recurse (block $same (block $grow (block $import (block $spin (block $null (block $end (block $far (block $odd (block $trap
    (br_table $trap $trap $odd $far $end $null $spin $import $grow $same $recurse (global.get $way)))
  unreachable)
  (return (i32.add (local.get $at) (i32.const 1))))
  (return (i32.const 0xfffffff0)))
  (return (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1))))
  (return (i32.const 0)))
  (call $spin) unreachable)
  (call $c0) (return (local.get $at)))
  (drop (memory.grow (i32.const 1))) (return (local.get $at)))
  (return (i32.const 4096)))
  (return (call $recurse (i32.const 0))))

(func $run (param $pc i32) (param $end i32) (result i32)
  (local $op i32) (local $a i32) (local $b i32) (local $c i32) (local $back i32) (local $left i32)
  (block $done
  (loop $next
    (br_if $done (i32.gt_u (i32.add (local.get $pc) (i32.const 16)) (local.get $end)))
    (local.set $op (i32.load (local.get $pc)))
    (local.set $a (i32.load offset=4 (local.get $pc)))
    (local.set $b (i32.load offset=8 (local.get $pc)))
    (local.set $c (i32.load offset=12 (local.get $pc)))
    (local.set $pc (i32.add (local.get $pc) (i32.const 16)))
    (block $first (block $if (block $again (block $loop (block $recurse (block $trap (block $grow (block $return
    (block $spin (block $way (block $call (block $copy (block $write
      (br_table $done $write $copy $call $way $spin $return $grow $trap $recurse $loop $again $if $first $done
        (i32.and (local.get $op) (i32.const 255))))
    ;; write
    (memory.copy (local.get $a) (local.get $pc) (local.get $b))
    (local.set $pc (i32.add (local.get $pc) (i32.and (i32.add (local.get $b) (i32.const 3)) (i32.const -4))))
    (br $next))
    ;; copy
    (memory.copy (local.get $a) (local.get $b) (local.get $c))
    (br $next))
    ;; call
    (br_if $next (i32.and (i32.ne (local.get $b) (i32.const 0)) (i32.eqz (i32.load (local.get $b)))))
    (br_if $next (i32.and (i32.ne (local.get $c) (i32.const 0)) (i32.eqz (i32.load (local.get $c)))))
    (call_indirect (type $call) (local.get $a))
    (br $next))
    ;; way
    (global.set $way (local.get $a))
    (global.set $after (local.get $b))
    (br $next))
    (call $spin))
    ;; return
    (global.set $heap (i32.const 65536))
    (return (local.get $a)))
    ;; grow
    (drop (memory.grow (local.get $a)))
    (br $next))
    unreachable)
    (drop (call $recurse (i32.const 0)))
    (br $next))
    ;; loop
    (local.set $back (local.get $pc))
    (local.set $left (local.get $a))
    (br $next))
    ;; again
    (if (i32.gt_u (local.get $left) (i32.const 1))
      (then
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (local.set $pc (local.get $back))))
    (br $next))
    ;; if
    (if (i32.eq (i32.load8_u (local.get $c)) (i32.shr_u (local.get $op) (i32.const 16)))
      (then (i32.store (local.get $a) (i32.load (local.get $b)))))
    (br $next))
    ;; first
    (if (i32.load offset=4 (local.get $b))
      (then (i32.store (local.get $a)
        (i32.load (i32.add (i32.load (local.get $b)) (local.get $c))))))
    (br $next)))
  (global.set $heap (i32.const 65536))
  (i32.const 32))

(func (export "wasm-host:task/lifecycle@0.1.1#open") (result i32) (i32.const 32))
(func (export "wasm-host:task/lifecycle@0.1.1#close")
  (drop (call $run (i32.const 8192) (i32.const 16384))))
(func (export "wasm-host:task/end-of-input@0.1.1#on-end") (result i32)
  (call $run (i32.const 8192) (i32.const 16384)))
"#;

const MESSAGE: &str = r#"
(func (export "wasm-host:task/message-handler@0.1.1#process")
  (param i32 i32 i64 i64 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
  (call $run (local.get 8) (i32.add (local.get 8) (local.get 9))))
"#;

/// The argument is a record in memory; its values' data is at offset 52.
const BATCH: &str = r#"
(func (export "wasm-host:task/batch-handler@0.1.1#process") (param i32) (result i32)
  (call $run (i32.load offset=52 (local.get 0))
    (i32.add (i32.load offset=52 (local.get 0)) (i32.load offset=56 (local.get 0)))))
"#;
