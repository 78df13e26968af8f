"""Every setting, its default and its bounds, and where each may come from.

Owns names, defaults and checks. Reads the environment and files only when ``load`` is called, never
at import. Precedence, highest first: what a command line gives, ``SPEECHMILL_*`` variables
(``SPEECHMILL_KAFKA__BOOTSTRAP``), the settings file (``--settings``, ``SPEECHMILL_SETTINGS`` or
``speechmill.toml`` here), what a running ``speechmill up`` left in ``.speechmill/up.toml``,
defaults. An unknown name is an error everywhere.
"""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import (
    SettingsError as SourceError,
)

from processor.errors import SettingsError

__all__ = [
    "EngineSettings",
    "HealthSettings",
    "KafkaSettings",
    "RegistrySettings",
    "Settings",
    "SimulatedSettings",
    "StoreSettings",
    "TextSettings",
    "WorkerSettings",
    "cores",
    "load",
    "up_is_running",
]

PREFIX = "SPEECHMILL_"
UP_FILE = Path(".speechmill/up.toml")

Topic = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
Milliseconds = Annotated[int, Field(ge=0, le=3_600_000)]


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(_Group):
    """The broker, the topics and the consumer group."""

    bootstrap: str = Field("localhost:9092", description="host:port, several with commas")
    requests: Topic = Field("speech.requests", description="topic that is read")
    priority: Topic = Field(
        "speech.requests.priority", description="likewise, and served before the other"
    )
    completions: Topic = Field("speech.completions", description="topic of the answers")
    deadletters: Topic = Field(
        "speech.deadletters", description="topic of what could not be served, as it came"
    )
    partitions: Annotated[int, Field(ge=1, le=10_000)] = Field(
        8, description="of a topic that `topics create` makes; bounds how many workers can share it"
    )
    replication: Annotated[int, Field(ge=1, le=15)] = Field(1, description="likewise")
    group: str = Field(
        "speechmill", description="consumer group; the priority topic's is that with `.priority`"
    )
    group_protocol: Literal["classic", "consumer"] = Field(
        "classic", description="consumer is KIP-848: Apache Kafka 4 and later"
    )
    static_membership: bool = Field(
        False, description="a worker that is back within its session keeps its partitions"
    )
    session_timeout_ms: Annotated[int, Field(ge=1000, le=1_800_000)] = Field(
        45_000, description="classic protocol: how long a dead worker keeps its partitions"
    )
    delivery: Literal["exactly_once", "at_least_once"] = Field(
        "exactly_once", description="or `at_least_once`, for brokers without transactions"
    )
    transaction_timeout_ms: Annotated[int, Field(ge=1000, le=900_000)] = Field(
        10_000, description="how long a dead worker's open transaction holds up its readers"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="or SSL, SASL_PLAINTEXT, SASL_SSL"
    )
    sasl_mechanism: str | None = Field(None, description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
    sasl_username: str | None = Field(None, description="with a SASL protocol")
    sasl_password: SecretStr | None = Field(None, description="likewise; never logged")
    ssl_ca: Path | None = Field(None, description="PEM file of the authority that signs brokers")


class StoreSettings(_Group):
    """The S3 endpoint and the bucket that audio goes to."""

    endpoint: str = Field(
        "http://localhost:9000",
        pattern=r"^https?://[^/]+/?$",
        description="of any S3 server, with `http://` or `https://`",
    )
    access_key: SecretStr = Field(SecretStr(""), description="empty: requests are not signed")
    secret_key: SecretStr = Field(SecretStr(""), description="never logged")
    region: str = Field("us-east-1", description="that requests are signed for")
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")] = Field(
        "speech", description="where audio and manifests go"
    )
    text_buckets: frozenset[str] = Field(
        frozenset(), description="buckets that a text_uri may name; none: claim checks are refused"
    )
    timeout_s: Annotated[float, Field(gt=0, le=600)] = Field(
        30.0, description="silence of the server after which a call is made again"
    )


class RegistrySettings(_Group):
    """The Schema Registry; without a URL events are Avro single objects."""

    url: str | None = Field(None, description="of a server with Confluent's interface")
    username: str | None = Field(None, description="where it asks for one")
    password: SecretStr | None = Field(None, description="likewise; never logged")


class TextSettings(_Group):
    """What one event may hold, and how it is cut."""

    # The completion holds the text, and must fit into one record of a broker with defaults.
    max_characters: Annotated[int, Field(ge=1, le=200_000)] = Field(
        20_000, description="longest text of one event; 200000 at most"
    )
    default_language: str = Field("en", description="of a request that names none")
    sentence_pause_ms: Annotated[int, Field(ge=0, le=5000)] = Field(
        120, description="silence between sentences"
    )
    paragraph_pause_ms: Annotated[int, Field(ge=0, le=10_000)] = Field(
        400, description="silence between paragraphs"
    )


class EngineSettings(_Group):
    """The model that this worker keeps resident."""

    name: str = Field("hibari", description="the engine; a request's model must agree")
    threads: Annotated[int, Field(ge=0, le=512)] = Field(
        0, description="segments a CPU engine speaks at once; 0: one a core"
    )
    apart: bool = Field(
        False, description="in a process of its own: for an engine whose loop runs in Python"
    )
    max_batch: Annotated[int, Field(ge=0, le=1024)] = Field(
        0, description="segments a batching engine speaks at once; 0: measured at the first start"
    )
    calibrate_s: Annotated[float, Field(gt=0, le=600)] = Field(
        5.0, description="how long that may take"
    )
    max_wait_ms: Milliseconds = Field(
        20, description="how long a batch that is not full waits for more"
    )
    default_seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        0, description="of a request that gives none"
    )


