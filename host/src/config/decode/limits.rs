//! `[stage.limits]`, and `[limits]` of a policy: the same keys in the same ranges. A policy's are ceilings: what a job sets beyond one is
//! refused, and a default beyond one is lowered to it.

use std::fmt::Display;
use std::ops::Range;
use std::time::Duration;

use super::at_home;
use super::general::{positive, size_in};
use crate::config::limits::Limits;
use crate::config::policy::Policy;
use crate::config::setting::{Problem, Setting};
use crate::config::table::Table;
use crate::config::units::{ByteSize, Rate};

/// All that a 32-bit guest can address.
const MEMORY_MAX: ByteSize = ByteSize::mib(4096);

/// A value is copied as a whole between guest and host.
const VALUE_BYTES_MAX: ByteSize = ByteSize::mib(16);

macro_rules! limits {
    ($($field:ident, $key:literal: $type:ty = $read:expr;)*) => {
        /// All keys.
        pub(super) const KEYS: &[&str] = &[$($key),*];

        /// What a table of limits sets.
        #[derive(Debug, Clone, Default)]
        pub(in crate::config) struct Given {
            $($field: Option<$type>,)*
        }

        /// Reads a table of limits.
        pub(super) fn given(table: &mut Table<'_>) -> Given {
            Given {
                $($field: $read(&mut *table, $key),)*
            }
        }
    };
}

const B: ByteSize = ByteSize(1);

// The least of each is so much that a guest that does little can live with it, and the most so much that the host can.
limits! {
    memory, "memory": Setting<ByteSize> = size(ByteSize::mib(1), MEMORY_MAX);
    table_elements, "table-elements": u32 = count(1_000, 10_000_000);
    call_deadline, "call-deadline": Setting<Duration> = positive;
    fuel, "fuel": u64 = number(10_000);
    operations, "operations": u64 = number(1);
    scan_bytes, "scan-bytes": Setting<ByteSize> = size(B, ByteSize::MAX);
    staged_bytes, "staged-bytes": Setting<ByteSize> = size(ByteSize::kib(1), ByteSize::mib(256));
    key_bytes, "key-bytes": Setting<ByteSize> = size(B, ByteSize::mib(1));
    value_bytes, "value-bytes": Setting<ByteSize> = size(B, VALUE_BYTES_MAX);
    headers, "headers": u32 = count(0, 10_000);
    header_bytes, "header-bytes": Setting<ByteSize> = size(ByteSize(0), ByteSize::mib(1));
    handles, "handles": u32 = count(16, 100_000);
    cursors, "cursors": u32 = count(1, 1_000);
    random_bytes, "random-bytes": Setting<ByteSize> = size(ByteSize(64), ByteSize::mib(16));
    log_rate, "log-rate": Setting<Rate> = Table::text;
    metric_names, "metric-names": u32 = count(0, 10_000);
    recycle_memory, "recycle-memory": Setting<ByteSize> = size(B, MEMORY_MAX);
    recycle_messages, "recycle-messages": u64 = number(1);
    recycle_age, "recycle-age": Setting<Duration> = positive;
    component_bytes, "component-bytes": Setting<ByteSize> = size(ByteSize::kib(1), ByteSize::mib(2048));
    compile_time, "compile-time": Setting<Duration> = positive;
    compile_memory, "compile-memory": Setting<ByteSize> = size(ByteSize::mib(256), ByteSize::mib(1 << 20));
}

fn size(
    min: ByteSize,
    max: ByteSize,
) -> impl Fn(&mut Table<'_>, &'static str) -> Option<Setting<ByteSize>> {
    move |table, key| size_in(table, key, min, max)
}

fn count(min: u32, max: u32) -> impl Fn(&mut Table<'_>, &'static str) -> Option<u32> {
    move |table, key| table.integer_u32(key, min..=max)
}

fn number(min: u64) -> impl Fn(&mut Table<'_>, &'static str) -> Option<u64> {
    move |table, key| table.integer(key, min..=u64::MAX)
}

/// The limits of a stage, and the place of the deadline of a call.
pub(super) fn decode(stage: &mut Table<'_>) -> (Limits, Option<Range<usize>>) {
    let cx = stage.cx;
    let Some(mut table) = stage.table("limits", "[stage.limits]") else {
        let table = Table::empty(cx, "[stage.limits]", stage.span.clone());
        let limits = resolve(&table, Given::default());
        together(&table, &limits);
        return (limits, None);
    };
    let given = given(&mut table);
    table.finish(|key| at_home(key, "[stage.limits]"));
    let limits = resolve(&table, given);
    together(&table, &limits);
    let span = table.peek("call-deadline").map(|entry| entry.span);
    (limits, span)
}

