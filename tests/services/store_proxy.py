"""A proxy before an S3 store that refuses, delays and cuts what passes through it.

Owns the faults between a client and its store. It changes nothing of a request: the client's
signature covers the Host header, which names the proxy, and the store checks it as it came.
"""

import contextlib
import http.client
import random
import socket
import threading
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from .ports import HOST


@dataclass(frozen=True)
class StoreFaults:
    """What happens to the requests of this moment. Shares are from 0 to 1."""

    unavailable: float = 0.0
    """Share that is answered 503: half of them before the store hears of it, half after."""
    truncated: float = 0.0
    """Share of the PUTs with a body of which the store gets a half, and the client no answer."""
    late_s: float = 0.0
    """Seconds that each answer comes late; the store has done it by then."""


NONE = StoreFaults()

# A store's own words, and those of a load balancer before it.
_REFUSALS = (
    ("application/xml", b"<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>"),
    ("text/html", b"<html><body><h1>503 Service Unavailable</h1></body></html>"),
)


class StoreProxy:
    """Listens from the start, until `close`. Set `faults` at any time, from any thread.

    `counts` tells how often what was done: `requests`, `refused` (before the store heard of it),
    `disowned` (done and answered 503), `truncated`, `late`.
    """

    def __init__(self, store: str, seed: int = 20261122) -> None:
        """
        Args:
            store: host:port of the store.
            seed: of the dice that choose who is met.
        """
        self.faults = NONE
        self.counts: Counter[str] = Counter()
        self._store = store
        self._dice = random.Random(seed)  # noqa: S311 - a repeatable test, not a secret
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._clients: set[socket.socket] = set()
        self._server = self._serve()

    @property
    def endpoint(self) -> str:
        """`127.0.0.1:PORT`, in the place of the store's."""
        return f"{HOST}:{self._server.server_address[1]}"

    def close(self) -> None:
        """Cut every connection, and listen no longer."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            _cut(client)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _serve(self) -> ThreadingHTTPServer:
        proxy = self

        class Connection(_Connection):
            owner = proxy

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 256

        server = Server((HOST, 0), Connection)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def _choose(self, has_body: bool) -> str | None:
        """What becomes of the next request, None if nothing does; counts it."""
        with self._lock:
            faults, first, second = self.faults, self._dice.random(), self._dice.random()
            chosen = None
            if first < faults.unavailable:
                chosen = "refused" if second < 0.5 else "disowned"
            elif has_body and second < faults.truncated:
                chosen = "truncated"
            self.counts["requests"] += 1
            if chosen is not None:
                self.counts[chosen] += 1
            return chosen

    def _delay(self) -> None:
        late_s = self.faults.late_s
        if late_s:
            with self._lock:
                self.counts["late"] += 1
            self._closed.wait(late_s)


class _Connection(BaseHTTPRequestHandler):
    """One client's connection, and one to the store that serves it."""

    owner: StoreProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._upstream = http.client.HTTPConnection(self.owner._store)
        with self.owner._lock:
            self.owner._clients.add(self.connection)

    def finish(self) -> None:
        with self.owner._lock:
            self.owner._clients.discard(self.connection)
        self._upstream.close()
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self) -> None:
        # The client has hung up, or the store is away: the connection ends, as the store's would.
        with contextlib.suppress(OSError, http.client.HTTPException):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Nothing: a test reads `counts`."""

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chosen = self.owner._choose(self.command == "PUT" and len(body) > 1)
        if chosen == "refused":
            self._refuse()
            return
        self._forward(body[: len(body) // 2] if chosen == "truncated" else body)
        if chosen == "truncated":
            self._upstream.close()
            self.close_connection = True
            return
        response = self._upstream.getresponse()
        answer = response.read()
        # A connection for each request: one kept would be closed by the store, some time.
        self._upstream.close()
        self.owner._delay()
        if chosen == "disowned":
            self._refuse()
            return
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        length = response.getheader("Content-Length")
        if self.command != "HEAD" and response.status != http.HTTPStatus.NO_CONTENT:
            length = str(len(answer))
        if length is not None:
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass  # noqa: N815

    def _forward(self, body: bytes) -> None:
        self._upstream.putrequest(
            self.command, self.path, skip_host=True, skip_accept_encoding=True
        )
        for name, value in self.headers.items():
            self._upstream.putheader(name, value)
        self._upstream.endheaders(body)

    def _refuse(self) -> None:
        with self.owner._lock:
            content_type, body = self.owner._dice.choice(_REFUSALS)
        self.send_response_only(http.HTTPStatus.SERVICE_UNAVAILABLE)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _cut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
