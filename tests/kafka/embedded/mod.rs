//! The embedded broker answers as Apache Kafka does: one script of raw requests is played to both, in every version
//! that both know, and the answers are compared, but for ids, addresses and times that are each cluster's own.
mod groups;
mod reading;
mod script;
mod topics;
mod wire;
mod writing;

use milena::broker::Broker;

use crate::support::kafka;

#[test]
fn the_embedded_broker_answers_as_kafka_does() {
    let Some(kafka) = kafka::shared(kafka::NEWEST, 1) else { return };
    let _calm = kafka.calm();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let port =
        |address: &str| address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).unwrap();
    let broker = runtime
        .block_on(
            Broker::builder()
                .auto_create_topics(false)
                .config("group.min.session.timeout.ms", "1000")
                .start(),
        )
        .unwrap();
    let embedded = script::play(port(&broker.address()));
    let real = script::play(port(&kafka.bootstrap()));
    let differences: Vec<_> = real
        .iter()
        .zip(&embedded)
        .filter(|(real, embedded)| real != embedded)
        .map(|(real, embedded)| format!("kafka:    {real}\nembedded: {embedded}"))
        .collect();
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
    assert!(real.len() == embedded.len() && real.len() > 300, "{} steps", real.len());
}