/// What is given, within the ceilings, and the defaults.
fn resolve(table: &Table<'_>, given: Given) -> Limits {
    let default = Limits::default();
    macro_rules! least {
        ($key:literal, $field:ident, $default:expr) => {
            optional!($key, $field)
                .unwrap_or_else(|| lowest(table, |given| given.$field.as_ref(), $default))
        };
    }
    macro_rules! optional {
        ($key:literal, $field:ident) => {
            within(table, $key, given.$field, |given| given.$field.as_ref())
        };
    }
    let memory = least!("memory", memory, default.memory);
    let call_deadline = least!("call-deadline", call_deadline, default.call_deadline);
    let recycle = Limits::recycle_memory_of(*memory).into();
    let operations = Limits::operations_of(*call_deadline);
    let scan_bytes = Limits::scan_bytes_of(*call_deadline).into();
    let staged_bytes = least!("staged-bytes", staged_bytes, default.staged_bytes);
    // A default follows a bound that is lower.
    let value_bytes = ByteSize(memory.0 / 2)
        .min(*staged_bytes)
        .min(*default.value_bytes);
    Limits {
        table_elements: least!("table-elements", table_elements, default.table_elements),
        fuel: optional!("fuel", fuel).or(ceiling(table, |given| given.fuel.as_ref())),
        operations: least!("operations", operations, operations),
        scan_bytes: least!("scan-bytes", scan_bytes, scan_bytes),
        key_bytes: least!("key-bytes", key_bytes, default.key_bytes),
        value_bytes: least!("value-bytes", value_bytes, value_bytes.into()),
        headers: least!("headers", headers, default.headers),
        header_bytes: least!("header-bytes", header_bytes, default.header_bytes),
        handles: least!("handles", handles, default.handles),
        cursors: least!("cursors", cursors, default.cursors),
        random_bytes: least!("random-bytes", random_bytes, default.random_bytes),
        log_rate: least!("log-rate", log_rate, default.log_rate),
        metric_names: least!("metric-names", metric_names, default.metric_names),
        recycle_memory: least!("recycle-memory", recycle_memory, recycle),
        recycle_messages: optional!("recycle-messages", recycle_messages)
            .or(ceiling(table, |given| given.recycle_messages.as_ref())),
        recycle_age: optional!("recycle-age", recycle_age)
            .or(ceiling(table, |given| given.recycle_age.as_ref())),
        component_bytes: least!("component-bytes", component_bytes, default.component_bytes),
        compile_time: least!("compile-time", compile_time, default.compile_time),
        compile_memory: least!("compile-memory", compile_memory, default.compile_memory),
        memory,
        call_deadline,
        staged_bytes,
    }
}

/// What is given, which is refused beyond a ceiling.
fn within<T: PartialOrd + Display>(
    table: &Table<'_>,
    key: &str,
    given: Option<T>,
    ceiling: impl Fn(&Given) -> Option<&T>,
) -> Option<T> {
    let given = given?;
    for Policy { file, limits, .. } in table.cx.policies {
        if let Some(most) = ceiling(limits)
            && given > *most
        {
            let problem = Problem::new(format!(
                "`{key}` of {given} is more than the {most} that the policy {} allows",
                file.display()
            ));
            let help = "make it smaller, or ask who keeps the policy";
            table.cx.error(&table.span_of(key), problem.help(help));
        }
    }
    Some(given)
}

/// The least of the ceilings.
fn ceiling<T: PartialOrd + Clone>(
    table: &Table<'_>,
    ceiling: impl Fn(&Given) -> Option<&T>,
) -> Option<T> {
    let ceilings = table.cx.policies.iter();
    let ceilings = ceilings.filter_map(|policy| ceiling(&policy.limits));
    let least = ceilings.reduce(|least, next| if next < least { next } else { least });
    least.cloned()
}

/// The default, or the least of the ceilings if that is lower.
fn lowest<T: PartialOrd + Clone>(
    table: &Table<'_>,
    of: impl Fn(&Given) -> Option<&T>,
    default: T,
) -> T {
    match ceiling(table, of) {
        Some(least) if least < default => least,
        _ => default,
    }
}

/// Limits that are valid alone but not together.
fn together(table: &Table<'_>, limits: &Limits) {
    let error = |key: &str, problem: Problem| table.cx.error(&table.span_of(key), problem);
    if *limits.recycle_memory > *limits.memory {
        let problem = Problem::new(format!(
            "`recycle-memory` of {} is never reached: the guest's `memory` is {}",
            limits.recycle_memory, limits.memory
        ));
        error("recycle-memory", problem.help("make it smaller"));
    }
    if *limits.value_bytes >= *limits.memory {
        let problem = Problem::new(format!(
            "`value-bytes` of {} does not fit in the guest's `memory` of {}",
            limits.value_bytes, limits.memory
        ));
        error("value-bytes", problem);
    }
    if *limits.staged_bytes < *limits.value_bytes {
        let problem = Problem::new(format!(
            "a value of `value-bytes` = {} could not be written: `staged-bytes` is {}",
            limits.value_bytes, limits.staged_bytes
        ));
        let help = "make `value-bytes` smaller, or `staged-bytes` larger";
        error("staged-bytes", problem.help(help));
    }
}
