"""What must hold whatever was killed: the design's invariants, of what the witness found.

A  every record is answered: by one completion, or, where nobody can be answered, by a dead letter
B  by no more than one; a failed one has one dead letter beside it, as it came
C  a completion's audio is in the bucket, and is what the completion says of it
D  nothing is answered that was not asked
E  the group's offsets never pass a record without an answer, and end at the topic's end
F  the answers of one partition come in its order
G  no transaction is left open
I  equal requests have equal audio, and it says what was asked for

H, the bound of memory, is nothing that a reader can see: test_load looks at the workers for it.
"""

import hashlib
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile

from processor.checks import from_fields
from processor.events import SpeechCompleted
from tests.faults.witness import Answer, Letter, Partition, Place, Places, Record, Witness
from tests.integration.mill import Mill

__all__ = ["Verdict", "check", "check_order", "judge", "witness_of"]


@dataclass
class Verdict:
    """What was found, and what of it must not be: each violation begins with its letter."""

    records: list[Record]
    answers: list[Answer]
    letters: list[Letter]
    violations: list[str]

    def answered(self) -> dict[Place, Answer]:
        """By the place of the request."""
        return {answer.place: answer for answer in self.answers}


def check(mill: Mill, asked: list[str], seconds: float = 300) -> list[SpeechCompleted]:
    """All invariants, once the group is at the topic's end; and what was asked for is spoken."""
    mill.flush()
    verdict = judge(witness_of(mill), seconds)
    assert not verdict.violations, f"{len(verdict.violations)} violations: {verdict.violations[:5]}"
    assert Counter(answer.request_id for answer in verdict.answers) == Counter(asked)
    failed = [(answer.request_id, answer.code) for answer in verdict.answers if not answer.spoken]
    assert not failed, f"{len(failed)} good requests failed: {failed[:5]}"
    assert not verdict.letters
    return [from_fields(SpeechCompleted, answer.fields) for answer in verdict.answers]


def check_order(mill: Mill, asked: Mapping[Partition, list[str]]) -> None:
    """F, by what the test knows: each partition is answered in the order in which it was asked."""
    answered: dict[Partition, list[str]] = defaultdict(list)
    for answer in witness_of(mill).answers():
        topic, number, _ = answer.place
        answered[topic, number].append(answer.request_id)
    assert answered == asked


def witness_of(mill: Mill) -> Witness:
    """One who looks at what this test's corner holds."""
    kafka, parts = mill.settings.kafka, mill.parts
    return Witness(
        Places(
            bootstrap=parts.bootstrap,
            requests={
                kafka.requests: kafka.group,
                kafka.priority: f"{kafka.group}.priority",
            },
            completions=kafka.completions,
            deadletters=kafka.deadletters,
            endpoint=parts.endpoint,
            access_key=parts.access_key,
            secret_key=parts.secret_key,
        )
    )


def judge(witness: Witness, seconds: float = 300) -> Verdict:
    """Wait for the end, for ``seconds`` at most, and hold what is there then to the invariants."""
    violations = witness.settle(seconds)
    verdict = Verdict(witness.records(), witness.answers(), witness.letters(), violations)
    violations += _answered_once(verdict)
    violations += _asked_for(verdict)
    violations += _as_they_came(verdict)
    violations += _in_order(verdict)
    violations += _same_audio(verdict)
    violations += _audio_in_place(verdict, witness)
    return verdict


def _answered_once(verdict: Verdict) -> list[str]:
    """A and B."""
    found = []
    answers: Counter[Place] = Counter(answer.place for answer in verdict.answers)
    letters: Counter[Place] = Counter(letter.place for letter in verdict.letters)
    failed = {answer.place for answer in verdict.answers if answer.fields["status"] == "failed"}
    for record in verdict.records:
        place, name = record.place, f"{_said(record.place)} ({record.request_id})"
        readable = record.request_id is not None
        if readable and not answers[place]:
            found.append(f"A {name}: no completion")
        if answers[place] > 1:
            found.append(f"B {name}: {answers[place]} completions")
        wanted = int(place in failed or not readable)
        if letters[place] != wanted:
            found.append(f"B {name}: {letters[place]} dead letters instead of {wanted}")
    return found


def _asked_for(verdict: Verdict) -> list[str]:
    """D."""
    found = []
    records = {record.place: record for record in verdict.records}
    for answer in verdict.answers:
        asked = records.get(answer.place)
        if asked is None:
            found.append(f"D {answer.request_id}: answers {_said(answer.place)}: there is none")
        elif asked.request_id != answer.request_id:
            found.append(f"D {answer.request_id}: answers the record of {asked.request_id}")
    strays = [letter.place for letter in verdict.letters if letter.place not in records]
    return found + [
        f"D a dead letter of {_said(place)}: there is no such record" for place in strays
    ]


