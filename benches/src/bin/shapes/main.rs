//! What do rows, columns and packed columns cost, and state one entry at a time against many, in each language? One counter,
//! written in seven languages (`shapes/`) for every shape, with the engine's settings of the host and a hash table as state.
//!
//! `shapes/build FOLDER` makes the components.

mod call;
mod given;
mod host;
mod measure;
mod show;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use wasm_host_benches::Result;

use crate::given::Given;
use crate::measure::{engine, measure};
use crate::show::{json, ratios, table};

#[allow(
    missing_docs,
    clippy::allow_attributes_without_reason,
    reason = "made by wasmtime, and documented in shapes/wit/"
)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "shapes/wit",
        world: "shapes",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: { default: trappable },
    });
}

/// Messages a call.
const SIZES: [usize; 3] = [1, 100, 500];

#[derive(Parser)]
struct Args {
    /// The folder with the components, each named after its language
    components: PathBuf,
    /// Only this language
    #[arg(long, value_enum)]
    language: Vec<Language>,
    /// Times that everything is measured; the median is shown
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// CPU time of each measurement, in milliseconds
    #[arg(long, default_value_t = 1000)]
    millis: u64,
    /// JSON in the place of tables
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
    C,
    Cpp,
    Go,
    Python,
    Javascript,
    Typescript,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    One,
    Rows,
    Columns,
    Packed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    Touch,
    CountSingle,
    CountMany,
}

/// What is measured: a shape, some work, and how many messages a call has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    shape: Shape,
    work: Work,
    size: usize,
}

impl Cell {
    /// What is compared comes close together.
    fn all() -> impl Iterator<Item = Cell> {
        let cells = Work::value_variants().iter().flat_map(|&work| {
            SIZES.iter().flat_map(move |&size| {
                let shapes = Shape::value_variants().iter();
                shapes.map(move |&shape| Cell { shape, work, size })
            })
        });
        cells.filter(|cell| {
            cell.shape != Shape::One || (cell.work != Work::CountMany && cell.size == 1)
        })
    }
}

fn name(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

fn main() -> Result<()> {
    let args = Args::parse();
    let languages = match &args.language[..] {
        [] => Language::value_variants(),
        some => some,
    };
    let engine = engine()?;
    let given = Given::new()?;
    let measured = languages
        .iter()
        .map(|&language| measure(&engine, &given, &args, language))
        .collect::<Result<Vec<_>>>()?;
    if args.json {
        println!("{}", json(&measured));
    } else {
        measured
            .iter()
            .for_each(|measured| println!("{}", table(measured)));
        println!("{}", ratios(&measured));
    }
    Ok(())
}
