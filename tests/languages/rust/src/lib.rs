//! Guests on the bare bindings of `wit-bindgen`, without the SDK: what their two variants share.
//!
//! The bindings of all imports are made here once. Each example makes those of its exports, and takes the types from here by
//! `with`.

pub mod columns;
pub mod conformance;
pub mod words;

#[allow(
    missing_docs,
    clippy::allow_attributes_without_reason,
    reason = "made by wit-bindgen, and documented in wit/"
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "wasm-host:task/imports",
        generate_all,
    });
}
