"""The Avro schemas as data: what is on the wire, and nothing of how it is read.

Owns the ``.avsc`` files beside it. Knows no dataclass, no codec and no registry.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["AvroSchema", "asyncapi_text", "load"]

AvroSchema = dict[str, Any]


@cache
def load(name: str) -> AvroSchema:
    """The schema of ``name``.avsc as plain JSON data, shared by all callers: do not change it."""
    schema: AvroSchema = json.loads(files(__name__).joinpath(f"{name}.avsc").read_text("utf-8"))
    return schema


def asyncapi_text() -> str:
    """The AsyncAPI 3 document that describes topics, messages and wire forms, as YAML."""
    return files(__name__).joinpath("asyncapi.yaml").read_text("utf-8")
