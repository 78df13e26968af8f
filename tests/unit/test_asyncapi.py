"""The AsyncAPI document: valid, resolvable, and true to the code."""

import copy
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml  # type: ignore[import-untyped]

import schemas
from processor.codec import CONTENT_TYPES, Codec
from processor.deadletter import dead_letter
from processor.errors import Code, RequestError, Stage
from processor.events import SpeechCompleted, SpeechRequest
from processor.job import Record
from processor.kafka import topic_names
from processor.manifest import audio_key
from processor.settings import KafkaSettings

pytestmark = pytest.mark.unit

DOCUMENT: dict[str, Any] = yaml.safe_load(schemas.asyncapi_text())
OFFICIAL: dict[str, Any] = json.loads(
    Path(__file__).with_name("data").joinpath("asyncapi-3.0.0.json").read_text("utf-8")
)
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]
KINDS: dict[str, Any] = {"speechRequest": SpeechRequest, "speechCompleted": SpeechCompleted}
EXAMPLES = [
    pytest.param(name, example, id=f"{name}-{example['name']}")
    for name, message in MESSAGES.items()
    for example in message["examples"]
]


def faults(document: dict[str, Any]) -> list[str]:
    """What the official schema finds wrong, with the place."""
    validator = jsonschema.Draft7Validator(OFFICIAL)
    return [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}"
        for error in validator.iter_errors(document)
    ]


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for inner in part.values():
            yield from references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from references(inner)


def resolved(reference: str) -> Any:
    """What a $ref names. Raises KeyError or FileNotFoundError if there is no such thing."""
    if not reference.startswith("#/"):
        return json.loads(files("schemas").joinpath(reference).read_text("utf-8"))
    target: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        target = target[part]
    return target


def in_place(part: Any) -> Any:
    """``part`` with every reference replaced by what it names."""
    if isinstance(part, dict):
        if "$ref" in part:
            return in_place(copy.deepcopy(resolved(part["$ref"])))
        return {name: in_place(inner) for name, inner in part.items()}
    return [in_place(inner) for inner in part] if isinstance(part, list) else part


def test_the_document_is_valid_asyncapi_3() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert faults(DOCUMENT) == []


def test_the_official_schema_finds_faults_where_there_are_some() -> None:
    broken = copy.deepcopy(DOCUMENT)
    broken["operations"]["receiveRequests"]["action"] = "consume"
    broken["channels"]["requests"]["bindings"]["kafka"]["partitions"] = "many"

    assert len(faults(broken)) == 2


def test_every_reference_resolves() -> None:
    found = list(references(DOCUMENT))

    assert {"./speech_request.avsc", "./speech_completed.avsc"} <= set(found)
    for reference in found:
        assert resolved(reference), reference


def test_the_avro_schemas_in_their_place_are_valid_too() -> None:
    whole = copy.deepcopy(DOCUMENT)
    payloads = [whole["components"]["messages"][name]["payload"] for name in KINDS]
    for payload in payloads:
        payload["schema"] = in_place(payload["schema"])

    assert faults(whole) == []
    payloads[0]["schema"]["fields"][0]["type"] = {"type": "enum"}  # without name and symbols
    assert len(faults(whole)) == 1


def test_the_payloads_are_the_schemas_that_the_codec_uses() -> None:
    for name, kind in KINDS.items():
        payload = MESSAGES[name]["payload"]

        assert payload["schemaFormat"] == "application/vnd.apache.avro;version=1.9.0"
        assert resolved(payload["schema"]["$ref"])["name"] == kind.__name__


def test_topics_and_numbers_are_the_settings_defaults() -> None:
    kafka = KafkaSettings()
    channels = DOCUMENT["channels"].values()

    assert [channel["address"] for channel in channels] == topic_names(kafka)
    for channel in channels:
        binding = channel["bindings"]["kafka"]
        assert binding["topic"] == channel["address"]
        assert (binding["partitions"], binding["replicas"]) == (kafka.partitions, kafka.replication)
    assert DOCUMENT["servers"]["broker"]["host"] == kafka.bootstrap
    group = DOCUMENT["operations"]["receiveRequests"]["bindings"]["kafka"]["groupId"]
    assert group["default"] == kafka.group


