//! What EventRelay's users bring along: keys, tokens, topics and the HTTP interface.

mod api_keys;
mod schemas;
