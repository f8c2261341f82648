//! Types and calls generated from the WIT package. Exports are borrowed all the way: a batch goes from the host's columns
//! into the guest's memory without a copy in between. The hot imports (`state`, `output`) are defined by hand in
//! [`super::imports`], borrowed likewise.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "host",
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: { default: trappable },
});
