//! A broker that wants to know who is there: TLS, passwords, certificates, rights.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::broker::{Broker, Record};
use super::{Between, FORWARDS};
use crate::harness::{Job, wait_until};

const PASSWORD: &str = "correct-horse";

/// A broker with certificates, and where these are.
struct Secure {
    broker: Broker,
    keys: PathBuf,
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let done = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("openssl: scripts/setup --tests installs it");
    let why = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "openssl {arguments:?}: {why}");
}

/// A certificate authority.
fn authority(folder: &Path, name: &str) {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
    let subject = format!("/CN={name}");
    let own = [
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
    ];
    let files = ["-subj", &subject, "-keyout", &key, "-out", &certificate];
    openssl(folder, &[&own[..], &files[..]].concat());
}

/// A certificate of 127.0.0.1, and its key: in files of their own, and together.
fn certificate(folder: &Path, name: &str, is_over: bool) {
    let file = |ending: &str| format!("{name}.{ending}");
    let (key, request, certificate) = (file("key"), file("csr"), file("crt"));
    let subject = format!("/CN={name}");
    let new = [
        "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", &subject,
    ];
    openssl(
        folder,
        &[&new[..], &["-keyout", &key, "-out", &request]].concat(),
    );
    std::fs::write(folder.join("san"), "subjectAltName=IP:127.0.0.1\n").expect("a file");
    match is_over {
        false => {
            let by = [
                "x509", "-req", "-in", &request, "-CA", "ca.pem", "-CAkey", "ca.key",
            ];
            let files = [
                "-CAcreateserial",
                "-days",
                "30",
                "-extfile",
                "san",
                "-out",
                &certificate,
            ];
            openssl(folder, &[&by[..], &files[..]].concat());
        }
        // Only this command dates back in every version of openssl.
        true => {
            std::fs::write(folder.join("index.txt"), "").expect("a file");
            std::fs::write(folder.join("serial"), "1000\n").expect("a file");
            let config = "[ca]\ndefault_ca=c\n[c]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n";
            std::fs::write(folder.join("ca.cnf"), config).expect("a file");
            let ca = [
                "ca", "-batch", "-config", "ca.cnf", "-in", &request, "-cert", "ca.pem",
            ];
            let by = [
                "-keyfile",
                "ca.key",
                "-extfile",
                "san",
                "-out",
                &certificate,
            ];
            let over = [
                "-startdate",
                "20200101000000Z",
                "-enddate",
                "20200102000000Z",
                "-notext",
            ];
            openssl(folder, &[&ca[..], &by[..], &over[..]].concat());
        }
    }
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).expect("a file");
    let both = read(&key) + &read(&certificate);
    std::fs::write(folder.join(file("both.pem")), both).expect("a file");
}

fn secure() -> Option<&'static Secure> {
    static SHARED: OnceLock<Option<Secure>> = OnceLock::new();
    let start = || {
        let folder = tempfile::Builder::new().prefix("wasm-host-keys-").tempdir();
        let keys = folder.expect("a temporary folder").keep();
        authority(&keys, "ca");
        authority(&keys, "other");
        for (name, is_over) in [("server", false), ("app", false), ("over", true)] {
            certificate(&keys, name, is_over);
        }
        let broker = Broker::start_with(
            |port| {
                let at = |offset: u16| format!("127.0.0.1:{}", port + offset);
                let key = |name: &str| keys.join(name).display().to_string();
                let module = "org.apache.kafka.common.security";
                [
                format!(
                    "listeners=PLAINTEXT://{},CONTROLLER://{},PROXIED://{},SECURE://{},MUTUAL://{},OVER://{}",
                    at(0), at(1), at(2), at(4), at(5), at(6)
                ),
                format!(
                    "advertised.listeners=PLAINTEXT://{},PROXIED://{},SECURE://{},MUTUAL://{},OVER://{}",
                    at(0), at(3), at(4), at(5), at(6)
                ),
                "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,SECURE:SASL_SSL,MUTUAL:SSL,OVER:SSL".to_owned(),
                "ssl.keystore.type=PEM".to_owned(),
                "ssl.truststore.type=PEM".to_owned(),
                format!("ssl.keystore.location={}", key("server.both.pem")),
                format!("ssl.truststore.location={}", key("ca.pem")),
                format!("listener.name.over.ssl.keystore.location={}", key("over.both.pem")),
                "listener.name.mutual.ssl.client.auth=required".to_owned(),
                "listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN".to_owned(),
                format!("listener.name.secure.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;"),
                format!("listener.name.secure.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_app=\"{PASSWORD}\";"),
                "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
                "super.users=User:ANONYMOUS;User:CN=app".to_owned(),
            ]
            .join("\n")
            },
            &format!("--add-scram SCRAM-SHA-512=[name=app,password={PASSWORD}]"),
        )?;
        Some(Secure { broker, keys })
    };
    SHARED.get_or_init(start).as_ref()
}

impl Secure {
    /// A job that finds the broker at another of its ports, with these settings of the cluster.
    fn job(&self, between: &Between, port: u16, settings: &str) -> Job {
        let address = self.broker.address_at(port);
        let text = between.text("", "until = \"end\"", FORWARDS);
        let text = text.replace(&self.broker.address(), &address);
        let settings = settings.replace("{keys}", &self.keys.display().to_string());
        let job = Job::new(&text.replace(
            "transaction-timeout",
            &format!("{settings}\ntransaction-timeout"),
        ));
        job.with_env("KAFKA_PASSWORD", PASSWORD)
    }

