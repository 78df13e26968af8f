"""What people write instead, doing the same work with the same engine: to be measured against.

``python -m tests.benchmarks.baselines WAY`` works off the request topic of the settings in the
environment, until SIGTERM: ``plain`` polls a batch, speaks it, stores it, answers it and commits,
one after the other; ``one-at-a-time`` does so with batches of one, as the web page did;
``faststream`` is a batch subscriber of FastStream. None of them does more than that: no retries, no
transactions, no cache.
"""

import asyncio
import hashlib
import signal
import sys
from collections.abc import Sequence

from confluent_kafka import Consumer, Producer

from processor import engines
from processor.audio import encode
from processor.checks import from_fields
from processor.codec import Codec
from processor.engines.base import Engine, Speech, Utterance
from processor.events import AudioFormat, SpeechCompleted, SpeechRequest, Status
from processor.settings import Settings, load
from processor.store import MinioStore


class Work:
    """One batch of request bytes to as many completion bytes."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._codec = Codec()
        self._engine = engine
        self._store = MinioStore(settings.store)
        self._topic = settings.kafka.completions

    def do(self, values: Sequence[bytes]) -> list[tuple[str, bytes]]:
        able = self._engine.capabilities
        requests = [
            from_fields(SpeechRequest, self._codec.fields(SpeechRequest, value, {}))
            for value in values
        ]
        spoken = self._engine.synthesize(
            [Utterance(request.text or "", able.voices[0].name, 1.0, 0) for request in requests]
        )
        pairs = zip(requests, spoken, strict=True)
        return [self._answer(request, got) for request, got in pairs if isinstance(got, Speech)]

    def _answer(self, request: SpeechRequest, speech: Speech) -> tuple[str, bytes]:
        file = encode(speech.samples, self._engine.capabilities.sample_rate, AudioFormat.WAV)
        key = f"{request.tenant}/{hashlib.sha256(file.data).hexdigest()}.wav"
        self._store.put(key, file.data, file.content_type)
        event = SpeechCompleted(
            request_id=request.request_id, tenant=request.tenant, status=Status.COMPLETED
        )
        return request.request_id, self._codec.encode(event, topic=self._topic)


def plain(settings: Settings, work: Work, batch: int) -> None:
    """A loop around confluent-kafka, as in its examples."""
    kafka = settings.kafka
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": kafka.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([kafka.requests])
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "enable.idempotence": True})
    while True:
        messages = [m for m in consumer.consume(batch, 0.05) if m.error() is None]
        if not messages:
            continue
        for name, value in work.do([message.value() or b"" for message in messages]):
            producer.produce(kafka.completions, key=name, value=value)
        producer.flush()
        consumer.commit(asynchronous=False)


def faststream(settings: Settings, work: Work, batch: int) -> None:
    """A batch subscriber; what blocks goes to a thread, as its manual asks."""
    from faststream import AckPolicy, FastStream
    from faststream.confluent import KafkaBroker

    kafka = settings.kafka
    broker = KafkaBroker(kafka.bootstrap, graceful_timeout=1)
    out = broker.publisher(kafka.completions, batch=True)

    async def handle(values: list[bytes]) -> None:
        answers = await asyncio.to_thread(work.do, values)
        await out.publish(*(value for _, value in answers))

    subscribe = broker.subscriber(
        kafka.requests,
        group_id=kafka.group,
        batch=True,
        max_records=batch,
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.ACK,
        decoder=lambda message: message.body,
    )
    subscribe(handle)
    asyncio.run(FastStream(broker, logger=None).run())


def main() -> None:
    way = sys.argv[1]
    settings = load()
    engine = engines.create(settings)
    engine.warm_up()
    work = Work(settings, engine)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    batch = settings.engine.max_batch or 16
    if way == "faststream":
        faststream(settings, work, batch)
    else:
        plain(settings, work, 1 if way == "one-at-a-time" else batch)


if __name__ == "__main__":
    main()
