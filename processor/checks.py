"""Plain data to events: every field checked, and every fault explained to the one who sent it.

Owns the messages: they name the field and the remedy, and never repeat what was sent. Pure; called
from any thread.
"""

from dataclasses import fields as fields_of
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from processor.errors import Code, RequestError, Stage
from processor.events import ADAPTERS, E, Emotion, Output, SpeechRequest

__all__ = ["claimed", "from_fields"]


def from_fields(kind: type[E], fields: object) -> E:
    """The event that ``fields`` describe, every field checked.

    Raises RequestError (INVALID_FIELD) that names the first field at fault and the remedy, and how
    many more there are.
    """
    try:
        checked: E = ADAPTERS[kind].validate_python(fields)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False)) from None
    return checked


def claimed(fields: dict[str, object]) -> dict[str, Any] | None:
    """Who a faulty request says it is: those of its identifying fields that are sound.

    None without a sound request_id. Made by asking the checks themselves, one field at a time.
    """
    sound: dict[str, Any] = {}
    for name in ("request_id", "tenant", "job_id", "document_id", "index", "metadata"):
        if name not in fields:
            continue
        probe = {"request_id": "probe", "text": "probe", name: fields[name]}
        try:
            sound[name] = getattr(from_fields(SpeechRequest, probe), name)
        except RequestError:
            if name == "request_id":
                return None
    return sound if "request_id" in sound else None


def _refusal(errors: list[ErrorDetails]) -> RequestError:
    first = errors[0]
    field = ".".join(_shown(part) for part in _path(first)) or None
    more = f" ({len(errors) - 1} more fields are wrong)" if len(errors) > 1 else ""
    where = f"{field}: " if field else ""
    return RequestError(
        Code.INVALID_FIELD, f"{where}{_explain(first)}{more}", stage=Stage.DECODE, field=field
    )


def _shown(part: int | str) -> str:
    """A name as it was sent, fit for a header and a log."""
    return "".join(char if char.isprintable() else "?" for char in str(part)[:_LONGEST_NAME])


def _path(error: ErrorDetails) -> tuple[int | str, ...]:
    """Where the field is. Of a dict's key that is wrong, pydantic says (dict, key, "[key]")."""
    path = error["loc"]
    return path[:-2] if len(path) > 2 and path[-1] == "[key]" else path


#: Of a name that was sent, in characters: messages travel in headers, which must stay small.
_LONGEST_NAME = 100

_PATTERNS = {
    "tenant": "use a-z, 0-9, '-' and '_', at most 63, a letter or digit first",
    "language": "use a BCP 47 tag such as en, en-GB or zh",
    "text_uri": "use s3://bucket/key",
    "reference_uri": "use s3://bucket/key",
}


_NO_INTEGER = "not a whole number in range; give one"
_NO_NUMBER = "not a number; give one"
_NO_OBJECT = "must be an object of fields"
_NO_TIME = "not a time; write it as 2026-01-31T12:00:00Z"
_REMEDIES = {
    "missing": "missing; add it",
    "finite_number": "not a finite number; give one",
    "int": _NO_INTEGER,
    "int_type": _NO_INTEGER,
    "int_from_float": _NO_INTEGER,
    "int_parsing_size": _NO_INTEGER,
    "float": _NO_NUMBER,
    "float_type": _NO_NUMBER,
    "string_type": "must be a string",
    "list_type": "must be a list",
    "dataclass_type": _NO_OBJECT,
    "dataclass_exact_type": _NO_OBJECT,
    "dict_type": _NO_OBJECT,
    "string_unicode": "holds half of a surrogate pair, which is no character; leave it out",
    "timezone_aware": "has no time zone; add one, as in 2026-01-31T12:00:00Z",
    "datetime": _NO_TIME,
    "datetime_type": _NO_TIME,
    "datetime_from_date": _NO_TIME,
}


def _explain(error: ErrorDetails) -> str:
    """What is wrong with one field and what to do; never what was sent, which may be private."""
    kind, bounds = error["type"], error.get("ctx", {})
    remedy = _REMEDIES.get(kind.removesuffix("_parsing"))
    if remedy:
        return remedy
    name = str(error["loc"][-1]) if error["loc"] else ""
    match kind:
        case "unexpected_keyword_argument" | "extra_forbidden":
            return f"no such field; did you mean {_closest(error['loc'])!r}?"
        case "enum":
            return f"unknown value; use one of {bounds['expected']}".replace("'unknown', ", "")
        case "string_pattern_mismatch":
            return f"not allowed; {_PATTERNS.get(name, 'use printable characters')}"
        case "string_too_short" | "too_short":
            return f"too short; at least {bounds['min_length']}"
        case "string_too_long" | "too_long":
            return f"too long; at most {bounds['max_length']}"
        case "greater_than_equal" | "less_than_equal" | "less_than" | "greater_than":
            sign = {"ge": "at least", "le": "at most", "lt": "less than", "gt": "more than"}
            return "out of range; " + " and ".join(
                f"{sign[key]} {value}" for key, value in bounds.items() if key in sign
            )
        case _:
            return f"{error['msg'][0].lower()}{error['msg'][1:]}"


def _closest(path: tuple[int | str, ...]) -> str:
    """The field that was most likely meant, as a path; of two alike, the one beside it."""
    groups = {"emotion": Emotion, "output": Output, "": SpeechRequest}
    beside = str(path[0]) if len(path) > 1 else ""
    known: dict[str, str] = {}
    for group in sorted(groups, key=lambda name: name == beside):
        for field in fields_of(groups[group]):
            known[field.name] = f"{group}.{field.name}" if group else field.name
    name = str(path[-1])[:_LONGEST_NAME]
    return known[next(iter(get_close_matches(name, known, n=1, cutoff=0.0)), "text")]
