//! Load generator and cost meter for event servers, and the yardstick they are compared with. See README.md.
//!
//! Owns: raw sockets, few threads, no HTTP, gRPC or WebSocket library, so that it takes little of the machine it
//! measures on. Never: talks to anything but loopback; runs without a bound in count and time.

mod args;
mod chunks;
mod clock;
mod cost;
mod fan;
mod frame;
mod h2;
mod histogram;
mod http;
mod idle;
mod json;
mod machine;
mod marker;
mod poll;
mod process;
mod publish;
mod publisher;
mod rpc;
mod sample;
mod sha1;
mod socket;
mod start;
mod stream;
mod subscriber;
mod turns;
mod yardstick;

const USAGE: &str = "usage: loadgen fan|idle|pub|stream|rpc|start|serve --key value ... (README.md)";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = words.split_first() else { args::die(USAGE) };
    let args = args::Args::parse(rest);
    machine::raise_open_files();
    match command.as_str() {
        "fan" => fan::command(&args),
        "idle" => idle::command(&args),
        "pub" => publish::command(&args),
        "stream" => stream::command(&args),
        "rpc" => rpc::command(&args),
        "start" => start::command(&args),
        "serve" => yardstick::command(&args),
        _ => args::die(USAGE),
    }
}
