"""What once lost work, stuck a partition or ended a worker. Each test is a fault that was found."""

import ctypes
import gzip
import json
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import TimeoutError as Late
from pathlib import Path
from typing import Any, cast

import confluent_kafka
import numpy as np
import pytest
from confluent_kafka import Producer

from processor.codec import Codec
from processor.delivery import connect
from processor.engines.base import Speech, Utterance
from processor.errors import BrokerUnavailable, RequestError, StoreUnavailable
from processor.events import Status
from processor.job import Message
from processor.kafka import topic_partitions
from processor.ledger import Partition, Position
from processor.local.stack import Stack
from processor.source import KafkaSource
from processor.store import MinioStore
from processor.worker import Worker
from producers import SpeechProducer, make_request
from tests.engines import ScriptedEngine
from tests.integration.mill import Mill, RunningWorker
from tests.waiting import eventually


def test_a_partition_that_left_while_it_was_paused_goes_on_when_it_is_back(mill: Mill) -> None:
    slow = ScriptedEngine()
    slow.gate.clear()
    first = mill.start(slow, worker={"window_requests": 8, "name": "first"})
    for number in range(80):
        mill.ask(f"Item {number}.", partition=number % 8)
    eventually(lambda: len(slow.batches) > 0 and first.worker.paused, "the first to be full")
    second = mill.start(ScriptedEngine(), worker={"name": "second", "drain_s": 1})
    eventually(lambda: len(second.worker.partitions) == 8, "the second to have its share", 60)
    slow.gate.set()
    second.stop()

    events = mill.completions(80, 60)

    assert {event.status for event in events} == {Status.COMPLETED}


def test_a_record_that_grew_too_large_for_the_dead_letters_leaves_its_trace(mill: Mill) -> None:
    mill.start(ScriptedEngine())
    huge = b"\x89" + b" " * 6_000_000  # small on the wire, as it is compressed
    producer = Producer(
        {
            "bootstrap.servers": mill.parts.bootstrap,
            "compression.type": "gzip",
            "message.max.bytes": 10_000_000,
        }
    )
    assert len(gzip.compress(huge)) < 100_000
    producer.produce(mill.settings.kafka.requests, value=huge, partition=0)
    assert producer.flush(20) == 0
    mill.ask("A neighbour.", partition=0)

    (letter,) = mill.letters(1)

    assert letter.value == huge or letter.headers["speechmill.omitted.bytes"] == b"6000001"
    assert mill.completions(1)[0].status is Status.COMPLETED


def test_a_header_whose_name_is_not_utf8_makes_a_dead_letter(mill: Mill) -> None:
    if mill.parts.kind == "embedded":
        pytest.skip("tansu refuses such a record itself")
    mill.start(ScriptedEngine())
    value = b'{"request_id": "x", "text": "Hi."}'
    produce_with_raw_header(mill, b"\xff\xfebad", value)
    mill.ask("A neighbour.", partition=0)

    (letter,) = mill.letters(1)

    assert letter.value == value
    assert b"UTF-8" in letter.headers["__connect.errors.exception.message"]
    assert len(mill.completions(1)) == 1


def produce_with_raw_header(mill: Mill, name: bytes, value: bytes) -> None:
    """Through librdkafka itself: its Python client lets no such name pass."""
    (path,) = Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka-*")
    library = ctypes.CDLL(str(path))
    for function in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
        getattr(library, function).restype = ctypes.c_void_p
    error = ctypes.create_string_buffer(512)
    conf = ctypes.c_void_p(library.rd_kafka_conf_new())
    bootstrap = mill.parts.bootstrap.encode()
    library.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap, error, 512)
    client = ctypes.c_void_p(library.rd_kafka_new(0, conf, error, 512))
    headers = ctypes.c_void_p(library.rd_kafka_headers_new(ctypes.c_size_t(1)))
    library.rd_kafka_header_add(headers, name, ctypes.c_ssize_t(-1), b"v", ctypes.c_ssize_t(1))
    topic, text = mill.settings.kafka.requests.encode(), ctypes.c_char_p(value)
    # rd_kafka_vtype_t: 1 topic, 3 partition, 4 value, 7 flags (2: copy), 10 headers, 0 end
    assert not library.rd_kafka_producev(
        client, 1, topic, 3, ctypes.c_int32(0), 7, ctypes.c_int(2),
        4, text, ctypes.c_size_t(len(value)), 10, headers, 0,
    )  # fmt: skip
    assert library.rd_kafka_flush(client, 10_000) == 0


