//! The data directory's own secret: the key that signs this server's tokens.
//!
//! Owns: making it once, readable by its owner only, and reading it. Never: prints or logs it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tidings_engine::auth::Secret;

/// The file's name in the data directory. Its text, without the line's end, is the HS256 key.
pub const FILE: &str = "secret";
/// A shorter secret can be guessed from one token.
pub const CHARS_MIN: usize = 32;
const BYTES: usize = 32;

/// The secret of one data directory.
#[derive(Debug, Clone)]
pub struct DataSecret {
    pub secret: Secret,
    /// It did not exist before.
    pub is_new: bool,
    /// Others than the owner may read the file.
    pub is_exposed: bool,
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("{path} does not exist: `tidings serve` or `tidings token` with this --data creates it")]
    Missing { path: PathBuf },
    #[error(
        "{path} has fewer than {CHARS_MIN} characters; delete it and a new one is made at the next start"
    )]
    Short { path: PathBuf },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl DataSecret {
    /// Reads the secret of `dir`; makes the directory (mode 0700) and the secret (0600) if they are not there.
    ///
    /// Two processes that start at the same time agree on one secret.
    pub fn open(dir: &Path) -> Result<Self, SecretError> {
        match Self::read(dir) {
            Err(SecretError::Missing { .. }) => {}
            done => return done,
        }
        make_dir(dir).map_err(|source| SecretError::Io { path: dir.to_owned(), source })?;
        let path = dir.join(FILE);
        let is_ours = create(dir, &path).map_err(|source| SecretError::Io { path, source })?;
        Ok(Self { is_new: is_ours, ..Self::read(dir)? })
    }

    /// Reads the secret of `dir` and makes nothing.
    pub fn read(dir: &Path) -> Result<Self, SecretError> {
        let path = dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(SecretError::Missing { path }),
            Err(source) => return Err(SecretError::Io { path, source }),
        };
        let text = text.trim();
        if text.chars().count() < CHARS_MIN {
            return Err(SecretError::Short { path });
        }
        let mode = fs::metadata(&path).map_or(0, |m| m.permissions().mode());
        let secret = Secret::new(text.as_bytes().to_vec());
        Ok(Self { secret, is_new: false, is_exposed: mode & 0o077 != 0 })
    }
}

/// Makes `dir` for its owner alone; one that exists is left as it is.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Writes a fresh secret aside and links it in place; `false` if another process was quicker.
fn create(dir: &Path, path: &Path) -> io::Result<bool> {
    let mut random = [0; BYTES];
    getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
    let aside = dir.join(format!("{FILE}.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(format!("{}\n", URL_SAFE_NO_PAD.encode(random)).as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&aside, path);
    fs::remove_file(&aside)?;
    // The name must survive a power cut, or tokens signed today are refused tomorrow.
    File::open(dir)?.sync_all()?;
    match linked {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_makes_a_secret_that_only_the_owner_reads() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("data");
        assert!(matches!(DataSecret::read(&dir), Err(SecretError::Missing { .. })));
        assert!(DataSecret::open(&dir).unwrap().is_new);
        assert!(!DataSecret::open(&dir).unwrap().is_new);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join(FILE))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn a_cut_secret_is_refused_and_an_exposed_one_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        fs::write(&path, "short").unwrap();
        assert!(matches!(DataSecret::open(dir.path()), Err(SecretError::Short { .. })));
        fs::write(&path, "x".repeat(43)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(DataSecret::open(dir.path()).unwrap().is_exposed);
    }

    #[test]
    fn processes_that_start_together_agree() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataSecret::open(dir.path()).unwrap();
        let late = create(dir.path(), &dir.path().join(FILE)).unwrap();
        assert!(first.is_new && !late, "the later one takes what is there");
    }
}
