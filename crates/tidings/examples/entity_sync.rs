//! A server whose clients follow entities over `ws://HOST:PORT/ws/entity-sync/`, with others of its kind on one NSQ.
//!
//! With role 1 it serves clients; with role 2 it also changes item 100 every second and tells all servers.

use std::sync::Arc;
use std::time::Duration;
use tidings::{Builder, Clock as _, Config, SystemClock, config::SharedSecret};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A flag counts unless the environment says otherwise.
    let setting = |name: &str, usual: &str| {
        let mut flags = std::env::args().skip_while(|arg| arg.trim_start_matches('-') != name).skip(1);
        std::env::var(name).ok().or(flags.next()).unwrap_or(usual.to_owned())
    };
    let (listen, nsqd) = (setting("listen", ":8080"), setting("nsqd", "127.0.0.1:4150"));
    let role = setting("role", "2");
    assert!(role == "1" || role == "2", "the role is 1 or 2, not {role}");

    let data = tempfile::tempdir()?;
    let mut config = Config { data: data.path().to_owned(), ..Config::default() };
    config.http.listen = if listen.starts_with(':') { format!("0.0.0.0{listen}") } else { listen }.parse()?;
    config.bus.url = Some(SharedSecret::new(format!("nsq://{nsqd}")));

    let server = Builder::new(config)
        .clock(Arc::new(SystemClock))
        .fetch("items", |key, _secret, rows| async move {
            let now = SystemClock.now().to_string();
            let item = serde_json::json!({ "ID": key.id.as_str(), "Closed": true, "ClosedDate": now });
            rows.push(item.to_string())
        })
        .start()
        .await?;
    println!("listening on {}", server.addr());

    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(server.shutdown().await?),
            _ = second.tick(), if role == "2" => {
                if let Err(error) = server.tidings().notify_changed("items", "100").await {
                    eprintln!("the other servers do not hear of it: {error}");
                }
            }
        }
    }
}
