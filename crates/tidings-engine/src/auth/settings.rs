//! What can be set for users.

use serde::{Deserialize, Serialize};

/// Settings under `[users]`. Times are milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserSettings {
    /// Who may create users beside an admin.
    pub sign_up: SignUp,
    /// How long the token of a login is valid.
    pub token_ttl_ms: u64,
    /// Fewest characters of a password.
    pub password_chars_min: usize,
    /// How new passwords are hashed. Both kinds are always verified.
    pub password_hash: HashKind,
    /// Cost of argon2id: memory in KiB, and passes over it.
    pub argon2_kib: u32,
    pub argon2_passes: u32,
    /// Cost of bcrypt: the logarithm of its rounds.
    pub bcrypt_cost: u32,
    /// Attempts to log in or sign up from one address: at once, and for each minute. 0 does not bound.
    pub address_burst: u32,
    pub address_per_minute: u32,
    /// Attempts to log in or sign up under one name that do not succeed, in the same way.
    pub name_burst: u32,
    pub name_per_minute: u32,
    /// Passwords that may wait to be hashed; beyond that an attempt is refused.
    pub hashes_waiting: usize,
    /// Users that may exist.
    pub max: usize,
}

/// Who may create users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignUp {
    /// Nobody signs up; an admin adds users.
    Closed,
    /// The same, also through the sign-up of other systems' interfaces.
    Admin,
    /// Anybody.
    Open,
}

/// How a password is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashKind {
    Argon2id,
    Bcrypt,
}

impl Default for UserSettings {
    fn default() -> Self {
        Self {
            sign_up: SignUp::Closed,
            token_ttl_ms: 3_600_000,
            password_chars_min: 8,
            password_hash: HashKind::Argon2id,
            // One of the equally strong pairs that OWASP names: the least memory for each login.
            argon2_kib: 7168,
            argon2_passes: 5,
            bcrypt_cost: 12,
            address_burst: 300,
            address_per_minute: 120,
            name_burst: 30,
            name_per_minute: 6,
            hashes_waiting: 256,
            max: 1_000_000,
        }
    }
}
