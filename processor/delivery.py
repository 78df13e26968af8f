"""The publisher that the settings ask for: the promise of delivery, made in one place."""

from collections.abc import Mapping

import structlog

from processor.publisher import AtLeastOnce, Publisher
from processor.settings import Settings
from processor.transactions import ExactlyOnce

__all__ = ["connect", "transactional_id"]

_log = structlog.get_logger()


def connect(settings: Settings, partitions: Mapping[str, int]) -> Publisher:
    """A publisher for one worker; ``partitions`` says how many each topic has.

    Raises BrokerUnavailable, or SettingsError if the broker has no transactions.
    """
    kafka = settings.kafka
    if kafka.delivery == "at_least_once":
        _log.warning("delivery is at least once: a request may be answered twice after a failure")
        return AtLeastOnce(kafka, settings.worker.name, partitions)
    publisher = ExactlyOnce(kafka, transactional_id(settings), partitions)
    _log.info("delivery is exactly once", transactional_id=transactional_id(settings))
    return publisher


def transactional_id(settings: Settings) -> str:
    """Stable over restarts: the next worker of this name takes over what this one left open."""
    return f"{settings.kafka.group}.{settings.worker.name}"
