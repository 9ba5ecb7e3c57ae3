//! What is asked of both clusters, and what of each answer is compared.
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::wire::Connection;

pub(super) struct Play {
    pub(super) port: u16,
    pub(super) connection: Connection,
    lines: Vec<String>,
    /// The id of topic `embedded`.
    pub(super) id: Uuid,
}

pub(super) const TOPIC: &str = "embedded";

pub(super) fn name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

pub fn play(port: u16) -> Vec<String> {
    let mut play = Play { port, connection: Connection::open(port), lines: Vec::new(), id: Uuid::nil() };
    play.topics();
    play.metadata();
    play.produce();
    play.sequences();
    play.list_offsets();
    play.fetch();
    play.sessions();
    play.epochs();
    play.groups();
    play.delete_records();
    play.grow();
    play.delete_topics();
    play.refusals();
    play.lines
}

impl Play {
    pub(super) fn say(&mut self, line: String) {
        self.lines.push(line);
    }

    /// What closes the connection, and the one thing that is answered in another version.
    fn refusals(&mut self) {
        for (label, frame) in [
            ("api versions v9", &[0, 18, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0][..]),
            ("api versions v9 without tags", &[0, 18, 0, 9, 0, 0, 0, 1, 0xff, 0xff]),
            ("produce v2", &[0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("fetch v3", &[0, 1, 0, 3, 0, 0, 0, 1, 0xff, 0xff]),
            ("no such api", &[3, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff]),
            ("cut header", &[0, 3, 0]),
            ("cut body", &[0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 0]),
            ("empty frame", &[]),
            ("client name of odd characters", &[0, 18, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0, 2, b'!', 2, b'1', 0]),
        ] {
            let mut connection = Connection::open(self.port);
            connection.raw(frame);
            let said = match connection.frame() {
                // Which APIs there are is each broker's own; the beginning tells error and version.
                Ok(frame) if frame.len() < 40 => format!("{frame:02x?}"),
                Ok(frame) => format!("{:02x?}..", &frame[..6]),
                Err(_) => "closed".to_owned(),
            };
            self.say(format!("{label}: {said}"));
        }
    }
}
