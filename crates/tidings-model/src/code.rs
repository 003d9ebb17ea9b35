//! The stable codes that errors carry on every transport. `spec/errors.toml` documents each.

macro_rules! codes {
    ($($name:ident $text:literal $status:literal $retryable:literal;)+) => {
        /// What went wrong, in one word that clients may rely on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($name,)+ }

        impl Code {
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The word as it goes over the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The HTTP status that goes with it.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// Whether the same request may succeed later without being changed.
            pub fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)+ }
            }
        }
    };
}

codes! {
    TokenMissing "token_missing" 401 false;
    TokenInvalid "token_invalid" 401 false;
    TokenExpired "token_expired" 401 false;
    Forbidden "forbidden" 403 false;
    TopicInvalid "topic_invalid" 400 false;
    TopicUnknown "topic_unknown" 404 false;
    TopicCaptured "topic_captured" 403 false;
    TopicExists "topic_exists" 409 false;
    TopicsTooMany "topics_too_many" 400 false;
    TopicsFull "topics_full" 507 false;
    EventInvalid "event_invalid" 400 false;
    SchemaInvalid "schema_invalid" 400 false;
    SchemaViolated "schema_violated" 400 false;
    EventTooLarge "event_too_large" 413 false;
    BatchTooLarge "batch_too_large" 413 false;
    BodyTooLarge "body_too_large" 413 false;
    BodyIncomplete "body_incomplete" 400 false;
    JsonInvalid "json_invalid" 400 false;
    Utf8Invalid "utf8_invalid" 400 false;
    FieldUnknown "field_unknown" 400 false;
    MediaTypeUnsupported "media_type_unsupported" 415 false;
    CursorInvalid "cursor_invalid" 400 false;
    FilterInvalid "filter_invalid" 400 false;
    ParameterInvalid "parameter_invalid" 400 false;
    OpUnknown "op_unknown" 400 false;
    SubscriptionsTooMany "subscriptions_too_many" 400 false;
    SubscriptionUnknown "subscription_unknown" 404 false;
    ScheduledUnknown "scheduled_unknown" 404 false;
    ScheduleTooFar "schedule_too_far" 400 false;
    TokenRevoked "token_revoked" 401 false;
    CredentialsInvalid "credentials_invalid" 401 false;
    SignUpClosed "sign_up_closed" 403 false;
    UserRevoked "user_revoked" 403 false;
    UserUnknown "user_unknown" 404 false;
    UserNameTaken "user_name_taken" 409 false;
    UserNameInvalid "user_name_invalid" 400 false;
    PasswordInvalid "password_invalid" 400 false;
    HashUnsupported "hash_unsupported" 400 false;
    UsersFull "users_full" 507 false;
    InboundUnknown "inbound_unknown" 404 false;
    InboundFull "inbound_full" 507 false;
    KeyUnknown "key_unknown" 404 false;
    KeyNameTaken "key_name_taken" 409 false;
    KeyRevoked "key_revoked" 409 false;
    KeyKind "key_kind" 409 false;
    KeysFull "keys_full" 507 false;
    RateLimited "rate_limited" 429 true;
    NotFound "not_found" 404 false;
    MethodNotAllowed "method_not_allowed" 405 false;
    Timeout "timeout" 408 true;
    OriginForbidden "origin_forbidden" 403 false;
    ConnectionsFull "connections_full" 503 true;
    IndexBehind "index_behind" 503 true;
    LogReadOnly "log_read_only" 503 false;
    LogCorrupt "log_corrupt" 500 false;
    Draining "draining" 503 true;
    EntityUnknown "entity_unknown" 404 false;
    ResolverFailed "resolver_failed" 502 true;
    ResolverTimeout "resolver_timeout" 504 true;
    BusUnavailable "bus_unavailable" 503 true;
    SourceUnavailable "source_unavailable" 503 true;
    DestinationUnknown "destination_unknown" 404 false;
    DestinationNameTaken "destination_name_taken" 409 false;
    DestinationInvalid "destination_invalid" 400 false;
    DestinationsFull "destinations_full" 507 false;
    DeliveryUnknown "delivery_unknown" 404 false;
    ReplaysTooMany "replays_too_many" 409 false;
    Internal "internal" 500 true;
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented_with_its_status() {
        let text = include_str!("../../../spec/errors.toml");
        let table: toml::Table = text.parse().unwrap();
        for code in Code::ALL {
            let entry = table.get(code.as_str()).unwrap_or_else(|| panic!("{code} is not in errors.toml"));
            assert_eq!(entry["status"].as_integer(), Some(i64::from(code.status())), "{code}");
            assert_eq!(entry["retryable"].as_bool(), Some(code.retryable()), "{code}");
            assert!(entry["means"].as_str().is_some_and(|m| m.len() > 20), "{code}");
        }
        assert_eq!(table.len(), Code::ALL.len(), "errors.toml documents a code that does not exist");
    }
}
