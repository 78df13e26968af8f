"""A text's whole way through broker, worker and store: the design's invariants A to F, I, J."""

import hashlib
import io
import json
import signal
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import soundfile

from processor.engines.base import Engine
from processor.events import Status
from tests.engines import ScriptedEngine
from tests.integration.mill import Mill
from tests.waiting import eventually


def test_a_text_becomes_audio_that_the_completion_describes(mill: Mill, hibari: Engine) -> None:
    mill.start(hibari)
    request = mill.ask(
        "Good morning, Dr. Smith. The train leaves at 7:30!",
        metadata={"lesson": "4"},
        job_id="job",
        document_id="doc",
        index=3,
    )

    (event,) = mill.completions(1)

    assert event.request_id == request.request_id
    assert event.status is Status.COMPLETED
    assert (event.job_id, event.document_id, event.index) == ("job", "doc", 3)
    assert event.metadata == {"lesson": "4"}
    assert (event.engine, event.cache_hit, event.error) == ("hibari", False, None)
    assert event.audio is not None
    data = mill.store.get(event.audio.key, 10_000_000)
    assert hashlib.sha256(data).hexdigest() == event.audio.sha256
    assert len(data) == event.audio.bytes
    samples, rate = soundfile.read(io.BytesIO(data))
    assert rate == event.audio.sample_rate == 24_000
    assert abs(len(samples) / rate * 1000 - event.audio.duration_ms) < 1
    assert 2000 < event.audio.duration_ms < 8000
    assert [mark.text for mark in event.segments] == [
        "Good morning, Dr. Smith.",
        "The train leaves at 7:30!",
    ]
    assert event.segments[0].end_ms < event.segments[1].start_ms
    assert event.segments[1].end_ms == event.audio.duration_ms
    assert event.usage.characters == 50
    assert event.usage.compute_ms > 0


def test_a_script_may_ask_in_json(mill: Mill, hibari: Engine) -> None:
    mill.start(hibari)
    mill.produce(
        json.dumps({"request_id": "from-a-script", "text": "Plain words."}).encode(),
        headers={"content-type": b"application/json"},
    )

    (event,) = mill.completions(1)

    assert (event.request_id, event.status) == ("from-a-script", Status.COMPLETED)


def test_the_same_request_is_answered_from_the_store(mill: Mill) -> None:
    engine = ScriptedEngine()
    mill.start(engine)
    mill.ask("Said once.", request_id="first")
    mill.completions(1)
    mill.ask("Said  once.", request_id="second")  # the same once it is normalised

    first, second = sorted(mill.completions(2), key=lambda event: event.request_id)

    assert (first.cache_hit, second.cache_hit) == (False, True)
    assert second.audio == first.audio
    assert second.segments == first.segments
    assert second.usage.compute_ms == 0
    assert engine.spoken == ["Said once."]


def test_what_is_asked_for_again_while_it_is_being_spoken_is_spoken_once(mill: Mill) -> None:
    engine = ScriptedEngine()
    engine.gate.clear()  # nothing ends before all have been asked for
    running = mill.start(engine)
    for partition in range(4):
        mill.ask("Said once, heard often.", partition=partition)
    mill.ask("Something else.", partition=0)
    eventually(lambda: running.worker.load.requests == 5, "all to be under way")
    engine.gate.set()

    events = mill.completions(5)

    assert sorted(engine.spoken) == ["Said once, heard often.", "Something else."]
    assert sorted(event.cache_hit for event in events) == [False, False, True, True, True]
    assert len({event.audio.key for event in events if event.audio}) == 2


def test_who_waits_for_one_that_fails_is_tried_too(mill: Mill) -> None:
    engine = ScriptedEngine()
    engine.gate.clear()
    running = mill.start(engine)
    for partition in range(3):
        mill.ask("This BREAKS.", partition=partition)
    eventually(lambda: running.worker.load.requests == 3, "all to be under way")
    engine.gate.set()

    events = mill.completions(3)

    assert {event.error.code for event in events if event.error} == {"ENGINE_FAILED"}
    assert len(engine.spoken) == 3


def test_a_result_whose_audio_is_gone_is_made_again(mill: Mill) -> None:
    engine = ScriptedEngine()
    mill.start(engine)
    mill.ask("Here today.")
    (before,) = mill.completions(1)
    assert before.audio is not None
    mill.store.remove(before.audio.key)
    mill.ask("Here today.")

    after = mill.completions(2)

    assert {event.cache_hit for event in after} == {False}
    assert mill.store.size(before.audio.key) == before.audio.bytes


def test_tenants_share_nothing(mill: Mill) -> None:
    engine = ScriptedEngine()
    mill.start(engine)
    mill.ask("Ours alone.", tenant="acme")
    mill.ask("Ours alone.", tenant="zenith")

    events = mill.completions(2)

    assert {event.cache_hit for event in events} == {False}
    assert {event.audio.key.split("/")[0] for event in events if event.audio} == {"acme", "zenith"}


def test_the_same_request_has_the_same_bytes_alone_and_in_a_crowd(
    mill: Mill, hibari: Engine
) -> None:
    text = "It was the best of times. It was the worst of times."
    worker = mill.start(hibari)
    for number in range(20):
        mill.ask(f"A neighbour, number {number}.")
    mill.ask(text, request_id="crowd", tenant="one")
    mill.completions(21)
    worker.stop()
    mill.start(hibari)
    mill.ask(text, request_id="alone", tenant="two")

    events = {event.request_id: event for event in mill.completions(22)}

    crowd, alone = events["crowd"].audio, events["alone"].audio
    assert crowd is not None
    assert alone is not None
    assert alone.sha256 == crowd.sha256


