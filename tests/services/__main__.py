"""The test services from a shell: `python -m tests.services provision`, `run` or `pin`.

provision   fetch and build what is missing, print what there is
run         start Kafka and MinIO, print their addresses, stop at Ctrl-C (or SIGTERM)
pin         write kafka-jars.sha256 anew, after a change of version
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from . import kafka_jars, minio_binary, registry_jars
from .availability import (
    in_ci,
    kafka_unavailable,
    minio_unavailable,
    registry_unavailable,
)
from .cache import cache_root
from .errors import ProvisionError, ServiceError
from .kafka import KafkaCluster
from .minio import MinioServer
from .registry import SchemaRegistry


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.services", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("provision")
    commands.add_parser("pin")
    run = commands.add_parser("run")
    run.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    options = parser.parse_args()
    try:
        if options.command == "provision":
            reason = kafka_unavailable() or minio_unavailable() or registry_unavailable()
            if reason is not None:
                _say(f"not provisioned: {reason}")
                return int(in_ci())  # a laptop may do without; the tests say that they skip
            _provision()
        elif options.command == "pin":
            _say(f"{kafka_jars.pin()} jars in {kafka_jars.MANIFEST.name}")
        else:
            _run(options.brokers)
    except (ProvisionError, ServiceError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _provision() -> None:
    _say(f"cache: {cache_root()}")
    parts: list[tuple[str, Callable[[], Path]]] = [
        (KafkaCluster.name, kafka_jars.provision),
        (MinioServer.name, minio_binary.provision),
        (SchemaRegistry.name, registry_jars.provision),
    ]
    for name, provision in parts:
        began = time.monotonic()
        path = provision()
        _say(f"{name}: {path.relative_to(cache_root())} ({time.monotonic() - began:.1f} s)")


def _run(brokers: int) -> None:
    def end(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's `&` leaves SIGINT ignored
        signal.signal(number, end)
    began = time.monotonic()
    with KafkaCluster(brokers) as kafka, MinioServer() as store:
        _say(f"{kafka.name}: {kafka.bootstrap}")
        _say(f"{store.name}: http://{store.endpoint}")
        _say(f"  access key {store.access_key}, secret key {store.secret_key}")
        _say(f"started in {time.monotonic() - began:.1f} s; Ctrl-C stops both")
        try:
            signal.pause()
        except KeyboardInterrupt:
            _say("stopping")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
