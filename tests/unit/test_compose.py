"""The stack in containers, as far as it can be judged without running it.

What is pinned, what is confined, who waits for whom; and that every name in it that belongs to
another file is one that this file knows.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from processor.settings import Settings, load

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose"
#: A variable with what follows it: a default (``:-``), or why it must be there (``:?``).
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")
SECRET = "SPEECHMILL_STORE__SECRET_KEY"
#: Built here, so there is nothing to pin.
OWN_IMAGE = "speechmill:local"


def source() -> str:
    return (COMPOSE / "compose.yaml").read_text("utf-8")


@cache
def services() -> dict[str, dict[str, Any]]:
    """The services, as Compose sees them when nothing but the secret is set."""

    def value(found: re.Match[str]) -> str:
        if found["kind"] == "?":
            assert found["name"] == SECRET, f"{found['name']} has no default"
            return "0123456789"
        assert found["kind"] == "-", f"{found[0]} has no default"
        return found["rest"]

    document = yaml.safe_load(VARIABLE.sub(value, source()))
    found: dict[str, dict[str, Any]] = document["services"]
    return found


def each_service() -> list[Any]:
    return [pytest.param(service, id=name) for name, service in services().items()]


def ours() -> list[Any]:
    return [p for p in each_service() if p.values[0]["image"] == OWN_IMAGE]


def example() -> Iterator[tuple[str, str]]:
    """Name and value of each variable in .env.example, those that are commented out too."""
    for line in (COMPOSE / ".env.example").read_text("utf-8").splitlines():
        if assignment := re.fullmatch(r"#?([A-Z]\w*)=(.*)", line):
            yield assignment[1], assignment[2]


@cache
def stages() -> list[list[tuple[str, str]]]:
    """The Dockerfile's stages as instructions with their arguments; what precedes them comes first.

    Comments are left out and continued lines joined.
    """
    text = (COMPOSE / "Dockerfile").read_text("utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    found: list[list[tuple[str, str]]] = [[]]
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, arguments = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append((name, " ".join(arguments.split())))
    return found


def arguments(instruction: str) -> list[str]:
    """The arguments of each such instruction in the stage that becomes the image."""
    return [text for name, text in stages()[-1] if name == instruction]


def settings_with(
    environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> Settings:
    """What a command of ours makes of these variables. Raises SettingsError on an unknown one."""
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.upper().startswith("SPEECHMILL_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load()


def quantity(size: str) -> int:
    """Bytes of a size as Compose writes it: 64m, 2g."""
    return int(size[:-1]) << {"k": 10, "m": 20, "g": 30}[size[-1]]


def seconds(duration: str) -> int:
    assert duration.endswith("s")
    return int(duration[:-1])


# --- what runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", each_service())
def test_an_image_is_pinned(service: dict[str, Any]) -> None:
    name, _, tag = service["image"].rpartition(":")

    assert name
    assert service["image"] == OWN_IMAGE or re.search(r"\d+\.\d+\.\d+|\d{4}-\d\d-\d\d", tag)
    assert ("build" in service) == (service["image"] == OWN_IMAGE)


def test_the_base_image_is_pinned_and_the_same_in_each_stage() -> None:
    before, *each = stages()

    assert [name for name, _ in before] == ["ARG"]
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.11\.\d+-slim-\w+", before[0][1])
    assert [stage[0][1].split()[0] for stage in each] == ["${PYTHON_IMAGE}"] * len(each)
    assert len(each) > 1


def test_the_build_names_files_that_exist() -> None:
    for (service,) in (p.values for p in ours()):
        context = COMPOSE / service["build"]["context"]
        assert context.resolve() == ROOT
        assert (context / service["build"]["dockerfile"]).is_file()


def test_the_context_is_what_the_wheel_is_made_of() -> None:
    rules = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    files = [project["project"]["readme"], *project["project"]["license-files"]]
    rest = ["pyproject.toml", "constraints.txt"]

    assert next(rule for rule in rules if not rule.startswith("#")) == "*"
    assert {r[1:] for r in rules if r.startswith("!")} == {*packages, *files, *rest}


def test_the_image_installs_an_extra_that_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    [extras] = [text for name, text in stages()[1] if name == "ARG"]

    assert set(extras.removeprefix("EXTRAS=").split(",")) <= set(project["optional-dependencies"])


def test_the_image_has_no_build_tools() -> None:
    [installed] = arguments("COPY")
    commands = " ".join(arguments("RUN"))

    assert installed.startswith("--from=build ")
    assert not re.search(
        r"\b(apt|apt-get|apk|pip|gcc|g\+\+|clang|make|cargo|curl|wget)\b", commands
    )


def test_nothing_is_compiled_and_versions_are_constrained() -> None:
    [install] = [text for name, text in stages()[1] if name == "RUN" and " install " in text]

    assert "--only-binary=:all:" in install
    assert "--constraint constraints.txt" in install


def test_the_image_runs_as_nobody_in_particular() -> None:
    names = [name for name, _ in stages()[-1]]
    [user] = arguments("USER")

    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "RUN" not in names[names.index("USER") :]


def test_sigterm_reaches_the_worker() -> None:
    assert [json.loads(text) for text in arguments("ENTRYPOINT")] == [["speechmill"]]
    assert [json.loads(text) for text in arguments("CMD")] == [["worker"]]
    assert all(p.values[0]["init"] is True for p in ours())


def test_home_and_caches_are_on_the_volume() -> None:
    [volume] = arguments("VOLUME")
    variables = dict(pair.split("=", 1) for text in arguments("ENV") for pair in text.split())

    assert variables["HOME"] == volume
    assert variables["HF_HOME"].startswith(f"{volume}/")
    assert arguments("WORKDIR") == [volume]
    for (service,) in (p.values for p in ours()):
        assert [mount.split(":")[1] for mount in service["volumes"]] == [volume]


# --- what it may do -------------------------------------------------------------------------------


@pytest.mark.parametrize("service", each_service())
def test_a_container_is_confined(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert any(mount.startswith("/tmp:") for mount in service["tmpfs"])  # noqa: S108
    assert not service.keys() & {"privileged", "cap_add", "network_mode", "pid", "devices", "user"}


@pytest.mark.parametrize("service", each_service())
def test_a_container_is_bounded(service: dict[str, Any]) -> None:
    limits = service["deploy"]["resources"]["limits"]

    assert float(limits["cpus"]) > 0
    assert quantity(limits["memory"]) >= 512 << 20
    assert limits["pids"] > 0
    assert service["logging"]["options"].keys() >= {"max-size", "max-file"}
    for mount in service["tmpfs"]:
        assert "size=" in mount


@pytest.mark.parametrize("service", each_service())
def test_ports_are_on_the_loopback_only(service: dict[str, Any]) -> None:
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


def test_nothing_of_the_machine_is_mounted() -> None:
    named = yaml.safe_load(source())["volumes"]
    for service in services().values():
        for mount in service["volumes"]:
            name, _, target = mount.rpartition(":")
            assert target.startswith("/")
            assert not name or name in named


# --- who waits for whom ---------------------------------------------------------------------------


@pytest.mark.parametrize("service", each_service())
def test_what_is_waited_for_can_happen(service: dict[str, Any]) -> None:
    for name, how in service.get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert services()[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        else:
            assert how["condition"] == "service_completed_successfully"
            assert services()[name]["restart"] == "no"


def test_workers_start_on_topics_and_a_bucket() -> None:
    assert services()["init"]["command"] == ["topics", "create"]
    assert services()["init"]["depends_on"].keys() == {"kafka", "s3"}
    assert services()["worker"]["depends_on"].keys() == {"init", "kafka", "s3"}


def test_what_should_run_is_started_again() -> None:
    policies = {name: service["restart"] for name, service in services().items()}

    assert policies.pop("init") == "no"
    assert set(policies.values()) == {"unless-stopped"}


def test_workers_can_be_many() -> None:
    worker = services()["worker"]

    assert not worker.keys() & {"container_name", "hostname", "ports"}
    assert "SPEECHMILL_WORKER__NAME" not in worker["environment"]  # its host name: the container's


# --- names that belong to other files -------------------------------------------------------------


@pytest.mark.parametrize("service", ours())
def test_every_variable_is_a_setting(
    service: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = settings_with(service["environment"], monkeypatch, tmp_path)

    assert settings.store.access_key.get_secret_value()
    assert settings.store.secret_key.get_secret_value() == "0123456789"
    assert settings.store.endpoint == "http://s3:9000"


def test_a_worker_finds_kafka_and_so_does_the_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kafka = services()["kafka"]
    advertised = dict(
        listener.split("://")
        for listener in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")
    )
    inside = settings_with(services()["worker"]["environment"], monkeypatch, tmp_path)
    outside = settings_with({}, monkeypatch, tmp_path)

    assert inside.kafka.bootstrap == advertised["INSIDE"] == f"{kafka['hostname']}:19092"
    assert advertised["HOST"] == "127.0.0.1:9092"
    assert outside.kafka.bootstrap == "localhost:9092"
    assert kafka["ports"] == ["127.0.0.1:9092:9092"]
    assert outside.store.endpoint == "http://localhost:9000"
    assert services()["s3"]["ports"] == ["127.0.0.1:9000:9000"]


def test_the_one_broker_asks_for_no_second() -> None:
    environment = services()["kafka"]["environment"]

    for topic in ("OFFSETS_TOPIC", "TRANSACTION_STATE_LOG", "SHARE_COORDINATOR_STATE_TOPIC"):
        assert environment[f"KAFKA_{topic}_REPLICATION_FACTOR"] == "1"
    for topic in ("TRANSACTION_STATE_LOG", "SHARE_COORDINATOR_STATE_TOPIC"):
        assert environment[f"KAFKA_{topic}_MIN_ISR"] == "1"


def test_a_worker_has_the_time_and_the_memory_that_its_settings_ask_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    worker = services()["worker"]
    limits = worker["deploy"]["resources"]["limits"]
    settings = settings_with(worker["environment"], monkeypatch, tmp_path)

    assert seconds(worker["stop_grace_period"]) >= settings.worker.drain_s + 10
    assert settings.engine.threads == int(limits["cpus"])
    assert quantity(limits["memory"]) > 2 * settings.worker.window_audio_bytes


# --- .env -----------------------------------------------------------------------------------------


def test_the_example_names_every_variable_with_its_default() -> None:
    defaults = {found["name"]: found["rest"] for found in VARIABLE.finditer(source())}
    defaults[SECRET] = ""

    assert dict(example()) == defaults


def test_a_variable_has_one_default() -> None:
    pairs = {(found["name"], found[0]) for found in VARIABLE.finditer(source())}

    assert len(pairs) == len({name for name, _ in pairs})


def test_the_host_can_use_the_same_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = settings_with(dict(example()), monkeypatch, tmp_path)

    assert settings.store.access_key.get_secret_value() == "speechmill"


def test_no_secret_is_committed() -> None:
    assert ".env" in (COMPOSE / ".gitignore").read_text("utf-8").splitlines()
    assert dict(example())[SECRET] == ""
    assert f"{SECRET}:?" in source()
    assert f"{SECRET}:-" not in source()
