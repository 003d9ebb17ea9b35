//! Who is asking: verification of tokens, users with their passwords, API keys.

mod api_keys;
pub(crate) mod attempts;
mod gate;
mod keys;
mod leases;
mod login;
mod lookup;
mod passwords;
mod refusal;
mod settings;
#[cfg(test)]
mod tests;
mod user;
mod users;

pub use api_keys::{ApiKey, ApiKeyError, ApiKeyPatch, ApiKeys, IssuedApiKey, NewApiKey};
pub use attempts::Attempts;
pub use gate::{Gate, Refused};
pub use keys::{Key, KeyError, Keys, Secret};
pub(crate) use leases::Leases;
pub use login::Login;
pub use lookup::{Found, LookupError, TokenLookup};
pub use refusal::UserError;
pub use settings::{HashKind, SignUp, UserSettings};
pub use user::{NewSecret, NewUser, Rules, User, UserPatch};
pub use users::Users;
