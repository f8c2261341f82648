//! What every system must do, against a real broker.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::{
    CarrierOptions, Cluster, ClusterOptions, Guarantee, InputEnd, KafkaCarrier, KafkaInput,
    KafkaInputOptions, KafkaOutput, NewTopic, Readers, WrittenTopic,
};
use crate::connectors::conformance::check_input;
use crate::connectors::testing::{ALL, Folder, oldest, read};
use crate::connectors::{Carrier, Lost, Parcel};
use crate::disk::{Disk, Steps};
use crate::model::{
    Account, Clock as _, Mark, MessageBounds, MessageRef, Messages, PartitionId, SystemClock,
    partition_of_key,
};

/// A broker that ends with the test.
struct Broker {
    address: String,
    _folder: Folder,
    _lent: Child,
}

/// `None`: it cannot be had on this machine, which is said. In CI that is a failure.
fn broker() -> Option<Broker> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka");
    let program = std::env::current_exe().unwrap();
    // The test is in `release/deps` of the folder for what is built.
    let target: PathBuf = program.ancestors().nth(3).unwrap().to_owned();
    let command = || {
        let mut command = Command::new(&script);
        command.env("CARGO_TARGET_DIR", &target);
        command
    };
    let jars = command().arg("--jars").output().unwrap();
    if !jars.status.success() {
        let why = String::from_utf8_lossy(&jars.stderr);
        assert!(
            std::env::var_os("CI").is_none(),
            "no broker can be had: {why}"
        );
        eprintln!("NOT TESTED: streams of Kafka, because no broker can be had: {why}");
        return None;
    }
    let folder = Folder::new();
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut ports = (0..1000).map(|_| rand::random_range(20_000..30_000u16));
    let port = ports.find(|port| (*port..=port + 3).all(is_free)).unwrap();
    let mut lend = command();
    lend.arg("lend")
        .arg(folder.path())
        .arg(port.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut lent = lend.spawn().unwrap();
    let mut said = String::new();
    let mut output = BufReader::new(lent.stdout.take().unwrap());
    output.read_line(&mut said).unwrap();
    assert_eq!(said, "started\n");
    Some(Broker {
        address: format!("127.0.0.1:{port}"),
        _folder: folder,
        _lent: lent,
    })
}

impl Broker {
    fn cluster(&self, group_id: &str) -> Arc<Cluster> {
        Arc::new(Cluster::new(ClusterOptions {
            name: "local".to_owned(),
            settings: vec![("bootstrap.servers".to_owned(), self.address.clone())],
            group_id: group_id.to_owned(),
            transaction_timeout: Duration::from_secs(10),
            fetch_memory: 1 << 20,
            replication: None,
            epoch_bytes: 1 << 20,
        }))
    }

    /// A producer in a transaction.
    fn writer(&self) -> BaseProducer {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.address)
            .set("transactional.id", "writer");
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(SECONDS).unwrap();
        producer
    }
}

const SECONDS: Duration = Duration::from_secs(20);
const PARTITIONS: u32 = 2;

fn topic(cluster: &Cluster, name: &str) {
    let made = cluster.create(&NewTopic {
        name: name.to_owned(),
        partitions: PARTITIONS,
        replication: None,
        config: Vec::new(),
    });
    made.unwrap();
}

fn input(cluster: &Arc<Cluster>, topic: &str, end: InputEnd) -> KafkaInput {
    let options = KafkaInputOptions {
        topic: topic.to_owned(),
        partitions: PARTITIONS,
        end,
        group: None,
        lost: Lost::Refuse,
        topic_id: None,
    };
    KafkaInput::new(
        Arc::new(Readers::new(cluster)),
        options,
        Arc::new(SystemClock),
    )
}

