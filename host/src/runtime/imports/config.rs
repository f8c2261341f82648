//! `wasi:config`: the stage's `[stage.config]`, under each name that the interface has had. All of them have the same two
//! functions.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower, WasmStr};

use super::InstanceData;

/// The interface's names. Drafts are compared letter by letter.
pub(super) const NAMES: [&str; 3] = [
    "wasi:config/store@0.2.0-rc.1",
    "wasi:config/store@0.2.0-draft",
    "wasi:config/runtime@0.2.0-draft",
];

/// Why a value could not be read. It always can.
#[derive(ComponentType, Lower)]
#[component(variant)]
#[expect(dead_code, reason = "the interface has these cases")]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

type Call<'a> = StoreContextMut<'a, InstanceData>;
type Answer<T> = wasmtime::Result<(Result<T, Error>,)>;

pub(super) fn link(linker: &mut Linker<InstanceData>) -> wasmtime::Result<()> {
    for name in NAMES {
        let mut instance = linker.instance(name)?;
        instance.func_wrap("get", get)?;
        instance.func_wrap("get-all", get_all)?;
    }
    Ok(())
}

fn get(call: Call<'_>, (key,): (WasmStr,)) -> Answer<Option<String>> {
    let key = key.to_str(&call)?;
    Ok((Ok(call.data().component.options.config.get(&*key).cloned()),))
}

fn get_all(call: Call<'_>, (): ()) -> Answer<Vec<(String, String)>> {
    let config = call.data().component.options.config.iter();
    Ok((Ok(config
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()),))
}
