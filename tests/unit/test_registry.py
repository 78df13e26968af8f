"""The Schema Registry's answers and silences, as the errors that the worker acts on."""

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from processor.errors import Code, MissingExtra, RegistryUnavailable, Undecodable
from processor.registry import ConfluentRegistry, connect
from processor.settings import RegistrySettings

pytestmark = pytest.mark.unit

SCHEMA = {"type": "record", "name": "A", "namespace": "x", "fields": []}

Call = Callable[[ConfluentRegistry], object]
CALLS: dict[str, Call] = {
    "schema": lambda registry: registry.schema(1),
    "register": lambda registry: registry.register("subject", SCHEMA),
    "ping": lambda registry: registry.ping(),
}


def in_memory() -> tuple[ConfluentRegistry, SchemaRegistryClient]:
    client = SchemaRegistryClient.new_client({"url": "mock://"})
    return ConfluentRegistry(client), client


def at(port: int) -> ConfluentRegistry:
    """A registry on this machine, of which one attempt a call is made."""
    url = f"http://127.0.0.1:{port}"
    return ConfluentRegistry(SchemaRegistryClient({"url": url, "max.retries": 0, "timeout": 5}))


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


class Answers:
    """A server that gives one answer to everything."""

    def __init__(self) -> None:
        self.status, self.body = 200, b"{}"
        answers = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(answers.status)
                self.send_header("Content-Length", str(len(answers.body)))
                self.end_headers()
                self.wfile.write(answers.body)

            do_POST = do_GET  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Answers]:
    answers = Answers()
    yield answers
    answers.close()


def test_a_schema_that_was_registered_is_found_by_its_number() -> None:
    registry, _ = in_memory()

    number = registry.register("speech.requests-value", SCHEMA)

    assert registry.schema(number) == SCHEMA
    registry.ping()


def test_registering_the_same_schema_twice_gives_the_same_number() -> None:
    registry, _ = in_memory()

    first = registry.register("speech.requests-value", SCHEMA)

    assert registry.register("speech.requests-value", SCHEMA) == first
    assert registry.register("speech.requests-value", SCHEMA | {"name": "B"}) != first


def test_a_number_that_nobody_registered_is_no_outage_but_a_bad_record() -> None:
    registry, _ = in_memory()

    with pytest.raises(Undecodable, match="no schema 77") as caught:
        registry.schema(77)

    assert caught.value.code is Code.UNKNOWN_SCHEMA


@pytest.mark.parametrize(
    ("text", "kind"),
    [('syntax = "proto3";', "PROTOBUF"), ('"string"', "AVRO"), ('["null", "string"]', "AVRO")],
)
def test_a_schema_that_is_no_record_is_a_bad_record(text: str, kind: str) -> None:
    registry, client = in_memory()
    number = client.register_schema("subject", Schema(text, kind))

    with pytest.raises(Undecodable, match=f"schema {number} is no Avro record") as caught:
        registry.schema(number)

    assert caught.value.code is Code.UNKNOWN_SCHEMA


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_registry_that_is_away_is_unavailable(call: Call, closed_port: int) -> None:
    with pytest.raises(RegistryUnavailable, match=r"(?i)registry"):
        call(at(closed_port))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_registry_that_fails_is_unavailable(call: Call, server: Answers) -> None:
    server.status, server.body = 500, b'{"error_code": 50001, "message": "the backend is away"}'

    with pytest.raises(RegistryUnavailable, match="the backend is away"):
        call(at(server.port))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_proxys_page_in_place_of_the_registry_is_unavailable(call: Call, server: Answers) -> None:
    server.body = b"<html>Please log in</html>"

    with pytest.raises(RegistryUnavailable):
        call(at(server.port))


def test_a_real_404_is_a_bad_record(server: Answers) -> None:
    server.status, server.body = 404, b'{"error_code": 40403, "message": "Schema not found"}'

    with pytest.raises(Undecodable, match="no schema 5"):
        at(server.port).schema(5)


def test_a_real_answer_is_read(server: Answers) -> None:
    server.body = json.dumps({"schema": json.dumps(SCHEMA)}).encode()

    assert at(server.port).schema(5) == SCHEMA


def test_without_a_url_there_is_no_registry() -> None:
    assert connect(RegistrySettings()) is None


def test_with_a_url_there_is_one(server: Answers) -> None:
    server.body = json.dumps({"schema": json.dumps(SCHEMA)}).encode()

    registry = connect(RegistrySettings(url=f"http://127.0.0.1:{server.port}"))

    assert registry is not None
    assert registry.schema(1) == SCHEMA


def test_without_its_client_the_command_that_installs_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka.schema_registry", None)

    with pytest.raises(MissingExtra, match=r"pip install 'speechmill\[registry\]'") as caught:
        connect(RegistrySettings(url="http://127.0.0.1:1"))

    assert caught.value.extra == "registry"


def test_without_its_client_events_need_no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka.schema_registry", None)

    assert connect(RegistrySettings()) is None
