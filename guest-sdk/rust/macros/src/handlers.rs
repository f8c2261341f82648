//! Which handlers an `impl` block has, and how each wants to be called.

use syn::{Error, ImplItem, ImplItemFn, ItemImpl, Result, ReturnType};

/// The methods of an `impl` block that a host may call.
pub(crate) struct Handlers {
    pub(crate) batch: Option<Handler>,
    pub(crate) message: Option<Handler>,
    pub(crate) open: Option<Handler>,
    pub(crate) close: Option<Handler>,
    pub(crate) on_end: Option<Handler>,
    pub(crate) migrate: Option<Handler>,
}

/// One of them.
pub(crate) struct Handler {
    pub(crate) name: syn::Ident,
    /// It takes `&self` or `&mut self`.
    pub(crate) has_self: bool,
    /// It takes a context.
    pub(crate) has_context: bool,
    /// It returns something, which is a `Result`.
    pub(crate) returns: bool,
}

impl Handlers {
    pub(crate) fn of(block: &ItemImpl) -> Result<Self> {
        let find = |name: &str, inputs: usize| -> Result<Option<Handler>> {
            let method = block.items.iter().find_map(|item| match item {
                ImplItem::Fn(method) if method.sig.ident == name => Some(method),
                _ => None,
            });
            method.map(|method| Handler::of(method, inputs)).transpose()
        };
        let handlers = Self {
            batch: find("batch", 1)?,
            message: find("message", 1)?,
            open: find("open", 0)?,
            close: find("close", 0)?,
            on_end: find("on_end", 0)?,
            migrate: find("migrate", 1)?,
        };
        handlers.check(block)?;
        Ok(handlers)
    }

    fn check(&self, block: &ItemImpl) -> Result<()> {
        match (&self.batch, &self.message) {
            (Some(_), Some(message)) => {
                return Err(Error::new(
                    message.name.span(),
                    "a task has `batch` or `message`, not both",
                ));
            }
            (None, None) => {
                return Err(Error::new_spanned(
                    &block.self_ty,
                    "a task needs a method `batch(&mut self, batch: &Batch<'_>, cx: &Context)` or `message(&mut self, message: &Message<'_>, cx: &Context)`",
                ));
            }
            _ => {}
        }
        for handler in [&self.batch, &self.message, &self.close, &self.on_end]
            .into_iter()
            .flatten()
        {
            if !handler.has_self {
                return Err(Error::new(
                    handler.name.span(),
                    format!("`{}` takes `&mut self`", handler.name),
                ));
            }
        }
        self.check_migration(block)?;
        match &self.open {
            Some(open) if !open.has_self && !open.returns => Err(Error::new(
                open.name.span(),
                "`open` without `self` returns `Result<Self, Error>`",
            )),
            _ => Ok(()),
        }
    }
}

impl Handlers {
    /// A version without a migration is as useless as a migration without a version.
    fn check_migration(&self, block: &ItemImpl) -> Result<()> {
        let version = block.items.iter().find_map(|item| match item {
            ImplItem::Const(constant) if constant.ident == "STATE_VERSION" => Some(&constant.ident),
            _ => None,
        });
        match (&self.migrate, version) {
            (Some(migrate), _) if migrate.has_self => Err(Error::new(
                migrate.name.span(),
                "`migrate` takes no `self`: it is called before a task is opened",
            )),
            (Some(migrate), None) => Err(Error::new(
                migrate.name.span(),
                "`migrate` needs to know to what: `const STATE_VERSION: u32 = 1;` in this block",
            )),
            (None, Some(version)) => Err(Error::new(
                version.span(),
                "`STATE_VERSION` needs a `migrate(migration: &Migration<'_>, cx: &Context)` in this block",
            )),
            _ => Ok(()),
        }
    }
}

impl Handler {
    /// `inputs`: how many arguments it takes between `self` and the context.
    fn of(method: &ImplItemFn, inputs: usize) -> Result<Self> {
        let signature = &method.sig;
        let name = signature.ident.clone();
        if let Some(asyncness) = signature.asyncness {
            return Err(Error::new(
                asyncness.span,
                "a task is synchronous: its handlers are no `async fn`",
            ));
        }
        if !signature.generics.params.is_empty() {
            return Err(Error::new_spanned(
                &signature.generics,
                "a handler has no generic parameters",
            ));
        }
        let has_self = signature.receiver().is_some();
        let arguments = signature.inputs.len() - usize::from(has_self);
        let has_context = match arguments.checked_sub(inputs) {
            Some(0) => false,
            Some(1) => true,
            _ => {
                let expected = match name.to_string().as_str() {
                    "batch" => "`&mut self, batch: &Batch<'_>, cx: &Context`",
                    "message" => "`&mut self, message: &Message<'_>, cx: &Context`",
                    "open" => "`cx: &Context` or `&mut self, cx: &Context`",
                    "migrate" => "`migration: &Migration<'_>, cx: &Context`",
                    _ => "`&mut self, cx: &Context`",
                };
                return Err(Error::new_spanned(
                    &signature.inputs,
                    format!("`{name}` takes {expected}"),
                ));
            }
        };
        let returns = match &signature.output {
            ReturnType::Default => false,
            ReturnType::Type(_, returned) => {
                !matches!(&**returned, syn::Type::Tuple(unit) if unit.elems.is_empty())
            }
        };
        Ok(Self {
            name,
            has_self,
            has_context,
            returns,
        })
    }
}
