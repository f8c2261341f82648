//! What guests export: one file for each interface, with the calls into it.
//!
//! A new export is a file and a line of `exports!`: the contract's check, the look-up in a component and the loading of an
//! instance follow from it.

mod batch;
mod end;
mod lifecycle;
mod message;
mod migration;

use wasmtime::Store;
use wasmtime::component::{Component as Code, Instance as Loaded, InstancePre};

use super::bindings::exports::wasm_host::task::{
    batch_handler, end_of_input, lifecycle as lifecycle_export, message_handler,
    migration as migration_export,
};
use super::imports::InstanceData;
use super::limits::REASON_BYTES;
use super::secrets::Secrets;

pub use batch::Rejection;
pub use end::EndProgress;
pub use migration::state_version;

/// Interfaces of ours begin like this, whether they are imported or exported.
pub(super) const PACKAGE: &str = "wasm-host:task/";

macro_rules! exports {
    ($($name:ident: $bindings:ident, $interface:literal;)*) => {
        /// Interfaces that this host calls.
        pub(super) const INTERFACES: &[&str] = &[$($interface),*];

        /// Where a component exports each of them, if it does.
        pub(super) struct Exports {
            $(pub(super) $name: Option<$bindings::GuestIndices>,)*
        }

        /// The exports of an instance.
        pub(super) struct Handlers {
            $(pub(super) $name: Option<$bindings::Guest>,)*
        }

        impl Exports {
            /// Looks them up in a component.
            pub(super) fn find(code: &Code, pre: &InstancePre<InstanceData>) -> wasmtime::Result<Exports> {
                Ok(Exports {
                    $($name: match has(code, pre, $interface) {
                        true => Some($bindings::GuestIndices::new(pre)?),
                        false => None,
                    },)*
                })
            }

            /// Loads them from an instance.
            pub(super) fn load(
                &self,
                store: &mut Store<InstanceData>,
                instance: &Loaded,
            ) -> wasmtime::Result<Handlers> {
                Ok(Handlers {
                    $($name: match &self.$name {
                        Some(at) => Some(at.load(&mut *store, instance)?),
                        None => None,
                    },)*
                })
            }
        }
    };
}

exports! {
    message: message_handler, "message-handler";
    batch: batch_handler, "batch-handler";
    lifecycle: lifecycle_export, "lifecycle";
    end_of_input: end_of_input, "end-of-input";
    migration: migration_export, "migration";
}

fn has(code: &Code, pre: &InstancePre<InstanceData>, interface: &str) -> bool {
    let wanted = format!("{PACKAGE}{interface}@0.1.");
    code.component_type()
        .exports(pre.engine())
        .any(|(name, _)| name.starts_with(&wanted))
}

/// A reason that a guest gave, without secrets, cut to what is kept of it.
fn cut(secrets: &Secrets, reason: &str) -> String {
    let reason = secrets.hide(reason);
    reason[..reason.floor_char_boundary(REASON_BYTES)].to_owned()
}