/// Writes messages in transactions of four, of which some are aborted. Returns how many are committed.
fn write(producer: &BaseProducer, topic: &str) -> usize {
    let mut committed = 0;
    for transaction in 0..10 {
        producer.begin_transaction().unwrap();
        for message in 0..4 {
            let key = format!("key {}", (transaction * 5 + message * 3) % 40);
            let value = format!("{transaction}/{message} {}", "z".repeat(message * 9));
            let partition = partition_of_key(key.as_bytes(), PARTITIONS).cast_signed();
            let record = BaseRecord::to(topic)
                .partition(partition)
                .key(&key)
                .payload(&value);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(SECONDS).unwrap();
        // The last of all is aborted, too.
        match transaction % 4 {
            1 => producer.abort_transaction(SECONDS).unwrap(),
            _ => {
                producer.commit_transaction(SECONDS).unwrap();
                committed += 4;
            }
        }
    }
    committed
}

#[test]
fn a_topic_is_an_input_like_any_other() {
    let Some(broker) = broker() else { return };
    let cluster = broker.cluster("reader");
    topic(&cluster, "in");
    topic(&cluster, "empty");
    let committed = write(&broker.writer(), "in");
    for end in [InputEnd::AtOpen, InputEnd::Never] {
        check_input(&input(&cluster, "in", end), committed);
        check_input(&input(&cluster, "empty", end), 0);
    }
}

/// Ends the process, as it were, before a step.
struct EndBefore(AtomicI64);

impl Steps for EndBefore {
    fn before(&self, step: &'static str) -> std::io::Result<()> {
        match self.0.fetch_sub(1, Ordering::SeqCst) {
            0 => resume_unwind(Box::new(step)),
            _ => Ok(()),
        }
    }
}

/// What a database holds for a carrier.
#[derive(Default)]
struct Checkpoint {
    account: Account,
    outbox: Vec<u8>,
    epochs: u64,
}

/// Delivers the epochs that are left, as the commit protocol does, until done or unwound.
fn run_epochs(
    cluster: &Arc<Cluster>,
    out: &str,
    epochs: &[Messages],
    checkpoint: &mut Checkpoint,
    disk: Disk,
) {
    let options = CarrierOptions {
        cluster_id: "cluster".to_owned(),
        guarantee: Guarantee::ExactlyOnce,
        lost: Lost::Refuse,
        disk,
    };
    let carrier = Arc::new(KafkaCarrier::new(Arc::clone(cluster), options));
    let topic = WrittenTopic {
        name: out.to_owned(),
        partitions: PARTITIONS,
        bounds: MessageBounds::NONE,
    };
    let _output = KafkaOutput::new(&carrier, "out", topic);
    let deliver = |mark: &Mark, encoded: &[u8]| {
        let parcel = Parcel {
            stream: "out",
            partition: PartitionId(1),
            encoded,
        };
        carrier.deliver(mark, &[parcel], &|| false).unwrap();
    };
    let mut account = checkpoint.account;
    carrier.check(&account).unwrap();
    let was_delivered = carrier.recover(&account).unwrap();
    if let Some(pending) = account.pending {
        if !was_delivered {
            deliver(&pending, &checkpoint.outbox);
        }
        account.delivered = Some(pending);
    }
    for (number, messages) in (1..)
        .zip(epochs)
        .skip(usize::try_from(checkpoint.epochs).unwrap())
    {
        let mark = Mark {
            seq: number,
            epoch: number,
            nonce: rand::random(),
        };
        // The decision point: all of it or nothing is durable.
        checkpoint.outbox.clear();
        carrier.encode(messages, &mut checkpoint.outbox);
        checkpoint.account = Account {
            pending: Some(mark),
            ..account
        };
        checkpoint.epochs = number;
        deliver(&mark, &checkpoint.outbox);
        account.delivered = Some(mark);
    }
}

#[test]
fn a_topic_has_every_message_once_wherever_the_process_ends() {
    let Some(broker) = broker() else { return };
    let values: Vec<Vec<String>> = (0..3)
        .map(|epoch| (0..4).map(|number| format!("{epoch}/{number}")).collect())
        .collect();
    // Older ones would be deleted.
    let now = SystemClock.now_ms();
    let epochs: Vec<Messages> = values
        .iter()
        .map(|values| {
            let mut messages = Messages::default();
            for value in values {
                messages.push(MessageRef::new(Some(b"k"), Some(value.as_bytes()), now));
            }
            messages
        })
        .collect();
    let mut ends = 0;
    for first in 0.. {
        // A second end in the recovery, at a place that moves.
        let second = first % 8;
        let name = format!("out-{first}");
        let cluster = broker.cluster(&name);
        topic(&cluster, &name);
        let mut checkpoint = Checkpoint::default();
        checkpoint.account.state = [7; 16];
        let mut unwound = Vec::new();
        for left in [first, second, i64::MAX] {
            let disk = Disk::new(Arc::new(EndBefore(AtomicI64::new(left))));
            let run = || run_epochs(&cluster, &name, &epochs, &mut checkpoint, disk);
            unwound.push(catch_unwind(AssertUnwindSafe(run)).is_err());
        }
        assert!(!unwound[2]);
        let read = read(&input(&cluster, &name, InputEnd::AtOpen), 1, oldest(), ALL).unwrap();
        assert_eq!(
            read.texts(),
            values.concat(),
            "ended before step {first}, then before step {second}"
        );
        ends += 1;
        if !unwound[0] {
            break;
        }
    }
    assert!(ends > 14, "{ends}");
}
