//! A proxy before a broker, which knows where requests begin and end: it holds them back, delays them, cuts connections and swallows
//! answers.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

/// Requests, by their number in Kafka's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub enum Api {
    Produce = 0,
    Fetch = 1,
    InitProducerId = 22,
    AddPartitionsToTxn = 24,
    EndTxn = 26,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It waits.
    Delayed(Duration),
    /// The broker has it later, when [`Proxy::release`] is called; the client's connection is cut at once.
    Held,
    /// Half of it reaches the broker, and the connection is cut.
    CutInTheMiddle,
    /// The broker has it, and the client never hears the answer: the connection is cut.
    AnswerSwallowed,
    /// The broker has it, and the answer waits.
    AnswerDelayed(Duration),
}

/// A request that is to be treated so, once.
struct Rule {
    /// Whose it is, by the client's name for itself; `None`: anybody's.
    client: Option<String>,
    api: Api,
    /// How many of that kind pass before.
    after: u32,
    fate: Fate,
}

#[derive(Default)]
struct Now {
    rules: Vec<Rule>,
    /// Requests that are held, with the connections to the broker that they belong to.
    held: Vec<(Vec<u8>, TcpStream)>,
    /// Whose requests had their fate, as the rules name them.
    applied: Vec<Option<String>>,
}

/// A proxy.
pub struct Proxy {
    now: Arc<Mutex<Now>>,
}

impl Proxy {
    /// Listens on a port, for a broker at another.
    pub fn start(port: u16, broker: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let now = Arc::new(Mutex::new(Now::default()));
        let shared = Arc::clone(&now);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(("127.0.0.1", broker)) else {
                    continue;
                };
                let _ = client.set_nodelay(true);
                let _ = upstream.set_nodelay(true);
                connect(&shared, client, upstream);
            }
        });
        Proxy { now }
    }

    /// The next request of a kind, after some others of it, has this fate.
    pub fn expect(&self, api: Api, after: u32, fate: Fate) {
        self.expect_of(None, api, after, fate);
    }

    /// The same of the requests of one client.
    pub fn expect_of(&self, client: Option<&str>, api: Api, after: u32, fate: Fate) {
        let client = client.map(str::to_owned);
        self.now.lock().rules.push(Rule {
            client,
            api,
            after,
            fate,
        });
    }

    /// How many requests had their fate.
    pub fn applied(&self) -> usize {
        self.now.lock().applied.len()
    }

    /// How many requests of a client that was named had their fate.
    pub fn applied_of(&self, client: &str) -> usize {
        let now = self.now.lock();
        let of = now.applied.iter().flatten();
        of.filter(|applied| *applied == client).count()
    }

    /// Gives the broker what was held.
    pub fn release(&self) {
        self.release_of(None);
    }

    /// Gives the broker what was held of one client.
    pub fn release_of(&self, client: Option<&str>) {
        let is_meant = |(frame, _): &mut (Vec<u8>, _)| is_of(frame, client);
        let held: Vec<_> = self.now.lock().held.extract_if(.., is_meant).collect();
        for (request, mut upstream) in held {
            upstream.write_all(&request).expect("the broker takes it");
            // Its answer has nobody to go to.
            thread::spawn(move || drop(io::copy(&mut upstream, &mut io::sink())));
        }
    }
}

/// What becomes of the answer to a request, by its number.
type Answers = Arc<Mutex<HashMap<i32, Fate>>>;

fn connect(now: &Arc<Mutex<Now>>, client: TcpStream, upstream: TcpStream) {
    let answers = Answers::default();
    let (mut from, mut to) = (
        upstream.try_clone().expect("a handle"),
        client.try_clone().expect("a handle"),
    );
    let of = Arc::clone(&answers);
    thread::spawn(move || {
        let _ = answer(&mut from, &mut to, &of);
        let _ = to.shutdown(Shutdown::Both);
    });
    let now = Arc::clone(now);
    thread::spawn(move || {
        let _ = request(&now, client, upstream, &answers);
    });
}

fn frame(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let size = usize::try_from(i32::from_be_bytes(length)).unwrap_or(0);
    let mut frame = length.to_vec();
    frame.resize(4 + size, 0);
    from.read_exact(&mut frame[4..])?;
    Ok(frame)
}

fn number(frame: &[u8], at: usize) -> i32 {
    let bytes = frame.get(at..at + 4).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(0, |bytes| i32::from_be_bytes(*bytes))
}

fn answer(from: &mut TcpStream, to: &mut TcpStream, answers: &Answers) -> io::Result<()> {
    loop {
        let frame = frame(from)?;
        match answers.lock().remove(&number(&frame, 4)) {
            Some(Fate::AnswerSwallowed) => return Ok(()),
            Some(Fate::AnswerDelayed(time)) => thread::sleep(time),
            _ => {}
        }
        to.write_all(&frame)?;
    }
}

fn request(
    now: &Mutex<Now>,
    mut client: TcpStream,
    mut upstream: TcpStream,
    answers: &Answers,
) -> io::Result<()> {
    loop {
        let frame = match frame(&mut client) {
            Ok(frame) => frame,
            Err(error) => {
                let _ = upstream.shutdown(Shutdown::Both);
                return Err(error);
            }
        };
        match fate(now, &frame) {
            None => {}
            Some(Fate::Delayed(time)) => thread::sleep(time),
            Some(Fate::Held) => {
                client.shutdown(Shutdown::Both)?;
                now.lock().held.push((frame, upstream));
                return Ok(());
            }
            Some(Fate::CutInTheMiddle) => {
                upstream.write_all(&frame[..frame.len() / 2])?;
                upstream.shutdown(Shutdown::Both)?;
                return client.shutdown(Shutdown::Both);
            }
            Some(fate) => {
                answers.lock().insert(number(&frame, 8), fate);
            }
        }
        upstream.write_all(&frame)?;
    }
}

/// What becomes of a request.
fn fate(now: &Mutex<Now>, frame: &[u8]) -> Option<Fate> {
    let api = frame.get(4..6).and_then(|bytes| bytes.first_chunk());
    let api = i16::from_be_bytes(*api?);
    let mut now = now.lock();
    let is_meant = |rule: &Rule| rule.api as i16 == api && is_of(frame, rule.client.as_deref());
    let at = now.rules.iter().position(is_meant)?;
    if now.rules[at].after > 0 {
        now.rules[at].after -= 1;
        return None;
    }
    let rule = now.rules.remove(at);
    now.applied.push(rule.client);
    Some(rule.fate)
}

/// Whether a request is of a client; `None`: of any. The name comes after length, kind, version and number.
fn is_of(frame: &[u8], client: Option<&str>) -> bool {
    let Some(client) = client else { return true };
    let length = frame.get(12..14).and_then(|bytes| bytes.first_chunk());
    let length = length.map_or(0, |bytes| usize::from(u16::from_be_bytes(*bytes)));
    frame.get(14..14 + length) == Some(client.as_bytes())
}
