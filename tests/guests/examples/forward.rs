//! Sends each message on as it is, to the same partition where that is asked for by a header `keep-partition`.

use wasm_host_sdk::prelude::*;

struct Forward {
    out: Output<Raw, Raw>,
}

#[task]
impl Forward {
    fn open(cx: &Context) -> Result<Self, Error> {
        Ok(Self {
            out: cx.output("out"),
        })
    }

    fn message(&mut self, message: &Message<'_>, _: &Context) -> Result<(), Error> {
        let mut draft = self.out.draft().timestamp_ms(message.timestamp_ms());
        if let Some(key) = message.key() {
            draft = draft.key(key);
        }
        if let Some(value) = message.value() {
            draft = draft.value(value);
        }
        for (name, value) in message.headers() {
            draft = draft.header(name, value);
        }
        if message.header("keep-partition").is_some() {
            draft = draft.partition(message.partition());
        }
        draft.send()
    }
}
