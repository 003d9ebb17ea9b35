//! Passwords: hashing and verifying, off the async threads.
//!
//! Owns: the kinds of hashes, how many are computed at once, and that a failure takes as long whether there
//! is such a user or not. Never: keeps a password longer than its computation, or logs one.

use super::refusal::UserError;
use super::settings::{HashKind, UserSettings};
use super::user::HASH_BYTES_MAX;
use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use memmap2::MmapMut;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// A longer password is refused unread.
const PASSWORD_BYTES_MAX: usize = 1024;
/// What bcrypt reads; it ends its input with a zero byte of its own.
const BCRYPT_BYTES_MAX: usize = 71;
/// The costliest hash from elsewhere that is verified: argon2's memory and passes, bcrypt's cost.
const ARGON2_KIB_MAX: u32 = 256 << 10;
const ARGON2_KIB_PASSES_MAX: u64 = 1 << 20;
const BCRYPT_COST_MAX: u32 = 15;
/// Kinds and costs of hashes from elsewhere that are remembered.
const MET_MAX: usize = 3;

/// Hashes and verifies.
pub struct Passwords {
    maker: Maker,
    /// One computation for each core.
    room: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    /// Kinds and costs of hashes met that are not made here.
    met: Mutex<Vec<Maker>>,
}

/// How hashes of one kind and cost are made.
#[derive(Clone, PartialEq)]
enum Maker {
    Argon2id(Params),
    Bcrypt(u32),
}

impl Passwords {
    pub fn new(settings: &UserSettings) -> Self {
        let maker = match settings.password_hash {
            HashKind::Bcrypt => Maker::Bcrypt(settings.bcrypt_cost.clamp(4, BCRYPT_COST_MAX)),
            HashKind::Argon2id => {
                let kib = settings.argon2_kib.clamp(Params::MIN_M_COST, ARGON2_KIB_MAX);
                let passes = settings.argon2_passes.clamp(1, 100);
                Maker::Argon2id(Params::new(kib, passes, 1, None).expect("within the bounds"))
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self {
            maker,
            room: Arc::new(Semaphore::new(cores)),
            waiting: AtomicUsize::new(0),
            waiting_max: settings.hashes_waiting.max(1),
            met: Mutex::default(),
        }
    }

    /// The longest password that is taken in whole.
    pub fn check_length(&self, password: &str) -> Result<(), UserError> {
        let max = match self.maker {
            Maker::Argon2id(_) => PASSWORD_BYTES_MAX,
            Maker::Bcrypt(_) => BCRYPT_BYTES_MAX,
        };
        if password.len() > max { Err(UserError::PasswordLong { max }) } else { Ok(()) }
    }

    /// A hash of `password`, whose length was checked.
    pub async fn hash(&self, password: &str) -> Result<String, UserError> {
        let (maker, password) = (self.maker.clone(), password.to_owned());
        self.compute(move || maker.hash(&password)).await?
    }

    /// Whether `password` is the one of `hash`. Without a hash the same work is done for nothing.
    ///
    /// For a wrong one a hash of every kind met so far is computed, so that neither the time nor the load tells
    /// whether there is a user, or of which kind its hash is.
    pub async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, UserError> {
        // Too long to be anybody's; the work is done all the same.
        let is_long = password.len() > PASSWORD_BYTES_MAX;
        let password = password.as_bytes()[..password.len().min(PASSWORD_BYTES_MAX)].to_vec();
        let own = hash.and_then(Maker::of);
        let mut others = self.kinds(own.as_ref());
        others.retain(|kind| Some(kind) != own.as_ref());
        let given = hash.map(str::to_owned);
        self.compute(move || {
            if let Some(hash) = given
                && is_match(&password, &hash)?
                && !is_long
            {
                return Ok(true);
            }
            others.iter().try_for_each(|kind| kind.waste(&password))?;
            Ok(false)
        })
        .await?
    }

    /// All kinds that a hash may be of, as far as is known; `new` is remembered.
    fn kinds(&self, new: Option<&Maker>) -> Vec<Maker> {
        let mut met = self.met.lock().expect("no panic while holding the lock");
        if let Some(new) = new.filter(|new| **new != self.maker && met.len() < MET_MAX && !met.contains(new))
        {
            met.push(new.clone());
        }
        std::iter::once(&self.maker).chain(met.iter()).cloned().collect()
    }

    /// Whether a hash of today would be of the same kind and cost.
    pub fn is_current(&self, hash: &str) -> bool {
        let is_newest = hash.starts_with("$2") || hash.starts_with("$argon2id$v=19$");
        is_newest && Maker::of(hash).as_ref() == Some(&self.maker)
    }

    /// Whether a hash made elsewhere can be verified, at a cost that is bearable.
    pub fn check_hash(hash: &str) -> Result<(), UserError> {
        if hash.len() > HASH_BYTES_MAX {
            return Err(UserError::Hash);
        }
        if hash.starts_with("$2") {
            let parts: bcrypt::HashParts = hash.parse().map_err(|_| UserError::Hash)?;
            let is_bearable = (4..=BCRYPT_COST_MAX).contains(&parts.get_cost());
            return if is_bearable { Ok(()) } else { Err(UserError::Hash) };
        }
        let (_, params, ..) = argon2_parts(hash).ok_or(UserError::Hash)?;
        let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
        let is_bearable = params.m_cost() <= ARGON2_KIB_MAX && work <= ARGON2_KIB_PASSES_MAX;
        if is_bearable { Ok(()) } else { Err(UserError::Hash) }
    }

    /// Runs `work` where it may block, not too many at once.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, UserError> {
        let _place = Place::take(&self.waiting, self.waiting_max)?;
        let permit = Arc::clone(&self.room).acquire_owned().await.expect("never closed");
        let task = tokio::task::spawn_blocking(move || {
            let done = work();
            // The permit is held by the computation itself, also if nobody waits for it any more.
            drop(permit);
            done
        });
        Ok(task.await.expect("hashing does not panic"))
    }
}

/// One of those that wait for a computation or are at it.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, max: usize) -> Result<Self, UserError> {
        let place = Self(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) >= max {
            return Err(UserError::TooMany { retry_after_s: 1 });
        }
        Ok(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Maker {
    /// How `hash` was made. The variants of argon2 cost the same.
    fn of(hash: &str) -> Option<Self> {
        if hash.starts_with("$2") {
            let parts: bcrypt::HashParts = hash.parse().ok()?;
            return Some(Self::Bcrypt(parts.get_cost()));
        }
        let (_, params, ..) = argon2_parts(hash)?;
        let (kib, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
        Params::new(kib, passes, lanes, None).ok().map(Self::Argon2id)
    }

    fn argon2(params: &Params) -> Argon2<'static> {
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
    }

    fn hash(&self, password: &str) -> Result<String, UserError> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|_| UserError::Resources)?;
        match self {
            Self::Argon2id(params) => {
                let argon2 = Self::argon2(params);
                let output = fill(&argon2, password.as_bytes(), &salt, Params::DEFAULT_OUTPUT_LEN)?;
                let hash = PasswordHash {
                    algorithm: Algorithm::Argon2id.ident(),
                    version: Some(Version::V0x13.into()),
                    params: params.try_into().expect("three numbers"),
                    salt: Some(Salt::new(&salt).expect("a salt of the usual length")),
                    hash: Some(output),
                };
                Ok(hash.to_string())
            }
            Self::Bcrypt(cost) => {
                let parts = bcrypt::non_truncating_hash_with_salt(password, *cost, salt);
                Ok(parts.expect("the length was checked").to_string())
            }
        }
    }

