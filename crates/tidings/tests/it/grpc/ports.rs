//! Where gRPC listens, and who may connect there.

use super::{Caller, admin};
use crate::harness::{Program, Server};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The address of the port for gRPC alone, as the server said it.
pub fn own_port(server: &Server) -> String {
    let log = server.log();
    let line = log.lines().find_map(|line| line.strip_prefix("listening for gRPC on "));
    line.unwrap_or_else(|| panic!("no such line:\n{log}")).to_owned()
}

/// A certificate authority's files, and those of whom it certifies.
struct Authority {
    dir: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { dir, issuer }
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Certificate and key of `name`.
    fn certify(&self, name: &str) -> [PathBuf; 2] {
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let at = |end: &str| self.dir.path().join(format!("{name}.{end}"));
        std::fs::write(at("pem"), certificate.pem()).unwrap();
        std::fs::write(at("key"), key.serialize_pem()).unwrap();
        [at("pem"), at("key")]
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

const PULL: &str = "tidings.v1.Events/Pull";

#[tokio::test]
async fn a_port_of_its_own_takes_calls_and_nothing_else() {
    let server = Server::start_with(&["--grpc-listen", "127.0.0.1:0"]).await;
    server.publish("a", &[json!(1)]).await;
    let own = own_port(&server);
    let there = Caller { address: own.clone(), ..admin(&server) };
    for caller in [&there, &admin(&server)] {
        let page = caller.call(PULL, &json!({ "topic": "a" })).await.unwrap();
        assert_eq!(page["events"][0]["data"], "1");
    }
    let plain = server.http.get(format!("http://{own}/livez")).send().await.unwrap();
    assert_eq!(plain.status(), 404);
}

#[tokio::test]
async fn with_authorities_a_client_without_a_certificate_is_refused() {
    let (ours, others) = (Authority::new(), Authority::new());
    let [cert, key] = ours.certify("server");
    let config = ours.dir.path().join("tidings.toml");
    let settings = format!(
        "[grpc]\nlisten = \"127.0.0.1:0\"\nclient_ca = {:?}\ntls = {{ cert = {:?}, key = {:?} }}\n",
        ours.file("ca.pem"),
        text(&cert),
        text(&key),
    );
    std::fs::write(&config, settings).unwrap();
    let server = Server::start_with(&["--config", &text(&config)]).await;
    server.publish("a", &[json!(1)]).await;
    let with = |authority: Option<&Authority>| {
        let mut flags = vec!["-cacert".to_owned(), ours.file("ca.pem")];
        if let Some(authority) = authority {
            let [cert, key] = authority.certify("client");
            flags.extend(["-cert".into(), text(&cert), "-key".into(), text(&key)]);
        }
        Caller { address: own_port(&server), flags, ..admin(&server) }
    };
    let page = with(Some(&ours)).call(PULL, &json!({ "topic": "a" })).await.unwrap();
    assert_eq!(page["events"][0]["data"], "1");
    for stranger in [None, Some(&others)] {
        let refused = with(stranger).call(PULL, &json!({ "topic": "a" })).await.unwrap_err();
        assert!(refused.status.is_empty(), "it did not even get an answer: {refused:?}");
    }
    // The port of HTTP would be a way around.
    assert!(admin(&server).call(PULL, &json!({ "topic": "a" })).await.is_err());
    let plain = Caller { address: own_port(&server), ..admin(&server) };
    assert!(plain.call(PULL, &json!({ "topic": "a" })).await.is_err());
}

#[tokio::test]
async fn tls_serves_grpc_on_both_ports_and_a_switch_makes_one_plain() {
    let ours = Authority::new();
    let [cert, key] = ours.certify("server");
    let tls = ["--tls-cert", &text(&cert), "--tls-key", &text(&key), "--grpc-listen", "127.0.0.1:0"];
    let flags = || vec!["-cacert".to_owned(), ours.file("ca.pem")];
    let check = "grpc.health.v1.Health/Check";
    let server = Server::start_with(&tls).await;
    for address in [format!("127.0.0.1:{}", server.port()), own_port(&server)] {
        let secure = Caller { address: address.clone(), flags: flags(), ..admin(&server) };
        assert_eq!(secure.call(check, &json!({})).await.unwrap()["status"], "SERVING");
        let plain = Caller { address, ..admin(&server) };
        assert!(plain.call(check, &json!({})).await.is_err());
    }
    let config = ours.dir.path().join("plain.toml");
    std::fs::write(&config, "[grpc]\nplaintext = true\n").unwrap();
    let config = text(&config);
    let server = Server::start_with(&[&tls[..], &["--config", &config]].concat()).await;
    let plain = Caller { address: own_port(&server), ..admin(&server) };
    assert_eq!(plain.call(check, &json!({})).await.unwrap()["status"], "SERVING");
}

#[tokio::test]
async fn settings_that_would_leave_a_way_around_the_authorities_are_refused() {
    let (program, dir) = (Program::new(), tempfile::tempdir().unwrap());
    let config = dir.path().join("tidings.toml");
    for (settings, why) in [
        ("[grpc]\nclient_ca = \"ca.pem\"\n", "grpc.listen"),
        ("[grpc]\nclient_ca = \"ca.pem\"\nlisten = \"127.0.0.1:0\"\n", "grpc.tls"),
    ] {
        std::fs::write(&config, settings).unwrap();
        let args = ["serve", "--port", "0", "--data", "data", "--config", &text(&config)];
        let said = program.run(dir.path(), &args, b"").await.fails(2);
        assert!(said.contains(why), "{said}");
    }
}
