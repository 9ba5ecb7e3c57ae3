"""A member of a group with kafka-python. What it is told and what it tells: README.md of the folder above."""
import json
import os
import sys
import threading
import time

from kafka import AsyncConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

ASSIGNORS = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "sticky": StickyPartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}

args = dict(arg.split("=", 1) for arg in sys.argv[1:])
HOLD = int(args.get("hold", 0)) / 1000

uncommitted = {}
committed = 0.0


def tell(event, **more):
    print(json.dumps({"at": time.time_ns() // 1000, "event": event, **more}, separators=(",", ":")), flush=True)


def tell_partitions(event, partitions):
    if partitions:
        tell(event, partitions=[[partition.topic, partition.partition] for partition in partitions])


def offsets_to_commit():
    return {partition: OffsetAndMetadata(at, "", -1) for partition, at in uncommitted.items()}


def commit_ended(error=None):
    """What could not be committed stays, for the next attempt."""
    if error:
        tell("trouble", what=f"commit: {type(error).__name__}")
        return
    agreed = [[partition.topic, partition.partition, at] for partition, at in uncommitted.items()]
    uncommitted.clear()
    tell("committed", offsets=agreed)


def commit():
    global committed
    committed = time.monotonic()
    if uncommitted:
        try:
            consumer.commit(offsets_to_commit())
        except KafkaError as error:
            commit_ended(error)
        else:
            commit_ended()


def forget(partitions):
    for partition in partitions:
        uncommitted.pop(TopicPartition(*partition), None)


class Listener(AsyncConsumerRebalanceListener):
    async def on_partitions_assigned(self, assigned):
        tell_partitions("assigned", assigned)

    async def on_partitions_revoked(self, revoked):
        time.sleep(HOLD if revoked else 0)
        if uncommitted:
            try:
                await consumer.commit_async(offsets_to_commit())
            except KafkaError as error:
                commit_ended(error)
            else:
                commit_ended()
        forget(revoked)
        tell_partitions("revoked", revoked)

    async def on_partitions_lost(self, lost):
        forget(lost)
        tell_partitions("lost", lost)


def wait_for_the_end():
    while os.read(0, 1024):
        pass
    enough.set()


enough = threading.Event()
threading.Thread(target=wait_for_the_end, daemon=True).start()

consumer = KafkaConsumer(
    bootstrap_servers=args["bootstrap"].split(","),
    client_id=args["name"],
    group_id=args["group"],
    group_instance_id=args.get("instance"),
    enable_auto_commit=False,
    auto_offset_reset="earliest",
    partition_assignment_strategy=[ASSIGNORS[args["assignor"]]],
    session_timeout_ms=int(args["session"]),
    heartbeat_interval_ms=300,
    fetch_max_wait_ms=100,
    metadata_max_age_ms=5000,
)
consumer.subscribe(args["topics"].split(","), listener=Listener())
while not enough.is_set():
    for partition, records in consumer.poll(timeout_ms=50).items():
        offsets = [record.offset for record in records]
        tell("records", partition=[partition.topic, partition.partition], offsets=offsets)
        uncommitted[partition] = offsets[-1] + 1
    if time.monotonic() > committed + 0.1:
        commit()
commit()
consumer.close()
tell("closed")
