//! What a measurement stands on: the built programs, a place on disk, a running server and a yardstick.

use super::Options;
use crate::step;
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The directory of a run ends in the id of its process.
const DIR_PREFIX: &str = "load-";
const READY_SECONDS_MAX: u64 = 60;
const STOP_SECONDS_MAX: u64 = 30;

pub struct Stage {
    pub loadgen: PathBuf,
    /// A replication client of MySQL and MariaDB that does nothing else.
    pub bare_binlog: PathBuf,
    pub tidings: PathBuf,
    pub is_quick: bool,
    /// Beside what cargo builds, so that it lies on a disk and not in memory; removed at the end.
    dir: PathBuf,
    next: std::cell::Cell<u32>,
}

impl Stage {
    pub fn build(root: &Path, options: &Options) -> Result<Self> {
        let mut build = step::cargo(root);
        build.args(["build", "--release", "--locked", "--bins", "-p", "loadgen"]);
        // In one go, so that all get the same build of what they share.
        build.args(["--example", "bare_binlog", "-p", "tidings-drivers"]);
        if options.binary.is_none() {
            build.args(["-p", "tidings"]);
        }
        step::run(&mut build)?;
        raise_open_files();
        let target = step::target_dir(root)?;
        remove_left_behind(&target);
        let dir = target.join(format!("{DIR_PREFIX}{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Self {
            loadgen: target.join("release/loadgen"),
            bare_binlog: target.join("release/examples/bare_binlog"),
            tidings: options.binary.clone().unwrap_or_else(|| target.join("release/tidings")),
            is_quick: options.is_quick,
            dir,
            next: 1.into(),
        })
    }

    /// A path nobody has used in this run.
    pub fn fresh_path(&self, name: &str) -> PathBuf {
        let number = self.next.replace(self.next.get() + 1);
        self.dir.join(format!("{name}-{number}"))
    }

    /// A server on an empty log.
    pub fn server(&self) -> Result<Server> {
        self.server_with(&[])
    }

    /// The same with further flags.
    pub fn server_with(&self, flags: &[&str]) -> Result<Server> {
        self.serve(&self.fresh_path("data"), flags)
    }

    /// A server on a data directory, ready, with a token for everything.
    pub fn server_on(&self, data: &Path) -> Result<Server> {
        self.serve(data, &[])
    }

    fn serve(&self, data: &Path, flags: &[&str]) -> Result<Server> {
        let port = free_port()?;
        let log = self.fresh_path("server.log");
        let mut command = Command::new(&self.tidings);
        command
            .arg("serve")
            .arg("--data")
            .arg(data)
            .args(["--port", &port.to_string(), "--no-ntp"])
            .args(flags);
        let output = std::fs::File::create(&log)?;
        command.stdout(output.try_clone()?).stderr(output);
        let process = Process::start(command, port, "/livez").with_context(|| {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let last: Vec<&str> = text.lines().rev().take(10).collect();
            format!("the server did not start: {}", last.into_iter().rev().collect::<Vec<_>>().join("\n"))
        })?;
        let mut token = Command::new(&self.tidings);
        token.arg("token").arg("--data").arg(data).args(["--admin", "--ttl", "12h"]);
        let output = token.output().context("cannot start tidings token")?;
        if !output.status.success() {
            bail!("tidings token: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let token = String::from_utf8(output.stdout)?.trim().to_owned();
        Ok(Server { process, token, data: data.to_owned() })
    }

    /// The yardstick, which writes and syncs what it is sent.
    pub fn yardstick(&self) -> Result<Process> {
        let port = free_port()?;
        let mut command = Command::new(&self.loadgen);
        command.args(["serve", "--port", &port.to_string(), "--fsync"]).arg(self.fresh_path("yardstick"));
        command.stdout(Stdio::null());
        Process::start(command, port, "/").context("the yardstick did not start")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Removes what runs that were interrupted could not: gigabytes, where the log was long.
fn remove_left_behind(target: &Path) {
    for entry in std::fs::read_dir(target).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(DIR_PREFIX)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A running Tidings.
pub struct Server {
    pub process: Process,
    pub token: String,
    pub data: PathBuf,
}

impl Server {
    /// What a path answers.
    pub fn text(&self, path: &str) -> Result<String> {
        get(self.process.port, path, &[format!("Authorization: Bearer {}", self.token)])
    }

    /// The offset of a topic's newest event, as a client reads it.
    pub fn tail(&self, topic: &str) -> Result<u64> {
        let answer = self.text(&format!("/v1/topics/{topic}/events?limit=1"))?;
        let page: serde_json::Value = serde_json::from_str(&answer).with_context(|| answer.clone())?;
        page["tail"].as_u64().with_context(|| format!("a page without a tail: {answer}"))
    }
}

/// A child that listens on a port; stopped when dropped, by its own id and nothing else.
pub struct Process {
    child: Child,
    pub port: u16,
}

impl Process {
    fn start(mut command: Command, port: u16, ready_path: &str) -> Result<Self> {
        let child = end_with_us(&mut command).stdin(Stdio::null()).spawn()?;
        let mut process = Self { child, port };
        let begun = Instant::now();
        while get(port, ready_path, &[]).is_err() {
            if let Some(status) = process.child.try_wait()? {
                bail!("it ended: {status}");
            }
            if begun.elapsed() > Duration::from_secs(READY_SECONDS_MAX) {
                bail!("no answer within {READY_SECONDS_MAX} s");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: our own child, not yet waited for, so the id is still its own.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > Duration::from_secs(STOP_SECONDS_MAX) {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Lets the kernel end the child when we end without having stopped it.
pub fn end_with_us(command: &mut Command) -> &mut Command {
    // SAFETY: prctl is safe to call between fork and exec, and touches only the child.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        })
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The body of a successful answer.
fn get(port: u16, path: &str, headers: &[String]) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // HTTP/1.0, so that the answer comes plain; the yardstick does not close by itself, hence the length.
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n{headers}\r\n")?;
    let mut answer = Vec::new();
    let mut part = [0u8; 4096];
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            let length = lower.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length = length.and_then(|length| length.trim().parse().ok()).unwrap_or(usize::MAX);
            if body.len() >= length {
                let is_good = head.split_whitespace().nth(1) == Some("200");
                return if is_good { Ok(body.to_owned()) } else { bail!("{path}: {text}") };
            }
        }
        match stream.read(&mut part)? {
            0 => bail!("{path}: closed after {text}"),
            n => answer.extend_from_slice(&part[..n]),
        }
    }
}

/// Thousands of connections need as many open files as we are allowed; children inherit the limit.
fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for one rlimit; a refusal leaves the old limit, and connecting tells.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

/// How many files one process may open.
pub fn open_files_max() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for one rlimit.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur
}
