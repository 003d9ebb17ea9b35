//! The description says what the server does.

use super::*;
use crate::http::{ROUTES, openapi};
use std::collections::BTreeSet;
use tidings_model::Code;

fn document() -> Value {
    serde_json::from_str(openapi::DOCUMENT).unwrap()
}

/// Each method of each path, with its description.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let all = paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters");
        methods.map(|(method, operation)| (method.to_uppercase(), path.clone(), operation.clone()))
    });
    all.collect()
}

#[test]
fn it_has_every_route_and_no_other() {
    let documented: BTreeSet<_> = operations(&document()).into_iter().map(|(m, p, _)| (m, p)).collect();
    let routed: BTreeSet<_> = ROUTES.iter().map(|r| (r.method.to_owned(), r.path.to_owned())).collect();
    assert_eq!(documented, routed);
}

#[test]
fn every_code_it_names_exists_under_its_status_and_every_code_over_http_is_named() {
    let mut named = BTreeSet::new();
    for (method, path, operation) in operations(&document()) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let is_refusal = status.as_str() >= "400" && response.get("x-codes").is_some();
            assert!(is_refusal || status.as_str() < "400" || path == "/readyz", "{method} {path} {status}");
            for word in response["x-codes"].as_array().into_iter().flatten() {
                let code = Code::ALL.iter().find(|c| c.as_str() == word);
                let code = code.unwrap_or_else(|| panic!("{method} {path}: there is no code {word}"));
                assert_eq!(code.status().to_string(), *status, "{method} {path} {word}");
                named.insert(code.as_str());
            }
        }
    }
    // Said in frames of a WebSocket or over gRPC only, before a route is found, or by `/readyz`.
    let elsewhere = [
        "op_unknown",
        "subscription_unknown",
        "subscriptions_too_many",
        "connections_full",
        "not_found",
        "method_not_allowed",
        "source_unavailable",
        "topic_exists",
    ];
    let all: BTreeSet<_> = Code::ALL.iter().map(|c| c.as_str()).filter(|c| !elsewhere.contains(c)).collect();
    assert_eq!(named, all);
    let listed = document()["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].clone();
    let listed: BTreeSet<String> = serde_json::from_value(listed).unwrap();
    assert_eq!(listed, Code::ALL.iter().map(|c| c.as_str().to_owned()).collect());
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(document: &Value, value: &Value) {
        match value {
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref") {
                    let at = reference.as_str().unwrap().strip_prefix('#').unwrap();
                    assert!(document.pointer(at).is_some(), "{reference} leads nowhere");
                }
                members.values().for_each(|v| walk(document, v));
            }
            Value::Array(all) => all.iter().for_each(|v| walk(document, v)),
            _ => {}
        }
    }
    let document = document();
    walk(&document, &document);
}

#[tokio::test]
async fn it_is_public_and_of_this_version() {
    let site = Site::start();
    let reply = site.ask("GET", "/openapi.json", "", "").await;
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.ok()["openapi"], "3.1.0");
    assert_eq!(reply.json()["info"]["version"], env!("CARGO_PKG_VERSION"));
}

/// The parameters that the document lists for a query are the ones that a route takes.
#[tokio::test]
async fn documented_query_parameters_are_taken() {
    let site = Site::start();
    site.publish("t", "{}").await.ok();
    for (method, path, operation) in operations(&document()).into_iter().filter(|(m, ..)| m == "GET") {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let parameter = match parameter.get("$ref") {
                Some(at) => document().pointer(&at.as_str().unwrap()[1..]).unwrap().clone(),
                None => parameter.clone(),
            };
            if parameter["in"] != "query" || ["/v1/stream", "/socket/websocket"].contains(&&*path) {
                continue;
            }
            let (name, value) = (parameter["name"].as_str().unwrap(), &parameter["example"]);
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let value = percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC);
            let uri = format!("{}?{name}={value}", path.replace("{topic}", "t"));
            let reply = site.ask(&method, &uri, &site.admin(), "").await;
            assert_eq!(reply.status, StatusCode::OK, "{uri} {reply:?}");
        }
    }
}
