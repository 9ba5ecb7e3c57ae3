//! The program as its users run it, against an embedded broker over TCP.
use milena::broker::{Api, Broker, Fault};
use std::collections::BTreeSet;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

/// No condition takes so long; a test that waits for it in vain fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn spawn(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_milena"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().unwrap()
}

async fn end(child: Child) -> Output {
    tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("the program hangs").unwrap()
}

async fn run(args: &[&str], input: &[u8]) -> Output {
    let mut child = spawn(args);
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = tokio::spawn(async move {
        // A program that fails early does not read everything.
        let _ = stdin.write_all(&input).await;
    });
    let output = end(child).await;
    writer.abort();
    output
}

/// Runs a command that must do all it was told.
#[track_caller]
fn done(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail and say why.
#[track_caller]
fn failed(output: Output, parts: &[&str]) {
    let reason = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{reason}");
    assert!(parts.iter().all(|part| reason.contains(part)), "{reason}");
}

async fn broker(partitions: i32) -> (Broker, String) {
    let broker = Broker::start().await.unwrap();
    broker.create_topic("orders", partitions).unwrap();
    let address = broker.address();
    (broker, address)
}

async fn produce(address: &str, more: &[&str], input: &[u8]) -> Output {
    run(&[&["produce", "-b", address, "-t", "orders"], more].concat(), input).await
}

async fn consume(address: &str, more: &[&str]) -> Output {
    run(&[&["consume", "-b", address, "-t", "orders"], more].concat(), b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_go_in_and_come_out() {
    let (broker, address) = broker(1).await;
    done(produce(&address, &[], b"one\n\ntwo words\nno end").await);
    let all = ["--from-beginning", "--exit-at-end"];
    assert_eq!(done(consume(&address, &all).await), "one\n\ntwo words\nno end\n");
    let records = broker.log("orders", 0).unwrap().records().unwrap();
    assert_eq!((records.len(), records[1].key(), records[1].value()), (4, None, Some(&b""[..])));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_stand_before_their_separator() {
    let (broker, address) = broker(1).await;
    done(produce(&address, &["-K", ": "], b"a: 1\nb: 2: 3\nnone\n: empty\n").await);
    let out = done(consume(&address, &["-o", "beginning", "-c", "4", "-K", "|"]).await);
    assert_eq!(out, "a|1\nb|2: 3\n|none\n|empty\n");
    let records = broker.log("orders", 0).unwrap().records().unwrap();
    assert_eq!((records[2].key(), records[3].key()), (None, Some(&b""[..])));
}

#[tokio::test(flavor = "multi_thread")]
async fn json_keeps_nulls_headers_and_bytes_that_are_no_text() {
    let (broker, address) = broker(1).await;
    broker.create_topic("copies", 1).unwrap();
    let lines = concat!(
        r#"{"key":"k","value":"v \"q\" ü","headers":[["h","1"],["h",null],[{"base64":"/w=="},{"base64":"/v8="}]],"timestamp":1700000000000}"#,
        "\n",
        r#"{"value":null,"key":{"base64":"gA=="}}"#,
        "\n",
        r#"{"value":"","partition":0}"#,
        "\n",
    );
    done(produce(&address, &["-f", "json"], lines.as_bytes()).await);
    let records = broker.log("orders", 0).unwrap().records().unwrap();
    assert_eq!((records[0].key(), records[0].timestamp()), (Some(&b"k"[..]), 1_700_000_000_000));
    let headers: Vec<_> = records[0].headers().collect();
    assert_eq!(headers, [(&b"h"[..], Some(&b"1"[..])), (b"h", None), (b"\xff", Some(b"\xfe\xff"))]);
    assert_eq!((records[1].key(), records[1].value()), (Some(&b"\x80"[..]), None));
    assert_eq!((records[2].key(), records[2].value()), (None, Some(&b""[..])));

    // What was read can be written again, and is then the same but for its place.
    let all = ["-f", "json", "--from-beginning", "--exit-at-end"];
    let read = done(consume(&address, &all).await);
    assert!(
        read.starts_with(
            r#"{"topic":"orders","partition":0,"offset":0,"timestamp":1700000000000,"key":"k","#
        ),
        "{read}"
    );
    done(run(&["produce", "-b", &address, "-t", "copies", "-f", "json"], read.as_bytes()).await);
    let copy = done(run(&[&["consume", "-b", &address, "-t", "copies"], &all[..]].concat(), b"").await);
    assert_eq!(copy, read.replace("orders", "copies"));
    // The topic that a line names counts where none is given.
    done(run(&["produce", "-b", &address, "-f", "json"], read.as_bytes()).await);
    assert_eq!(broker.log("orders", 0).unwrap().end_offset(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_and_every_acknowledgement() {
    let (broker, address) = broker(1).await;
    let (mut lines, mut wanted, mut count) = (String::new(), String::new(), 0);
    (0..2_000).for_each(|number| lines += &format!("line {number} of many that are much the same\n"));
    for (codec, number) in [("none", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)] {
        for acks in ["all", "1", "0"] {
            let before = broker.log("orders", 0).unwrap().batches().len();
            done(produce(&address, &["-z", codec, "--acks", acks], lines.as_bytes()).await);
            wanted += &lines;
            count += 2_000;
            // Without acknowledgements the last lines may still be on their way.
            until(|| broker.log("orders", 0).unwrap().end_offset() == count).await;
            let log = broker.log("orders", 0).unwrap();
            let codecs: BTreeSet<u8> = log.batches()[before..].iter().map(|batch| batch[22] & 7).collect();
            // A batch that gets no smaller, such as one of a single line, is left as it is.
            assert!(
                codecs.contains(&number) && codecs.iter().all(|codec| [0, number].contains(codec)),
                "{codecs:?}"
            );
        }
    }
    let out = done(consume(&address, &["--from-beginning", "--exit-at-end"]).await);
    assert!(out == wanted, "{} bytes, not {}", out.len(), wanted.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_begins_and_ends_where_it_is_told() {
    let (_broker, address) = broker(3).await;
    for partition in ["0", "1"] {
        let line =
            |number| format!(r#"{{"value":"{partition}{number}","timestamp":{}}}"#, number * 1_000) + "\n";
        let lines: String = (0..5).map(line).collect();
        done(produce(&address, &["-f", "json", "-p", partition], lines.as_bytes()).await);
    }
    for (args, wanted) in [
        (&["-p", "1", "-o", "3"][..], "13 14"),
        (&["-p", "0", "-o", "@2500"], "03 04"),
        (&["-p", "0", "-o", "@99000"], ""),
        (&["-p", "1", "-o", "beginning", "-c", "2"], "10 11"),
        (&["-p", "2", "--from-beginning"], ""),
        (&["-o", "end"], ""),
        (&["-p", "0", "-o", "5"], ""), // the end
        (&["-p", "0", "-o", "1", "-c", "0"], ""),
        (&["-p", "0,1", "-o", "4"], "04 14"),
        (&["--from-beginning"], "00 01 02 03 04 10 11 12 13 14"),
    ] {
        let out = done(consume(&address, &[args, &["-e"]].concat()).await);
        let mut values: Vec<_> = out.lines().collect();
        values.sort_unstable();
        assert_eq!(values.join(" "), wanted, "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_go_by_their_kafka_names() {
    let (broker, address) = broker(1).await;
    let options =
        ["-X", "client.id=tests", "-X", "batch.size=100", "-X", "linger.ms=0", "-X", "compression.type=gzip"];
    done(produce(&address, &options, b"a\nb\n").await);
    assert_eq!(broker.log("orders", 0).unwrap().end_offset(), 2);
    let options = [
        "-e",
        "-o",
        "beginning",
        "-X",
        "fetch.min.bytes=1",
        "-X",
        "check.crcs=true",
        "--isolation",
        "read_committed",
    ];
    assert_eq!(done(consume(&address, &options).await), "a\nb\n");
    failed(produce(&address, &["-X", "no.such=1"], b"").await, &["no.such"]);
    failed(produce(&address, &["-X", "linger.ms=soon"], b"").await, &["linger.ms", "soon"]);
    failed(consume(&address, &["-X", "linger.ms=1"]).await, &["linger.ms"]);
    failed(produce(&address, &["-z", "zip"], b"").await, &["zip"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_lines_in_order() {
    let (broker, address) = broker(1).await;
    let lines: String = (0..100_000).map(|number| format!("{number}\n")).collect();
    done(produce(&address, &[], lines.as_bytes()).await);
    assert_eq!(broker.log("orders", 0).unwrap().end_offset(), 100_000);
    assert!(done(consume(&address, &["--from-beginning", "-e"]).await) == lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_line_is_told_by_its_number() {
    let (broker, address) = broker(1).await;
    let lines = "{\"value\":\"1\"}\n{\"value\":\"2\"}\n{\"vlaue\":\"3\"}\n{\"value\":\"4\"}\n";
    failed(
        produce(&address, &["-f", "json"], lines.as_bytes()).await,
        &["line 3", "vlaue", "2 of 3 records written"],
    );
    assert_eq!(broker.log("orders", 0).unwrap().end_offset(), 2);
    let lines = format!("small\n{}\nsmall\n", "x".repeat(2 << 20));
    failed(produce(&address, &[], lines.as_bytes()).await, &["line 2", "max_request_size"]);
    failed(produce(&address, &["-p", "7", "--timeout", "1"], b"x\n").await, &["line 1", "orders", "7"]);
    failed(run(&["produce", "-b", &address], b"x\n").await, &["--topic"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_or_partition_that_is_not_there() {
    let (_broker, address) = broker(2).await;
    let unknown = ["consume", "-b", &address, "-t", "nothing", "-e"];
    failed(run(&unknown, b"").await, &["UNKNOWN_TOPIC_OR_PARTITION", "nothing"]);
    failed(consume(&address, &["-p", "2"]).await, &["orders", "2"]);
    let unknown = ["produce", "-b", &address, "-t", "no good name", "--timeout", "1"];
    failed(run(&unknown, b"x\n").await, &["line 1", "no good name"]);
    failed(consume(&address, &["-o", "7", "-e"]).await, &["orders", "7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_or_nobody_useful_at_the_address() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    for (at, cause) in
        [(&closed, "refused"), (&address, "silent"), (&"nowhere.invalid:1".to_owned(), "nowhere.invalid")]
    {
        for command in ["produce", "consume"] {
            let started = Instant::now();
            failed(run(&[command, "-b", at, "-t", "orders", "--timeout", "1"], b"x\n").await, &[at, cause]);
            assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        }
        failed(run(&["topics", "list", "-b", at, "--timeout", "1"], b"").await, &[at, cause]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_answering() {
    let (broker, address) = broker(1).await;
    done(produce(&address, &[], b"a\n").await);
    broker.faults().add(Fault::on(Api::FETCH).hang());
    failed(consume(&address, &["--from-beginning", "-e", "--timeout", "1"]).await, &["orders"]);
    broker.faults().add(Fault::on(Api::PRODUCE).hang());
    failed(produce(&address, &["--timeout", "1"], b"b\n").await, &["line 1", "orders"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_at_the_end_waits_for_more() {
    let (_broker, address) = broker(1).await;
    done(produce(&address, &[], b"before\n").await);
    let mut child =
        spawn(&["consume", "-b", &address, "-t", "orders", "-o", "1", "-K", "=", "--timeout", "0.2"]);
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in ["k=after", "k=later"] {
        done(produce(&address, &["-K", "="], format!("{line}\n").as_bytes()).await);
        let read = tokio::time::timeout(PATIENCE, out.next_line()).await.expect("nothing was printed");
        assert_eq!(read.unwrap().as_deref(), Some(line));
    }
    interrupt(&child).await;
    let output = end(child).await;
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("2 records read"), "{output:?}");
}

/// Waits for a condition.
async fn until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn interrupt(child: &Child) {
    let kill = Command::new("kill").args(["-INT", &child.id().unwrap().to_string()]).status().await;
    assert!(kill.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_writer_writes_what_it_has_read() {
    let (broker, address) = broker(1).await;
    broker.faults().add(Fault::on(Api::METADATA).topic("orders").delay(Duration::from_millis(1)));
    let mut child =
        spawn(&["produce", "-b", &address, "-t", "orders", "-X", "linger.ms=60000", "--timeout", "90"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\n").await.unwrap();
    stdin.flush().await.unwrap();
    // It asks for the topic when it has read the lines.
    until(|| broker.faults().struck() > 0).await;
    interrupt(&child).await;
    let output = end(child).await;
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("2 of 2 records written"), "{output:?}");
    assert_eq!(broker.log("orders", 0).unwrap().end_offset(), 2);
    drop(stdin);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_not_listened_to_ends_quietly() {
    let (_broker, address) = broker(1).await;
    let lines = format!("{}\n", "x".repeat(1_000)).repeat(1_000);
    done(produce(&address, &[], lines.as_bytes()).await);
    let mut child = spawn(&["consume", "-b", &address, "-t", "orders", "--from-beginning"]);
    child.stdout.take().unwrap().read_u8().await.unwrap();
    let output = end(child).await;
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(141), &b""[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_described_listed_and_deleted() {
    let (_broker, address) = broker(1).await;
    let topics = |more: &'static [&'static str]| {
        let address = address.clone();
        async move { run(&[&["topics", more[0], "-b", &address], &more[1..]].concat(), b"").await }
    };
    done(topics(&["create", "-t", "a", "-t", "b", "-p", "2", "--replication-factor", "1", "-c", "retention.ms=1000"]).await);
    assert_eq!(done(topics(&["list"]).await), "a\nb\norders\n");
    let text = done(topics(&["describe", "-t", "b"]).await);
    for part in ["b partitions=2", "config retention.ms=1000", "partition 1 leader=1 replicas=1 in-sync=1"] {
        assert!(text.contains(part), "{text}");
    }
    failed(topics(&["create", "-t", "a"]).await, &["TOPIC_ALREADY_EXISTS", "a"]);
    done(topics(&["delete", "-t", "a"]).await);
    assert_eq!(done(topics(&["list"]).await), "b\norders\n");
    failed(topics(&["delete", "-t", "a"]).await, &["UNKNOWN_TOPIC_OR_PARTITION", "a"]);
    failed(topics(&["describe", "-t", "a"]).await, &["UNKNOWN_TOPIC_OR_PARTITION", "a"]);
}

async fn groups(address: &str, words: &[&str], more: &[&str]) -> Output {
    run(&[&["groups"], words, &["-b", address], more].concat(), b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_where_its_last_member_stopped() {
    let (_broker, address) = broker(1).await;
    done(produce(&address, &[], b"1\n2\n3\n4\n5\n").await);
    let group = ["--group", "g", "--from-beginning", "-c", "2"];
    assert_eq!(done(consume(&address, &group).await), "1\n2\n");
    assert_eq!(
        done(consume(&address, &group).await),
        "3\n4\n",
        "all of it was one batch, of which two were printed"
    );
    let lag = done(groups(&address, &["lag"], &["-g", "g"]).await);
    assert_eq!(lag, "orders-0 committed=4 end=5 lag=1 member=-\n");
    done(groups(&address, &["offsets", "reset"], &["-g", "g", "-t", "orders", "--to", "1"]).await);
    let newer = ["--group", "h", "--from-beginning", "-c", "1", "--protocol", "consumer"];
    assert_eq!(done(consume(&address, &newer).await), "1\n");
    for (group, kind) in [("g", "type=classic assignor="), ("h", "type=consumer assignor=uniform")] {
        let described = done(groups(&address, &["describe"], &["-g", group]).await);
        assert_eq!(described, format!("{group} state=Empty {kind} members=0\n"));
    }
    let json = ["--group", "g", "-c", "1", "-f", "json", "--assignor", "cooperative-sticky"];
    let out = done(consume(&address, &json).await);
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], serde_json::json!({ "event": "assigned", "partitions": [["orders", 0]] }));
    assert_eq!((&lines[1]["offset"], &lines[1]["value"]), (&1.into(), &"2".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_a_topic_and_leave_when_interrupted() {
    let (_broker, address) = broker(2).await;
    let args = [
        "consume",
        "-b",
        &address,
        "-t",
        "orders",
        "--group",
        "g",
        "-f",
        "json",
        "-X",
        "heartbeat.interval.ms=100",
    ];
    let mut first = spawn(&args);
    let mut first_out = BufReader::new(first.stdout.take().unwrap()).lines();
    let mut line = async |what: &str| {
        let line = tokio::time::timeout(PATIENCE, first_out.next_line()).await.expect(what).unwrap().unwrap();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    assert_eq!(line("the first member gets all").await["partitions"].as_array().unwrap().len(), 2);
    let mut second = spawn(&args);
    assert_eq!(line("the second comes").await["event"], "revoked");
    assert_eq!(line("they share").await["partitions"].as_array().unwrap().len(), 1);
    let described = done(groups(&address, &["describe"], &["-g", "g", "-f", "json"]).await);
    let described: serde_json::Value = serde_json::from_str(&described).unwrap();
    assert_eq!((&described["state"], described["members"].as_array().unwrap().len()), (&"Stable".into(), 2));
    assert_eq!((&described["type"], &described["members"][0]["target"]), (&"classic".into(), &().into()));
    failed(groups(&address, &["delete"], &["-g", "g"]).await, &["NON_EMPTY_GROUP"]);
    let listed = done(groups(&address, &["list"], &[]).await);
    assert!(listed.starts_with("g Stable"), "{listed}");
    interrupt(&second).await;
    assert!(tokio::time::timeout(PATIENCE, second.wait()).await.unwrap().unwrap().success());
    assert_eq!(line("the second leaves").await["event"], "revoked");
    assert_eq!(line("all again").await["partitions"].as_array().unwrap().len(), 2);
    interrupt(&first).await;
    assert!(tokio::time::timeout(PATIENCE, first.wait()).await.unwrap().unwrap().success());
    done(groups(&address, &["offsets", "delete"], &["-g", "g"]).await);
    assert_eq!(done(groups(&address, &["lag"], &["-g", "g"]).await), "");
    done(groups(&address, &["delete"], &["-g", "g"]).await);
    assert_eq!(done(groups(&address, &["list"], &[]).await), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_with_a_group_is_refused() {
    let (_broker, address) = broker(1).await;
    for more in [&["--group", "g", "-p", "0"][..], &["--group", "g", "-o", "3"], &["--assignor", "range"]] {
        assert_eq!(consume(&address, more).await.status.code(), Some(2), "{more:?}");
    }
    failed(consume(&address, &["--group", "g", "--assignor", "rang"]).await, &["no assignor `rang`"]);
    failed(groups(&address, &["describe"], &["-g", "nowhere"]).await, &["GROUP_ID_NOT_FOUND"]);
    failed(groups(&address, &["lag"], &["-g", "nowhere"]).await, &["GROUP_ID_NOT_FOUND"]);
    failed(
        groups(&address, &["offsets", "reset"], &["-g", "g", "--to", "end"]).await,
        &["committed nothing"],
    );
    let beyond = ["-g", "g", "-t", "orders", "--to", "7"];
    failed(groups(&address, &["offsets", "reset"], &beyond).await, &["orders-0", "but no 7"]);
}
