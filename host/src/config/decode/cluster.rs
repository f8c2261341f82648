//! `[clusters.*]`: brokers, security, and what may be handed to the client.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::general::{positive, size_in};
use crate::config::cluster::{Cluster, Mechanism, Sasl, Security, Tls};
use crate::config::names;
use crate::config::setting::{Problem, Setting};
use crate::config::systems::REPLICATION_MAX;
use crate::config::table::{Entry, Table};
use crate::config::units::ByteSize;

/// Brokers allow no more by default (`transaction.max.timeout.ms`).
const TRANSACTION_MAX: Duration = Duration::from_secs(900);
const TRANSACTION_MIN: Duration = Duration::from_secs(1);
/// What librdkafka can be told.
const FETCH_MAX: ByteSize = ByteSize::mib(16_384);

/// A declared cluster, as far as it could be read.
pub(super) struct Declared<'a> {
    pub(super) key: &'a str,
    pub(super) key_span: Range<usize>,
    name: Option<&'a str>,
    cluster: Option<Cluster>,
}

impl Declared<'_> {
    /// The cluster and its name; `used`: whether streams of stages lie in it.
    pub(super) fn finish(self, used: bool) -> Option<(String, Cluster)> {
        let cluster = Cluster {
            used,
            ..self.cluster?
        };
        Some((self.name?.to_owned(), cluster))
    }
}

/// Settings of the client that would break a promise, or that a key of ours sets: the beginning of each name, and why.
const REFUSED: [(&str, &str); 44] = [
    ("bootstrap.servers", "`brokers` sets it"),
    ("metadata.broker.list", "`brokers` sets it"),
    ("security.protocol", "`security` sets it"),
    ("sasl.mechanism", "`sasl` sets it"),
    ("sasl.username", "`sasl` sets it"),
    ("sasl.password", "`sasl` sets it"),
    ("sasl.oauthbearer.method", "`sasl` sets it"),
    ("sasl.oauthbearer.client.", "`sasl` sets it"),
    ("sasl.oauthbearer.token.endpoint.url", "`sasl` sets it"),
    ("sasl.oauthbearer.scope", "`sasl` sets it"),
    ("ssl.ca.location", "`tls` sets it"),
    ("ssl.certificate.location", "`tls` sets it"),
    ("ssl.key.location", "`tls` sets it"),
    ("ssl.key.password", "`tls` sets it"),
    ("group.", "the job has no group; `group-id` names it"),
    ("client.rack", "it has no effect without a group"),
    (
        "transactional.id",
        "`group-id` sets it: with another, two hosts could write at once",
    ),
    ("transaction.timeout.ms", "`transaction-timeout` sets it"),
    ("message.timeout.ms", "`transaction-timeout` sets it"),
    ("delivery.timeout.ms", "`transaction-timeout` sets it"),
    (
        "enable.idempotence",
        "without it a message could be written twice, or out of order",
    ),
    ("enable.gapless.guarantee", "a transaction has no gaps"),
    ("acks", "fewer would lose messages that were committed"),
    (
        "request.required.acks",
        "fewer would lose messages that were committed",
    ),
    ("retries", "fewer would fail transactions for nothing"),
    (
        "message.send.max.retries",
        "fewer would fail transactions for nothing",
    ),
    ("max.in.flight", "more would break the order of messages"),
    (
        "isolation.level",
        "messages that are not committed would be read",
    ),
    (
        "auto.offset.reset",
        "messages would be skipped or read again without a word",
    ),
    ("auto.commit.", "positions are the job's, not the group's"),
    ("enable.auto.", "positions are the job's, not the group's"),
    ("offset.store.", "positions are the job's, not the group's"),
    (
        "enable.partition.eof",
        "the job must see the end of a partition",
    ),
    ("check.crcs", "without it damaged messages would be read"),
    ("queued.max.messages.kbytes", "`fetch-memory` sets it"),
    ("queued.min.messages", "`fetch-memory` sets it"),
    ("fetch.message.max.bytes", "`fetch-memory` sets it"),
    ("max.partition.fetch.bytes", "`fetch-memory` sets it"),
    ("queue.buffering.max.", "`bytes` in [checkpoint] sets it"),
    ("message.max.bytes", "the topic's own bound is looked up"),
    (
        "partitioner",
        "the host chooses partitions, as Kafka's default does",
    ),
    ("plugin.library.paths", "it would load code into the host"),
    ("log.queue", "the host takes the client's log"),
    ("test.mock.", "it would replace the cluster"),
];

