//! Where a request comes from.
//!
//! Owns: whom a proxy of ours may name. Never: believes a header from anybody else.

use crate::Door;
use crate::answers::Peer;
use axum::extract::FromRequestParts;
use http::{HeaderMap, request::Parts};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};

/// The address whose attempts count together.
#[derive(Debug, Clone, Copy)]
pub struct Caller(pub IpAddr);

impl FromRequestParts<Door> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, Infallible> {
        Ok(Self::of(door, parts))
    }
}

impl Caller {
    /// The caller of the request that `parts` are of.
    pub fn of(door: &Door, parts: &Parts) -> Self {
        // Behind a socket it is always known.
        let unknown = Peer(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let Peer(peer) = parts.extensions.get().copied().unwrap_or(unknown);
        Self(origin(peer, &parts.headers, &door.config.proxies))
    }
}

/// The last address of the chain that is none of our proxies: what stands before it, anybody can have written.
fn origin(peer: IpAddr, headers: &HeaderMap, proxies: &[IpAddr]) -> IpAddr {
    let is_ours = |address: &IpAddr| proxies.iter().any(|p| p.to_canonical() == address.to_canonical());
    if !is_ours(&peer) {
        return peer;
    }
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
    let chain = lines.iter().flat_map(|line| line.split(',')).rev().map(|text| text.trim().parse());
    // A text that is no address ends what can be believed.
    chain.map_while(Result::ok).find(|address| !is_ours(address)).unwrap_or(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_our_own_proxies_say_is_believed() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let proxies = [ip("10.0.0.1"), ip("10.0.0.2")];
        let of = |peer: &str, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in forwarded {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            origin(ip(peer), &headers, &proxies).to_string()
        };
        assert_eq!(of("192.0.2.9", &["198.51.100.1"]), "192.0.2.9", "a stranger names nobody");
        assert_eq!(of("10.0.0.1", &["203.0.113.7, 198.51.100.1"]), "198.51.100.1");
        assert_eq!(of("10.0.0.1", &["203.0.113.7", "198.51.100.1, 10.0.0.2"]), "198.51.100.1");
        assert_eq!(of("::ffff:10.0.0.1", &["2001:db8::1"]), "2001:db8::1");
        for nothing in [&[][..], &["unknown"], &["10.0.0.2"]] {
            assert_eq!(of("10.0.0.1", nothing), "10.0.0.1");
        }
    }
}
