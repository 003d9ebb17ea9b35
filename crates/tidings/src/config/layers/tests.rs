//! Which layer wins, and that every setting has a variable.

use super::*;
use tidings_engine::auth::UserSettings;
use tidings_engine::inbound::InboundSettings;
use tidings_model::Limits;

fn file(text: &str) -> Result<Layers, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidings.toml");
    std::fs::write(&path, text).unwrap();
    Layers::default().file(&path)
}

fn flag(place: &'static str, value: &str) -> Setting {
    Setting { said_by: format!("--{place}"), place, values: vec![value.into()] }
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let text = "data = \"a\"\n[http]\nlisten = \"127.0.0.2:1\"\nping_ms = 5\n[limits]\ntopics = 7\n";
    let env = [("TIDINGS_PORT", "2"), ("TIDINGS_HTTP_PING_MS", "6"), ("TIDINGS_DATA", "b"), ("HOME", "/")];
    let flags = vec![flag("port", "3"), flag("data", "c")];
    let config = file(text).unwrap().environment(env).unwrap().settings(flags).unwrap().finish();
    assert_eq!(config.data.to_str(), Some("c"));
    assert_eq!(config.http.listen.to_string(), "127.0.0.2:3");
    assert_eq!((config.http.ping_ms, config.limits.topics, config.http.heartbeat_ms), (6, 7, 15_000));
}

#[test]
fn unknown_words_are_refused_with_the_place_or_the_nearest_name() {
    let error = file("\n[http]\nport = 1\n").err().unwrap().to_string();
    assert!(error.contains("tidings.toml, line 3") && error.contains("unknown field `port`"), "{error}");
    let error = Layers::default().environment([("TIDINGS_HTTP_ORIGIN", "x")]).err().unwrap().to_string();
    assert_eq!(error, "no setting is called TIDINGS_HTTP_ORIGIN; did you mean TIDINGS_HTTP_ORIGINS?");
    let error =
        Layers::default().environment([("TIDINGS_DATABASES_MAIN_URL", "x")]).err().unwrap().to_string();
    assert!(error.contains("what is in [databases] is set in the file"), "{error}");
    let error = Layers::default().settings(vec![flag("http.origins", "foo")]).err().unwrap().to_string();
    assert!(error.starts_with("--http.origins: ") && error.contains("\"foo\" is no origin"), "{error}");
    let error = Layers::default().settings(vec![flag("grpc.listen", "50051")]).err().unwrap().to_string();
    assert_eq!(error, "--grpc.listen: not an IP address with a port, such as 127.0.0.1:50051");
    let tables =
        "[[sources]]\nname = \"s\"\nkind = \"mysql\"\nurl = \"u\"\ntables = [{name = \"t\", row = \"id\"}]";
    let error = file(tables).err().unwrap().to_string();
    assert!(
        error.contains("line 5") && error.contains("unknown field `row`, expected one of `name`, `rows`"),
        "{error}"
    );
    let error = Layers::default().environment([("TIDINGS_THREADS", "x")]).err().unwrap().to_string();
    assert_eq!(error, "TIDINGS_THREADS: not a number");
    let error = Layers::default().settings(vec![flag("http.listen", "here")]).err().unwrap().to_string();
    assert!(error.starts_with("--http.listen: not an IP address"), "{error}");
    let error = Layers::default().settings(vec![flag("http.tls.cert", "c")]).err().unwrap().to_string();
    assert!(error.contains("missing field `key`"), "{error}");
}

#[test]
fn a_short_secret_is_taken_as_ours_only_and_long_ones_all_count() {
    let name = "ER_JWT_SECRET";
    let error = Layers::default().environment([(name, "hush")]).err().unwrap().to_string();
    assert!(error.starts_with(name) && error.contains("at least 32"), "{error}");
    assert!(!error.contains("hush"));
    let config = Layers::default().environment([("TIDINGS_SECRET", "hush")]).unwrap().finish();
    assert!(config.auth.secrets[0].is_short());
    assert!(
        Layers::default().environment([("TIDINGS_SECRET", ",")]).unwrap().finish().auth.secrets.is_empty()
    );
    let long = "x".repeat(32);
    let layers = file(&format!("[auth]\nsecrets = [\"{long}\"]")).unwrap();
    let config = layers.environment([("ER_JWT_SECRET", long.as_str())]).unwrap().finish();
    assert_eq!((config.auth.secrets.len(), config.auth.others.len()), (1, 1));
    assert!(!format!("{config:?}").contains(&long));
}

#[test]
fn every_setting_has_a_variable() {
    let mut full = Table::new();
    full.insert("http".into(), Value::try_from(tidings_server::Config::default()).unwrap());
    full.insert("grpc".into(), Value::try_from(tidings_server::GrpcConfig::default()).unwrap());
    full.insert("limits".into(), Value::try_from(Limits::default()).unwrap());
    full.insert("broker".into(), Value::try_from(crate::config::Broker::default()).unwrap());
    full.insert("rates".into(), Value::try_from(tidings_server::Rates::default()).unwrap());
    full.insert("eventrelay".into(), Value::try_from(crate::config::EventRelay::default()).unwrap());
    full.insert("inbound".into(), Value::try_from(InboundSettings::default()).unwrap());
    full.insert("phoenix".into(), Value::try_from(tidings_server::Phoenix::default()).unwrap());
    full.insert("socketio".into(), Value::try_from(tidings_server::SocketIo::default()).unwrap());
    full.insert("esink".into(), Value::try_from(tidings_server::Esink::default()).unwrap());
    full.insert("users".into(), Value::try_from(UserSettings::default()).unwrap());
    full.insert("log".into(), Value::try_from(crate::config::Log::default()).unwrap());
    full.insert("entities".into(), Value::try_from(tidings_server::EntitySync::default()).unwrap());
    full.insert("time".into(), Value::try_from(tidings_drivers::time::Config::default()).unwrap());
    for (section, value) in &full {
        for word in value.as_table().unwrap().keys() {
            let place = format!("{section}.{word}");
            assert!(all().any(|(own, _)| *own == place), "{place} has no variable");
        }
    }
    for (place, kind) in all() {
        let value = match (*place, kind) {
            ("http.listen" | "grpc.listen", _) => "127.0.0.1:1",
            ("http.origins" | "entities.origins", _) => "https://app.example",
            ("entities.auth", _) => "jwt",
            ("http.proxies", _) => "127.0.0.1",
            ("users.sign_up", _) => "open",
            ("users.password_hash", _) => "bcrypt",
            (place, _) if place.starts_with("rates.") => "5/1s",
            (_, Kind::Number) => "1",
            (_, Kind::Truth) => "true",
            _ => "x",
        };
        let mut env = vec![(variable(place), value)];
        if place.starts_with("grpc.tls") {
            env = vec![("TIDINGS_GRPC_TLS_KEY".into(), "x"), ("TIDINGS_GRPC_TLS_CERT".into(), "x")];
        }
        if place.starts_with("http.tls") {
            env = vec![("TIDINGS_HTTP_TLS_KEY".into(), "x"), ("TIDINGS_HTTP_TLS_CERT".into(), "x")];
        }
        let done = Layers::default().environment(env.iter().map(|(n, v)| (n.as_str(), *v)));
        assert!(done.is_ok(), "{place}: {:?}", done.err());
    }
}