def test_every_request_has_one_completion_in_its_partitions_order(mill: Mill) -> None:
    engine = ScriptedEngine(lanes=3, max_batch=4)
    mill.start(engine)
    asked: dict[int, list[str]] = defaultdict(list)
    for number in range(200):
        # Every tenth is long, so that what comes behind it is ready first.
        text = f"Number {number}. " + "And so on. " * (20 if number % 10 == 0 else 0)
        partition = number % mill.partitions
        asked[partition].append(mill.ask(text, partition=partition).request_id)

    answered: dict[int, list[str]] = defaultdict(list)
    for partition, event in mill.completions_by_partition(200):
        assert event.source is not None
        assert event.source.partition == partition
        answered[partition].append(event.request_id)

    assert answered == asked
    eventually(lambda: mill.committed() == 200, "all offsets committed")


def test_segments_of_many_requests_share_a_batch(mill: Mill) -> None:
    engine = ScriptedEngine(max_batch=8)
    engine.gate.clear()
    running = mill.start(engine)
    mill.ask("The first one finds an idle device, and waits for nobody.")
    eventually(lambda: engine.batches, "the device to be at it")
    for number in range(16):
        mill.ask(f"Sentence {number:02d} here.")
    eventually(lambda: running.worker.waiting == 16, "the others to wait for the device")
    engine.gate.set()

    events = mill.completions(17)

    assert [len(batch) for batch in engine.batches] == [1, 8, 8]
    assert sorted(event.batch_size for event in events) == [1] + [8] * 16


def test_a_trace_goes_on_in_the_completion(mill: Mill) -> None:
    mill.start(ScriptedEngine())
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    mill.produce(b'{"request_id": "t", "text": "Traced."}', headers={"traceparent": trace})

    (message,) = mill._read(mill.settings.kafka.completions, 1, 40)

    assert dict(message.headers())["traceparent"] == trace


def test_a_request_past_its_deadline_expires_unspoken(mill: Mill) -> None:
    engine = ScriptedEngine()
    mill.start(engine)
    mill.ask("Too late.", deadline=datetime.now(UTC) - timedelta(seconds=1))
    mill.ask("In time.", deadline=datetime.now(UTC) + timedelta(hours=1))

    by_status = {event.status: event for event in mill.completions(2)}

    expired = by_status[Status.EXPIRED]
    assert expired.error is not None
    assert expired.error.code == "DEADLINE_EXPIRED"
    assert engine.spoken == ["In time."]
    mill.letters(0, seconds=1)


def test_more_than_the_window_gets_through_the_window(mill: Mill) -> None:
    mill.start(
        ScriptedEngine(), worker={"window_requests": 4, "window_characters": 1000, "name": "small"}
    )
    for number in range(60):
        mill.ask(f"Item {number}. " + "Words. " * 20)

    events = mill.completions(60)

    assert {event.status for event in events} == {Status.COMPLETED}


def test_sigterm_finishes_what_is_under_way_and_leaves_the_rest(mill: Mill) -> None:
    child = mill.start_process("first", SPEECHMILL_WORKER__WINDOW_REQUESTS="32")
    for number in range(400):
        mill.ask(f"Paragraph {number}. " + "It has a few more sentences than that. " * 5)
    eventually(lambda: mill.committed() > 0, "some work done", 60)
    child.terminate()
    assert child.wait(30) == 0
    done = mill.committed()
    assert 0 < done < 400, "the worker was stopped in the middle"

    assert len(mill.completions(done)) == done
    assert mill.log_of(child)[-1]["event"] == "worker stopped"


def test_what_one_worker_left_the_next_one_does(mill: Mill) -> None:
    first = mill.start(ScriptedEngine())
    for number in range(50):
        mill.ask(f"Early {number}.")
    mill.completions(50)
    first.stop()
    for number in range(50):
        mill.ask(f"Late {number}.")
    second = ScriptedEngine()
    mill.start(second)

    events = mill.completions(100)

    assert len({event.request_id for event in events}) == 100
    assert all(text.startswith("Late") for text in second.spoken)


def test_a_second_signal_ends_a_worker_at_once(mill: Mill) -> None:
    child = mill.start_process("stubborn")
    for number in range(300):
        mill.ask(f"Long {number}. " + "Another sentence of it, and quite a long one too. " * 40)
    eventually(lambda: mill.committed() > 0, "some work done", 60)
    child.terminate()
    eventually(lambda: "draining" in child.log.read_text(), "the drain to begin", 20)
    child.terminate()
    assert child.wait(3) == 128 + signal.SIGTERM


def test_each_format_is_stored_as_what_it_says(mill: Mill) -> None:
    mill.start(ScriptedEngine())
    forms = ["wav", "flac", "mp3", "pcm", "mulaw", "alaw"]
    for form in forms:
        mill.ask("Any format.", request_id=form, output={"format": form, "channels": 2})

    for event in mill.completions(len(forms)):
        assert event.audio is not None
        data = io.BytesIO(mill.store.get(event.audio.key, 1_000_000))
        raw = {"samplerate": 8000, "channels": 2, "format": "RAW", "subtype": "PCM_16"}
        file = soundfile.SoundFile(data, **(raw if event.request_id == "pcm" else {}))
        assert (file.channels, file.samplerate) == (2, event.audio.sample_rate)
