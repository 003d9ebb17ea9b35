//! The library without a server.

#[allow(dead_code)]
#[path = "../../examples/embedded.rs"]
mod embedded;

#[tokio::test]
async fn the_embedding_example_runs() {
    crate::harness::soon("the example", embedded::run()).await.unwrap();
}

#[allow(dead_code)]
#[path = "../../examples/own_queue.rs"]
mod own_queue;

#[tokio::test]
async fn the_example_with_a_queue_and_a_listener_of_its_own_runs() {
    crate::harness::soon("the example", own_queue::run()).await.unwrap();
}
