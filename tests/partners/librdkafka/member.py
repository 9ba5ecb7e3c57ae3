"""A member of a group with librdkafka. What it is told and what it tells: README.md of the folder above."""
import json
import os
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

args = dict(arg.split("=", 1) for arg in sys.argv[1:])
HOLD = int(args.get("hold", 0)) / 1000

read = {}  # offsets by partition that nothing was told of yet
uncommitted = {}
committed = 0.0


def tell(event, **more):
    print(json.dumps({"at": time.time_ns() // 1000, "event": event, **more}, separators=(",", ":")), flush=True)


def tell_partitions(event, partitions):
    if partitions:
        tell(event, partitions=[[partition.topic, partition.partition] for partition in partitions])


def tell_read():
    for (topic, partition), offsets in read.items():
        tell("records", partition=[topic, partition], offsets=offsets)
        uncommitted[topic, partition] = offsets[-1] + 1
    read.clear()


def commit():
    """What cannot be committed now stays, for the next attempt."""
    global committed
    tell_read()
    committed = time.monotonic()
    if not uncommitted:
        return
    offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in uncommitted.items()]
    try:
        answers = consumer.commit(offsets=offsets, asynchronous=False)
    except KafkaException as error:
        tell("trouble", what=f"commit: {error}")
        return
    refused = [answer for answer in answers if answer.error]
    if refused:
        tell("trouble", what=f"commit: {refused[0].error}")
    agreed = [[answer.topic, answer.partition, answer.offset] for answer in answers if not answer.error]
    for topic, partition, _ in agreed:
        del uncommitted[topic, partition]
    if agreed:
        tell("committed", offsets=agreed)


def forget(partitions):
    for partition in partitions:
        uncommitted.pop((partition.topic, partition.partition), None)


def on_assign(_, partitions):
    tell_partitions("assigned", partitions)


def on_revoke(_, partitions):
    tell_read()
    time.sleep(HOLD if partitions else 0)
    commit()
    forget(partitions)
    tell_partitions("revoked", partitions)


def on_lost(_, partitions):
    tell_read()
    forget(partitions)
    tell_partitions("lost", partitions)


config = {
    "bootstrap.servers": args["bootstrap"],
    "client.id": args["name"],
    "group.id": args["group"],
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "fetch.wait.max.ms": 100,
    "topic.metadata.refresh.interval.ms": 5000,
}
if args.get("protocol") == "consumer":
    config |= {"group.protocol": "consumer", "group.remote.assignor": args["assignor"]}
else:
    config |= {
        "partition.assignment.strategy": args["assignor"],
        "session.timeout.ms": int(args["session"]),
        "heartbeat.interval.ms": 300,
    }
if "instance" in args:
    config["group.instance.id"] = args["instance"]


def wait_for_the_end():
    while os.read(0, 1024):
        pass
    enough.set()


enough = threading.Event()
threading.Thread(target=wait_for_the_end, daemon=True).start()

consumer = Consumer(config)
consumer.subscribe(args["topics"].split(","), on_assign=on_assign, on_revoke=on_revoke, on_lost=on_lost)
while not enough.is_set():
    message = consumer.poll(0.0 if read else 0.05)
    if message is None:
        tell_read()
    elif message.error():
        tell("trouble", what=str(message.error()))
    else:
        read.setdefault((message.topic(), message.partition()), []).append(message.offset())
    if time.monotonic() > committed + 0.1:
        commit()
commit()
consumer.close()
tell("closed")
