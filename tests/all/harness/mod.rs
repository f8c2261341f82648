//! Running the real binary on real jobs.

pub mod found;

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The binary that users run. Built by `scripts/test` next to the tests' own.
pub fn host() -> PathBuf {
    match std::env::var_os("WASM_HOST_BINARY") {
        Some(path) => PathBuf::from(path),
        None => {
            let path = steps().with_file_name("wasm-host");
            assert!(
                path.exists(),
                "{} is missing: run scripts/test, or cargo build --release -p wasm-host",
                path.display()
            );
            path
        }
    }
}

/// The same host with a hand on every durable step.
pub fn steps() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_wasm-host-steps"))
}

fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("tests lie in the repository")
        .to_path_buf()
}

/// A path in the repository.
pub fn in_repository(path: &str) -> PathBuf {
    repository().join(path)
}

/// Where components are built: once for all tests.
pub fn components() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = steps()
            .parent()
            .and_then(Path::parent)
            .expect("a target directory")
            .to_path_buf();
        let build = |arguments: &[&str]| {
            let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
                .current_dir(repository())
                .env("CARGO_TARGET_DIR", &target)
                .args(["build", "--release", "--quiet", "--target", "wasm32-wasip2"])
                .args(arguments)
                .status()
                .expect("cargo can be started");
            assert!(status.success(), "the guests do not build");
        };
        build(&["-p", "wasm-host-test-guests", "--examples"]);
        build(&["-p", "word-count", "-p", "flight-delays"]);
        build(&["-p", "poison", "-p", "hot-swap", "--examples"]);
        target.join("wasm32-wasip2/release")
    })
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a copy");
        }
    }
}

/// The component of one of the guests for tests.
pub fn guest(name: &str) -> PathBuf {
    components().join("examples").join(format!("{name}.wasm"))
}

/// A job in a folder of its own.
pub struct Job {
    pub folder: TempDir,
    /// The host that runs it.
    pub binary: PathBuf,
    environment: Vec<(String, String)>,
    lasting: Vec<(String, String)>,
}

impl Job {
    /// A job of this text. `{guest:NAME}` in it is the path of that guest.
    pub fn new(text: &str) -> Job {
        let job = Job {
            folder: tempfile::Builder::new()
                .prefix("wasm-host-test-")
                .tempdir()
                .expect("a temporary folder"),
            binary: host(),
            environment: Vec::new(),
            lasting: Vec::new(),
        };
        job.write_job(text);
        job
    }

    pub fn write_job(&self, text: &str) {
        let mut text = text.to_owned();
        while let Some(at) = text.find("{guest:") {
            let end = at + text[at..].find('}').expect("a closing brace");
            let path = guest(&text[at + 7..end]);
            text.replace_range(at..=end, path.to_str().expect("UTF-8"));
        }
        // Whole, for whoever reads it meanwhile.
        self.write("job.toml.new", text.as_bytes());
        fs::rename(self.path("job.toml.new"), self.path("job.toml")).expect("it can be moved");
    }

    /// The same job with the host that tells of its steps.
    pub fn with_steps(mut self) -> Job {
        self.binary = steps();
        self
    }

    /// Sets a variable that [`Job::clear_env`] leaves.
    #[must_use]
    pub fn with_env(mut self, name: &str, value: &str) -> Job {
        self.lasting.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn env(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub fn clear_env(&mut self) {
        self.environment.clear();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        fs::write(path, bytes).expect("the file can be written");
    }

    pub fn append(&self, name: &str, bytes: &[u8]) {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path(name))
            .expect("the file");
        file.write_all(bytes).expect("the file can be written");
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_default()
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).expect("UTF-8")
    }

    /// The command, with this job.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .arg("--job")
            .arg(self.folder.path())
            .env("NO_COLOR", "1")
            .env("XDG_CACHE_HOME", cache())
            .envs(self.lasting.iter().map(|(name, value)| (name, value)))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// The same, run by a command that executes what follows its own arguments.
    pub fn command_under(&self, mut outer: Command, arguments: &[&str]) -> Command {
        let command = self.command(arguments);
        outer.arg(command.get_program()).args(command.get_args());
        let set = |(name, value): (_, Option<_>)| Some((name, value?));
        outer.envs(command.get_envs().filter_map(set));
        outer.stdin(Stdio::null());
        outer
    }

    /// Runs a command to its end.
    pub fn call(&self, arguments: &[&str]) -> Done {
        Done::of(
            &self
                .command(arguments)
                .output()
                .expect("the host can be started"),
        )
    }