class SimulatedSettings(_Group):
    """The device that the engine ``simulated`` stands for: it measures, it does not speak."""

    base_ms: Annotated[float, Field(ge=0)] = Field(180.0, description="of each call to the device")
    item_ms: Annotated[float, Field(ge=0)] = Field(
        15.0, description="added for each segment of the batch"
    )
    padded_ms: Annotated[float, Field(ge=0)] = Field(
        0.0, description="added for each second of audio, padding included"
    )
    bytecode_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="share of that spent in Python, with the interpreter lock"
    )
    jitter: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="0.1: each call takes up to a tenth more or less"
    )
    memory_s: Annotated[float, Field(ge=0)] = Field(
        0.0, description="seconds of padded audio that fit into its memory; 0: any"
    )
    lanes: Annotated[int, Field(ge=1, le=64)] = Field(1, description="calls that it takes at once")
    faults: dict[str, Literal["kill", "raise", "hang", "refuse", "silent", "nan"]] = Field(
        default_factory=dict, description="word of a text → what the device does at it, for tests"
    )


class WorkerSettings(_Group):
    """One worker's identity, bounds and deadlines."""

    name: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=200,
        description="in completions, logs, the transactional id: one worker, one name",
    )
    slot_dir: Path | None = Field(
        None, description="where a worker locks its name; none: in the temporary folder"
    )
    window_requests: Annotated[int, Field(ge=1, le=100_000)] = Field(
        256, description="requests under way at once; full: partitions are paused"
    )
    window_characters: Annotated[int, Field(ge=1000)] = Field(
        2_000_000, description="likewise, bytes of request records"
    )
    window_audio_bytes: Annotated[int, Field(ge=1_000_000)] = Field(
        512_000_000, description="likewise, of samples that wait for the rest of their request"
    )
    io_threads: Annotated[int, Field(ge=1, le=256)] = Field(
        8, description="for decoding, encoding and the store"
    )
    flush_ms: Milliseconds = Field(50, description="longest time that a finished result waits")
    deaths: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="workers that die with one record alone under way before it is refused"
    )
    startup_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        20.0, description="how long to wait at start for the broker, the topics and the store"
    )
    drain_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        20.0, description="how long SIGTERM, or a rebalance, lets work under way finish"
    )


class HealthSettings(_Group):
    """Probes and metrics over HTTP: /livez, /readyz and /metrics."""

    port: Annotated[int, Field(ge=0, le=65_535)] | None = Field(
        None, description="of `/livez`, `/readyz` and `/metrics`; none: they are not served"
    )
    address: str = Field("127.0.0.1", description="that they are served on; `0.0.0.0` in a pod")
    lag_every_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        5.0, description="how often the distance to the topic's end is measured"
    )
    engine_stuck_s: Annotated[float, Field(gt=0)] = Field(
        300.0, description="how long one batch may take before the worker is not alive"
    )


class LogSettings(_Group):
    """Logs go to standard error."""

    format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console on a terminal, JSON elsewhere"
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level that is written"
    )


class Settings(BaseSettings):
    """All of them. Frozen; made by ``load``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    text: TextSettings = Field(default_factory=TextSettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)
    simulated: SimulatedSettings = Field(default_factory=SimulatedSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    health: HealthSettings = Field(default_factory=HealthSettings)
    log: LogSettings = Field(default_factory=LogSettings)


def load(file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The effective settings. ``overrides`` are groups as nested dicts, from a command line.

    Raises SettingsError that names the setting, where its value came from and what is allowed.
    """
    named = file or (Path(env) if (env := os.environ.get(f"{PREFIX}SETTINGS")) else None)
    if named is not None and not named.is_file():
        raise SettingsError(f"{named}: no such settings file")
    files = [named or Path("speechmill.toml")] + ([UP_FILE] if up_is_running() else [])
    _refuse_unknown_variables()

    class FromFiles(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            tomls = [TomlConfigSettingsSource(settings_cls, toml_file=f) for f in files]
            return (init_settings, env_settings, *tomls)

    try:
        return FromFiles(**(overrides or {}))
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    except SourceError as error:
        raise SettingsError(str(error)) from None
    except ValueError as error:  # tomllib: the file is not TOML
        raise SettingsError(
            f"{' or '.join(str(f) for f in files if f.is_file())}: {error}"
        ) from None


def up_is_running() -> bool:
    """Whether a `speechmill up` runs in this folder; it leaves its process id in its file."""
    try:
        pid = UP_FILE.read_text().split(":", 1)[0].removeprefix("# pid ")
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def cores() -> int:
    """Processors that this process may run on, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _refuse_unknown_variables() -> None:
    groups = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for name in os.environ:
        ours = name.upper()  # pydantic-settings reads them in either case
        if not ours.startswith(PREFIX) or name == f"{PREFIX}SETTINGS":
            continue
        if ours.split("__")[0] not in groups:
            raise SettingsError(
                f"{name}: no such setting; groups are {', '.join(Settings.model_fields)}, "
                f"as in {PREFIX}KAFKA__BOOTSTRAP"
            )


_WORDS = {
    "extra_forbidden": "no such setting",
    "string_pattern_mismatch": "not of the form that it must have; README.md shows one",
}


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        path = [str(part) for part in item["loc"]]
        variable = PREFIX + "__".join(path).upper()
        what = _WORDS.get(item["type"], item["msg"])
        lines.append(f"{'.'.join(path)} ({variable}): {what}")
    return "\n".join(lines)
