//! Broker's whole program: `cargo run --example broker -- --port 8080 --origin http://localhost:3000`.

use tidings::broker;

#[tokio::main]
pub async fn main() {
    broker().await
}
