"""The README says what is so: its table of settings is the settings' own."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from processor.errors import Code
from processor.settings import Settings

pytestmark = pytest.mark.unit

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def rows() -> list[str]:
    """One row of the table for each setting."""
    found = []
    for group, outer in Settings.model_fields.items():
        kind: Any = outer.annotation
        for name, inner in kind.model_fields.items():
            value = inner.default
            if inner.default_factory is not None:
                shown = "none" if inner.default_factory is dict else "host name"
            elif value is None or value == frozenset():
                shown = "none"
            elif isinstance(value, SecretStr):
                shown = "empty"
            else:
                shown = f"`{value}`"
            found.append(f"| `{group}.{name}` | {shown} | {inner.description} |")
    return found


def test_every_setting_has_its_row_with_its_default() -> None:
    missing = [row for row in rows() if row not in README]

    assert not missing, "put these rows into README.md:\n" + "\n".join(missing)


def test_no_row_names_a_setting_that_is_gone() -> None:
    shown = [line for line in README.splitlines() if line.startswith("| `") and "." in line[:40]]
    groups = tuple(f"| `{group}." for group in Settings.model_fields)

    assert [line for line in shown if line.startswith(groups) and line not in rows()] == []


def test_every_error_code_is_explained() -> None:
    assert [code for code in Code if f"| `{code}` |" not in README] == []