def test_a_batch_that_grows_beyond_bounds_makes_a_dead_letter(mill: Mill) -> None:
    if mill.parts.kind == "embedded":
        pytest.skip("tansu unpacks and bounds batches itself")
    mill.start(ScriptedEngine())
    producer = Producer(
        {
            "bootstrap.servers": mill.parts.bootstrap,
            "compression.type": "zstd",
            "message.max.bytes": 100_000_000,
        }
    )
    producer.produce(mill.settings.kafka.requests, value=b" " * 40_000_000, partition=0)
    assert producer.flush(30) == 0
    mill.ask("A neighbour.", partition=0)

    (letter,) = mill.letters(1)

    assert letter.value is None
    assert letter.headers["__connect.errors.offset"] == b"0"
    assert mill.completions(1)[0].status is Status.COMPLETED


def test_a_key_that_the_store_refuses_fails_its_request_and_blocks_nobody(mill: Mill) -> None:
    bucket = mill.settings.store.bucket
    mill.start(ScriptedEngine(), store={"text_buckets": [bucket]}, worker={"io_threads": 2})
    keys = [
        "default//a",
        "default/./a",
        "default/" + "x" * 300,
        "default/" + "y/" * 560,
        "default/#",
    ]
    for number, key in enumerate(keys):
        mill.ask(text_uri=f"s3://{bucket}/{key}", request_id=f"bad-{number}", partition=0)
    mill.ask("A neighbour.", request_id="good", partition=0)

    events = {event.request_id: event for event in mill.completions(len(keys) + 1)}

    assert events.pop("good").status is Status.COMPLETED
    assert {event.error.code for event in events.values() if event.error} == {"TEXT_UNAVAILABLE"}


class Unruly(ScriptedEngine):
    """Breaks the engines' contract as its texts say."""

    def synthesize(self, batch: Sequence[Utterance]) -> list[Speech | RequestError]:
        text = batch[0].text
        results: dict[str, Any] = {
            "Nothing.": None,
            "Nobody.": [None],
            "Hollow.": [Speech(cast(Any, None))],
            "Flat.": [Speech(np.zeros((4, 4), np.float32))],
            "Whole.": [Speech(cast(Any, np.ones(4, np.int16)))],
        }
        if text == "Leave.":
            raise SystemExit
        spoken = results[text] if text in results else super().synthesize(batch)
        return cast(list[Speech | RequestError], spoken)


def test_an_engine_that_breaks_its_contract_fails_the_segment_alone(mill: Mill) -> None:
    mill.start(Unruly(max_batch=1))
    bad = ["Nothing.", "Nobody.", "Hollow.", "Flat.", "Whole."]
    for text in [*bad, "Good."]:
        mill.ask(text, request_id=text, partition=0)

    events = {event.request_id: event for event in mill.completions(6)}

    assert events["Good."].status is Status.COMPLETED
    assert {e.error.code for name, e in events.items() if e.error} == {"ENGINE_FAILED"}
    assert {name for name, e in events.items() if e.error} == set(bad)


def test_a_lane_that_ends_ends_the_worker_and_not_in_silence(mill: Mill) -> None:
    running = mill.start(Unruly(max_batch=1))
    mill.ask("Leave.")
    eventually(lambda: not running.alive, "the worker to end")

    assert isinstance(running.error, SystemExit)
    assert mill.committed() == 0


class Stubborn(MinioStore):
    """A store that takes nothing until it is let."""

    def __init__(self, mill: Mill) -> None:
        super().__init__(mill.settings.store)
        self.open = threading.Event()

    def put(self, key: str, data: bytes, content_type: str) -> None:
        if not self.open.is_set():
            raise StoreUnavailable("closed for the test")
        super().put(key, data, content_type)


def start_on(mill: Mill, store: MinioStore, engine: ScriptedEngine, **limits: Any) -> RunningWorker:
    settings = mill.with_settings(worker=limits)
    counts = topic_partitions(settings.kafka, timeout_s=10.0)
    running = RunningWorker(
        Worker(
            settings,
            engine,
            store,
            Codec(),
            connect(settings, counts),
            lambda listener: KafkaSource(settings.kafka, settings.worker.name, listener),
        )
    )
    mill.workers.append(running)
    return running


