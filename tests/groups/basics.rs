//! One member: what it gets, and where it goes on.
use crate::*;

#[tokio::test(start_paused = true)]
async fn a_member_reads_commits_and_the_next_goes_on_there() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 2).unwrap();
    fill(&broker, "t", 2, 0, 5);
    let mut consumer = client.consumer().group("g").topics(["t"]).build().await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(next(&mut consumer).await);
    }
    within(consumer.commit()).await.unwrap();
    within(consumer.close()).await;
    let mut consumer = client.consumer().group("g").topics(["t"]).build().await.unwrap();
    for _ in 0..4 {
        seen.push(next(&mut consumer).await);
    }
    seen.sort_unstable();
    assert_eq!(
        seen,
        [0, 1]
            .map(|partition| (0..5).map(move |number| (partition, number)))
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
    );
}
