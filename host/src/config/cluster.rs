//! `[clusters.*]`: a cluster of Apache Kafka that streams lie in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::setting::Setting;
use super::units::ByteSize;
use super::words::words;

/// A declared cluster.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cluster {
    /// Whether a stream that a stage uses lies in it.
    #[serde(skip)]
    pub used: bool,
    /// Brokers to ask first, `host:port`. Required; the others are found through them.
    pub brokers: Vec<Setting<String>>,
    /// How connections are protected. Default: by what `sasl` and `tls` ask for, and `plaintext` without them.
    pub security: Setting<Security>,
    /// Who the job is, by a password or token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
    /// Whom the job trusts, and who it is by a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Names the job to the cluster; everything that it has there begins with it. Default: the job's name.
    pub group_id: Setting<String>,
    /// How long the brokers keep a transaction open of which they hear nothing. Default: 30 s: readers of committed messages wait
    /// so long after a host that stands still.
    pub transaction_timeout: Setting<Duration>,
    /// What may be fetched ahead of all partitions together. Default: 64 MiB.
    pub fetch_memory: Setting<ByteSize>,
    /// Copies of each topic that is made. Default: what the brokers have as default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication: Option<u32>,
    /// Settings that are handed to the client as they are. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub client: BTreeMap<String, Setting<String>>,
}

impl Cluster {
    /// The default of [`Cluster::transaction_timeout`].
    pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);
    /// The default of [`Cluster::fetch_memory`].
    pub(super) const FETCH_MEMORY: ByteSize = ByteSize::mib(64);
}

words! {
    /// How connections to brokers are protected.
    Security, "security", "a kind of security" {
        /// Not at all.
        Plaintext = "plaintext",
        /// By TLS.
        Tls = "tls",
        /// The job says who it is, and everybody can listen.
        SaslPlaintext = "sasl-plaintext",
        /// The job says who it is, over TLS.
        SaslTls = "sasl-tls",
    } later []
}

impl Security {
    /// Whether connections use TLS.
    pub fn has_tls(self) -> bool {
        matches!(self, Security::Tls | Security::SaslTls)
    }

    /// Whether the job says who it is.
    pub fn has_sasl(self) -> bool {
        matches!(self, Security::SaslPlaintext | Security::SaslTls)
    }
}

words! {
    /// How the job says who it is.
    Mechanism, "mechanism", "a mechanism" {
        /// Name and password, as they are.
        Plain = "plain",
        /// Name, and proof of the password.
        ScramSha256 = "scram-sha-256",
        /// The same with a longer hash.
        ScramSha512 = "scram-sha-512",
        /// A token of an OpenID Connect provider.
        OauthBearer = "oauthbearer",
    } later []
}

/// `sasl`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sasl {
    /// Required.
    pub mechanism: Setting<Mechanism>,
    /// Required for names and passwords.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<Setting<String>>,
    /// Required for names and passwords.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Setting<String>>,
    /// Where tokens are given. Required for `oauthbearer`, with the two below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_url: Option<Setting<String>>,
    /// Who asks for a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Setting<String>>,
    /// Its secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Setting<String>>,
    /// What the token is for. Default: the provider's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Setting<String>>,
}

/// `tls`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tls {
    /// Certificates of authorities that are trusted, PEM. Default: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<Setting<PathBuf>>,
    /// The job's certificate, PEM. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Setting<PathBuf>>,
    /// Its key, PEM. Required with `certificate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Setting<PathBuf>>,
    /// The password of the key. Default: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_password: Option<Setting<String>>,
}
