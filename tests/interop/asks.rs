//! We ask, they answer.
use std::time::Duration;

use milena::Dialect;
use tokio::runtime::Runtime;

use crate::on_kafka;
use crate::ours::{call, client, stream};
use crate::partner::Partner;
use crate::side::Side;
use crate::support::kafka::Cluster;
use crate::verbs::{ASKED, Outcome};

/// Of the other, to whom it says nothing, as each of the two is deaf to the other's encoding of the reply partition.
fn opposite(partner: Partner) -> Dialect {
    if partner.is_nest() { Dialect::Spring } else { Dialect::Nest }
}

/// Far more than a call takes on a busy machine.
const LONG: Duration = Duration::from_secs(30);
/// For a call that is not answered at all.
const SHORT: Duration = Duration::from_secs(2);

pub(crate) fn to(kafka: &Cluster, runtime: &Runtime, partner: Partner, calls: usize) {
    let topic = kafka.topic("asked", 4);
    let args = [("role", "responder"), ("topics", &topic), ("group", &topic)];
    let Some(responder) = Side::start(kafka, partner, &args) else { return };
    let own = if partner.is_nest() { Dialect::Nest } else { Dialect::Spring };
    // The default's headers are there for a reason: with the other's alone the request is handled, and its reply is never written.
    runtime.block_on(async {
        let client = client(kafka).await;
        let requester = client.requester().reply_topic(format!("{topic}-deaf")).dialect(opposite(partner));
        let requester = requester.build().await.unwrap();
        let outcomes = call(&requester, &topic, 2, SHORT, "echo deaf").await;
        assert_eq!(outcomes, [Outcome::lost(), Outcome::lost()], "{partner:?}");
        assert!(responder.was_asked("echo deaf-0") && responder.was_asked("echo deaf-1"), "{partner:?}");
    });
    for dialect in [Dialect::Auto, own] {
        runtime.block_on(async {
            let client = client(kafka).await;
            let requester = client.requester().reply_topic(format!("{topic}-{dialect:?}")).dialect(dialect);
            let requester = requester.build().await.unwrap();
            let expect = async |text: &str, calls, limit, expected: &dyn Fn(usize) -> Outcome| {
                let outcomes = call(&requester, &topic, calls, limit, text).await;
                let expected: Vec<_> = (0..calls).map(expected).collect();
                assert_eq!(outcomes, expected, "{partner:?} was asked {text:?} in the dialect {dialect:?}");
            };
            for (text, expected) in ASKED {
                // Both handle one request of a partition at a time.
                let calls = if text.starts_with("slow") { calls.min(20) } else { calls };
                expect(text, calls, LONG, &expected).await;
            }
            if partner.is_nest() {
                expect("null x", calls, LONG, &|_| Outcome::null()).await;
                expect("error boom", calls, LONG, &|call| Outcome::error(format!("boom-{call}"))).await;
                // NestJS answers only whom it has a handler for, and says so.
                expect("odd x", 1, LONG, &|_| Outcome::error("no handler odd")).await;
            } else {
                // Spring answers neither with null nor with an error, so that the deadline ends the call.
                expect("null x", 2, SHORT, &|_| Outcome::lost()).await;
                assert!(responder.was_asked("null x-1"));
            }
            // As a stream: with the end on the last item, behind it (on a null that is no item), with an error, and with one item only.
            if partner.is_nest() {
                let three = || (0..3).map(|item| Some(format!("x.{item}"))).collect();
                for (text, expected) in [
                    ("stream 3 x", Outcome { items: three(), ..Outcome::default() }),
                    ("trickle 3 x", Outcome { items: three(), ..Outcome::default() }),
                    ("echo x", Outcome::item("x")),
                    ("error boom", Outcome::error("boom")),
                ] {
                    let outcome = stream(&requester, &topic, LONG, text).await;
                    assert_eq!(
                        outcome, expected,
                        "{partner:?} was asked {text:?} in the dialect {dialect:?}"
                    );
                }
            } else {
                // Spring never says that an item is the last; that it answers once is known only if it is known who is asked.
                let lost = dialect == Dialect::Auto;
                let outcome = stream(&requester, &topic, if lost { SHORT } else { LONG }, "echo x").await;
                assert_eq!(outcome, Outcome { lost, ..Outcome::item("x") }, "{dialect:?}");
            }
            // What came before harms nothing that comes after.
            expect("echo after", 1, LONG, &|call| Outcome::item(format!("after-{call}"))).await;
            let metrics = requester.metrics();
            assert_eq!((metrics.foreign, metrics.duplicate, metrics.in_flight), (0, 0, 0), "{metrics:?}");
            requester.close().await;
        });
    }
}

#[test]
fn nestjs_answers_us() {
    on_kafka(|kafka, runtime| to(kafka, runtime, Partner::Nest11, 20));
}

#[test]
fn spring_answers_us() {
    on_kafka(|kafka, runtime| to(kafka, runtime, Partner::Spring, 20));
}
