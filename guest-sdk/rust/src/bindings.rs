//! What `wit-bindgen` makes of the contract: one module for all imports, and one for each interface that a task may export.
//!
//! Every export is a world of its own, because an export macro exports its whole world, and a task exports only
//! what its `impl` block has. All of them share the types of the imports. A component keeps no trace of an
//! import that it never calls.
#![allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    reason = "generated code"
)]

/// The imports, and the types of the whole package.
pub mod imports {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package wasm-host:sdk;

            world sdk-imports {
                include wasm-host:task/imports@0.1.1;
            }
        ",
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq, Clone],
    });
}

/// `batch-handler`.
pub mod batch_handler {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package wasm-host:sdk;

            world sdk-batch-handler {
                export wasm-host:task/batch-handler@0.1.1;
            }
        ",
        with: { "wasm-host:task/types@0.1.1": crate::bindings::imports::wasm_host::task::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_batch_handler",
    });
}

/// `message-handler`.
pub mod message_handler {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package wasm-host:sdk;

            world sdk-message-handler {
                export wasm-host:task/message-handler@0.1.1;
            }
        ",
        with: { "wasm-host:task/types@0.1.1": crate::bindings::imports::wasm_host::task::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_message_handler",
    });
}

/// `lifecycle`.
pub mod lifecycle {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package wasm-host:sdk;

            world sdk-lifecycle {
                export wasm-host:task/lifecycle@0.1.1;
            }
        ",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_lifecycle",
    });
}

/// `migration`.
pub mod migration {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package wasm-host:sdk;

            world sdk-migration {
                export wasm-host:task/migration@0.1.1;
            }
        ",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_migration",
    });
}

/// `end-of-input`.
pub mod end_of_input {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package wasm-host:sdk;

            world sdk-end-of-input {
                export wasm-host:task/end-of-input@0.1.1;
            }
        ",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_end_of_input",
    });
}
