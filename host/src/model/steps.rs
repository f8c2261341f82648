//! Named points before durable steps, so that a test can count them and stop at each.

/// Told of every durable step just before it is made. Production does nothing here; a test counts the calls and
/// unwinds or ends the process at one of them.
pub trait Steps: Send + Sync {
    /// `step` is about to be made; its name is stable, as `sink.sync`.
    fn before(&self, step: &'static str);
}

impl Steps for () {
    fn before(&self, _step: &'static str) {}
}
