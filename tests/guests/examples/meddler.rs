//! Changes everything that a guest can change, a little with `keep` and much with any other message; then it ends as the message
//! says: `reject`, `trap`.

use wasm_host_sdk::prelude::*;

#[derive(Default)]
struct Meddler;

#[task]
impl Meddler {
    fn message(&mut self, message: &Message<'_>, cx: &Context) -> Result<(), Error> {
        let how = message.value_str()?;
        let keeps = how == "keep";
        let out = cx.output::<Raw, Raw>("out");
        for name in ["counts", "more"] {
            let count = cx.store::<Raw, I64>(name)?.increment(b"count", 1)?;
            let store = cx.store::<Raw, Raw>(name)?;
            store.put(format!("by-{how}-{count}").as_bytes(), b"kept")?;
            if !keeps {
                store.put(b"count", &[7; 8])?;
                store.put(b"by-keep-1", &[b'x'; 100])?;
                store.delete(b"by-keep-1")?;
                store.range().delete()?;
                store.put(b"after the range", b"x")?;
            }
        }
        for _ in 0..if keeps { 1 } else { 2 } {
            out.send_value(how.as_bytes())?;
            out.send(b"a key", how.as_bytes())?;
            out.draft().value(how.as_bytes()).partition(2).send()?;
        }
        cx.count("meddled", 1);
        cx.record("meddled-size", 1.0);
        cx.gauge("meddled-level", if keeps { 1.0 } else { 2.0 });
        if !keeps {
            cx.request_checkpoint();
            cx.request_stop("it must not be heard");
        }
        match how {
            "reject" => Err(Error::new("undo all of it")),
            "trap" => panic!("undo all of it"),
            _ => Ok(()),
        }
    }
}