def test_a_store_that_is_away_bounds_the_audio_in_memory_and_costs_nothing(mill: Mill) -> None:
    store = Stubborn(mill)
    limit = 1_000_000
    running = start_on(
        mill, store, ScriptedEngine(), window_audio_bytes=limit, io_threads=64
    )  # more than wait for the store, so that new requests are still prepared
    for number in range(200):  # some 60 kB of samples each
        mill.ask(f"Item {number}. " + "With some more to say. " * 8)
    eventually(lambda: running.worker.load.audio_bytes >= limit, "the window to be full")

    eventually(lambda: running.worker.paused, "polling to pause")
    held = running.worker.load.audio_bytes
    store.open.set()
    events = mill.completions(200, 60)

    # What was begun is finished: at most the requests of two batches of eight.
    assert held < limit + 16 * 62_000
    assert {event.status for event in events} == {Status.COMPLETED}
    mill.letters(0, seconds=1)
    eventually(lambda: running.worker.load.audio_bytes == 0, "the window to be empty again")
    assert running.worker.load.characters == 0


class Refusing:
    """A committer whose broker is away once."""

    def __init__(self) -> None:
        self.refuse = True
        self.committed_offsets: dict[Partition, Position] = {}

    def commit(self, offsets: dict[Partition, Position]) -> None:
        if self.refuse:
            raise BrokerUnavailable("for the test")
        self.committed_offsets.update(offsets)


@pytest.mark.integration
def test_a_commit_that_failed_is_made_good_with_the_next(mill: Mill) -> None:
    settings = mill.with_settings(kafka={"delivery": "at_least_once"})
    publisher = connect(settings, topic_partitions(settings.kafka, timeout_s=10))
    committer: Any = Refusing()
    place = (settings.kafka.requests, 0)
    message = Message(settings.kafka.completions, b"k", b"v", (), 0)

    publisher.publish([message], {place: Position(7)}, committer, lambda: False)
    assert publisher.owes
    committer.refuse = False
    publisher.publish([], {}, committer, lambda: False)

    assert committer.committed_offsets == {place: Position(7)}
    assert not publisher.owes
    publisher.close()


def test_waiting_for_one_answer_in_vain_does_not_cost_the_next(mill: Mill) -> None:
    with SpeechProducer(mill.settings, follow=True) as producer:
        late = producer.submit(make_request("Nobody is there yet."))
        assert not late.completion.cancel(), "asyncio would, and its result would find no place"
        with pytest.raises(Late):
            late.completion.result(0.2)
        mill.start(ScriptedEngine())
        again = producer.submit(make_request("Somebody is there now."))

        assert late.completion.result(40).status is Status.COMPLETED
        assert again.completion.result(40).status is Status.COMPLETED


def test_a_closed_producer_leaves_nobody_waiting(mill: Mill) -> None:
    producer = SpeechProducer(mill.settings, follow=True)
    waiting = producer.submit(make_request("There is no worker."))
    producer.close()

    assert isinstance(waiting.completion.exception(0), Exception)
    with pytest.raises(Exception, match="closed"):
        producer.submit(make_request("Too late."))


@pytest.mark.integration
def test_sigterm_ends_a_worker_whose_broker_is_away(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    try:
        worker = stack.add_worker(
            "lonely", {"SPEECHMILL_WORKER__DRAIN_S": "2", "SPEECHMILL_ENGINE__THREADS": "1"}
        )
        with SpeechProducer(stack.settings(), follow=True) as producer:
            producer.submit(make_request("Hello.")).completion.result(40)
            for number in range(100):
                producer.submit(make_request(f"Number {number}. " + "And on it goes. " * 20))
            producer.flush(10)
            stack.broker.child.signal(signal.SIGSTOP)
            began = time.monotonic()
            worker.terminate()
            status = worker.wait(30)
            seconds = time.monotonic() - began
            stack.broker.child.signal(signal.SIGCONT)
    finally:
        stack.broker.child.signal(signal.SIGCONT)
        stack.stop()

    assert status is not None
    assert seconds < 20


def test_json_of_any_shape_blocks_nobody(mill: Mill) -> None:
    mill.start(ScriptedEngine())
    evil = [
        b'{"a":' * 50_000,
        b"[" * 100_000,
        json.dumps({"request_id": "\ud800", "text": "x"}).encode(),
        json.dumps({"request_id": "id", "text": "x", "a\nb": 1}).encode(),
        json.dumps({"request_id": "id", "metadata": {str(n): "x" for n in range(5000)}}).encode(),
        b'{"request_id": "id", "text": "x", "speed": 1e999, "seed": -' + b"9" * 4000 + b"}",
    ]
    for value in evil:
        mill.produce(value, partition=0)
    mill.ask("A neighbour.", request_id="good", partition=0)

    events = [event for event in mill.completions(4) if event.request_id == "good"]

    assert [event.status for event in events] == [Status.COMPLETED]
    assert len(mill.letters(len(evil))) == len(evil)
