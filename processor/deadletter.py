"""What can't be served, kept for a person: the record as it came, with why beside it.

Owns the headers: Kafka Connect's ``__connect.errors.*`` (KIP-298), which dead-letter tools know,
and ``speechmill.error.*`` for what Connect has no name for. The record's key, value and headers
are passed on untouched.
"""

import hashlib

from processor.errors import RequestError
from processor.job import Headers, Message, Record

__all__ = ["CODE", "FIELD", "OMITTED", "dead_letter"]

CODE = "speechmill.error.code"
FIELD = "speechmill.error.field"
OMITTED = "speechmill.omitted"
_CONNECT = "__connect.errors."


def dead_letter(record: Record, error: RequestError, *, topic: str, worker: str) -> Message:
    """``record`` addressed to the dead-letter topic."""
    reason: dict[str, str] = {
        f"{_CONNECT}topic": record.topic,
        f"{_CONNECT}partition": str(record.partition),
        f"{_CONNECT}offset": str(record.offset),
        f"{_CONNECT}connector.name": "speechmill",
        f"{_CONNECT}task.id": worker,
        f"{_CONNECT}stage": error.stage.upper(),
        f"{_CONNECT}class.name": type(error).__module__,
        f"{_CONNECT}exception.class.name": type(error).__name__,
        f"{_CONNECT}exception.message": error.message,
        CODE: error.code,
    }
    if error.field:
        reason[FIELD] = error.field
    added: Headers = tuple((name, value.encode()) for name, value in reason.items())
    value = record.value or b""
    left_out: Headers = (
        (f"{OMITTED}.bytes", str(len(value)).encode()),
        (f"{OMITTED}.sha256", hashlib.sha256(value).hexdigest().encode()),
    )
    # The topic may allow less than the request topic does, and headers were added: a letter must
    # never be what stops a worker. Where its value does not fit, its place and hash remain.
    smaller = Message(topic, None, None, added + left_out, record.partition)
    whole = record.headers + added
    return Message(topic, record.key, record.value, whole, record.partition, smaller)
