"""A proxy before Kafka's brokers that cuts and delays what a test names by its API key.

Owns the faults of the network between a client and a broker. It understands the framing of Kafka's
protocol and no more: a request is length, API key, version, correlation id; an answer is length,
correlation id. `KafkaCluster(proxied=True)` puts one before each broker.
"""

import contextlib
import socket
import socketserver
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from types import TracebackType
from typing import Self

from .ports import HOST


class Api(IntEnum):
    """Kafka's API keys, as far as tests name them."""

    PRODUCE = 0
    FETCH = 1
    OFFSET_FETCH = 9
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


class Fault(Enum):
    """What can happen on the way. An answer that is late holds up those behind it."""

    LATE_REQUEST = "late request"
    """The broker hears of it late, and does it even if the client has hung up."""

    LATE_ANSWER = "late answer"
    """The broker does it, and the client hears of it late."""

    CUT_REQUEST = "cut request"
    """The connection ends, and the broker never hears of it."""

    CUT_ANSWER = "cut answer"
    """The broker does it, and the connection ends instead of its answer."""


@dataclass(eq=False)
class Rule:
    """What happens to the requests of one API. For one proxy; `applied` may be read any time."""

    api: Api
    fault: Fault
    seconds: float = 0.0
    """How late."""
    times: int | None = None
    """How often it applies; None: until it is cleared."""
    every: int = 1
    """Applies to each so-many-th request only."""
    applied: int = field(default=0, init=False)
    """How often it has applied."""
    over: int = field(default=0, init=False)
    """How often what a late one held was let go, or would have been: a client may be gone."""
    _met: int = field(default=0, init=False)

    def _applies(self) -> bool:
        if self.applied == self.times:
            return False
        self._met += 1
        if self._met % self.every:
            return False
        self.applied += 1
        return True


class KafkaProxy:
    """Listens from the start, until `close`. `add` and `clear` may be called from any thread."""

    def __init__(self, routes: Mapping[int, int]) -> None:
        """
        Args:
            routes: the port of a broker's own listener by the port to listen on, which is the one
                that the broker must advertise.
        """
        self.ports = tuple(routes)
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._links: set[_Link] = set()
        self._closed = threading.Event()
        self._servers = [self._serve(port, behind) for port, behind in routes.items()]

    def add(self, rule: Rule) -> Rule:
        """Let it happen from now on. Of rules for the same API, the one added first goes first."""
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """No more faults; what is being delayed comes when it was to come."""
        with self._lock:
            self._rules.clear()

    def close(self) -> None:
        """Cut every connection, and listen no longer."""
        self._closed.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        with self._lock:
            links = list(self._links)
        for link in links:
            link.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _serve(self, port: int, behind: int) -> socketserver.ThreadingTCPServer:
        proxy = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                proxy._connect(self.request, behind)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

        server = Server((HOST, port), Connection)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def _connect(self, client: socket.socket, behind: int) -> None:
        try:
            broker = socket.create_connection((HOST, behind), timeout=5)
        except OSError:
            return  # the broker is away: the client sees its connection end
        broker.settimeout(None)
        for end in (client, broker):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(client, broker)
        with self._lock:
            self._links.add(link)
        answers = threading.Thread(target=self._answers, args=(link,), daemon=True)
        answers.start()
        try:
            self._requests(link)
        finally:
            # Closed when neither thread reads any more: a closed one's number is given away anew.
            answers.join()
            broker.close()
            with self._lock:
                self._links.discard(link)

    def _requests(self, link: "_Link") -> None:
        with link:
            while (frame := _read(link.client)) is not None:
                key, number = struct.unpack_from(">h2xi", frame)
                rule = self._take(key, Fault.LATE_REQUEST, Fault.CUT_REQUEST)
                if rule is not None and rule.fault is Fault.CUT_REQUEST:
                    return
                link.asked[number] = key
                self._pass(link.broker, frame, rule)

    def _answers(self, link: "_Link") -> None:
        with link:
            while (frame := _read(link.broker)) is not None:
                (number,) = struct.unpack_from(">i", frame)
                rule = self._take(link.asked.pop(number), Fault.LATE_ANSWER, Fault.CUT_ANSWER)
                if rule is not None and rule.fault is Fault.CUT_ANSWER:
                    return
                self._pass(link.client, frame, rule)

    def _pass(self, end: socket.socket, frame: bytes, delay: Rule | None) -> None:
        if delay is None:
            _write(end, frame)
            return
        self._closed.wait(delay.seconds)
        try:
            _write(end, frame)
        finally:
            with self._lock:
                delay.over += 1

    def _take(self, key: int, *faults: Fault) -> Rule | None:
        """The rule that applies now; counts it."""
        with self._lock:
            for rule in self._rules:
                if rule.api == key and rule.fault in faults and rule._applies():
                    return rule
        return None


class _Link:
    """A client's connection and ours to the broker. As a context it cuts both in the end, and
    takes it as an end that either is gone."""

    def __init__(self, client: socket.socket, broker: socket.socket) -> None:
        self.client = client
        self.broker = broker
        self.asked: dict[int, int] = {}  # API keys by correlation id

    def cut(self) -> None:
        for end in (self.client, self.broker):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self.cut()
        return isinstance(error, OSError)


def _read(end: socket.socket) -> bytes | None:
    """The next request or answer without its length; None when there is no more."""
    head = _exactly(end, 4)
    return None if head is None else _exactly(end, int.from_bytes(head))


def _exactly(end: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = end.recv(min(1 << 16, size - len(parts)))
        if not part:
            return None
        parts += part
    return bytes(parts)


def _write(end: socket.socket, frame: bytes) -> None:
    end.sendall(len(frame).to_bytes(4) + frame)
