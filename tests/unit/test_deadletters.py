"""Which letters are meant, what is read from one, and what is shown and replayed of it."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import typer
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_NOT_AVAILABLE, Message

from processor.codec import Codec
from processor.commands.deadletters import wanted_of
from processor.commands.letters import hexdump, printable
from processor.commands.times import moment
from processor.deadletter import dead_letter
from processor.errors import Code, RegistryUnavailable, RequestError, Stage
from processor.job import Headers, Record
from processor.settings import KafkaSettings
from producers.client import make_request
from producers.letters import Letter, Place, Reason, Wanted, read_letter
from producers.replay import refusal, replay_headers
from schemas import AvroSchema

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
BASE = Letter(
    place=Place(0, 0),
    timestamp=NOW,
    key=b"k",
    value=b"v",
    headers=(),
    reason=Reason(code="UNKNOWN_VOICE", topic="speech.requests", partition=1, offset=2),
    replayed=0,
    omitted=False,
    event=None,
)


# -- what a person types -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("15m", NOW - timedelta(minutes=15)),
        ("2h", NOW - timedelta(hours=2)),
        ("1d", NOW - timedelta(days=1)),
        ("0s", NOW),
        ("2026-01-30T10:00:00Z", datetime(2026, 1, 30, 10, tzinfo=UTC)),
        ("2026-01-30T12:00:00+02:00", datetime(2026, 1, 30, 10, tzinfo=UTC)),
        (None, None),
    ],
)
def test_a_moment_is_a_span_before_now_or_an_instant(
    text: str | None, expected: datetime | None
) -> None:
    assert moment(text, "--since", NOW) == expected


@pytest.mark.parametrize(
    "text", ["", "m", "15", "-5m", "1.5h", "15 m", "٣m", "yesterday", "2026-13-01", "9" * 15 + "d"]
)
def test_what_is_no_moment_is_refused_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="15m") as refused:
        moment(text, "--since", NOW)

    assert refused.value.param_hint == "--since"


def test_an_instant_without_a_time_zone_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="time zone"):
        moment("2026-01-31T12:00:00", "--until", NOW)


def test_since_must_be_before_until() -> None:
    with pytest.raises(typer.BadParameter, match="not before --until"):
        wanted_of(None, None, "1h", "2h", NOW)


def test_conditions_come_from_what_was_typed() -> None:
    wanted = wanted_of([Code.TEXT_EMPTY, Code.INTERNAL], "acme", "2h", "1h", NOW)

    assert wanted == Wanted(
        frozenset({"TEXT_EMPTY", "INTERNAL"}),
        "acme",
        NOW - timedelta(hours=2),
        NOW - timedelta(hours=1),
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("3:17", Place(3, 17)),
        ("0:0", Place(0, 0)),
        ("3", None),
        ("3:", None),
        (":17", None),
        ("-1:3", None),
        ("3:17 ", None),
        ("a:b", None),
        ("1:" + "9" * 40, None),
    ],
)
def test_a_place_is_a_partition_and_an_offset(text: str, place: Place | None) -> None:
    assert Place.parse(text) == place
    assert place is None or str(place) == text


# -- which letters are meant ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "is_meant"),
    [
        (Wanted(), True),
        (Wanted(codes=frozenset({"UNKNOWN_VOICE", "INTERNAL"})), True),
        (Wanted(codes=frozenset({"INTERNAL"})), False),
        (Wanted(tenant="acme"), True),
        (Wanted(tenant="zenith"), False),
        (Wanted(since=NOW), True),
        (Wanted(since=NOW + timedelta(milliseconds=1)), False),
        (Wanted(until=NOW), False),
        (Wanted(until=NOW + timedelta(milliseconds=1)), True),
        (Wanted(frozenset({"UNKNOWN_VOICE"}), "zenith"), False),
    ],
)
def test_all_conditions_must_hold(wanted: Wanted, is_meant: bool) -> None:
    assert (replace(BASE, event={"tenant": "acme"}) in wanted) is is_meant


def test_a_letter_of_unknown_tenant_or_time_is_not_one_of_a_certain_tenant_or_time() -> None:
    nobody = replace(BASE, event=None, timestamp=None)

    assert nobody in Wanted()
    assert nobody not in Wanted(tenant="default")
    assert nobody not in Wanted(since=NOW - timedelta(days=1))
    assert nobody not in Wanted(until=NOW + timedelta(days=1))


# -- what is read from a record ------------------------------------------------------------------


class Fake:
    """A record as the client gives it."""

    def __init__(
        self, value: bytes | None, headers: Headers = (), *, timestamp: tuple[int, int] = (0, 0)
    ) -> None:
        self._value, self._headers, self._timestamp = value, headers, timestamp

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 17

    def key(self) -> bytes:
        return b"key"

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> list[tuple[str, bytes | None]]:
        return list(self._headers)

    def timestamp(self) -> tuple[int, int]:
        return self._timestamp


def read(value: bytes | None, headers: Headers = (), **more: Any) -> Letter:
    return read_letter(cast(Message, Fake(value, headers, **more)), Codec())


def buried(
    value: bytes | None,
    headers: Headers = (),
    *,
    code: Code = Code.UNKNOWN_VOICE,
    field: str | None = "voice",
    offset: int = 5,
) -> Headers:
    """The headers that the worker gives to a letter."""
    record = Record("speech.requests", 1, offset, b"key", value, headers, None)
    error = RequestError(code, f"voice: {code}, é", stage=Stage.PREPARE, field=field)
    return dead_letter(record, error, topic="speech.deadletters", worker="w").headers


AVRO = Codec().encode(make_request("Hi.", request_id="r-1", tenant="acme"), topic="t")
ORIGINAL: Headers = (("traceparent", b"00-ab"), ("flag", None), ("twice", b"1"), ("twice", b"\xff"))


def test_a_letter_says_all_that_the_worker_wrote() -> None:
    letter = read(AVRO, buried(AVRO, ORIGINAL), timestamp=(TIMESTAMP_CREATE_TIME, 1_000))

    assert letter.reason == Reason(
        code="UNKNOWN_VOICE",
        field="voice",
        message="voice: UNKNOWN_VOICE, é",
        stage="PREPARE",
        topic="speech.requests",
        partition=1,
        offset=5,
    )
    assert (letter.place, letter.key, letter.value) == (Place(3, 17), b"key", AVRO)
    assert letter.headers == ORIGINAL
    assert letter.timestamp == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert (letter.tenant, letter.request_id) == ("acme", "r-1")
    assert (letter.replayed, letter.omitted) == (0, False)


def test_of_two_failures_the_last_one_counts_in_whole() -> None:
    first = buried(AVRO, ORIGINAL)
    second = buried(AVRO, first, code=Code.ENGINE_FAILED, field=None, offset=9)

    letter = read(AVRO, second)

    assert (letter.reason.code, letter.reason.field) == ("ENGINE_FAILED", None)
    assert letter.reason.offset == 9
    assert letter.headers == ORIGINAL


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\x89PNG",
        b"\x00\x00\x00\x00\x07body",
        b"\xc3\x01" + b"\x00" * 8,
        AVRO[:-3],
        b'{"request_id": 7, "tenant": ["a"]}',
        b"[" * 100_000,
    ],
)
def test_a_value_of_any_kind_can_be_read(value: bytes | None) -> None:
    letter = read(value, buried(value))

    assert letter.value == value
    assert (letter.tenant, letter.request_id) == (None, None)
    assert letter.reason.code == "UNKNOWN_VOICE"


def test_tenant_and_request_are_read_though_a_header_promises_something_else() -> None:
    value = b'{"request_id": "r-2", "speed": "fast"}'

    letter = read(value, buried(value, (("content-type", b"image/png"),)))

    assert (letter.tenant, letter.request_id) == ("default", "r-2")


def test_a_record_that_no_worker_wrote_is_a_letter_without_a_reason() -> None:
    letter = read(b"anything", (("speechmill.replayed", b"many"),))

    assert letter.reason == Reason()
    assert letter.timestamp is None
    assert letter.replayed == 0


@pytest.mark.parametrize(
    "timestamp", [(TIMESTAMP_CREATE_TIME, 2**62), (TIMESTAMP_NOT_AVAILABLE, -1)]
)
def test_a_time_that_is_none_is_none(timestamp: tuple[int, int]) -> None:
    assert read(AVRO, timestamp=timestamp).timestamp is None


def test_a_registry_that_is_away_is_told_and_not_taken_for_a_bad_value() -> None:
    class Away:
        def schema(self, schema_id: int) -> AvroSchema:
            raise RegistryUnavailable(f"schema {schema_id}: away")

        def register(self, subject: str, schema: AvroSchema) -> int:
            raise AssertionError((subject, schema))

    with pytest.raises(RegistryUnavailable):
        read_letter(cast(Message, Fake(b"\x00\x00\x00\x00\x07body")), Codec(Away()))


# -- what is replayed ----------------------------------------------------------------------------


def test_a_replay_has_the_headers_of_the_original_and_counts() -> None:
    once = read(AVRO, buried(AVRO, ORIGINAL))
    headers = replay_headers(once)
    twice = read(AVRO, buried(AVRO, headers))

    assert headers == (*ORIGINAL, ("speechmill.replayed", b"1"))
    assert twice.replayed == 1
    assert replay_headers(twice) == (*ORIGINAL, ("speechmill.replayed", b"2"))


def test_only_what_came_from_a_request_topic_goes_back_to_it() -> None:
    ours, others = KafkaSettings(), KafkaSettings(requests="other")
    urgent = replace(BASE, reason=Reason(topic=ours.priority))

    assert refusal(BASE, ours) is None
    assert refusal(urgent, ours) is None
    assert "it came from speech.requests, and kafka.requests is other" in str(refusal(BASE, others))
    assert "no header" in str(refusal(replace(BASE, reason=Reason()), ours))


def test_a_letter_whose_value_was_left_out_is_not_replayed_but_its_place_is_told() -> None:
    record = Record("speech.requests", 1, 5, b"key", b"x" * 100, ORIGINAL, None)
    error = RequestError(Code.TEXT_TOO_LONG, "too long", stage=Stage.PREPARE)
    smaller = dead_letter(record, error, topic="d", worker="w").smaller
    assert smaller is not None

    letter = read(smaller.value, smaller.headers)

    assert letter.omitted
    assert letter.reason.code == "TEXT_TOO_LONG"
    assert "speech.requests 1:5" in str(refusal(letter, KafkaSettings()))


def test_a_record_without_a_value_can_be_replayed_as_it_was() -> None:
    letter = read(None, buried(None))

    assert not letter.omitted
    assert refusal(letter, KafkaSettings()) is None


# -- what is shown -------------------------------------------------------------------------------


def test_what_could_steer_a_terminal_is_escaped_and_the_rest_is_legible() -> None:
    assert printable("Zoë said 你好.") == "Zoë said 你好."
    assert printable("a\x1b[31mb\nc\x9b\u202e\x07") == "a\\x1b[31mb\\nc\\x9b\\u202e\\x07"
    assert printable(json.loads('"\\ud800"')) == "\\ud800"
    assert printable(None) == "-"


def test_a_dump_shows_the_first_bytes_and_how_many_follow() -> None:
    lines = list(hexdump(bytes(range(256)) + b"more"))

    assert lines[4] == (
        "00000040  40 41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f  @ABCDEFGHIJKLMNO"
    )
    assert lines[0].endswith("." * 16)
    assert len(lines) == 17
    assert lines[-1] == "… 4 bytes more"
    assert list(hexdump(b"")) == []
    assert list(hexdump(b"ab")) == [f"00000000  {'61 62':<47}  ab"]
