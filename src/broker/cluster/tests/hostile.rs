//! What no honest client sends.
use super::*;
use crate::protocol::error_code::ErrorCode;

#[test]
fn a_batch_that_reaches_to_the_last_possible_offset_is_refused() {
    // Found by tests/fuzz: the count was compared with a sum that overflows.
    let mut rig = Rig::nodes(1);
    rig.cluster.create_topic("t", 1, None).unwrap();
    let id = rig.connect(1);
    let mut batch = batch(&["a"]).to_vec();
    batch[23..27].copy_from_slice(&i32::MAX.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(rig.produce(id, "t", 0, batch.into()), (ErrorCode::INVALID_RECORD.code(), -1));
}
