//! Where calls spend their time: in the component, or in functions of the host that it calls. The ticker looks at every thread at each
//! of its ticks, so a call says only where it is, which costs a write to memory of its own.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::engine::TICK;

/// Where a thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Place {
    /// In no call.
    Outside,
    /// In the component.
    Guest,
    /// In a function of the host.
    Host,
}

/// How long calls were where, by samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallTimes {
    /// In the component.
    pub guest: Duration,
    /// In functions of the host: state, output, WASI, waiting.
    pub host: Duration,
}

/// Where one thread is, and how long it was seen where in its call.
#[derive(Debug)]
pub(super) struct Meter {
    place: AtomicU8,
    guest_ns: AtomicU64,
    host_ns: AtomicU64,
}

/// Those of all threads that have ever made a call, and those that no thread has.
static ALL: Mutex<Vec<&'static Meter>> = Mutex::new(Vec::new());
static FREE: Mutex<Vec<&'static Meter>> = Mutex::new(Vec::new());

/// A thread's, which another thread gets after it.
struct Lease(&'static Meter);

impl Lease {
    fn take() -> Lease {
        if let Some(meter) = FREE.lock().pop() {
            return Lease(meter);
        }
        // There are never more than threads that call at a time, and they are kept.
        let meter: &'static Meter = Box::leak(Box::new(Meter {
            place: AtomicU8::new(Place::Outside as u8),
            guest_ns: AtomicU64::new(0),
            host_ns: AtomicU64::new(0),
        }));
        ALL.lock().push(meter);
        Lease(meter)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        FREE.lock().push(self.0);
    }
}

thread_local! {
    static OF_THIS_THREAD: Lease = Lease::take();
}

impl Meter {
    /// Of this thread.
    pub(super) fn of_this_thread() -> &'static Meter {
        OF_THIS_THREAD.with(|lease| lease.0)
    }

    /// A call begins.
    pub(super) fn begin(&self) {
        self.place(Place::Guest);
    }

    /// The component calls the host, which gives back to it when the guard is dropped.
    pub(super) fn in_host(&'static self) -> InHost {
        // Only this thread writes it.
        let before = self.place.load(Ordering::Relaxed);
        self.place(Place::Host);
        InHost {
            meter: self,
            before,
        }
    }

    /// The call ends. What was seen of it.
    pub(super) fn end(&self) -> CallTimes {
        self.place(Place::Outside);
        let take = |ns: &AtomicU64| match ns.load(Ordering::Relaxed) {
            // That is nearly always so, and then nothing is written.
            0 => Duration::ZERO,
            _ => Duration::from_nanos(ns.swap(0, Ordering::Relaxed)),
        };
        CallTimes {
            guest: take(&self.guest_ns),
            host: take(&self.host_ns),
        }
    }

    fn place(&self, place: Place) {
        self.place.store(place as u8, Ordering::Relaxed);
    }
}

/// A call is in a function of the host.
pub(super) struct InHost {
    meter: &'static Meter,
    before: u8,
}

impl Drop for InHost {
    fn drop(&mut self) {
        self.meter.place.store(self.before, Ordering::Relaxed);
    }
}

/// A tick, so long after the last one.
pub(super) fn tick(passed: Duration) {
    // What the machine stood still is nobody's.
    let ns = passed.min(2 * TICK).as_nanos();
    let ns = u64::try_from(ns).unwrap_or(0);
    for meter in &*ALL.lock() {
        let place = meter.place.load(Ordering::Relaxed);
        if place == Place::Guest as u8 {
            meter.guest_ns.fetch_add(ns, Ordering::Relaxed);
        } else if place == Place::Host as u8 {
            meter.host_ns.fetch_add(ns, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_seen_where_it_is() {
        let meter = Lease::take().0;
        meter.begin();
        meter.end();
        meter.begin();
        tick(TICK);
        let host = meter.in_host();
        tick(TICK);
        tick(TICK * 100);
        drop(host);
        let seen = meter.end();
        // Other tests have tickers too.
        assert!(seen.guest >= TICK && seen.host >= 3 * TICK, "{seen:?}");
        assert!(seen.host < 60 * TICK, "{seen:?}");
        tick(TICK);
        assert_eq!(meter.end(), CallTimes::default());
    }
}
