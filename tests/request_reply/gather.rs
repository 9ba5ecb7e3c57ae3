//! One call, and the replies of several groups; and what is learned from replies.
use crate::scribe::{Scribe, status};
use crate::*;

fn groups(gathered: &Gathered) -> Vec<&str> {
    gathered.replies.iter().map(|reply| reply.group().unwrap_or_default()).collect()
}

#[tokio::test]
async fn all_expected_groups_answer() {
    let stage = Stage::new(1).await;
    let mut responders = Vec::new();
    for group in ["north", "south", "south"] {
        let say = move |_: Request| async move { group };
        responders.push(stage.client.responder(group).on_request("sum", say).start().await.unwrap());
    }
    let requester = stage.requester().await;
    for _ in 0..20 {
        let gathered = requester.gather("sum", "1").expect(["south", "north"]).timeout(LONG).await.unwrap();
        assert!(gathered.complete && gathered.missing.is_empty());
        for reply in &gathered.replies {
            assert_eq!(reply.outcome.as_ref().unwrap().text(), reply.group().unwrap());
        }
        let mut groups = groups(&gathered);
        groups.sort_unstable();
        assert_eq!(groups, ["north", "south"]);
    }
    assert_eq!((requester.metrics().answered, requester.metrics().in_flight), (20, 0));
}

#[tokio::test]
async fn at_the_deadline_it_is_told_who_is_missing() {
    let stage = Stage::new(1).await;
    let mut scribe = Scribe::new(&stage).await;
    let requester = stage.requester().await;
    let call = requester.gather("sum", "1").expect(["a", "b", "c"]).timeout(Duration::from_millis(300));
    let (gathered, ()) = tokio::join!(call.into_future(), async {
        let id = scribe.next().await.id();
        for from in ["b/1", "b/2", "other/1", "b/1"] {
            scribe.item(&id, from, "0.", Some("x")).await;
        }
    });
    let gathered = gathered.unwrap();
    assert_eq!((gathered.complete, &gathered.missing[..]), (false, &["a".to_owned(), "c".to_owned()][..]));
    assert_eq!(groups(&gathered), ["b", "other"], "one answer of each group");
    assert_eq!(requester.metrics().timed_out, 1);

    let gathered =
        requester.gather("sum", "1").expect(["a"]).timeout(Duration::from_millis(30)).await.unwrap();
    assert_eq!((gathered.complete, gathered.replies.len(), gathered.missing.len()), (false, 0, 1));
}

#[tokio::test]
async fn it_ends_by_count_by_what_came_or_by_time() {
    let stage = Stage::new(1).await;
    let mut scribe = Scribe::new(&stage).await;
    let requester = stage.requester().await;
    let time = Duration::from_millis(300);
    for how in ["count", "until", "time"] {
        let call = requester.gather("sum", "1");
        let call = match how {
            "count" => call.count(2).timeout(LONG),
            "until" => {
                let enough = |replies: &[GroupReply]| replies.iter().any(|reply| reply.outcome.is_err());
                call.until(enough).timeout(LONG)
            }
            _ => call.timeout(time),
        };
        let started = Instant::now();
        let (gathered, ()) = tokio::join!(call.into_future(), async {
            let id = scribe.next().await.id();
            scribe.item(&id, "a/1", "0.", Some("x")).await;
            // Of those that do not say who they are, each record counts.
            scribe.reply(&[("kafka_correlationId", &id), ("kafka_nest-err", "{}")], None).await;
            scribe.item(&id, "b/1", "0.", Some("x")).await;
        });
        let gathered = gathered.unwrap();
        assert!(gathered.complete, "{how}");
        assert_eq!(
            groups(&gathered),
            if how == "time" { vec!["a", "", "b"] } else { vec!["a", ""] },
            "{how}"
        );
        assert_eq!(started.elapsed() >= time, how == "time", "{how}");
        let error = gathered.replies[1].outcome.as_ref().unwrap_err();
        assert_eq!(status(error), Status::UNKNOWN);
    }
}

#[tokio::test]
async fn answers_beyond_the_limit_of_bytes_are_not_kept() {
    let stage = Stage::new(1).await;
    let mut scribe = Scribe::new(&stage).await;
    let requester = stage.requester().await;
    let call = requester.gather("sum", "1").max_buffered(3000).timeout(LONG);
    let kilobyte = "x".repeat(1000);
    let (gathered, ()) = tokio::join!(call.into_future(), async {
        let id = scribe.next().await.id();
        for from in ["a/1", "b/1", "c/1"] {
            scribe.item(&id, from, "0.", Some(&kilobyte)).await;
        }
    });
    assert_eq!(status(&gathered.unwrap_err()), Status::RESOURCE_EXHAUSTED);
}

#[tokio::test]
async fn requests_become_small_when_replies_show_who_answers_and_large_again_in_silence() {
    let stage = Stage::new(1).await;
    let mut scribe = Scribe::new(&stage).await;
    let requester = stage.requester().await;
    let mut natively = 0;
    loop {
        let call = requester.request("sum", "1").timeout(LONG).send().await.unwrap();
        let asked = scribe.next().await;
        if asked.header("kafka_correlationId").is_none() {
            scribe.item(&asked.id(), "g/1", "0.", Some("a")).await;
            call.await.unwrap();
            break;
        }
        assert!(natively < 100, "nothing is learned");
        natively += 1;
        scribe.item(&asked.id(), "g/1", "0.", Some("a")).await;
        call.await.unwrap();
    }
    assert!(natively > 1, "one reply is not enough");
    let silence = requester.request("sum", "1").timeout(Duration::from_millis(20)).await;
    assert!(silence.unwrap_err().is_timeout());
    assert_eq!(scribe.next().await.header("kafka_correlationId"), None, "the one that was not answered");
    let call = requester.request("sum", "1").timeout(LONG).send().await.unwrap();
    let asked = scribe.next().await;
    assert_eq!(asked.header("kafka_correlationId"), Some(asked.id()));
    scribe.nest(&asked.id(), Some("a"), true).await;
    call.await.unwrap();
}
