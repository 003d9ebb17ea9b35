//! What users do themselves: log in, log out, change the password.
//!
//! Owns: the tokens of users. Never: says of a login that failed whether there is such a user.

use super::refusal::UserError;
use super::user::{NewSecret, Record, User};
use super::users::{Users, entry};
use crate::Error;
use serde::Serialize;
use std::net::IpAddr;
use tidings_model::{Principal, Timestamp, Uuid};

/// A login that succeeded.
#[derive(Debug, Clone)]
pub struct Login {
    pub user: User,
    pub token: String,
    pub expires_at: Timestamp,
}

/// What the token of a login says.
#[derive(Serialize)]
struct Claims {
    sub: Uuid,
    /// Clients of other systems look for it.
    company: &'static str,
    iat: i64,
    exp: i64,
    user_generation: u64,
}

impl Users {
    /// Verifies name and password and signs a token.
    ///
    /// # Errors
    /// [`UserError::Credentials`], after the same time, for an unknown user and for a wrong password.
    pub async fn login(&self, name: &str, password: &str, peer: IpAddr) -> Result<Login, Error> {
        self.pace_address(peer)?;
        self.pace_name(name)?;
        let id = self.id_of(name).await?;
        let record = match id {
            Some(id) => self.record(id).await?,
            None => None,
        };
        let hash = record.as_ref().map(|r| r.hash.as_str());
        let is_right = self.0.passwords.verify(password, hash).await?;
        let Some(record) = record.filter(|_| is_right) else { return Err(UserError::Credentials.into()) };
        self.0.by_name.give_back(&name);
        if record.revoked {
            return Err(UserError::Revoked.into());
        }
        self.rehash(&record, password).await;
        self.token(&record)
    }

    /// A hash of another kind or cost than today's gives way to one of today's, now that the password is at hand.
    async fn rehash(&self, record: &Record, password: &str) {
        let passwords = &self.0.passwords;
        if passwords.is_current(&record.hash) || passwords.check_length(password).is_err() {
            return;
        }
        let renewed = async {
            let hash = passwords.hash(password).await?;
            let _changes = self.0.changes.lock().await;
            // Unless the password was changed meanwhile.
            match self.record(record.id).await? {
                Some(mut now) if now.hash == record.hash => {
                    now.hash = hash;
                    self.commit(vec![entry(&now)]).await
                }
                _ => Ok(()),
            }
        };
        if let Err(error) = renewed.await {
            tracing::warn!(%error, "a password could not be hashed anew, its old hash stays in use");
        }
    }

    fn token(&self, record: &Record) -> Result<Login, Error> {
        let iat = self.now().as_millis().div_euclid(1000);
        let ttl = i64::try_from(self.0.settings.token_ttl_ms.div_ceil(1000)).unwrap_or(i64::MAX);
        let exp = iat.saturating_add(ttl.max(1)).min(253_402_300_799);
        let user_generation = record.generation;
        let claims = Claims { sub: record.id, company: "", iat, exp, user_generation };
        let token = self.0.signer.sign(&claims).map_err(|e| Error::Sign(e.to_string()))?;
        let expires_at = Timestamp::default().plus_millis(exp.saturating_mul(1000));
        Ok(Login { user: record.user(), token, expires_at })
    }

    /// The user whose token the caller has.
    pub async fn me(&self, caller: &Principal) -> Result<User, Error> {
        Ok(self.known(own_id(caller)?).await?.user())
    }

    /// Changes the caller's own password. Every token so far ends; the answer has a new one.
    pub async fn change_password(
        &self,
        caller: &Principal,
        old: &str,
        new: &str,
        peer: IpAddr,
    ) -> Result<Login, Error> {
        let id = own_id(caller)?;
        self.pace_address(peer)?;
        let record = self.known(id).await?;
        self.pace_name(&record.name)?;
        if !self.0.passwords.verify(old, Some(&record.hash)).await? {
            return Err(UserError::Credentials.into());
        }
        self.0.by_name.give_back(&record.name.as_str());
        let hash = self.hash(&NewSecret::Password(new.to_owned()), self.rules()).await?;
        let now = self.now();
        let changed = self
            .change(id, |current| {
                if current.hash != record.hash {
                    return Err(UserError::Credentials);
                }
                current.hash = hash;
                current.renew(now);
                Ok(())
            })
            .await?;
        self.token(&changed)
    }

    /// Ends every token and connection of the calling user.
    pub async fn logout(&self, caller: &Principal) -> Result<(), Error> {
        let now = self.now();
        self.change(own_id(caller)?, |record| {
            record.renew(now);
            Ok(())
        })
        .await?;
        Ok(())
    }
}

fn own_id(caller: &Principal) -> Result<Uuid, UserError> {
    caller.session.as_ref().map(|session| session.user).ok_or(UserError::NotUser)
}