def test_operations_are_the_workers() -> None:
    found = {
        (operation["action"], resolved(operation["channel"]["$ref"])["address"])
        for operation in DOCUMENT["operations"].values()
    }

    assert found == {
        ("receive", "speech.requests"),
        ("receive", "speech.requests.priority"),
        ("send", "speech.completions"),
        ("send", "speech.deadletters"),
    }


def test_content_types_are_those_that_the_codec_reads() -> None:
    header = DOCUMENT["components"]["schemas"]["requestHeaders"]["properties"]["content-type"]

    assert header["enum"] == list(CONTENT_TYPES)
    assert DOCUMENT["defaultContentType"] in CONTENT_TYPES
    for name in KINDS:
        assert MESSAGES[name]["contentType"] in CONTENT_TYPES


def headers_of_a_letter(error: RequestError) -> dict[str, str]:
    record = Record("speech.requests", 0, 17, None, None, (), None)
    letter = dead_letter(record, error, topic="speech.deadletters", worker="worker-0")
    return {name: (value or b"").decode() for name, value in letter.headers}


def test_dead_letters_have_the_headers_that_are_written() -> None:
    stated = DOCUMENT["components"]["schemas"]["deadLetterHeaders"]
    with_field = headers_of_a_letter(
        RequestError(Code.INVALID_FIELD, "message", stage=Stage.DECODE, field="text")
    )
    without = headers_of_a_letter(RequestError(Code.INTERNAL, "message", stage=Stage.UPLOAD))

    assert list(stated["properties"]) == list(with_field)
    assert stated["required"] == list(without)
    for headers in (with_field, without):
        jsonschema.validate(headers, in_place(stated))


def test_codes_and_stages_are_all_there() -> None:
    stated = DOCUMENT["components"]["schemas"]["deadLetterHeaders"]["properties"]

    assert stated["speechmill.error.code"]["enum"] == [code.value for code in Code]
    assert stated["__connect.errors.stage"]["enum"] == [stage.value.upper() for stage in Stage]


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_an_examples_headers_are_as_described(name: str, example: dict[str, Any]) -> None:
    described = in_place(MESSAGES[name]["headers"])
    shown = example.get("headers", {})

    assert shown.keys() <= described["properties"].keys()
    assert shown or "required" not in described
    jsonschema.validate(shown, described)


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_an_example_is_what_the_codec_says_of_it(name: str, example: dict[str, Any]) -> None:
    payload = json.dumps(example["payload"]).encode()
    headers = {key: str(value).encode() for key, value in example.get("headers", {}).items()}

    if name != "deadLetter":
        event = Codec().decode(KINDS[name], payload, headers)
        assert Codec().decode(KINDS[name], Codec().encode(event, topic="t")) == event
        return
    with pytest.raises(RequestError) as caught:
        Codec().decode(SpeechRequest, payload)
    assert example["headers"] == headers_of_a_letter(caught.value)


def test_the_completed_example_hangs_together() -> None:
    requests = {e["name"]: e["payload"] for e in MESSAGES["speechRequest"]["examples"]}
    answers = {e["name"]: e["payload"] for e in MESSAGES["speechCompleted"]["examples"]}
    asked, answer = requests["chapter"], answers["completed"]

    assert answer["audio"]["key"] == audio_key("acme", answer["audio"]["sha256"], "flac")
    for name in ("request_id", "tenant", "job_id", "document_id", "index", "metadata"):
        assert answer[name] == asked[name]
    assert answer["usage"]["characters"] == len(asked["text"])
    for mark in answer["segments"]:
        assert asked["text"][mark["start_char"] : mark["end_char"]] == mark["text"]
    failed = answers["failed"]["error"]
    letter = MESSAGES["deadLetter"]["examples"][0]["headers"]
    assert failed["message"] == letter["__connect.errors.exception.message"]
