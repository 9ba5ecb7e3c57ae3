//! `milena assign` as its users run it.
use std::io::Write;
use std::process::{Command, Output, Stdio};

fn assign(args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_milena"));
    command.arg("assign").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output
}

/// The lines of the output, without the times.
fn lines(output: &Output) -> Vec<serde_json::Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines()
        .map(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            let fields = line.as_object_mut().unwrap();
            if let Some(times) = fields.remove("times") {
                let times: Vec<u64> = serde_json::from_value(times).unwrap();
                assert_eq!(fields["ns"].as_u64(), times.iter().min().copied());
                assert_eq!(times.len(), 3);
            }
            let ns = fields.remove("ns");
            assert!(fields.contains_key("error") || ns.unwrap().as_u64().unwrap() > 0);
            line
        })
        .collect()
}

fn json(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const GROUPS: &str = r#"
{"id":"new","topics":{"t0":3,"t1":3},"members":[{"id":"C0","topics":["t0","t1"]},{"id":"C1","topics":["t0","t1"],"owned":[],"generation":-1,"rack":null,"instance":null}]}
{"id":2,"topics":{"t":4},"members":[{"id":"c1","topics":["t"],"owned":[["t",0],["t",1]],"generation":5},{"id":"c2","topics":["t"],"owned":[["t",0],["t",2]],"generation":5},{"id":"c3","topics":["t"]}]}
"#;

#[test]
fn each_strategy_assigns_as_javas_does() {
    for (args, wanted) in [
        (
            &["--strategy", "range"][..],
            r#"{"id":"new","assignment":{"C0":[["t0",0],["t0",1],["t1",0],["t1",1]],"C1":[["t0",2],["t1",2]]}}
{"id":2,"assignment":{"c1":[["t",0],["t",1]],"c2":[["t",2]],"c3":[["t",3]]}}"#,
        ),
        (
            &["--strategy", "roundrobin"],
            r#"{"id":"new","assignment":{"C0":[["t0",0],["t0",2],["t1",1]],"C1":[["t0",1],["t1",0],["t1",2]]}}
{"id":2,"assignment":{"c1":[["t",0],["t",3]],"c2":[["t",1]],"c3":[["t",2]]}}"#,
        ),
        (
            &["--strategy", "sticky", "--repeat", "3"],
            r#"{"id":"new","assignment":{"C0":[["t0",0],["t0",2],["t1",1]],"C1":[["t0",1],["t1",0],["t1",2]]}}
{"id":2,"assignment":{"c1":[["t",1],["t",3]],"c2":[["t",2]],"c3":[["t",0]]}}"#,
        ),
        (
            &["--strategy", "cooperative-sticky", "--round"],
            r#"{"id":"new","assignment":{"C0":[["t0",0],["t0",2],["t1",1]],"C1":[["t0",1],["t1",0],["t1",2]]}}
{"id":2,"assignment":{"c1":[["t",1],["t",3]],"c2":[["t",2]],"c3":[]}}"#,
        ),
    ] {
        let output = assign(args, GROUPS);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(lines(&output), json(wanted), "{args:?}");
    }
}

#[test]
fn racks_come_before_moves_if_wanted() {
    let group = r#"{"id":1,"topics":{"t":2},"members":[{"id":"a","topics":["t"],"owned":[["t",1]],"generation":1,"rack":"r1"},{"id":"b","topics":["t"],"owned":[["t",0]],"generation":1,"rack":"r2"}],"racks":{"t":[["r1"],["r2"]]}}"#;
    for (args, a) in [(&["-s", "sticky"][..], 1), (&["-s", "sticky", "--racks-before-moves"], 0)] {
        let output = assign(args, group);
        assert_eq!(lines(&output)[0]["assignment"]["a"][0][1], a, "{args:?}");
    }
}

#[test]
fn wrong_groups_are_told_and_the_others_assigned() {
    let input = format!(
        "{}{GROUPS}",
        r#"nonsense
{"id":3,"topics":{"t":-3},"members":[]}
{"id":4,"topics":{"t":2147483647},"members":[{"id":"a","topics":["t"]}]}
{"id":5,"topics":{"t":4294967296},"members":[]}
{"id":6,"topics":{},"members":[{"id":"a","topics":["t"],"onwed":[]}]}
{"id":7,"topics":{},"members":[{"id":"a","topics":["t"],"owned":["t",0]}]}
{"id":8,"topics":{},"members":[{"topics":["t"]}]}
{"id":9,"topics":{}}
{"id":10,"topics":{"t":1},"racks":{"t":["r"]},"members":[]}
"#
    );
    let output = assign(&["-s", "sticky"], &input);
    assert_eq!(output.status.code(), Some(1));
    let reason = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(reason.contains("group 1: not JSON"), "{reason}");
    let lines = lines(&output);
    for (line, wanted) in lines.iter().zip([
        "not JSON",
        "topic t has -3 partitions",
        "16777216 are the most",
        "topic t: a number of partitions expected",
        "member a: unknown field onwed",
        "member a: field owned: a list of [topic, partition] expected",
        "field id: a string expected",
        "field members: a list expected",
        "racks of topic t: a list of racks for each partition expected",
    ]) {
        assert!(line["error"].as_str().is_some_and(|error| error.contains(wanted)), "{line}");
    }
    assert_eq!(lines.len(), 11);
    assert!(lines[9..].iter().all(|line| line["assignment"].is_object()));
}