def _as_they_came(verdict: Verdict) -> list[str]:
    """B: key, value and headers of a dead letter are those of its record."""
    records = {record.place: record for record in verdict.records}
    found = []
    for letter in verdict.letters:
        record = records.get(letter.place)
        if record is None:
            continue
        same = (letter.key, letter.value) == (record.key, record.value)
        if not same or letter.headers[: len(record.headers)] != record.headers:
            found.append(f"B the dead letter of {_said(letter.place)} is not as it came")
    return found


def _in_order(verdict: Verdict) -> list[str]:
    """F. The completions are in the order of their own partitions."""
    found = []
    last: dict[tuple[str, int], tuple[int, int]] = {}
    for answer in verdict.answers:
        topic, number, offset = answer.place
        lane, before = last.get((topic, number), (answer.partition, -1))
        if lane != answer.partition:
            found.append(f"F {topic}/{number} is answered in {lane} and {answer.partition}")
        if offset < before:
            found.append(f"F {_said(answer.place)} is answered after {before}")
        last[topic, number] = answer.partition, max(offset, before)
    return found


def _same_audio(verdict: Verdict) -> list[str]:
    """I."""
    answers = verdict.answered()
    heard: dict[str, set[str]] = defaultdict(set)
    for record in verdict.records:
        answer = answers.get(record.place)
        if record.fields is None or answer is None or not answer.spoken:
            continue
        asked = {name: record.fields.get(name) for name in _DETERMINING}
        audio = answer.fields["audio"] or {}
        heard[json.dumps(asked, sort_keys=True)].add(str(audio.get("sha256")))
    return [f"I {asked}: {len(audio)} audios" for asked, audio in heard.items() if len(audio) > 1]


_DETERMINING = (
    "tenant",
    "text",
    "text_uri",
    "language",
    "voice",
    "model",
    "speed",
    "seed",
    "output",
)


def _audio_in_place(verdict: Verdict, witness: Witness) -> list[str]:
    """C, and I's last part. Each object is fetched once, however many answers name it."""
    spoken: dict[str, Answer] = {}
    found = []
    for answer in verdict.answers:
        said = answer.fields["audio"]
        if answer.spoken != (said is not None):
            found.append(f"C {answer.request_id}: {answer.fields['status']} with audio {said}")
        elif said is not None and spoken.setdefault(said["key"], answer).fields["audio"] != said:
            found.append(f"C {said['key']}: two completions say otherwise of it")
    with ThreadPoolExecutor(8) as threads:
        wrong = threads.map(lambda answer: _wrong(answer, witness), spoken.values())
        return found + [what for what in wrong if what]


def _wrong(answer: Answer, witness: Witness) -> str | None:
    """What is wrong with the audio of a completion, if anything is."""
    said = answer.fields["audio"]
    data = witness.object(said["bucket"], said["key"])
    if data is None:
        return f"C {said['key']}: there is no such object"
    if (len(data), hashlib.sha256(data).hexdigest()) != (said["bytes"], said["sha256"]):
        return f"C {said['key']}: {len(data)} bytes that are not those of the completion"
    if said["content_type"] != "audio/wav":
        return None
    samples, rate = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    heard = (rate, samples.shape[1], round(len(samples) * 1000 / rate))
    if heard != (said["sample_rate"], said["channels"], said["duration_ms"]):
        return f"C {said['key']}: rate, channels and length are {heard}"
    if answer.fields["engine"] != "simulated":
        return None
    texts = [segment["text"] for segment in answer.fields["segments"]]
    says = list(_texts(samples[:, 0]))
    return None if says == texts else f"I {answer.request_id}: says {says}, not {texts}"


def _texts(samples: Any) -> Iterable[str]:
    """What the simulated engine's audio carries (see its module): a byte is a sample of 8 bits,
    and each segment begins with a magic word, a length, and the voice before the text."""
    data = (samples // 256 + 128).astype(np.uint8).tobytes()
    at = data.find(_MAGIC)
    while at >= 0:
        begin = at + len(_MAGIC) + 4
        size = int.from_bytes(data[begin - 4 : begin], "big")
        yield data[begin : begin + size].decode(errors="replace").partition("\0")[2]
        at = data.find(_MAGIC, begin + size)


_MAGIC = b"speechmill"


def _said(place: Place) -> str:
    return "{}/{}:{}".format(*place)
