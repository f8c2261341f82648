//! Does what each message says, one at a time; anything else is counted and sent on. `work` takes a millisecond, and tells when
//! it was done.

use wasm_host_sdk::prelude::*;

#[derive(Default)]
struct Obey {
    hoard: Vec<Vec<u8>>,
    /// How long `close` takes, in milliseconds; 0: it never returns.
    close_ms: Option<u64>,
}

#[task]
impl Obey {
    /// Fails as long as the file in `open-needs` is not there.
    fn open(cx: &Context) -> Result<Self, Error> {
        match cx.config_as::<String>("open-needs")? {
            Some(path) if !std::path::Path::new(&path).exists() => {
                Err(Error::new("a file is not there"))
            }
            _ => Ok(Obey::default()),
        }
    }

    fn message(&mut self, message: &Message<'_>, cx: &Context) -> Result<(), Error> {
        let text = message.value_str()?;
        let (word, argument) = text.split_once(' ').unwrap_or((text, ""));
        let number = || argument.parse::<u64>().unwrap_or_default();
        let store = cx.store::<Raw, Raw>("counts")?;
        if word == "await" {
            println!("waits for {argument}");
            while !std::path::Path::new(argument).exists() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        match word {
            "reject-without" if !std::path::Path::new(argument).exists() => {
                return Err(Error::new("a file is not there"));
            }
            "panic-without" if !std::path::Path::new(argument).exists() => {
                panic!("a file is not there")
            }
            // Fails the first time, and leaves a file that says so.
            "once" if !std::path::Path::new(argument).exists() => {
                std::fs::write(argument, b"").map_err(|error| Error::new(error.to_string()))?;
                panic!("this once")
            }
            "variable" => {
                let value = std::env::var(argument).map_err(|_| Error::new("it is not set"))?;
                cx.output::<Raw, Raw>("out").send_value(value.as_bytes())?;
            }
            "clock" => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                let now = now.unwrap_or_default().as_millis().to_string();
                cx.output::<Raw, Raw>("out").send_value(now.as_bytes())?;
            }
            // A value of the configuration, where it does not belong.
            "config-say" => eprintln!("the value is {}", cx.config(argument)?.unwrap_or_default()),
            "config-count" => cx.count(cx.config(argument)?.unwrap_or_default().as_str(), 1),
            "config-panic" => panic!("the value is {}", cx.config(argument)?.unwrap_or_default()),
            "config-reject" => {
                let value = cx.config(argument)?.unwrap_or_default();
                let detail = value.clone().into_bytes();
                return Err(Error::new(format!("the value is {value}")).with_detail(detail));
            }
            "variable-panic" => panic!("{}", std::env::var(argument).unwrap_or_default()),
            "panic" => panic!("the guest says no: {argument}"),
            "count-aloud" => {
                for number in 0..u64::MAX {
                    println!("counts to {number}");
                }
            }
            "spin" => {
                let until = std::time::Instant::now() + std::time::Duration::from_millis(number());
                while number() == 0 || std::time::Instant::now() < until {
                    std::hint::black_box(0);
                }
            }
            "burn" => {
                for _ in 0..number() * 1_000_000 {
                    std::hint::black_box(0);
                }
            }
            "sleep" => std::thread::sleep(std::time::Duration::from_millis(number())),
            "close" => self.close_ms = Some(number()),
            "reject" => {
                store.put(b"rejected", b"must not stay")?;
                cx.output::<Raw, Raw>("out")
                    .send_value(b"must not be seen")?;
                return Err(Error::new(argument.to_owned()).with_detail(b"the detail".as_slice()));
            }
            "hoard" => self.hoard.push(vec![1; number() as usize]),
            "long-key" => store.put(&vec![b'k'; number() as usize], b"")?,
            "long-value" => store.put(b"k", &vec![b'v'; number() as usize])?,
            "many-bytes" => {
                for part in 0..number() {
                    store.put(&part.to_le_bytes(), &vec![b'v'; 1 << 20])?;
                }
            }
            "send-bytes" => {
                let value = vec![b'v'; 1 << 20];
                for _ in 0..number() {
                    cx.output::<Raw, Raw>("out").send_value(&value)?;
                }
            }
            "ranges" => {
                for at in 0..number() {
                    let key = at.to_be_bytes();
                    store
                        .range()
                        .from(&key)
                        .until(&[&key[..], b"x"].concat())
                        .delete()?;
                }
            }
            "empty-ranges" => {
                for _ in 0..number() {
                    store.range().from(b"b").until(b"a").delete()?;
                }
            }
            "ttl" => store.ttl_ms(number()).put(b"k", b"v")?,
            "port" => cx.output::<Raw, Raw>(argument).send_value(b"x")?,
            "long-port" => {
                let name = "\u{1b}".repeat(number() as usize);
                cx.output::<Raw, Raw>(&name).send_value(b"x")?;
            }
            "long-metric" => cx.count(&"\u{202e}".repeat(number() as usize), 1),
            "files" => {
                let (path, number) = argument.split_once(' ').unwrap_or_default();
                let number = number.parse().unwrap_or_default();
                let files: Vec<_> = (0..number)
                    .flat_map(|_| std::fs::File::open(path))
                    .collect();
                assert_eq!(files.len(), number);
            }
            "from" => {
                let port = &cx.inputs()[message.input() as usize].port;
                let line = format!("{argument} from {port}/{}", message.partition());
                cx.output::<Raw, Raw>("out").send_value(line.as_bytes())?;
            }
            "partition" => {
                cx.output::<Raw, Raw>("out")
                    .draft()
                    .value(b"x")
                    .partition(number() as u32)
                    .send()?;
            }
            "store" => {
                cx.store::<Raw, Raw>(argument)?;
            }
            "config" => {
                let value = cx.config(argument)?.unwrap_or_default();
                cx.output::<Raw, Raw>("out").send_value(value.as_bytes())?;
            }
            "checkpoint" => cx.request_checkpoint(),
            "stop" => cx.request_stop(argument),
            "say" => println!("{argument}"),
            "file" => {
                let found = std::fs::read_to_string(argument)
                    .map_err(|error| Error::new(format!("file: {error}")));
                cx.output::<Raw, Raw>("out").send_value(found?.as_bytes())?;
            }
            "work" => {
                let began = std::time::Instant::now();
                while began.elapsed() < std::time::Duration::from_millis(1) {
                    std::hint::black_box(0);
                }
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                let line = format!("{argument} {}", now.unwrap_or_default().as_micros());
                cx.output::<Raw, Raw>("out").send_value(line.as_bytes())?;
            }
            "write" => std::fs::write(argument, "written")
                .map_err(|error| Error::new(format!("write: {error}")))?,
            "connect" => {
                std::net::TcpStream::connect(argument)
                    .map_err(|error| Error::new(format!("connect: {error}")))?;
            }
            "env" => {
                let count = std::env::vars().count();
                cx.output::<Raw, Raw>("out")
                    .send_value(count.to_string().as_bytes())?;
            }
            _ => {
                let count = cx.store::<Raw, I64>("counts")?.increment(b"count", 1)?;
                cx.count("obeyed", 1);
                let line = format!("{text} {count}");
                cx.output::<Raw, Raw>("out").send_value(line.as_bytes())?;
            }
        }
        Ok(())
    }

    fn close(&mut self, _cx: &Context) -> Result<(), Error> {
        match self.close_ms {
            None => {}
            Some(0) => loop {
                std::hint::black_box(0);
            },
            Some(milliseconds) => {
                std::thread::sleep(std::time::Duration::from_millis(milliseconds));
                println!("closed");
            }
        }
        Ok(())
    }
}
