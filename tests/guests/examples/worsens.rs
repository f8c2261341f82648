//! As `versions`, until it has processed some messages: `fault` in the configuration says what becomes of it then. It traps or loops at each
//! message from number 1,000 on (a message is a number), traps at every thousandth of an instance, leaks a megabyte with each message after
//! that, or fails when it is closed.

use wasm_host_sdk::prelude::*;
use wasm_host_test_guests::say_version;

const AFTER: u64 = 1_000;

#[derive(Default)]
struct Worsens {
    seen: u64,
    leaked: Vec<Vec<u8>>,
}

#[task]
impl Worsens {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        let fault = cx.config("fault")?.unwrap_or_default();
        for message in batch.iter() {
            self.seen += 1;
            let number: u64 = message.value_str()?.parse().unwrap_or(0);
            match fault.as_str() {
                "trap" if number >= AFTER => panic!("it has become worse"),
                "loop" if number >= AFTER => loop {
                    std::hint::black_box(number);
                },
                "trap at times" if self.seen > AFTER => panic!("it is worse at times"),
                "leak" if self.seen > AFTER => self.leaked.push(vec![1; 1 << 20]),
                _ => {}
            }
            say_version(message.need_value()?, message.key(), cx)?;
        }
        Ok(())
    }

    fn close(&mut self, cx: &Context) {
        let fault = cx.config("fault");
        assert!(
            !matches!(fault, Ok(Some(fault)) if fault == "close"),
            "it cannot be closed"
        );
    }
}