    /// Runs the job under `strace`, which kills it with SIGKILL as it enters the `at`-th call of this name to one of these
    /// files.
    pub fn killed_in(&self, call: &str, at: u64, files: &[PathBuf], arguments: &[&str]) {
        let trace = self.path("trace");
        let mut traced = Command::new("strace");
        traced
            .args(["-f", "-qq", "-y", "-o"])
            .arg(&trace)
            .args(["-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:signal=KILL:when={at}")]);
        for file in files {
            traced.arg("-P").arg(file);
        }
        let output = self
            .command_under(traced, arguments)
            .output()
            .expect("strace: scripts/setup --tests installs it");
        let done = Done::of(&output);
        assert_eq!(
            done.code,
            KILLED,
            "{call} number {at} of {files:?}: {}\n{}",
            done.stderr,
            self.text("trace")
        );
    }

    /// Runs a command with standard input.
    pub fn feed(&self, arguments: &[&str], input: &[u8]) -> Done {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the host can be started");
        let mut stdin = child.stdin.take().expect("a pipe");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let done = Done::of(&child.wait_with_output().expect("the host ends"));
        writer.join().expect("the writer ends");
        done
    }

    /// Runs the job to its end.
    pub fn run(&self) -> Done {
        self.call(&["run"])
    }

    /// Starts the job.
    pub fn start(&self) -> Running {
        self.start_with(&["run"])
    }

    /// Starts the job and waits until it can be asked. Not by asking: while no process holds the state, a command that looks at it
    /// holds it.
    #[track_caller]
    pub fn answering(&self) -> Running {
        self.answers(self.start())
    }

    /// Waits until a job that was started can be asked.
    pub fn answers(&self, mut running: Running) -> Running {
        let lock = self.state_dir().join("lock");
        wait_until("the job can be asked", || {
            assert!(running.is_running(), "it ended: {}", running.stderr());
            let text = fs::read_to_string(&lock).unwrap_or_default();
            let holder: Value = serde_json::from_str(&text).unwrap_or_default();
            holder["pid"] == running.pid()
                && holder["socket"]
                    .as_str()
                    .is_some_and(|path| Path::new(path).exists())
        });
        running
    }

    /// Messages that all of its tasks have processed.
    pub fn processed(&self) -> u64 {
        let status = self.json(&["status"]);
        let tasks = status[0]["tasks"].as_array().expect("tasks").iter();
        let processed = tasks.map(|task| task["processed"].as_u64());
        processed.sum::<Option<u64>>().expect("counts")
    }

    /// The lines of a file; none if it is not there.
    pub fn lines(&self, name: &str) -> Vec<String> {
        match self.path(name).exists() {
            true => self.text(name).lines().map(str::to_owned).collect(),
            false => Vec::new(),
        }
    }

    /// Where its job file puts the state.
    pub fn state_dir(&self) -> PathBuf {
        let text = self.text("job.toml");
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            Some(
                line.trim_start_matches([' ', '='])
                    .trim_matches('"')
                    .to_owned(),
            )
        };
        match value("state-dir") {
            Some(path) => self.path(&path),
            None => self.path(".wasm-host").join(value("name").expect("a name")),
        }
    }

    pub fn start_with(&self, arguments: &[&str]) -> Running {
        self.spawn(self.command(arguments))
    }

    /// Starts the job with a limit of open files.
    pub fn limited(&self, files: u32) -> Running {
        let mut limited = Command::new("sh");
        limited
            .args(["-c", "ulimit -n \"$1\" && shift && exec \"$@\"", "sh"])
            .arg(files.to_string());
        self.spawn(self.command_under(limited, &["run"]))
    }

    fn spawn(&self, mut command: Command) -> Running {
        let log = fs::File::create(self.path("stderr.log")).expect("a log file");
        let child = command
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the host can be started");
        Running {
            child,
            log: self.path("stderr.log"),
        }
    }

    /// The objects that a command prints with `--json`.
    pub fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        let done = self.call(&arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.stderr);
        done.stdout
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// The entries of a store as printed.
    pub fn state(&self, store: &str) -> String {
        let done = self.call(&["state", "scan", store]);
        assert_eq!(done.code, 0, "{}", done.stderr);
        done.stdout
    }

    /// The messages of a log stream as JSON lines.
    pub fn log(&self, stream: &str) -> String {
        let done = self.call(&["log", "consume", stream, "--json"]);
        assert_eq!(done.code, 0, "{}", done.stderr);
        done.stdout
    }

    /// The values of the messages of a log stream.
    pub fn values(&self, stream: &str) -> Vec<String> {
        let value = |line: &str| {
            let message: Value = serde_json::from_str(line).expect("JSON");
            message["value"].as_str().unwrap_or("null").to_owned()
        };
        self.log(stream).lines().map(value).collect()
    }
}

/// Compiled code is shared by all tests, and is not the user's.
fn cache() -> PathBuf {
    steps().with_file_name("test-cache")
}

/// The exit code of a process that aborted.
pub const ABORTED: i32 = 128 + 6;
/// The exit code of a process that was killed with SIGKILL.
pub const KILLED: i32 = 128 + 9;

/// A command that has ended.
#[derive(Debug)]
pub struct Done {
    /// The exit code; 128 and the signal where there was one.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    pub fn of(output: &Output) -> Done {
        let signal = output.status.signal().map_or(-1, |signal| 128 + signal);
        Done {
            code: output.status.code().unwrap_or(signal),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Done {
        assert_eq!(
            self.code, code,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Done {
        assert!(
            self.stderr.contains(text),
            "{text:?} is not in: {}",
            self.stderr
        );
        self
    }
}

/// A job that runs.
pub struct Running {
    pub child: Child,
    log: PathBuf,
}

impl Running {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid()).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("the process can be signalled");
    }

    /// Kills it with SIGKILL.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("the process can be asked")
            .is_none()
    }

    /// Waits until it ends.
    pub fn wait(mut self) -> Done {
        let status = self.child.wait().expect("the process ends");
        let signal = status.signal().map_or(-1, |signal| 128 + signal);
        Done {
            code: status.code().unwrap_or(signal),
            stdout: String::new(),
            stderr: self.stderr(),
        }
    }

    /// Waits until it ends, but not for ever.
    #[track_caller]
    pub fn ends(mut self) -> Done {
        wait_until("the job ends", || !self.is_running());
        self.wait()
    }

    /// Stops it with SIGTERM.
    pub fn terminate(self) -> Done {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said something.
    #[track_caller]
    pub fn until_says(&mut self, text: &str) {
        wait_until(text, || {
            let said = self.stderr().contains(text);
            assert!(said || self.is_running(), "it ended: {}", self.stderr());
            said
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so; an event, not a time.
#[track_caller]
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
