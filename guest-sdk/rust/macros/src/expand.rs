//! The code that `#[task]` writes: `Task` for the struct, and an export for each interface that the task has.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Error, ItemImpl, Result, Type};

use crate::handlers::{Handler, Handlers};

pub(crate) fn task(attribute: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !attribute.is_empty() {
        return Err(Error::new_spanned(
            attribute,
            "`#[task]` takes no arguments",
        ));
    }
    let block: ItemImpl = syn::parse2(item).map_err(|error| {
        Error::new(
            error.span(),
            "`#[task]` stands on the `impl` block of a struct",
        )
    })?;
    if let Some((of, _)) = &block.trait_ {
        return Err(Error::new_spanned(
            of,
            "`#[task]` stands on the `impl` block of a struct, not of a trait",
        ));
    }
    if !block.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &block.generics,
            "a task has no generic parameters: a component is one type",
        ));
    }
    let handlers = Handlers::of(&block)?;
    let task = implement(&block.self_ty, &handlers);
    let exports = export(&block.self_ty, &handlers);
    let ty = &block.self_ty;
    Ok(quote! {
        #block
        #task
        // Natively nothing may use the task, if its crate has no tests; that does not make it dead code.
        #[cfg(not(target_family = "wasm"))]
        const _: ::core::option::Option<::wasm_host_sdk::__private::Instance<#ty>> = {
            let _create = <#ty as ::wasm_host_sdk::Task>::create;
            ::core::option::Option::None
        };
        #exports
    })
}

