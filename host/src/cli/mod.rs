//! The command line: what was typed, and exit codes. One function for each command.

mod access;
mod assemble;
mod checkpoint;
mod display;
mod dlq;
mod exit;
mod inspect;
mod job;
mod kafka;
mod loader;
mod log;
mod new;
mod offsets;
mod output;
mod processor;
mod reset;
mod run;
mod state;
mod status;
mod stderr;
mod swap;
mod task;
mod validate;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub use exit::Failure;

use crate::disk::Disk;
use crate::runtime::{ChildArgs, compile_in_child};

/// Runs stateful stream-processing tasks compiled to WebAssembly.
#[derive(Parser)]
#[command(name = "wasm-host", version = VERSION, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Clone)]
struct Global {
    /// The job: a job file, or a folder with a `job.toml`
    #[arg(
        short,
        long,
        global = true,
        default_value = "job.toml",
        value_name = "PATH"
    )]
    job: PathBuf,
    /// Print results as JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
    /// How log lines look
    #[arg(long, global = true, default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
    /// How much is logged: error, warn, info, debug, trace, or a filter as RUST_LOG takes it
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Run a job until its bounded inputs end, a signal, or a failure
    Run(run::RunArgs),
    /// Check everything that `run` checks before it processes, and print the resolved job
    Validate(validate::ValidateArgs),
    /// Make a project that builds and runs as it is
    New(new::NewArgs),
    /// Show what a component imports, exports and needs
    Inspect(inspect::InspectArgs),
    /// Show tasks, positions, lag, checkpoints and failures
    Status,
    /// Tasks: list, let a held one go on, pass over the message that it is held at
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Replace the code of a stage while the job runs
    Swap(swap::SwapArgs),
    /// Dead letters: list, show, process again, give up
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Checkpoints: list, show, take one now
    #[command(subcommand)]
    Checkpoint(checkpoint::CheckpointCommand),
    /// Committed state: stores and their entries
    #[command(subcommand)]
    State(state::StateCommand),
    /// Log streams: list, append, read
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Positions in the inputs: show, move
    #[command(subcommand)]
    Offsets(offsets::OffsetsCommand),
    /// Kafka: what the job needs of its clusters
    #[command(subcommand)]
    Kafka(kafka::KafkaCommand),
    /// Move the state directory and output files aside; deletes nothing
    Reset,
    /// Compile the component on standard input; the host starts this itself
    #[command(name = COMPILE, hide = true)]
    Compile(CompileArgs),
}

/// The command that compiles a component.
const COMPILE: &str = "compile-component";

#[derive(Args, Clone, Copy)]
struct CompileArgs {
    #[arg(long)]
    memory_bytes: u64,
    #[arg(long)]
    cpu_seconds: u64,
    #[arg(long, action = ArgAction::Set)]
    has_fuel: bool,
}

impl CompileArgs {
    fn compile(self) -> ExitCode {
        let CompileArgs {
            memory_bytes,
            cpu_seconds,
            has_fuel,
        } = self;
        let compiled = compile_in_child(ChildArgs {
            memory_bytes,
            cpu_seconds,
            has_fuel,
        });
        ExitCode::from(compiled.err().unwrap_or(0))
    }
}

/// Runs the command that was typed, and says with which code to exit. What it makes durable is written to `disk`.
pub fn main(arguments: impl IntoIterator<Item = OsString>, disk: Disk) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    if let Err(failure) = output::start_logging(&cli.global) {
        failure.print();
        return ExitCode::from(failure.code);
    }
    let runs = matches!(cli.command, Command::Run(_));
    let result = match cli.command {
        Command::Run(args) => run::run(&cli.global, args, disk),
        Command::Validate(args) => validate::validate(&cli.global, &args),
        Command::New(args) => new::new(&args),
        Command::Inspect(args) => inspect::inspect(&cli.global, &args),
        Command::Status => status::status(&cli.global),
        Command::Task(command) => task::task(&cli.global, &command, &disk),
        Command::Swap(args) => swap::swap(&cli.global, &args),
        Command::Dlq(command) => dlq::dlq(&cli.global, &command, &disk),
        Command::Checkpoint(command) => checkpoint::checkpoint(&cli.global, &command),
        Command::State(command) => state::state(&cli.global, &command),
        Command::Log(command) => log::log(&cli.global, command, disk),
        Command::Offsets(command) => offsets::offsets(&cli.global, &command, &disk),
        Command::Kafka(command) => kafka::kafka(&cli.global, &command),
        Command::Reset => reset::reset(&cli.global, &disk),
        Command::Compile(args) => return args.compile(),
    };
    let code = match result {
        Ok(()) => 0,
        Err(failure) => {
            failure.print();
            failure.code
        }
    };
    if runs {
        exit::leave(code)
    } else {
        ExitCode::from(code)
    }
}

/// Ours, and those that decide what a state directory and a component may contain.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (wasmtime ",
    env!("WASM_HOST_WASMTIME_VERSION"),
    ", RocksDB ",
    env!("WASM_HOST_ROCKSDB_VERSION"),
    ")"
);