/// Reads the declaration of a cluster. `job`: the name of the job.
pub(super) fn decode<'a>(entry: &Entry<'a>, job: Option<&str>) -> Declared<'a> {
    let name = entry.key_name("cluster");
    let table = entry.table(&format!("[clusters.{}]", entry.key));
    Declared {
        key: entry.key,
        key_span: entry.key_span.clone(),
        name,
        cluster: table.and_then(|table| cluster(table, job)),
    }
}

fn cluster(mut table: Table<'_>, job: Option<&str>) -> Option<Cluster> {
    let brokers = brokers(&mut table);
    let sasl = table.entry("sasl");
    let tls = table.entry("tls");
    let security = table.entry("security");
    let given = security.as_ref().and_then(Entry::text::<Security>);
    let implied = match (&sasl, &tls) {
        (None, None) => Security::Plaintext,
        (None, Some(_)) => Security::Tls,
        // A password that everybody can read is a decision.
        (Some(_), _) => Security::SaslTls,
    };
    let security = given.unwrap_or(implied.into());
    fits(&table, *security, sasl.as_ref(), tls.as_ref());
    let sasl = sasl.map(|entry| self::sasl(&entry));
    let tls = tls.map(|entry| self::tls(&entry));
    let group_id = table.text::<String>("group-id");
    let transaction_timeout = positive(&mut table, "transaction-timeout");
    if transaction_timeout
        .as_ref()
        .is_some_and(|timeout| **timeout < TRANSACTION_MIN || **timeout > TRANSACTION_MAX)
    {
        let problem = Problem::new("`transaction-timeout` is a time from 1s to 15m");
        let help = "brokers allow no more unless `transaction.max.timeout.ms` says so";
        let span = table.span_of("transaction-timeout");
        table.cx.error(&span, problem.help(help));
    }
    let fetch_memory = size_in(&mut table, "fetch-memory", ByteSize::mib(1), FETCH_MAX);
    let replication = table.integer_u32("replication", 1..=REPLICATION_MAX);
    let client = client(&mut table);
    table.finish(|_| None);
    Some(Cluster {
        used: false,
        brokers: brokers?,
        security,
        sasl: sasl.map_or(Some(None), |sasl| sasl.map(Some))?,
        tls: tls.map_or(Some(None), |tls| tls.map(Some))?,
        group_id: group_id.unwrap_or_else(|| job.unwrap_or_default().to_owned().into()),
        transaction_timeout: transaction_timeout.unwrap_or(Cluster::TRANSACTION_TIMEOUT.into()),
        fetch_memory: fetch_memory.unwrap_or(Cluster::FETCH_MEMORY.into()),
        replication,
        client,
    })
}

fn brokers(table: &mut Table<'_>) -> Option<Vec<Setting<String>>> {
    let help = "write brokers = [\"host:port\"]";
    let Some(entry) = table.entry("brokers") else {
        table.missing("brokers", help);
        return None;
    };
    let list = entry.list(help)?;
    if list.is_empty() {
        entry.error(Problem::new("`brokers` is empty").help(help));
    }
    let broker = |entry: &Entry<'_>| {
        let broker = entry.text::<String>()?;
        // One from the environment may be several, separated by commas.
        let is_address = |address: &str| {
            address.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.trim().parse::<u16>().is_ok() && !host.contains('/')
            })
        };
        if !broker.split(',').all(is_address) {
            let problem = Problem::new(format!("{broker:?} is not the address of a broker"));
            entry.error(problem.help("write it as \"host:port\""));
            return None;
        }
        Some(broker)
    };
    let brokers: Vec<_> = list.iter().filter_map(broker).collect();
    (brokers.len() == list.len() && !brokers.is_empty()).then_some(brokers)
}

