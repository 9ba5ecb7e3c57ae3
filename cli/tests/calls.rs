//! `milena request` and `milena respond` as their users run them, against an embedded broker over TCP.
use milena::broker::Broker;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

/// No condition takes so long; a test that waits for it in vain fails.
const PATIENCE: Duration = Duration::from_secs(60);

struct Stage {
    broker: Broker,
    address: String,
}

impl Stage {
    async fn new() -> Self {
        let broker = Broker::start().await.unwrap();
        broker.create_topic("sum", 2).unwrap();
        let address = broker.address();
        Self { broker, address }
    }

    fn spawn(&self, command: &str, more: &[&str]) -> Child {
        let mut program = Command::new(env!("CARGO_BIN_EXE_milena"));
        program.args([command, "-b", &self.address, "-t", "sum"]).args(more).kill_on_drop(true);
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// One that has said that it answers.
    async fn responder(&self, more: &[&str]) -> Child {
        let mut child = self.spawn("respond", more);
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, said.next_line()).await.unwrap().unwrap().unwrap();
        assert_eq!(line, "answering sum");
        // What it says at its end goes nowhere, not into a pipe that breaks.
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        child
    }

    async fn request(&self, more: &[&str], input: &str) -> Output {
        let mut child = self.spawn("request", more);
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("the program hangs").unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_goes_in_and_its_reply_comes_out() {
    let stage = Stage::new().await;
    let _responder = stage.responder(&["--exec", "tr a-z A-Z"]).await;
    for more in [&[][..], &["--concurrency", "8"], &["--dialect", "nest"], &["--dialect", "spring"]] {
        let output = stage.request(more, "one\ntwo words\n\nlast").await;
        assert!(output.status.success(), "{output:?}");
        assert_eq!(text(&output.stdout), "ONE\nTWO WORDS\n\nLAST\n");
        let summary = text(&output.stderr);
        assert!(summary.contains("4 calls, 4 answered, 0 lost, 0 failed"), "{summary}");
        assert!(summary.contains("p50") && summary.contains("p99"), "{summary}");
    }
    stage.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_may_choose_their_reply_partition_in_a_group() {
    let stage = Stage::new().await;
    let _responder = stage.responder(&["--echo"]).await;
    for (more, group) in [
        (&["--reply-group", "callers"][..], "callers"),
        (&["--reply-group", "billing", "--dialect", "nest"], "billing-client"),
    ] {
        assert_eq!(stage.broker.group(group), None);
        let output = stage.request(more, "one\n").await;
        assert!(output.status.success(), "{output:?}");
        assert_eq!(text(&output.stdout), "one\n");
        let view = stage.broker.group(group).expect("it was a member");
        assert_eq!(view.members().len(), 0, "it has left");
    }
    stage.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_is_asked_again_until_there_were_enough_calls() {
    let stage = Stage::new().await;
    let _responder = stage.responder(&["--echo", "--delay", "1ms"]).await;
    let output = stage.request(&["--count", "250", "--concurrency", "50"], "a\nb\n").await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stdout), "a\nb\n".repeat(125));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_fails_answers_with_an_error() {
    let stage = Stage::new().await;
    let command = "read -r line; if [ \"$line\" = bad ]; then echo 'no such thing' >&2; exit 3; fi; echo $MILENA_TOPIC:$line";
    let _responder = stage.responder(&["--exec", command]).await;
    let output =
        stage.request(&["--format", "json"], "{\"value\":\"good\\n\"}\n{\"value\":\"bad\\n\"}\n").await;
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["line"], &lines[0]["value"]), (&1.into(), &"sum:good".into()));
    assert!(lines[0]["ms"].as_f64().unwrap() > 0.0 && lines[0]["headers"].is_array());
    assert!(lines[1]["error"].as_str().unwrap().contains("no such thing"), "{}", lines[1]);
    let reason = text(&output.stderr);
    assert!(reason.contains("line 2: ") && reason.contains("1 answered, 0 lost, 1 failed"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_answers() {
    let stage = Stage::new().await;
    let output = stage.request(&["--timeout", "300ms"], "a\n").await;
    assert_eq!(output.status.code(), Some(1));
    let reason = text(&output.stderr);
    assert!(reason.contains("line 1") && reason.contains("0 answered, 1 lost"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_make_no_sense_are_refused() {
    let stage = Stage::new().await;
    for (command, more, part) in [
        ("respond", &["--echo", "--exec", "cat"][..], "cannot be used with"),
        ("respond", &[], "--exec"),
        ("request", &["--timeout", "0"], "above zero"),
        ("request", &["--timeout", "5 hours"], "such as 5"),
        ("request", &["--concurrency", "0"], "concurrency"),
        ("request", &["--dialect", "latin"], "latin"),
        ("request", &["--reply-topic", "sum"], "cannot be the reply topic"),
    ] {
        let mut child = stage.spawn(command, more);
        let _ = child.stdin.take().unwrap().write_all(b"x\n").await;
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        assert!(!output.status.success(), "{more:?}");
        assert!(text(&output.stderr).contains(part), "{more:?}: {}", text(&output.stderr));
    }
}
