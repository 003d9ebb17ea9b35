//! Runs the program's commands, each marked so that a leftover process is found.

use super::soon;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

/// The variable that marks our processes; it must not begin with `TIDINGS_`.
const MARK: &str = "IT_MARK";

/// Other variables that mean something to the program.
const FOREIGN: &[&str] =
    &["SAVE_PATH", "RUST_LOG", "SECURITY_TOKEN", "FILTERS", "TABLE_NAMES", "POSTGRES_DATABASE_URL"];

/// Where one test's processes run.
pub struct Program {
    mark: String,
}

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// What it printed, if it succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "{self:?}");
        self.stdout
    }

    /// What it complained, if it failed with `exit`.
    #[track_caller]
    pub fn fails(self, exit: i32) -> String {
        assert_eq!(self.status.code(), Some(exit), "{self:?}");
        self.stderr
    }
}

impl Program {
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        Self { mark: format!("{}-{n}", std::process::id()) }
    }

    /// A command of the program in `dir`, without any settings from our own environment.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, dir: &Path, args: &[S]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_tidings")), dir, args)
    }

    /// The same for another program.
    pub fn command_of<S: AsRef<std::ffi::OsStr>>(&self, program: &Path, dir: &Path, args: &[S]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(dir).env(MARK, &self.mark).kill_on_drop(true);
        for (name, _) in std::env::vars().filter(|(n, _)| {
            let is_prefixed = n.starts_with("TIDINGS_") || n.starts_with("ER_");
            is_prefixed || FOREIGN.contains(&n.as_str())
        }) {
            command.env_remove(name);
        }
        // Tests ask no time server but their own, which a flag names.
        command.env("TIDINGS_TIME_NTP", "false");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end, with `input` on stdin.
    pub async fn run<S: AsRef<std::ffi::OsStr>>(&self, dir: &Path, args: &[S], input: &[u8]) -> Done {
        finish(self.command(dir, args).stdin(Stdio::piped()).spawn().expect("the program starts"), input)
            .await
    }

    /// Processes of this test that still run.
    pub fn leftovers(&self) -> Vec<i32> {
        let marked = format!("{MARK}={}", self.mark);
        let pids = std::fs::read_dir("/proc").expect("a proc file system").flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|b| *b == 0).any(|variable| variable == marked.as_bytes())
        })
        .collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let left = self.leftovers();
        for pid in &left {
            // SAFETY: a plain system call on a process that carries this test's mark.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
        assert!(left.is_empty() || std::thread::panicking(), "the test left processes behind: {left:?}");
    }
}

/// Feeds a command, and waits for its end.
pub async fn finish(mut child: Child, input: &[u8]) -> Done {
    let mut stdin = child.stdin.take();
    let (mut out, mut err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let (mut stdout, mut stderr) = (String::new(), String::new());
    soon("the command's end", async {
        let feed = async {
            if let Some(stdin) = &mut stdin {
                // A command that ends early does not read everything.
                let _ = stdin.write_all(input).await;
            }
            drop(stdin.take());
        };
        let (_, out, err) =
            tokio::join!(feed, out.read_to_string(&mut stdout), err.read_to_string(&mut stderr));
        out.expect("text");
        err.expect("text");
        let status = child.wait().await.expect("it ends");
        Done { status, stdout, stderr }
    })
    .await
}
