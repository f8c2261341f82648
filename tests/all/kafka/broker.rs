//! A broker of the tests' own, what they write to it, and Kafka's console consumer.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::proxy::Proxy;
use crate::harness::{Done, in_repository};

/// A broker that is there until the tests end, whatever ends them.
pub struct Broker {
    folder: PathBuf,
    port: u16,
    _shell: Child,
}

/// The broker that most tests share. `None`: it cannot be had on this machine, which is said once.
pub fn broker() -> Option<&'static Broker> {
    static SHARED: OnceLock<Option<Broker>> = OnceLock::new();
    SHARED.get_or_init(Broker::start).as_ref()
}

/// A record as it is written.
#[derive(Debug, Clone, Default)]
pub struct Record<'a> {
    pub partition: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub timestamp: Option<i64>,
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

fn kafka() -> Command {
    let mut command = Command::new(in_repository("scripts/kafka"));
    command.env("CARGO_TARGET_DIR", target());
    command
}

/// The id of a cluster of several brokers.
const CLUSTER: &str = "d2FzbS1ob3N0LXRlc3RzMA";

/// Fetches what a broker is made of. `None`: it cannot be had, which is said.
fn jars() -> Option<()> {
    let jars = kafka().arg("--jars").output();
    let jars = jars.expect("scripts/kafka can be started");
    if jars.status.success() {
        return Some(());
    }
    let why = String::from_utf8_lossy(&jars.stderr);
    let is_ci = std::env::var_os("CI").is_some();
    assert!(!is_ci, "no broker can be had: {why}");
    eprintln!("NOT TESTED: streams of Kafka, because no broker can be had: {why}");
    None
}

/// Where tests are built.
fn target() -> PathBuf {
    let steps = crate::harness::steps();
    let release = steps.parent().expect("a folder");
    release.parent().expect("a target folder").to_path_buf()
}

/// The first of seven ports in a row that are free.
fn free_port() -> u16 {
    for _ in 0..100 {
        let first = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = first.local_addr().expect("an address").port();
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if port < u16::MAX - 6 && (port + 1..=port + 6).all(is_free) {
            return port;
        }
    }
    panic!("no seven ports in a row are free");
}

impl Broker {
    /// A broker of its own. `None`: as for [`broker`].
    pub fn start() -> Option<Broker> {
        Broker::start_with(|_| String::new(), "")
    }

    /// The same with more properties, which know its first port, and more arguments of the command that makes its folder.
    pub fn start_with(properties: impl Fn(u16) -> String, format: &str) -> Option<Broker> {
        jars()?;
        let port = free_port();
        Some(Broker::start_on(port, &properties(port), format, ""))
    }

    /// Three brokers, of which one may be away: with three copies of everything, and two that must have it. `None`: as for [`broker`].
    pub fn start_three() -> Option<[Broker; 3]> {
        jars()?;
        let ports = [free_port(), free_port(), free_port()];
        let voters = [1, 2, 3].map(|node: u16| {
            let port = ports[usize::from(node) - 1] + 1;
            format!("{node}@127.0.0.1:{port}")
        });
        let properties = |node: usize| {
            let copies = "offsets.topic.replication.factor=3\ntransaction.state.log.replication.factor=3\ntransaction.state.log.min.isr=2\ndefault.replication.factor=3\nmin.insync.replicas=2";
            let voters = voters.join(",");
            format!(
                "node.id={}\ncontroller.quorum.voters={voters}\n{copies}",
                node + 1
            )
        };
        let start = |node: usize| Broker::start_on(ports[node], &properties(node), "", CLUSTER);
        // None of them serves before two of them do.
        Some(std::thread::scope(|scope| {
            [0, 1, 2]
                .map(|node| scope.spawn(move || start(node)))
                .map(|started| started.join().expect("it starts"))
        }))
    }

    fn start_on(port: u16, properties: &str, format: &str, cluster: &str) -> Broker {
        let folder = tempfile::Builder::new()
            .prefix("wasm-host-kafka-")
            .tempdir();
        let folder = folder.expect("a temporary folder").keep();
        let mut shell = kafka();
        shell
            .arg("lend")
            .arg(&folder)
            .arg(port.to_string())
            .env("KAFKA_PROPERTIES", properties)
            .env("KAFKA_FORMAT", format)
            .env("KAFKA_CLUSTER", cluster)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut shell = shell.spawn().expect("scripts/kafka can be started");
        let mut said = String::new();
        let mut output = BufReader::new(shell.stdout.take().expect("a pipe"));
        output.read_line(&mut said).expect("it says something");
        assert_eq!(said, "started\n", "the broker does not start");
        Broker {
            folder,
            port,
            _shell: shell,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address_at(0)
    }

    /// Another of its ports, by how far it is behind the first.
    pub fn address_at(&self, port: u16) -> String {
        format!("127.0.0.1:{}", self.port + port)
    }

    /// A proxy before it, where clients find it at [`Broker::proxied_address`].
    pub fn proxy(&self) -> Proxy {
        Proxy::start(self.port + 3, self.port + 2)
    }

    /// Where clients find it behind a proxy.
    pub fn proxied_address(&self) -> String {
        self.address_at(3)
    }

    /// Kills it with SIGKILL, and starts it again.
    pub fn kill_and_restart(&self) {
        let pid = std::fs::read_to_string(self.folder.join("pid")).expect("its process");
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().expect("a number"));
        let pid = pid.expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is there");
        std::thread::sleep(Duration::from_millis(200));
        self.restart();
    }

