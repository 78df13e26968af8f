"""Where settings come from, which source wins, and what is said of one that is wrong."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import processor.settings
from processor.errors import SettingsError
from processor.settings import Settings, load

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def clean_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory and no variable of ours."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("SPEECHMILL_"):
            monkeypatch.delenv(name)


def write(path: str, toml: str) -> Path:
    file = Path(path)
    file.parent.mkdir(exist_ok=True)
    file.write_text(toml, "utf-8")
    return file


def refusal(file: Path | None = None, **overrides: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load(file, overrides)
    return str(caught.value)


# --- precedence -----------------------------------------------------------------------------------


def test_without_any_source_the_defaults_hold() -> None:
    settings = load()

    assert settings.kafka.bootstrap == "localhost:9092"
    assert settings.registry.url is None
    assert settings.engine.default_seed == 0


#: How `speechmill up` begins its file, while it runs.
UP = f"# pid {os.getpid()}: written by `speechmill up`\n"


def test_what_an_up_left_that_was_killed_is_ignored() -> None:
    write(".speechmill/up.toml", f'# pid {2**22 + 1}: gone\n[kafka]\nbootstrap = "up:1"')

    assert load().kafka.bootstrap == "localhost:9092"


def test_what_up_left_is_above_the_defaults() -> None:
    write(".speechmill/up.toml", UP + '[kafka]\nbootstrap = "up:1"')

    assert load().kafka.bootstrap == "up:1"


def test_the_file_is_above_what_up_left() -> None:
    write(".speechmill/up.toml", UP + '[kafka]\nbootstrap = "up:1"')
    write("speechmill.toml", '[kafka]\nbootstrap = "file:1"')

    assert load().kafka.bootstrap == "file:1"


def test_a_variable_is_above_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write("speechmill.toml", '[kafka]\nbootstrap = "file:1"')
    monkeypatch.setenv("SPEECHMILL_KAFKA__BOOTSTRAP", "variable:1")

    assert load().kafka.bootstrap == "variable:1"


def test_the_command_line_is_above_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHMILL_KAFKA__BOOTSTRAP", "variable:1")

    assert load(overrides={"kafka": {"bootstrap": "line:1"}}).kafka.bootstrap == "line:1"


def test_sources_fill_each_others_gaps_within_one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    write(".speechmill/up.toml", UP + '[kafka]\nbootstrap = "up:1"\ngroup = "up"\nrequests = "up"')
    write("speechmill.toml", '[kafka]\ngroup = "file"\nrequests = "file"')
    monkeypatch.setenv("SPEECHMILL_KAFKA__REQUESTS", "variable")

    kafka = load(overrides={"kafka": {"completions": "line"}}).kafka

    assert (kafka.bootstrap, kafka.group, kafka.requests, kafka.completions, kafka.deadletters) == (
        "up:1",
        "file",
        "variable",
        "line",
        "speech.deadletters",
    )


def test_a_named_file_takes_the_place_of_the_one_here(tmp_path: Path) -> None:
    write("speechmill.toml", '[kafka]\nbootstrap = "here:1"\ngroup = "here"')
    named = write("elsewhere/my.toml", '[kafka]\nbootstrap = "named:1"')

    kafka = load(named).kafka

    assert (kafka.bootstrap, kafka.group) == ("named:1", "speechmill")


def test_a_variable_may_name_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write("my.toml", '[kafka]\nbootstrap = "named:1"')
    monkeypatch.setenv("SPEECHMILL_SETTINGS", "my.toml")

    assert load().kafka.bootstrap == "named:1"


def test_the_command_lines_file_is_above_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    write("first.toml", '[kafka]\nbootstrap = "first:1"')
    write("second.toml", '[kafka]\nbootstrap = "second:1"')
    monkeypatch.setenv("SPEECHMILL_SETTINGS", "second.toml")

    assert load(Path("first.toml")).kafka.bootstrap == "first:1"


def test_values_of_variables_are_read_as_their_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHMILL_WORKER__WINDOW_REQUESTS", "7")
    monkeypatch.setenv("SPEECHMILL_STORE__TEXT_BUCKETS", '["books", "letters"]')

    settings = load()

    assert settings.worker.window_requests == 7
    assert settings.store.text_buckets == {"books", "letters"}


# --- what is wrong --------------------------------------------------------------------------------


def test_a_named_file_that_is_absent_is_an_error() -> None:
    assert refusal(Path("absent.toml")) == "absent.toml: no such settings file"


def test_a_file_that_a_variable_names_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHMILL_SETTINGS", "absent.toml")

    assert refusal() == "absent.toml: no such settings file"


def test_a_file_that_is_not_toml_is_named() -> None:
    write("speechmill.toml", "kafka = [")

    assert refusal().startswith("speechmill.toml: ")


def test_an_unknown_name_in_a_file_is_an_error_that_names_it() -> None:
    write("speechmill.toml", '[kafka]\nbotstrap = "x:1"')

    assert "kafka.botstrap" in refusal()
    assert "no such setting" in refusal()


def test_an_unknown_group_in_a_file_is_an_error_that_names_it() -> None:
    write("speechmill.toml", '[kafak]\nbootstrap = "x:1"')

    assert refusal().startswith("kafak ")
    assert "no such setting" in refusal()


@pytest.mark.parametrize(
    "name",
    [
        "SPEECHMILL_KAFKA__BOTSTRAP",
        "SPEECHMILL_KAFKA_BOOTSTRAP",
        "SPEECHMILL_KAFAK__BOOTSTRAP",
        "SPEECHMILL_BOOTSTRAP",
        "SPEECHMILL_SETTINGS__FILE",
        "speechmill_kafak__bootstrap",
    ],
)
def test_an_unknown_variable_is_an_error_that_names_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "localhost:9092")

    assert name.upper() in refusal().upper()
    assert "no such setting" in refusal()


def test_an_unknown_override_is_an_error_that_names_it() -> None:
    assert "kafka.botstrap" in refusal(kafka={"botstrap": "x:1"})


def test_other_programs_variables_are_none_of_our_business(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPEECHMILLER_KAFKA", "x")
    monkeypatch.setenv("KAFKA__BOOTSTRAP", "x")

    assert load().kafka.bootstrap == "localhost:9092"


WRONG = [
    ("kafka.partitions", "0"),
    ("kafka.requests", "speech requests"),
    ("kafka.group_protocol", "newest"),
    ("kafka.session_timeout_ms", "soon"),
    ("store.endpoint", "localhost:9000"),
    ("store.bucket", "Speech"),
    ("store.timeout_s", "0"),
    ("text.max_characters", "0"),
    ("engine.max_batch", "-1"),
    ("engine.default_seed", "-1"),
    ("worker.window_requests", "0"),
    ("worker.drain_s", "-1"),
    ("log.format", "xml"),
]


@pytest.mark.parametrize(("setting", "value"), WRONG)
def test_a_bad_value_names_the_setting_and_its_variable(
    setting: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"SPEECHMILL_{setting.upper().replace('.', '__')}"
    monkeypatch.setenv(variable, value)

    assert refusal().startswith(f"{setting} ({variable}): ")


def test_a_group_that_is_not_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHMILL_KAFKA", "localhost:9092")

    assert "kafka" in refusal()


def test_all_bad_values_are_told_at_once() -> None:
    lines = refusal(kafka={"partitions": 0}, log={"format": "xml"}).splitlines()

    assert [line.split()[0] for line in lines] == ["kafka.partitions", "log.format"]


# --- secrets, and what does not happen ------------------------------------------------------------

SECRET = "correct-horse-battery"


def with_secrets() -> Settings:
    return load(
        overrides={
            "kafka": {"sasl_password": SECRET},
            "store": {"access_key": SECRET, "secret_key": SECRET},
            "registry": {"password": SECRET},
        }
    )


def test_secrets_are_not_in_what_is_printed() -> None:
    settings = with_secrets()

    for value in (settings, settings.kafka, settings.store, settings.registry):
        assert SECRET not in repr(value)
        assert SECRET not in str(value)
    assert SECRET not in settings.model_dump_json()


def test_secrets_are_there_for_who_asks() -> None:
    settings = with_secrets()

    assert settings.store.secret_key.get_secret_value() == SECRET


def test_a_refusal_does_not_show_the_secret_beside_it() -> None:
    message = refusal(
        store={"secret_key": SECRET, "bucket": "NO"}, kafka={"sasl_password": [SECRET]}
    )

    assert "store.bucket" in message and "kafka.sasl_password" in message
    assert SECRET not in message


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().kafka.group = "other"  # type: ignore[misc]


class Watched(dict[str, str]):
    """An environment that fails whoever looks for a variable of ours, or looks at all of them."""

    def __getitem__(self, name: str) -> str:
        assert not name.upper().startswith("SPEECHMILL"), f"{name} was read"
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        assert not name.upper().startswith("SPEECHMILL"), f"{name} was read"
        return super().get(name, default)

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("all variables were read")

    items = keys = values = __iter__  # type: ignore[assignment]


def test_importing_the_module_reads_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    source = processor.settings.__file__
    spec = importlib.util.spec_from_file_location("settings_once_more", source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "settings_once_more", module)
    monkeypatch.setattr(os, "environ", Watched(os.environ))

    spec.loader.exec_module(module)

    with pytest.raises(AssertionError, match="was read"):  # the watch works
        module.load()


def test_a_variable_that_is_set_after_the_import_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load()
    monkeypatch.setenv("SPEECHMILL_KAFKA__BOOTSTRAP", "late:1")

    assert (before.kafka.bootstrap, load().kafka.bootstrap) == ("localhost:9092", "late:1")