/// Whether `security` and the tables agree.
fn fits(table: &Table<'_>, security: Security, sasl: Option<&Entry<'_>>, tls: Option<&Entry<'_>>) {
    let word = security.as_str();
    if security.has_sasl() && sasl.is_none() {
        let problem = Problem::new(format!("security = \"{word}\" needs `sasl`"));
        let help = "write sasl = { mechanism = \"…\", username = \"…\", password = \"${…}\" }";
        table
            .cx
            .error(&table.span_of("security"), problem.help(help));
    }
    let useless = [
        ("sasl", sasl, security.has_sasl()),
        ("tls", tls, security.has_tls()),
    ];
    for (key, entry, is_used) in useless {
        if let (Some(entry), false) = (entry, is_used) {
            let problem = Problem::new(format!("security = \"{word}\" makes no use of `{key}`"));
            table
                .cx
                .error(&entry.key_span, problem.help("leave one of the two out"));
        }
    }
}

fn sasl(entry: &Entry<'_>) -> Option<Sasl> {
    let mut table = entry.table("{ mechanism = \"…\", … }")?;
    let mechanism = table.text::<Mechanism>("mechanism");
    if table.peek("mechanism").is_none() {
        table.missing(
            "mechanism",
            &format!("one of {}", names::quoted(Mechanism::WORDS)),
        );
    }
    let of_password = ["username", "password"];
    let of_token = ["token-url", "client-id", "client-secret"];
    let (needed, others): (&[&str], &[&str]) = match mechanism.as_deref() {
        Some(Mechanism::OauthBearer) => (&of_token, &of_password),
        Some(_) => (&of_password, &of_token),
        None => (&[], &[]),
    };
    let word = mechanism
        .as_deref()
        .map_or("", |mechanism| mechanism.as_str());
    for key in needed {
        if table.peek(key).is_none() {
            table.missing(key, &format!("`{word}` needs it"));
        }
    }
    for entry in others.iter().filter_map(|key| table.peek(key)) {
        let problem = Problem::new(format!("`{word}` makes no use of `{}`", entry.key));
        table
            .cx
            .error(&entry.key_span, problem.help("leave it out"));
    }
    let sasl = Sasl {
        username: table.text("username"),
        password: table.text("password"),
        token_url: table.text("token-url"),
        client_id: table.text("client-id"),
        client_secret: table.text("client-secret"),
        scope: table.text("scope"),
        mechanism: mechanism?,
    };
    table.finish(|_| None);
    for (key, secret) in [
        ("password", &sasl.password),
        ("client-secret", &sasl.client_secret),
    ] {
        if secret
            .as_ref()
            .is_some_and(|secret| !secret.is_substituted())
        {
            let problem = Problem::new(format!("`{key}` is written in the job file"));
            let help = "take it from the environment or a file: \"${NAME}\" or \"${file:PATH}\"";
            table.cx.warn(&table.span_of(key), problem.help(help));
        }
    }
    Some(sasl)
}

fn tls(entry: &Entry<'_>) -> Option<Tls> {
    let mut table = entry.table("{ ca = \"…\", … }")?;
    let tls = Tls {
        ca: table.path("ca"),
        certificate: table.path("certificate"),
        key: table.path("key"),
        key_password: table.text("key-password"),
    };
    for (one, other) in [
        ("certificate", "key"),
        ("key", "certificate"),
        ("key-password", "key"),
    ] {
        if table.peek(one).is_some() && table.peek(other).is_none() {
            table.missing(other, &format!("`{one}` is of no use without it"));
        }
    }
    table.finish(|_| None);
    Some(tls)
}

fn client(table: &mut Table<'_>) -> BTreeMap<String, Setting<String>> {
    let Some(client) = table.table("client", "{ \"socket.timeout.ms\" = \"30000\" }") else {
        return BTreeMap::new();
    };
    let cx = client.cx;
    let settings = client.into_entries().into_iter().filter_map(|entry| {
        let key = entry.key;
        let is_meant = |(beginning, _): &&(&str, &str)| match beginning.ends_with('.') {
            true => key.starts_with(beginning),
            false => {
                key == *beginning
                    || beginning.len() > 5 && key.starts_with(&format!("{beginning}."))
            }
        };
        let is_callback = key.ends_with("_cb") || matches!(key, "opaque" | "enabled_events");
        let why = match REFUSED.iter().find(is_meant) {
            Some((_, why)) => Some(*why),
            None if is_callback => Some("it is not text"),
            None => None,
        };
        if let Some(why) = why {
            let problem = Problem::new(format!("`{key}` cannot be set: {why}"));
            cx.error(&entry.key_span, problem.help("leave it out"));
            return None;
        }
        Some((key.to_owned(), entry.text::<String>()?))
    });
    settings.collect()
}
