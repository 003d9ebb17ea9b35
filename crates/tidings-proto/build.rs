//! Makes Rust of `spec/proto`, without the program `protoc`.
//!
//! Servers and clients are made apart: a server's answer in a stream is [`crate::Encoded`], bytes that were made
//! once for everybody; a client reads it as a message.

use prost::Message as _;
use std::error::Error;
use std::path::{Path, PathBuf};

const FILES: [&str; 2] = ["tidings/v1/events.proto", "eventrelay.proto"];

/// Answers of which a server has the bytes already.
const ENCODED: [&str; 4] = [
    ".tidings.v1.PullResponse",
    ".tidings.v1.SubscribeResponse",
    ".eventrelay.PullEventsResponse",
    ".eventrelay.StreamEventsResponse",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("../../spec/proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let files = protox::compile(FILES.map(|file| root.join(file)), [root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;
    let builder = || tonic_prost_build::configure().btree_map(".").bytes(".");
    let server = out.join("server");
    let client = out.join("client");
    for dir in [&server, &client] {
        std::fs::create_dir_all(dir)?;
    }
    builder().build_server(false).out_dir(&client).compile_fds(files.clone())?;
    let server = ENCODED.iter().fold(builder().build_client(false).out_dir(&server), |builder, message| {
        builder.extern_path(*message, "crate::Encoded")
    });
    server.compile_fds(files)?;
    Ok(())
}