    /// The same work as for verifying, for nothing.
    fn waste(&self, password: &[u8]) -> Result<(), UserError> {
        match self {
            Self::Argon2id(params) => {
                let output = fill(&Self::argon2(params), password, &[0; 16], Params::DEFAULT_OUTPUT_LEN)?;
                std::hint::black_box(output);
            }
            Self::Bcrypt(cost) => {
                let most = password.len().min(BCRYPT_BYTES_MAX);
                let parts = bcrypt::non_truncating_hash_with_salt(&password[..most], *cost, [0; 16]);
                std::hint::black_box(parts.is_ok());
            }
        }
        Ok(())
    }
}

fn is_match(password: &[u8], hash: &str) -> Result<bool, UserError> {
    if hash.starts_with("$2") {
        let most = password.len().min(BCRYPT_BYTES_MAX);
        let is_same = bcrypt::non_truncating_verify(&password[..most], hash).unwrap_or(false);
        // What bcrypt would cut off is never let in on its beginning alone.
        return Ok(is_same && most == password.len());
    }
    let Some((algorithm, params, version, salt, wanted)) = argon2_parts(hash) else { return Ok(false) };
    let argon2 = Argon2::new(algorithm, version, params);
    // Outputs are compared in constant time.
    Ok(fill(&argon2, password, &salt, wanted.len())? == wanted)
}

/// Argon2 over memory that goes back to the system afterwards: an allocator would keep that of each thread,
/// many times what the rest of the server takes.
fn fill(argon2: &Argon2<'_>, password: &[u8], salt: &[u8], length: usize) -> Result<Output, UserError> {
    let count = argon2.params().block_count();
    let mut memory = MmapMut::map_anon(count * Block::SIZE).map_err(|_| UserError::Resources)?;
    // SAFETY: the mapping is page-aligned, zeroed, `count` blocks long, and ours alone while `blocks` lives;
    // a block is an array of integers, for which every bit pattern is valid.
    let blocks = unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast::<Block>(), count) };
    let mut found = vec![0; length];
    // Lengths and costs were checked before; what is refused all the same is no reason to fall over.
    let done = argon2.hash_password_into_with_memory(password, salt, &mut found, blocks);
    done.map_err(|_| UserError::Resources)?;
    Output::new(&found).map_err(|_| UserError::Resources)
}

type Argon2Parts = (Algorithm, Params, Version, Vec<u8>, Output);

fn argon2_parts(hash: &str) -> Option<Argon2Parts> {
    let hash = PasswordHash::new(hash).ok()?;
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
    let params = Params::try_from(&hash).ok()?;
    Some((algorithm, params, version, hash.salt?.to_vec(), hash.hash?))
}
