//! Programs that the tests need from the machine, and how they get there.
//!
//! On Debian and its kin missing ones are installed with apt-get, as root or through sudo. Elsewhere, or
//! where that fails, the message says what to install. What no distribution brings is built from source, or installed
//! where only these tests look.

use crate::step;
use anyhow::{Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// Something to find on the machine, and the Debian packages that bring it.
struct Need {
    what: &'static str,
    packages: &'static [&'static str],
    sign: Sign,
}

enum Sign {
    Program(&'static str),
    File(&'static str),
    /// Of Python.
    Module(&'static str),
}

const NEEDS: &[Need] = &[
    Need { what: "a C compiler", packages: &["gcc", "libc6-dev"], sign: Sign::Program("cc") },
    Need { what: "curl", packages: &["curl"], sign: Sign::Program("curl") },
    Need {
        what: "certificate authorities",
        packages: &["ca-certificates"],
        sign: Sign::File("/etc/ssl/certs/ca-certificates.crt"),
    },
    Need { what: "python3", packages: &["python3"], sign: Sign::Program("python3") },
    Need { what: "venv of Python", packages: &["python3-venv"], sign: Sign::Module("ensurepip") },
    Need { what: "chromium", packages: &["chromium"], sign: Sign::Program("chromium") },
    Need { what: "node", packages: &["nodejs", "npm"], sign: Sign::Program("node") },
    Need { what: "Go", packages: &["golang-go"], sign: Sign::Program("go") },
    // Only the programs where Debian offers them without a server that is started at once.
    Need { what: "PostgreSQL", packages: &["postgresql"], sign: Sign::Program("postgres") },
    Need {
        what: "MariaDB",
        packages: &["mariadb-server-core", "mariadb-client-core"],
        sign: Sign::Program("mariadbd"),
    },
    Need { what: "Redis", packages: &["redis-server"], sign: Sign::Program("redis-server") },
    Need { what: "NATS", packages: &["nats-server"], sign: Sign::Program("nats-server") },
];

impl Need {
    fn is_met(&self) -> bool {
        match self.sign {
            Sign::File(path) => Path::new(path).exists(),
            Sign::Program(name) => is_program(name),
            Sign::Module(name) => {
                let import = Command::new("python3").args(["-c", &format!("import {name}")]).output();
                import.is_ok_and(|done| done.status.success())
            }
        }
    }
}

fn is_program(name: &str) -> bool {
    peers::find(name).is_some()
}

/// Installs whatever is missing; does nothing where nothing is.
pub fn install(root: &Path) -> Result<()> {
    packages()?;
    go(root, peers::NSQD, "nsqd", "github.com/nsqio/nsq/apps/nsqd")?;
    go(root, peers::GRPCURL, "grpcurl", "github.com/fullstorydev/grpcurl/cmd/grpcurl")?;
    go(root, peers::H2SPEC, "h2spec", "github.com/summerwind/h2spec/cmd/h2spec")?;
    python(root)
}

const PYTHON_PACKAGES: &str = "crates/peers/python/requirements.txt";

/// Makes a Python with the packages that `crates/peers/python` pins.
fn python(root: &Path) -> Result<()> {
    let wanted = std::fs::read_to_string(root.join(PYTHON_PACKAGES))?;
    let program = step::target_dir(root)?.join("peers").join(peers::PYTHON);
    let dir = program.ancestors().nth(2).expect("bin/python");
    let finished = dir.join("finished");
    // Written last; another list of packages is another Python.
    if std::fs::read_to_string(&finished).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    eprintln!("installing the clients in Python");
    step::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(dir).stdin(Stdio::null()))?;
    let mut pip = Command::new(&program);
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--requirement"]);
    step::run(pip.arg(root.join(PYTHON_PACKAGES)).stdin(Stdio::null()))?;
    Ok(std::fs::write(finished, wanted)?)
}

/// Builds a program that no distribution brings from the sources that its folder of `crates/peers` pins.
fn go(root: &Path, name: &str, folder: &str, package: &str) -> Result<()> {
    let program = step::target_dir(root)?.join("peers").join(name);
    if program.is_file() {
        return Ok(());
    }
    eprintln!("building {name}");
    let mut go = Command::new("go");
    go.args(["build", "-trimpath", "-mod=readonly", "-o"]).arg(&program);
    go.arg(package).current_dir(root.join("crates/peers").join(folder));
    // The Go that is there, not one that it would fetch.
    step::run(go.env("GOTOOLCHAIN", "local").env("GOFLAGS", "").stdin(Stdio::null()))
}

fn packages() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = missing.iter().map(|n| n.what).collect::<Vec<_>>().join(", ");
    let packages: Vec<&str> = missing.iter().flat_map(|n| n.packages).copied().collect();
    let by_hand = format!(
        "the tests need {what}; install them (Debian packages: {}) and try again",
        packages.join(" ")
    );
    if !is_program("apt-get") {
        bail!("{by_hand}");
    }
    // SAFETY: geteuid has no preconditions and cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !is_root && !is_program("sudo") {
        bail!("{by_hand}, or run this as root");
    }
    eprintln!("installing {what}");
    let apt = |words: &[&str]| {
        let mut command = if is_root { Command::new("apt-get") } else { Command::new("sudo") };
        if !is_root {
            command.args(["-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").args(words).stdin(Stdio::null());
        step::run(&mut command)
    };
    let mut words = vec!["install", "--yes", "--no-install-recommends"];
    words.extend(packages);
    // Package lists that are there may be good enough; fresh images have none.
    if let Err(error) = apt(&words).or_else(|_| apt(&["update"]).and_then(|()| apt(&words))) {
        bail!("{error:#}; {by_hand}");
    }
    match missing.iter().find(|need| !need.is_met()) {
        Some(need) => bail!("{} is still missing; {by_hand}", need.what),
        None => Ok(()),
    }
}
