//! `GET /v1/stream`: one event stream over several topics, with one cursor.

use super::address::Query;
use crate::refusal::Refusal;
use crate::{Door, gate, sse};
use axum::extract::{Request, State};
use axum::response::Response;
use tidings_model::{From, Topic};

/// Streams the topics that the query names.
pub async fn get(State(door): State<Door>, request: Request) -> Result<Response, Refusal> {
    let (parts, _) = request.into_parts();
    let who = gate::stream_principal(&door, &parts).await?;
    let query = Query::parse(&parts.uri, &["topic", "from", "name", "filter"])?;
    let mut topics: Vec<Topic> = Vec::new();
    for text in query.all("topic") {
        let topic = Topic::parse(text)?;
        if !topics.contains(&topic) {
            topics.push(topic);
        }
    }
    if topics.is_empty() {
        return Err(Refusal::parameter("name at least one `topic` in the query"));
    }
    let from = query.one("from")?.map(From::parse).transpose()?;
    sse::open(&door, who, topics, from, query.filter()?, &parts).await
}
