//! Asks time servers, and judges what they say.
//!
//! Owns: which answers are nonsense, and which of several counts. The packet itself, and that an answer fits
//! its question, is the library's business. Never: sets a clock.

use super::clock::{NtpClock, Reading};
use super::config::{Config, Server};
use rsntp::{AsyncSntpClient, KissCode, ProtocolError, SynchronizationError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 3;
/// How long the others are waited for once one server has answered.
const OTHERS_WITHIN: Duration = Duration::from_secs(1);
/// A longer way there and back says too little about the time.
const DELAY_MAX_S: f64 = 1.0;
/// The library reckons with the machine's clock, from 1970 to 2100.
const MACHINE_MAX_S: i64 = 4_102_444_800;

/// An answer that can be believed.
#[derive(Debug, Clone)]
pub struct Answer {
    pub server: Server,
    pub(super) reading: Reading,
    /// How far the server is ahead of the machine's clock, in nanoseconds.
    pub offset: i64,
}

/// Nobody could be believed.
#[derive(Debug, Default)]
pub struct Failure {
    /// For each server, why.
    pub why: Vec<String>,
    /// A server asked to be left alone.
    pub is_sent_away: bool,
}

#[derive(Debug, thiserror::Error)]
enum Nonsense {
    #[error("{0}")]
    Library(#[from] SynchronizationError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("no answer in time")]
    Late,
    #[error("the answer took {0:.3} s there and back")]
    Delay(f64),
    #[error("{0:.0} s away from the machine's clock, more than time.step_max_ms allows")]
    Far(f64),
    #[error("the machine's clock stands outside the years 1970 to 2100")]
    Machine,
}

impl Nonsense {
    fn is_sent_away(&self) -> bool {
        matches!(
            self,
            Self::Library(SynchronizationError::ProtocolError(ProtocolError::KissODeath(
                KissCode::RateExceeded | KissCode::AccessDenied
            )))
        )
    }
}

/// Asks all servers at once. Of several answers the median counts, of an even number the one of the two in the
/// middle that changes less.
pub async fn ask(clock: &Arc<NtpClock>, config: &Config) -> Result<Answer, Failure> {
    let mut asked = JoinSet::new();
    for server in &config.servers.0 {
        let (clock, server, config) = (Arc::clone(clock), server.clone(), config.clone());
        asked.spawn(async move {
            let answer = ask_one(&clock, &server, &config).await;
            (server, answer)
        });
    }
    let (mut answers, mut failure) = (Vec::new(), Failure::default());
    let mut until = Instant::now() + Duration::from_secs(3600);
    while let Ok(Some(done)) = tokio::time::timeout_at(until, asked.join_next()).await {
        match done {
            Ok((server, Ok((reading, offset)))) => {
                answers.push(Answer { server, reading, offset });
                until = until.min(Instant::now() + OTHERS_WITHIN);
            }
            Ok((server, Err(nonsense))) => {
                failure.is_sent_away |= nonsense.is_sent_away();
                failure.why.push(format!("{server}: {nonsense}"));
            }
            Err(error) => failure.why.push(error.to_string()),
        }
    }
    let own = clock.own();
    let change = |answer: &Answer| {
        let machine = answer.reading.time - answer.reading.steady;
        (machine - (own.time - own.steady)).abs()
    };
    median(answers, change).ok_or(failure)
}

fn median(mut answers: Vec<Answer>, change: impl Fn(&Answer) -> i64) -> Option<Answer> {
    answers.sort_by_key(|answer| answer.offset);
    let upper = answers.len() / 2;
    let lower = upper.saturating_sub(usize::from(answers.len().is_multiple_of(2)));
    let middle = answers.get(lower..=upper.min(answers.len().checked_sub(1)?))?;
    middle.iter().min_by_key(|answer| change(answer)).cloned()
}

async fn ask_one(clock: &NtpClock, server: &Server, config: &Config) -> Result<(Reading, i64), Nonsense> {
    let within = Duration::from_millis(config.timeout_ms.max(1));
    if !(0..MACHINE_MAX_S).contains(&(clock.machine().time / 1_000_000_000)) {
        return Err(Nonsense::Machine);
    }
    let found = timeout(within, tokio::net::lookup_host((server.host.as_str(), server.port))).await;
    let addresses: Vec<SocketAddr> = found.map_err(|_| Nonsense::Late)??.take(ADDRESSES_MAX).collect();
    let mut result = Err(Nonsense::Late);
    for address in addresses {
        result = ask_address(clock, address, within, config.step_max_ms).await;
        if result.is_ok() {
            break;
        }
    }
    result
}

async fn ask_address(
    clock: &NtpClock,
    address: SocketAddr,
    within: Duration,
    step_max_ms: u64,
) -> Result<(Reading, i64), Nonsense> {
    let any =
        if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let settings = rsntp::Config::default().bind_address(SocketAddr::new(any, 0)).timeout(within);
    let client = AsyncSntpClient::with_config(settings);
    let answer = timeout(within, client.synchronize(address)).await.map_err(|_| Nonsense::Late)??;
    // Read at once: the answer is reckoned from the machine's clock.
    let machine = clock.machine();
    let (delay, offset) = (answer.round_trip_delay().as_secs_f64(), answer.clock_offset().as_secs_f64());
    // Also where the answer's own times contradict each other, or the machine's clock was set meanwhile.
    if !(-0.01..=DELAY_MAX_S).contains(&delay) {
        return Err(Nonsense::Delay(delay));
    }
    if offset.is_nan() || offset.abs() > step_max_ms as f64 / 1000.0 {
        return Err(Nonsense::Far(offset));
    }
    let offset = (offset * 1e9) as i64;
    Ok((Reading { time: machine.time.saturating_add(offset), ..machine }, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn median_of(offsets: &[i64]) -> Option<i64> {
        let answer = |offset: &i64| Answer {
            server: Server { host: "a".into(), port: 1 },
            reading: Reading { steady: 0, time: 0 },
            offset: *offset,
        };
        median(offsets.iter().map(answer).collect(), |a| a.offset.abs()).map(|a| a.offset)
    }

    #[test]
    fn one_liar_among_several_does_not_count() {
        assert_eq!(median_of(&[]), None);
        assert_eq!(median_of(&[7]), Some(7));
        assert_eq!(median_of(&[9_000, 3]), Some(3), "of two the one that changes less");
        assert_eq!(median_of(&[9_000, 3, 5]), Some(5));
        assert_eq!(median_of(&[-9_000, -3, -5, -9_001]), Some(-5));
    }
}
