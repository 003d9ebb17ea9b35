//! One peer's process: start, readiness, kill, restart, end.

use crate::port;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a peer may take until it answers, and to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(60);
/// The user and group `nobody`: databases refuse to run as root.
const NOBODY: u32 = 65_534;

/// Says whether a peer that accepted this connection is ready.
pub(crate) type Probe = fn(&mut TcpStream) -> io::Result<bool>;

/// A real server of somebody else, private to one test.
pub struct Peer {
    program: PathBuf,
    args: Vec<String>,
    ports: [u16; 2],
    probe: Probe,
    end_with: i32,
    is_database: bool,
    running: Option<Child>,
    dir: TempDir,
}

impl Peer {
    /// A peer that is not running yet; its ports and its directory are its own from now on.
    pub(crate) fn new(program: PathBuf, probe: Probe) -> Self {
        let dir = tempfile::Builder::new().prefix("peer-").tempdir().expect("a temporary directory");
        let ports = [port::free(), port::free()];
        Self {
            program,
            args: Vec::new(),
            ports,
            probe,
            end_with: libc::SIGKILL,
            is_database: false,
            running: None,
            dir,
        }
    }

    /// Marks a peer that refuses to run as root, and ends it with `signal` instead of a kill: the one
    /// that makes it drop everything at once, its child processes too.
    pub(crate) fn database(mut self, signal: i32) -> Self {
        self.is_database = true;
        self.end_with = signal;
        if is_root() {
            let dir = self.dir.path();
            std::os::unix::fs::chown(dir, Some(NOBODY), Some(NOBODY)).expect("root may give a folder away");
        }
        self
    }

    pub(crate) fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// A command that prepares the peer's directory, run as the peer's user.
    pub(crate) fn prepare(&self, program: &Path, args: &[&str]) {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        self.as_its_user(&mut command);
        let done = command.output().unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{}: {}: {said}", program.display(), done.status);
    }

    /// Where it keeps its files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The port that clients use.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// A second port, where the peer has one (nsqd: HTTP).
    pub fn second_port(&self) -> u16 {
        self.ports[1]
    }

    /// The same peer, running and ready.
    #[must_use]
    pub fn started(mut self) -> Self {
        self.start();
        self
    }

    /// Starts it, for the first time or again, and waits until it answers.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.running.is_none(), "{} runs already", self.name());
        let log = File::options().create(true).append(true).open(self.log()).expect("a log file");
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.as_its_user(&mut command);
        let signal = self.end_with;
        // SAFETY: one system call that is safe between fork and exec.
        unsafe {
            command.pre_exec(move || match libc::prctl(libc::PR_SET_PDEATHSIG, signal) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        self.running = Some(spawn(command).unwrap_or_else(|e| panic!("cannot start {}: {e}", self.name())));
        self.wait_until_ready();
    }

    /// Ends it as a crash would, and waits until it is gone. Its files stay.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            signal(&child, self.end_with);
            let since = Instant::now();
            while child.try_wait().expect("our own child").is_none() {
                if since.elapsed() > PATIENCE {
                    signal(&child, libc::SIGKILL);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// Makes it hang: the kernel goes on taking connections and bytes for it, and it answers nothing.
    pub fn freeze(&self) {
        let child = self.running.as_ref().expect("it runs");
        signal(child, libc::SIGSTOP);
        // Its threads stop one after the other; the process counts as stopped when all have.
        let is_stopped = || {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
            state.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        };
        while !is_stopped() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends [`Peer::freeze`].
    pub fn thaw(&self) {
        signal(self.running.as_ref().expect("it runs"), libc::SIGCONT);
    }

    #[track_caller]
    fn wait_until_ready(&mut self) {
        let since = Instant::now();
        while !self.is_ready() {
            let ended = self.running.as_mut().expect("just started").try_wait().expect("our own child");
            if ended.is_some() || since.elapsed() > PATIENCE {
                let said = std::fs::read_to_string(self.log()).unwrap_or_default();
                panic!("{} is not ready ({ended:?}): {said}", self.name());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_ready(&self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()));
        let answer = TcpStream::connect(address).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            (self.probe)(&mut stream)
        });
        answer.unwrap_or(false)
    }

    fn as_its_user(&self, command: &mut Command) {
        if self.is_database && is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn name(&self) -> String {
        self.program.display().to_string()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: a plain system call on a child that nobody has waited for yet.
    unsafe { libc::kill(child.id() as i32, signal) };
}

/// Starts a command from a thread that lives as long as the process. A peer is told to end with the thread
/// that started it; the thread of a test may end earlier than its peer.
fn spawn(command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static STARTER: LazyLock<mpsc::Sender<Job>> = LazyLock::new(|| {
        let (tx, rx) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, reply) in rx {
                // Whoever asked waits for the answer.
                let _ = reply.send(command.spawn());
            }
        });
        tx
    });
    let (tx, rx) = mpsc::channel();
    STARTER.send((command, tx)).expect("the starter lives as long as the process");
    rx.recv().expect("the starter answers")
}