    fn between(&'static self, name: &str) -> Between {
        let between = Between::on(&self.broker, name, 2);
        let record = Record {
            value: Some(b"v"),
            ..Record::default()
        };
        self.broker.write(&between.input, [record]);
        between
    }

    /// Gives the rights, or takes them away, that the job says it needs.
    fn rights(&self, job: &Job, gives: bool) {
        let needs = job.call(&["kafka", "topics"]).expect(0).stdout;
        let mut given = 0;
        for line in needs.lines() {
            if let (true, Some((_, rest))) = (gives, line.split_once("kafka-topics.sh "))
                && line.contains(".delivered")
            {
                let arguments = rest.split_once("--create").expect("it makes a topic").1;
                let arguments = ["--create"].into_iter().chain(arguments.split_whitespace());
                let arguments: Vec<&str> = arguments.collect();
                self.broker
                    .tool("org.apache.kafka.tools.TopicCommand", &arguments)
                    .expect(0);
            }
            let Some((_, rest)) = line.split_once("kafka-acls.sh ") else {
                continue;
            };
            let rest = rest.split_once("--add ").expect("it adds rights").1;
            let mut arguments = vec![if gives { "--add" } else { "--remove" }];
            arguments.extend(rest.split_whitespace().map(|word| word.trim_matches('\'')));
            if !gives {
                arguments.push("--force");
            }
            self.broker
                .tool("org.apache.kafka.tools.AclCommand", &arguments)
                .expect(0);
            given += 1;
        }
        assert!(given >= 4, "{needs}");
    }
}

const SCRAM: &str = "sasl = { mechanism = \"scram-sha-512\", username = \"app\", password = \"${KAFKA_PASSWORD}\" }\ntls = { ca = \"{keys}/ca.pem\" }";

#[test]
fn passwords_and_certificates_let_a_job_in() {
    let Some(secure) = secure() else { return };
    let plain = SCRAM.replace("scram-sha-512", "plain");
    let mutual = "tls = { ca = \"{keys}/ca.pem\", certificate = \"{keys}/app.crt\", key = \"{keys}/app.key\" }";
    for (at, (port, settings)) in [(4, SCRAM), (4, plain.as_str()), (5, mutual)]
        .into_iter()
        .enumerate()
    {
        let between = secure.between("let-in");
        let job = secure.job(&between, port, settings);
        if port == 4 {
            secure.rights(&job, true);
        }
        job.run().expect(0);
        assert_eq!(
            secure.broker.committed(&between.output, &[]).len(),
            1,
            "{at}"
        );
    }
}

#[test]
fn who_is_not_let_in_is_told_why() {
    let Some(secure) = secure() else { return };
    let between = secure.between("not-let-in");
    let wrong = SCRAM.replace("${KAFKA_PASSWORD}", "${WRONG}");
    let other = SCRAM.replace("ca.pem", "other.pem");
    let over = "tls = { ca = \"{keys}/ca.pem\" }";
    let nobody = "tls = { ca = \"{keys}/ca.pem\" }";
    let cases = [
        (4, wrong.as_str(), "authentication failed"),
        (4, other.as_str(), "certificate verify failed"),
        (6, over, "certificate verify failed"),
        (5, nobody, "certificate required"),
        (4, SCRAM, "TopicAuthorizationFailed"),
    ];
    for (port, settings, why) in cases {
        let job = secure
            .job(&between, port, settings)
            .with_env("WRONG", "hunter2");
        let done = job.run();
        assert_eq!(done.code, 1, "{why}: {}", done.stderr);
        let said = done.stderr.to_lowercase();
        assert!(said.contains(&why.to_lowercase()), "{why}: {}", done.stderr);
        assert!(
            !said.contains("hunter2") && !said.contains(PASSWORD),
            "{said}"
        );
    }
}

#[test]
fn rights_that_are_taken_away_hold_a_job_up_until_they_are_given_back() {
    let Some(secure) = secure() else { return };
    let between = secure.between("rights");
    let job = secure.job(&between, 4, SCRAM);
    let text = job.text("job.toml").replace("until = \"end\"", "");
    job.write_job(&text.replace("[clusters", "[checkpoint]\ninterval = \"50ms\"\n[clusters"));
    secure.rights(&job, true);
    let mut running = job.answering();
    let delivered = |count| {
        wait_until("it is delivered", || {
            secure.broker.count_committed(&between.output, 0)
                + secure.broker.count_committed(&between.output, 1)
                == count
        });
    };
    delivered(1);
    let id = format!("{}.outbox", between.name);
    let write = ["--allow-principal", "User:app", "--operation", "Write"];
    let acls = |does: &[&str]| {
        let arguments = [does, &write[..], &["--transactional-id", &id]].concat();
        let tool = "org.apache.kafka.tools.AclCommand";
        secure.broker.tool(tool, &arguments).expect(0);
    };
    acls(&["--remove", "--force"]);
    let record = Record {
        value: Some(b"w"),
        ..Record::default()
    };
    secure.broker.write(&between.input, [record]);
    running.until_says("output waits");
    wait_until("it is known", || {
        let status = job.json(&["status"]);
        let cluster = &status[0]["clusters"][0];
        cluster["undelivered-why"]
            .as_str()
            .is_some_and(|why| why.to_lowercase().contains("authorization"))
    });
    acls(&["--add"]);
    running.until_says("output is delivered again");
    delivered(2);
    running.terminate().expect(0);
}
