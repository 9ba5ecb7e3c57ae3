use super::*;
use crate::broker::cluster::handlers::{SERVED, is_flexible};
use crate::protocol::shape::check_request;
use crate::protocol::shape::tests::{Check, Filling, every};
use proptest::prelude::*;

/// Every API served, in every version served, with bodies of some size.
fn every_request() -> Vec<Bytes> {
    let mut frames = Vec::new();
    for (key, version, check, _, shape) in every() {
        let is_request = std::ptr::fn_addr_eq(check, check_request as Check);
        let served =
            SERVED.iter().any(|(served, low, high)| *served == key && (*low..=*high).contains(&version));
        if !is_request || !served {
            continue;
        }
        for (count, known, unknown) in [(0, false, None), (1, true, None), (2, true, Some(&b"new"[..]))] {
            for text in [&b"t"[..], b""] {
                let body = Filling { elements: &|_, _| count, text, known, unknown }.write(shape);
                frames.push(frame(key, version, &body));
            }
        }
    }
    frames
}

fn frame(key: i16, version: i16, body: &[u8]) -> Bytes {
    let mut rest = vec![0xff, 0xff];
    if is_flexible(key, version) {
        rest.push(0);
    }
    rest.extend_from_slice(body);
    put_frame(key, version, &rest)
}

#[test]
fn every_version_served_is_answered() {
    for frame in every_request() {
        let mut rig = Rig::nodes(3);
        rig.cluster.create_topic("t", 3, None).unwrap();
        let id = rig.connect(1);
        rig.cluster.handle(rig.now, id, frame.clone());
        rig.pass(Duration::from_secs(1 << 32));
        let output = rig.cluster.poll_output(id);
        assert!(matches!(output, Some(Output::Send(_))), "{frame:?}: {output:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_never_panics(
        at in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let frames = every_request();
        let mut rig = Rig::nodes(2);
        rig.cluster.create_topic("t", 2, None).unwrap();
        for step in 0..32 {
            let mut bytes = frames[(at.index(frames.len()) + step * 7) % frames.len()].to_vec();
            for (place, byte) in &changes {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
            }
            if cuts {
                bytes.truncate(cut.index(bytes.len()));
            }
            let id = rig.connect(1);
            rig.cluster.handle(rig.now, id, bytes.into());
            rig.pass(Duration::from_millis(100));
            while rig.cluster.poll_output(id).is_some() {}
            rig.cluster.disconnect(id);
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64), key in 0i16..70, version in 0i16..20) {
        let mut rig = Rig::nodes(1);
        let id = rig.connect(1);
        rig.cluster.handle(rig.now, id, put_frame(key, version, &bytes));
        let id = rig.connect(1);
        rig.cluster.handle(rig.now, id, bytes.into());
    }
}
