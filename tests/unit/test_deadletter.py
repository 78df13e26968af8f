"""A dead letter is the record as it came, with the reason in headers that tools know."""

import pytest

from processor.deadletter import CODE, FIELD, dead_letter
from processor.errors import Code, RequestError, Stage, Undecodable
from processor.job import Message, Record

pytestmark = pytest.mark.unit

RECORD = Record(
    topic="speech.requests",
    partition=3,
    offset=2**40,
    key=b"\x00key\xff",
    value=b"\x00\x01 no event \xff",
    headers=(("traceparent", b"00-ab-cd-01"), ("flag", None), ("twice", b"1"), ("twice", b"\xff")),
    timestamp_ms=None,
)
REFUSAL = RequestError(
    Code.UNKNOWN_VOICE,
    "voice: there is no 'Zoë'; use one of amy",
    stage=Stage.PREPARE,
    field="voice",
)


def letter(record: Record = RECORD, error: RequestError = REFUSAL) -> Message:
    return dead_letter(record, error, topic="speech.deadletters", worker="w-0")


def reasons(message: Message) -> dict[str, str]:
    return {name: (value or b"").decode() for name, value in message.headers[len(RECORD.headers) :]}


def test_key_value_and_headers_are_untouched_and_in_their_order() -> None:
    message = letter()

    assert (message.key, message.value) == (RECORD.key, RECORD.value)
    assert message.headers[: len(RECORD.headers)] == RECORD.headers


def test_it_goes_to_the_topic_that_was_given_in_its_partitions_lane() -> None:
    message = letter()

    assert message.topic == "speech.deadletters"
    assert message.lane == 3


def test_the_headers_are_those_of_kafka_connect() -> None:
    assert reasons(letter()) == {
        "__connect.errors.topic": "speech.requests",
        "__connect.errors.partition": "3",
        "__connect.errors.offset": "1099511627776",
        "__connect.errors.connector.name": "speechmill",
        "__connect.errors.task.id": "w-0",
        "__connect.errors.stage": "PREPARE",
        "__connect.errors.class.name": "processor.errors",
        "__connect.errors.exception.class.name": "RequestError",
        "__connect.errors.exception.message": "voice: there is no 'Zoë'; use one of amy",
        "speechmill.error.code": "UNKNOWN_VOICE",
        "speechmill.error.field": "voice",
    }


def test_without_a_field_at_fault_none_is_named() -> None:
    found = reasons(letter(error=Undecodable("the record has no value")))

    assert FIELD not in found
    assert found[CODE] == "UNDECODABLE"
    assert found["__connect.errors.exception.class.name"] == "Undecodable"


def test_a_record_of_nothing_stays_nothing() -> None:
    nothing = Record("speech.requests", 0, 0, None, None, (), None)

    message = letter(nothing)

    assert (message.key, message.value) == (None, None)
    assert dict(message.headers)["__connect.errors.offset"] == b"0"


def test_a_letter_that_failed_again_keeps_its_first_reasons() -> None:
    first = letter()
    replayed = Record(first.topic, 1, 7, first.key, first.value, first.headers, None)

    second = letter(replayed)

    assert second.headers[: len(first.headers)] == first.headers
    assert second.headers[len(first.headers)] == ("__connect.errors.topic", b"speech.deadletters")
