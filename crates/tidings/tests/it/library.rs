//! The library without a server.

#[allow(dead_code)]
#[path = "../../examples/embedded.rs"]
mod embedded;

#[tokio::test]
async fn the_embedding_example_runs() {
    crate::harness::soon("the example", embedded::run()).await.unwrap();
}
