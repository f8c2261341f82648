//! Counts words.

use serde::{Deserialize, Serialize};
use wasm_host_sdk::prelude::*;

struct Count {
    counts: Store<Str, Json<u64>>,
    out: Output<Str, Json<Word>>,
}

#[derive(Serialize, Deserialize)]
struct Word {
    word: String,
    count: u64,
}

#[task]
impl Count {
    fn open(cx: &Context) -> Result<Self, Error> {
        Ok(Self {
            counts: cx.store("counts")?,
            out: cx.output("counts"),
        })
    }

    fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
        for word in message.value_str()?.split_whitespace() {
            let word = word.to_lowercase();
            let count = self.counts.get(&word)?.unwrap_or(0) + 1;
            self.counts.put(&word, &count)?;
            let counted = Word {
                word: word.clone(),
                count,
            };
            self.out.send(&word, &counted)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasm_host_sdk::testing::Setup;

    #[test]
    fn words_are_counted() {
        let mut task = Setup::new()
            .store("counts")
            .output("counts", 1)
            .start::<Count>()
            .unwrap();
        task.feed([("", "the quick brown fox"), ("", "the end")]);
        assert_eq!(task.store::<Str, Json<u64>>("counts").get("the"), Some(2));
        assert_eq!(task.sent("counts").len(), 6);
    }
}
