//! Sends each message on with its key. One that says `panic-without FILE` or `reject-without FILE` fails as long as the file is not
//! there.

use wasm_host_sdk::prelude::*;

#[derive(Default)]
struct Ordered;

#[task]
impl Ordered {
    fn message(&mut self, message: &Message<'_>, cx: &Context) -> Result<(), Error> {
        let value = message.value_str()?;
        if let Some((word, path)) = value.split_once("-without ")
            && !std::path::Path::new(path).exists()
        {
            match word {
                "panic" => panic!("a file is not there"),
                _ => return Err(Error::new("a file is not there")),
            }
        }
        let key = message.key().unwrap_or_default();
        let out = cx.output::<Raw, Raw>("out");
        match message.key() {
            Some(_) => out.send(key, value.as_bytes()),
            None => out.send_value(value.as_bytes()),
        }
    }
}
