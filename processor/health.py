"""Is this worker alive, and does it get on: from its own progress, over HTTP.

Owns the verdicts and the endpoint. ``/livez``: may it go on, or must it be restarted? Not while a
service is away: a restart mends no outage. ``/readyz``: does it get on, and if not, why? Both
answer 200 or 503 with a JSON object. ``/metrics`` is for Prometheus. Bound to loopback unless told
otherwise.
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Beat", "Health", "Pulse", "serve"]

#: The poll thread comes round several times a second, and calls in even while it waits for a
#: broker; the longest call that it makes of one takes less than this, in seconds.
LOOP_STUCK_S = 120.0


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a worker says of itself at one moment."""

    loop_age_s: float
    """Since the poll thread came round."""
    call_age_s: float
    """Of the longest call to the engine that is under way; 0 if none is."""
    joined: bool
    stopping: bool
    outage: str | None
    facts: dict[str, Any] = field(default_factory=dict)


class Health:
    """The verdicts on a pulse; ``pulse`` is asked anew each time, from any thread."""

    def __init__(self, pulse: Callable[[], Pulse], call_stuck_s: float) -> None:
        self._pulse = pulse
        self._call_stuck_s = call_stuck_s

    def live(self) -> tuple[bool, dict[str, Any]]:
        pulse = self._pulse()
        reasons = self._stuck(pulse)
        return not reasons, {"live": not reasons, "reasons": reasons}

    def ready(self) -> tuple[bool, dict[str, Any]]:
        pulse = self._pulse()
        reasons = self._stuck(pulse)
        if not pulse.joined:
            reasons.append("it has not joined the consumer group yet")
        if pulse.stopping:
            reasons.append("it is stopping")
        if pulse.outage is not None:
            reasons.append(f"it waits: {pulse.outage}")
        return not reasons, {"ready": not reasons, "reasons": reasons, **pulse.facts}

    def _stuck(self, pulse: Pulse) -> list[str]:
        reasons = []
        if pulse.loop_age_s > LOOP_STUCK_S:
            reasons.append(f"the poll thread has not come round for {pulse.loop_age_s:.0f} s")
        if pulse.call_age_s > self._call_stuck_s:
            reasons.append(f"the engine has been at one batch for {pulse.call_age_s:.0f} s")
        return reasons


def serve(
    health: Health, address: str, port: int, metrics: Callable[[], bytes]
) -> ThreadingHTTPServer:
    """Answer on ``address:port`` from a daemon thread until ``shutdown`` is called on the server.

    ``metrics`` gives the page ``/metrics`` in Prometheus's text format.

    Raises OSError if the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path == "/metrics":
                self._answer(200, "text/plain; version=0.0.4; charset=utf-8", metrics())
                return
            verdicts = {"/livez": health.live, "/readyz": health.ready}
            verdict = verdicts.get(path)
            good, body = verdict() if verdict else (False, {"paths": [*verdicts, "/metrics"]})
            status = 404 if verdict is None else 200 if good else 503
            self._answer(status, "application/json", json.dumps(body).encode())

        def _answer(self, status: int, kind: str, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """A probe every few seconds is no news."""

    server = ThreadingHTTPServer((address, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server


class Beat:
    """When something last happened. Written by one thread, read by any."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def now(self) -> None:
        self._at = time.monotonic()

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._at
