//! What a stage gives its component.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::limits::Limits;
use super::secrets::Secrets;

/// A folder that a stage may use.
#[derive(Debug, Clone)]
pub struct DirectoryGrant {
    /// On this machine, without links.
    pub host: PathBuf,
    /// As it is shown.
    pub shown: String,
    /// As the guest sees it.
    pub guest: String,
    /// Whether it may write there.
    pub write: bool,
}

/// What a stage gives its component.
#[derive(Debug, Clone, Default)]
pub struct ComponentOptions {
    /// The SHA-256 that the file must have.
    pub sha256: Option<String>,
    /// `wasi:config/store`.
    pub config: Arc<BTreeMap<String, String>>,
    /// Folders.
    pub directories: Vec<DirectoryGrant>,
    /// Environment variables: names and values.
    pub environment: Vec<(String, String)>,
    /// Values that are not shown when the component tells them.
    pub secrets: Secrets,
    /// It sees store time instead of the machine's.
    pub store_time: bool,
    /// Hosts and ports that it may connect to.
    pub network: Arc<[(String, u16)]>,
    /// What its instances may use.
    pub limits: Limits,
}