    /// Stops it in good order.
    pub fn stop(&self) {
        let stopped = kafka().arg("stop").arg(&self.folder).status();
        assert!(stopped.expect("scripts/kafka can be started").success());
    }

    /// Starts it again.
    pub fn restart(&self) {
        let started = kafka()
            .arg("start")
            .arg(&self.folder)
            .arg(self.port.to_string())
            .status();
        assert!(started.expect("scripts/kafka can be started").success());
    }

    /// Starts it again, unless it runs.
    pub fn ensure(&self) {
        if TcpStream::connect(self.address()).is_err() {
            self.restart();
        }
    }

    /// Flips a bit in the middle of the records of a partition. The broker must have been stopped in good order: then it does not look.
    pub fn damage(&self, topic: &str, partition: i32) {
        let segment = format!("data/{topic}-{partition}/00000000000000000000.log");
        let path = self.folder.join(segment);
        let mut bytes = std::fs::read(&path).expect("the segment");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).expect("it can be written");
    }

    /// A consumer group commits an offset of the first partition of a topic.
    pub fn commit(&self, group: &str, topic: &str, offset: i64) {
        let mut config = self.client();
        config.set("group.id", group);
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        let offset = Offset::Offset(offset);
        list.add_partition_offset(topic, 0, offset)
            .expect("a place");
        consumer
            .commit(&list, CommitMode::Sync)
            .expect("it is committed");
    }

    /// How many records are committed in a partition, as a quick look.
    pub fn count_committed(&self, topic: &str, partition: i32) -> usize {
        let mut config = self.client();
        config
            .set("group.id", super::fresh("looker"))
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .expect("a place");
        consumer.assign(&list).expect("it is assigned");
        let mut count = 0;
        loop {
            match consumer.poll(Duration::from_secs(10)) {
                Some(Ok(_)) => count += 1,
                Some(Err(KafkaError::PartitionEOF(_))) => return count,
                other => panic!("topic {topic} cannot be read: {other:?}"),
            }
        }
    }

    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address());
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("an admin client")
    }

    /// Makes a topic.
    pub fn create(&self, name: &str, partitions: u32, config: &[(&str, &str)]) {
        let partitions = partitions.cast_signed();
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
        for (key, value) in config {
            topic = topic.set(key, value);
        }
        let made = wait(self.admin().create_topics([&topic], &patient()));
        made.expect("it answers")[0].as_ref().expect("it is made");
    }

    /// Deletes a topic.
    pub fn delete(&self, name: &str) {
        let gone = wait(self.admin().delete_topics(&[name], &patient()));
        gone.expect("it answers")[0]
            .as_ref()
            .expect("it is deleted");
    }

    /// Gives a topic more partitions.
    pub fn grow(&self, name: &str, partitions: usize) {
        let new = NewPartitions::new(name, partitions);
        let made = wait(self.admin().create_partitions([&new], &patient()));
        made.expect("it answers")[0].as_ref().expect("it grows");
    }

    /// Replaces the settings of a topic.
    pub fn configure(&self, name: &str, key: &str, value: &str) {
        let new = AlterConfig::new(ResourceSpecifier::Topic(name)).set(key, value);
        let made = wait(self.admin().alter_configs([&new], &patient()));
        made.expect("it answers")[0].as_ref().expect("it is set");
    }

    /// Deletes the records of a partition before an offset.
    pub fn delete_before(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .expect("a place");
        let gone = wait(self.admin().delete_records(&list, &patient()));
        let gone = gone.expect("it answers");
        gone.elements()[0].error().expect("they are deleted");
    }

    /// Whether there is a topic.
    pub fn has(&self, topic: &str) -> bool {
        let consumer: BaseConsumer = self.client().create().expect("a consumer");
        let asked = consumer.fetch_metadata(None, Duration::from_secs(20));
        let known = asked.expect("it answers");
        known.topics().iter().any(|known| known.name() == topic)
    }

    /// Writes records, each to its partition.
    pub fn write<'a>(&self, topic: &str, records: impl IntoIterator<Item = Record<'a>>) {
        let producer: BaseProducer = self.client().create().expect("a producer");
        send(&producer, topic, records);
        producer
            .flush(Duration::from_secs(30))
            .expect("they are written");
    }

    /// Writes records in a transaction, which is committed or not.
    pub fn write_together<'a>(
        &self,
        topic: &str,
        commits: bool,
        records: impl IntoIterator<Item = Record<'a>>,
    ) {
        let second = Duration::from_secs(20);
        let mut config = self.client();
        config.set("transactional.id", super::fresh("writer"));
        let producer: BaseProducer = config.create().expect("a producer");
        producer.init_transactions(second).expect("an id");
        producer.begin_transaction().expect("it begins");
        send(&producer, topic, records);
        producer.flush(second).expect("they are written");
        match commits {
            true => producer.commit_transaction(second),
            false => producer.abort_transaction(second),
        }
        .expect("it ends");
    }

    /// Writes lines of a key, a tab and a value with Java's own producer, which chooses the partitions.
    pub fn produce(&self, topic: &str, lines: &str) {
        let mut command = kafka();
        command
            .args(["run", "org.apache.kafka.tools.ConsoleProducer"])
            .args(["--bootstrap-server", &self.address(), "--topic", topic])
            .args(["--reader-property", "parse.key=true"])
            .stdin(Stdio::piped());
        let mut producer = command.spawn().expect("the producer can be started");
        let mut stdin = producer.stdin.take().expect("a pipe");
        stdin.write_all(lines.as_bytes()).expect("it reads");
        drop(stdin);
        assert!(producer.wait().expect("it ends").success());
    }

    /// Runs one of Kafka's own tools.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> Done {
        let mut command = kafka();
        command
            .args(["run", class, "--bootstrap-server", &self.address()])
            .args(arguments);
        Done::of(&command.output().expect("the tool can be started"))
    }

    /// What Kafka's console consumer sees of the committed records of a topic, a line each: partition, then what `properties` ask for.
    pub fn committed(&self, topic: &str, properties: &[&str]) -> Vec<String> {
        self.committed_of(&[topic], properties)
    }

    /// The same of several topics together.
    pub fn committed_of(&self, topics: &[&str], properties: &[&str]) -> Vec<String> {
        // It does not say when it is at the end, so it is told how many there are, and may take its time.
        let count: usize = topics
            .iter()
            .map(|topic| self.count_all_committed(topic))
            .sum();
        if count == 0 {
            return Vec::new();
        }
        let (include, count) = (topics.join("|"), count.to_string());
        let mut arguments = vec!["--include", &include, "--from-beginning"];
        arguments.extend(["--max-messages", &count, "--timeout-ms", "60000"]);
        arguments.extend(["--command-property", "isolation.level=read_committed"]);
        arguments.extend(["--formatter-property", "print.partition=true"]);
        for property in properties {
            arguments.extend(["--formatter-property", property]);
        }
        let class = "org.apache.kafka.tools.consumer.ConsoleConsumer";
        let done = self.tool(class, &arguments);
        let lines = done.stdout.lines().map(str::to_owned);
        lines.collect()
    }

    /// The values of the committed records of a topic, as the console consumer sees them, sorted.
    pub fn values(&self, topic: &str) -> Vec<String> {
        let lines = self.committed(topic, &[]);
        let value = |line: &String| line.rsplit('\t').next().map(str::to_owned);
        let mut values: Vec<String> = lines.iter().filter_map(value).collect();
        values.sort();
        values
    }

    /// Where a partition ends, with what is not committed and the marks of transactions.
    pub fn end(&self, topic: &str, partition: i32) -> i64 {
        let mut config = self.client();
        config.set("isolation.level", "read_uncommitted");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let asked = consumer.fetch_watermarks(topic, partition, Duration::from_secs(20));
        asked.expect("it answers").1
    }

    /// How many records are committed in a topic.
    pub fn count_all_committed(&self, topic: &str) -> usize {
        let consumer: BaseConsumer = self.client().create().expect("a consumer");
        let asked = consumer.fetch_metadata(Some(topic), Duration::from_secs(20));
        let partitions = asked.expect("it is known").topics()[0].partitions().len();
        let partitions = 0..i32::try_from(partitions).expect("few");
        partitions
            .map(|partition| self.count_committed(topic, partition))
            .sum()
    }
}

fn send<'a>(producer: &BaseProducer, topic: &str, records: impl IntoIterator<Item = Record<'a>>) {
    for record in records {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &record.headers {
            let header = Header { key, value: *value };
            headers = headers.insert(header);
        }
        let mut base: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic)
            .partition(record.partition)
            .headers(headers);
        base.key = record.key;
        base.payload = record.value;
        base.timestamp = record.timestamp;
        let mut left = Some(base);
        while let Some(base) = left.take() {
            match producer.send(base) {
                Ok(()) => {}
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), base)) => {
                    producer.poll(Duration::from_millis(20));
                    left = Some(base);
                }
                Err((error, _)) => panic!("it cannot be queued: {error}"),
            }
        }
        producer.poll(Duration::ZERO);
    }
}

fn patient() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)))
}

fn wait<T>(asked: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(asked)
}
