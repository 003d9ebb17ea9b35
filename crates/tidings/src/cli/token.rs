//! `tidings token`: signs a token with the data directory's secret. Needs no running server.

use super::grants::GrantArgs;
use super::{Context, Place};
use anyhow::{Result, anyhow};
use serde::Serialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tidings::DataSecret;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    grants: GrantArgs,
    /// May do everything on every interface
    #[arg(long)]
    admin: bool,
    /// Who the token is for
    #[arg(long, value_name = "NAME")]
    sub: Option<String>,
    /// How long it is valid: 90s, 15m, 1h, 7d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    ttl: Duration,
}

/// What a token of ours says.
#[derive(Debug, Default, Serialize)]
pub struct Claims {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub admin: bool,
    /// Filled in by [`Claims::sign`].
    pub iat: u64,
    pub exp: u64,
}

impl Claims {
    /// Signs these claims, valid from now for `ttl`.
    pub fn sign(self, secret: &DataSecret, ttl: Duration) -> Result<String> {
        let iat = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims = Self { iat, exp: iat.saturating_add(ttl.as_secs()), ..self };
        Ok(secret.secret.sign(&claims)?)
    }
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    let dir = &context.config().data;
    let secret = DataSecret::open(dir)?;
    if secret.is_new {
        eprintln!("made a new secret in {}", dir.join(tidings::secret::FILE).display());
    }
    if secret.is_exposed {
        eprintln!(
            "warning: {}/secret can be read by other users of this machine: chmod 600 it",
            dir.display()
        );
    }
    if args.grants.is_empty() && !args.admin {
        eprintln!("warning: this token grants nothing; add --topics, --publish, --subscribe or --admin");
    }
    let Args { grants: GrantArgs { publish, subscribe, topics }, admin, sub, ttl, .. } = args;
    let claims = Claims { sub, topics, publish, subscribe, admin, ..Claims::default() };
    println!("{}", claims.sign(&secret, ttl)?);
    Ok(())
}

/// `90s`, `15m`, `1h`, `7d`; a number alone is seconds.
pub fn duration(text: &str) -> Result<Duration> {
    let (number, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
    let seconds: u64 = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(anyhow!("a time is a number with s, m, h or d")),
    };
    let number: u64 = number.parse().map_err(|_| anyhow!("a time is a number with s, m, h or d"))?;
    let total = number.checked_mul(seconds).filter(|s| (1..=100 * 366 * 86_400).contains(s));
    total.map(Duration::from_secs).ok_or_else(|| anyhow!("between one second and a hundred years"))
}