/// `impl Task`, by the author's methods.
fn implement(ty: &Type, handlers: &Handlers) -> TokenStream {
    let shape = if handlers.batch.is_some() {
        quote!(Batch)
    } else {
        quote!(Message)
    };
    let create = create(ty, handlers.open.as_ref());
    let batch = or_done(&handlers.batch, |handler| {
        call(ty, handler, &quote!(self, batch,))
    });
    let message = or_done(&handlers.message, |handler| {
        call(ty, handler, &quote!(self, message,))
    });
    let close = handlers.close.as_ref().map(|handler| {
        let call = call(ty, handler, &quote!(self,));
        // The contract has no place for an error here, so it is logged.
        quote! {
            let closed: ::core::result::Result<(), ::wasm_host_sdk::Error> = #call;
            if let ::core::result::Result::Err(error) = closed {
                ::wasm_host_sdk::error!("close: {error}");
            }
        }
    });
    let on_end = match &handlers.on_end {
        Some(handler) => {
            let call = call(ty, handler, &quote!(self,));
            quote!(#call.map(::wasm_host_sdk::Progress::from))
        }
        None => quote!(::core::result::Result::Ok(::wasm_host_sdk::Progress::Done)),
    };
    let (state_version, migrate) = match &handlers.migrate {
        Some(handler) => {
            let call = call(ty, handler, &quote!(migration,));
            let migrate = quote!(#call.map(::wasm_host_sdk::Migrated::from));
            (quote!(<#ty>::STATE_VERSION), migrate)
        }
        None => {
            let done = quote!(::core::result::Result::Ok(::wasm_host_sdk::Migrated::Done));
            (quote!(0), done)
        }
    };
    quote! {
        #[allow(clippy::all, clippy::pedantic, unused_variables, reason = "generated code")]
        impl ::wasm_host_sdk::Task for #ty {
            const SHAPE: ::wasm_host_sdk::Shape = ::wasm_host_sdk::Shape::#shape;
            const STATE_VERSION: ::core::primitive::u32 = #state_version;

            fn create(
                cx: &mut ::wasm_host_sdk::Context,
            ) -> ::core::result::Result<Self, ::wasm_host_sdk::Error> {
                #create
            }

            fn batch(
                &mut self,
                batch: &::wasm_host_sdk::Batch<'_>,
                cx: &mut ::wasm_host_sdk::Context,
            ) -> ::core::result::Result<(), ::wasm_host_sdk::Error> {
                #batch
            }

            fn message(
                &mut self,
                message: &::wasm_host_sdk::Message<'_>,
                cx: &mut ::wasm_host_sdk::Context,
            ) -> ::core::result::Result<(), ::wasm_host_sdk::Error> {
                #message
            }

            fn close(&mut self, cx: &mut ::wasm_host_sdk::Context) {
                #close
            }

            fn on_end(
                &mut self,
                cx: &mut ::wasm_host_sdk::Context,
            ) -> ::core::result::Result<::wasm_host_sdk::Progress, ::wasm_host_sdk::Error> {
                #on_end
            }

            fn migrate(
                migration: &::wasm_host_sdk::Migration<'_>,
                cx: &mut ::wasm_host_sdk::Context,
            ) -> ::core::result::Result<::wasm_host_sdk::Migrated, ::wasm_host_sdk::Error> {
                #migrate
            }
        }
    }
}

fn create(ty: &Type, open: Option<&Handler>) -> TokenStream {
    let default = quote!(<#ty as ::core::default::Default>::default());
    match open {
        None => quote!(::core::result::Result::Ok(#default)),
        Some(open) if open.has_self => {
            let call = call(ty, open, &quote!(&mut task,));
            quote! {
                let mut task = #default;
                #call.map(|()| task)
            }
        }
        Some(open) => call(ty, open, &TokenStream::new()),
    }
}

/// Calls a handler, and makes whatever it returns a `Result<_, Error>`.
fn call(ty: &Type, handler: &Handler, arguments: &TokenStream) -> TokenStream {
    let name = &handler.name;
    let context = handler.has_context.then(|| quote!(cx));
    let span = name.span();
    let call = quote_spanned!(span=> <#ty>::#name(#arguments #context));
    if handler.returns {
        quote_spanned!(span=> #call.map_err(::wasm_host_sdk::Error::from))
    } else {
        quote!({ #call; ::core::result::Result::<(), ::wasm_host_sdk::Error>::Ok(()) })
    }
}

fn or_done(handler: &Option<Handler>, call: impl FnOnce(&Handler) -> TokenStream) -> TokenStream {
    handler
        .as_ref()
        .map_or_else(|| quote!(::core::result::Result::Ok(())), call)
}

/// The exports of a component: only for Wasm, only what the task has.
fn export(ty: &Type, handlers: &Handlers) -> TokenStream {
    let mut exports = TokenStream::new();
    if handlers.batch.is_some() {
        exports.extend(quote! {
            impl batch_handler::exports::wasm_host::task::batch_handler::Guest for Exports {
                fn process(
                    batch: types::Batch,
                ) -> ::core::result::Result<::std::vec::Vec<types::Rejection>, ::std::string::String> {
                    HOME.with(|home| home.enter(|task| task.batch(&batch)))
                }
            }
            batch_handler::export_batch_handler!(Exports with_types_in ::wasm_host_sdk::__private::batch_handler);
        });
    }
    if handlers.message.is_some() {
        exports.extend(quote! {
            impl message_handler::exports::wasm_host::task::message_handler::Guest for Exports {
                fn process(message: types::Message) -> ::core::result::Result<(), ::std::string::String> {
                    HOME.with(|home| home.enter(|task| task.message(&message)))
                }
            }
            message_handler::export_message_handler!(Exports with_types_in ::wasm_host_sdk::__private::message_handler);
        });
    }
    if handlers.open.is_some() || handlers.close.is_some() {
        exports.extend(quote! {
            impl lifecycle::exports::wasm_host::task::lifecycle::Guest for Exports {
                fn open() -> ::core::result::Result<(), ::std::string::String> {
                    HOME.with(|home| home.open())
                }

                fn close() {
                    HOME.with(|home| home.close());
                }
            }
            lifecycle::export_lifecycle!(Exports with_types_in ::wasm_host_sdk::__private::lifecycle);
        });
    }
    if handlers.on_end.is_some() {
        exports.extend(quote! {
            impl end_of_input::exports::wasm_host::task::end_of_input::Guest for Exports {
                fn on_end() -> ::core::result::Result<
                    end_of_input::exports::wasm_host::task::end_of_input::Progress,
                    ::std::string::String,
                > {
                    use end_of_input::exports::wasm_host::task::end_of_input::Progress;
                    let progress = HOME.with(|home| home.enter(|task| task.on_end()))?;
                    ::core::result::Result::Ok(match progress {
                        ::wasm_host_sdk::Progress::Done => Progress::Done,
                        ::wasm_host_sdk::Progress::Again => Progress::Again,
                    })
                }
            }
            end_of_input::export_end_of_input!(Exports with_types_in ::wasm_host_sdk::__private::end_of_input);
        });
    }
    if handlers.migrate.is_some() {
        exports.extend(quote! {
            impl migration::exports::wasm_host::task::migration::Guest for Exports {
                fn state_version() -> u32 {
                    <#ty as ::wasm_host_sdk::Task>::STATE_VERSION
                }

                fn migrate(
                    old: u32,
                    resume: ::core::option::Option<::std::vec::Vec<u8>>,
                ) -> ::core::result::Result<
                    ::core::option::Option<::std::vec::Vec<u8>>,
                    ::std::string::String,
                > {
                    let resume = resume.as_deref();
                    ::wasm_host_sdk::__private::migrate::<#ty>(old, resume)
                        .map_err(|error| ::std::string::ToString::to_string(&error))
                }
            }
            migration::export_migration!(Exports with_types_in ::wasm_host_sdk::__private::migration);
        });
    }
    quote! {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, unused_imports, clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "the exports of a component")]
        const _: () = {
            use ::wasm_host_sdk::__private::imports::wasm_host::task::types;
            use ::wasm_host_sdk::__private::{
                Home, batch_handler, end_of_input, lifecycle, message_handler, migration,
            };

            struct Exports;

            ::std::thread_local! {
                static HOME: Home<#ty> = const { Home::new() };
            }

            #exports
        };
    }
}
