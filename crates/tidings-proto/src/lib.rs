//! Tidings over gRPC: what `spec/proto` says, as Rust.
//!
//! Owns: the generated messages and services, and the one message that a server has the bytes of already. Never:
//! decides anything.

mod encoded;

pub use encoded::{Encoded, HEAD, framed};

/// For servers.
pub mod server {
    pub mod tidings {
        #[allow(clippy::all, missing_docs)]
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/server/tidings.v1.rs"));
        }
    }
    #[allow(clippy::all, missing_docs)]
    pub mod eventrelay {
        include!(concat!(env!("OUT_DIR"), "/server/eventrelay.rs"));
    }
}

/// For clients.
pub mod client {
    pub mod tidings {
        #[allow(clippy::all, missing_docs)]
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/client/tidings.v1.rs"));
        }
    }
    #[allow(clippy::all, missing_docs)]
    pub mod eventrelay {
        include!(concat!(env!("OUT_DIR"), "/client/eventrelay.rs"));
    }
}

/// The files of `spec/proto` and what they import, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
