//! The attribute `#[task]` of `wasm-host-sdk`.
//!
//! It reads which handlers an `impl` block has (`handlers`), implements the SDK's `Task` by them and exports the interfaces
//! that they stand for (`expand`). It must never add an export that the author did not write a method for.

mod expand;
mod handlers;

use proc_macro::TokenStream;

/// Makes a task of a struct, by one `impl` block of it.
///
/// What the component exports is decided by the methods that are there; all others are the author's own.
///
/// | method | exports | what it is |
/// | --- | --- | --- |
/// | `fn batch(&mut self, batch: &Batch<'_>, cx: &Context)` | `batch-handler` | takes messages in batches |
/// | `fn message(&mut self, message: &Message<'_>, cx: &Context)` | `message-handler` | takes one message at a time |
/// | `fn open(cx: &Context) -> Result<Self, Error>` | `lifecycle` | makes the struct, once per instance |
/// | `fn open(&mut self, cx: &Context)` | `lifecycle` | the same, after `Default` has made it |
/// | `fn close(&mut self, cx: &Context)` | `lifecycle` | before an orderly drop |
/// | `fn on_end(&mut self, cx: &Context)` | `end-of-input` | all inputs are bounded and at their end |
/// | `const STATE_VERSION: u32` and `fn migrate(migration: &Migration<'_>, cx: &Context)` | `migration` | state that an earlier version has left |
///
/// There is exactly one of `batch` and `message`. Without an `open` that makes it, the struct implements `Default`.
/// `&mut Context` will do as well, and a `cx` that is not used may be left out. Handlers return nothing or
/// `Result<(), Error>`; `on_end` may return `Result<Progress, Error>`, and `migrate` `Result<Migrated, Error>`, to be called again.
///
/// A program has one task: `#[task]` stands once in a crate.
///
/// # What an error means
///
/// - From `message`: the message is rejected, and what was done for it is undone.
/// - From `batch`: the whole call is undone, and the host gives the messages again, one in each call. To reject one message
///   and keep the rest, use `Store::update`, `Context::for_each` or `Context::reject`.
/// - From `open` and `on_end`: the task stops.
/// - From `migrate`: the state is what it was, and the code before goes on.
#[proc_macro_attribute]
pub fn task(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let item: proc_macro2::TokenStream = item.into();
    match expand::task(attribute.into(), item.clone()) {
        Ok(expanded) => expanded.into(),
        Err(error) => {
            // The block stays, so that the one error is not followed by one for each use of its methods.
            let error = error.into_compile_error();
            quote::quote!(#item #error).into()
        }
    }
}
