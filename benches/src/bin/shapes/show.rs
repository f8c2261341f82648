//! Figures as JSON, and as tables.

use clap::ValueEnum as _;
use serde_json::{Value, json};

use crate::measure::Measured;
use crate::{SIZES, Shape, Work, name};

pub(crate) fn json(measured: &[Measured]) -> Value {
    let language = |measured: &Measured| {
        let cells = measured.cells.iter().map(|(cell, figures)| {
            json!({
                "shape": name(cell.shape),
                "work": name(cell.work),
                "size": cell.size,
                "rates": figures.iter().map(|figures| figures.rate).collect::<Vec<_>>(),
                "memory_bytes": figures.iter().map(|figures| figures.memory_bytes).collect::<Vec<_>>(),
            })
        });
        json!({
            "language": name(measured.language),
            "component_bytes": measured.component_bytes,
            "compile_seconds": measured.compile,
            "load_seconds": measured.load,
            "instantiate_seconds": measured.instantiate,
            "first_call_seconds": measured.first_call,
            "cells": cells.collect::<Vec<_>>(),
        })
    };
    measured.iter().map(language).collect()
}

/// Messages per CPU-second of each shape and work, by messages a call.
pub(crate) fn table(measured: &Measured) -> String {
    let mut table = format!(
        "### {}\n\n{} bytes; compiled in {:.2} s, loaded in {:.1} ms, instantiated in {:.0} µs; first call {:.0} µs\n\n",
        name(measured.language),
        measured.component_bytes,
        measured.compile,
        measured.load * 1e3,
        measured.instantiate * 1e6,
        measured.first_call * 1e6,
    );
    let sizes = SIZES.map(|size| size.to_string()).join(" | ");
    table += &format!("| shape | work | {sizes} | memory, MiB |\n|---|---|--:|--:|--:|--:|\n");
    for &shape in Shape::value_variants() {
        for &work in Work::value_variants() {
            let rates = SIZES.map(|size| {
                measured
                    .rate(shape, work, size)
                    .map_or("".into(), thousands)
            });
            let memory = SIZES
                .iter()
                .filter_map(|&size| measured.memory_bytes(shape, work, size))
                .max();
            if let Some(memory) = memory {
                #[expect(clippy::cast_precision_loss, reason = "figures for a person")]
                let memory = memory as f64 / f64::from(1 << 20);
                let rates = rates.join(" | ");
                table += &format!(
                    "| {} | {} | {rates} | {memory:.1} |\n",
                    name(shape),
                    name(work)
                );
            }
        }
    }
    table
}

fn thousands(rate: f64) -> String {
    format!("{:.0} k", rate / 1e3)
}

/// What is gained by each step.
pub(crate) fn ratios(measured: &[Measured]) -> String {
    use {
        Shape::{Columns, Packed, Rows},
        Work::{CountMany, CountSingle, Touch},
    };
    let pairs = [
        ("columns/rows touch", (Columns, Touch), (Rows, Touch)),
        ("single", (Columns, CountSingle), (Rows, CountSingle)),
        ("many", (Columns, CountMany), (Rows, CountMany)),
        ("packed/columns touch", (Packed, Touch), (Columns, Touch)),
        ("single", (Packed, CountSingle), (Columns, CountSingle)),
        ("many", (Packed, CountMany), (Columns, CountMany)),
        ("many/single rows", (Rows, CountMany), (Rows, CountSingle)),
        ("columns", (Columns, CountMany), (Columns, CountSingle)),
        ("packed", (Packed, CountMany), (Packed, CountSingle)),
    ];
    let titles = pairs.map(|(title, _, _)| title).join(" | ");
    let mut table = format!(
        "### Ratios\n\n| language | messages | {titles} |\n|---|--:|{}\n",
        "--:|".repeat(pairs.len())
    );
    for measured in measured {
        for size in SIZES {
            let ratios = pairs.map(|(_, above, below)| {
                let rate = |(shape, work)| measured.rate(shape, work, size).unwrap_or(f64::NAN);
                format!("{:.2}", rate(above) / rate(below))
            });
            table += &format!(
                "| {} | {size} | {} |\n",
                name(measured.language),
                ratios.join(" | ")
            );
        }
    }
    table
}
