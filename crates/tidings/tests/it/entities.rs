//! Entities: rows fetched from the application whenever somebody says that they changed.

mod captured;
mod dialect;
mod doors;
mod pressure;
mod servers;
mod sql;

use crate::harness::Server;
use crate::harness::entities::App;
use tempfile::TempDir;

/// A server with these settings, which may name `APP`, an application's address.
async fn server(settings: &str, app: &App) -> (Server, TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("tidings.toml");
    std::fs::write(&path, settings.replace("APP", &app.url(""))).expect("a file");
    let server = Server::start_with(&["--config", path.to_str().expect("text")]).await;
    (server, dir)
}

/// Items and users, each at an endpoint of the application.
const ITEMS: &str = r#"
[entities.items]
http = "APP/items/{id}"
[entities.users]
http = "APP/users/{id}"
"#;
