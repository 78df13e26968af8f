"""A run's own topics, consumer group and bucket: nobody else's work is in the figures, and nothing
of the run stays."""

import structlog
from confluent_kafka import KafkaException
from minio.error import MinioException
from urllib3.exceptions import HTTPError

from processor.errors import SpeechmillError
from processor.kafka import admin, create_topics, topic_names
from processor.settings import Settings
from processor.store import MinioStore

__all__ = ["Corner", "request_topics"]

_log = structlog.get_logger()
_CALL_S = 30.0


class Corner:
    """Made on construction; ``settings`` lead there.

    Raises BrokerUnavailable, SettingsError if the broker refuses, StoreUnavailable, StoreError.
    """

    def __init__(self, settings: Settings, run: str, workers: int) -> None:
        self.settings = _own(settings, run, workers)
        create_topics(self.settings.kafka, timeout_s=_CALL_S)
        self._bucket = _Bucket(self.settings.store)
        try:
            self._bucket.ensure_bucket()
        except SpeechmillError:
            self._remove_topics()
            raise

    def remove(self) -> None:
        """Remove it all, as far as the broker can (the embedded one forgets all when it ends).

        What can't be removed is named in a warning: the run's figures are there all the same.
        """
        self._remove_topics()
        try:
            self._bucket.remove_all()
        except (SpeechmillError, MinioException, HTTPError, OSError) as error:
            _log.warning("bucket not removed", bucket=self._bucket.bucket, reason=str(error))

    def _remove_topics(self) -> None:
        kafka = self.settings.kafka
        client = admin(kafka)
        asked = {
            **client.delete_topics(topic_names(kafka), request_timeout=_CALL_S),
            **client.delete_consumer_groups([kafka.group], request_timeout=_CALL_S),
        }
        for name, future in asked.items():
            try:
                future.result(timeout=_CALL_S)
            except (KafkaException, TimeoutError) as error:
                _log.info("not removed", name=name, reason=str(error))


class _Bucket(MinioStore):
    """A bucket that can be removed with all that is in it."""

    def remove_all(self) -> None:
        for found in self._client.list_objects(self.bucket, recursive=True):
            if found.object_name is not None:
                self.remove(found.object_name)
        self._client.remove_bucket(self.bucket)


def _own(settings: Settings, run: str, workers: int) -> Settings:
    # As many partitions for each worker as for the others: they are to be measured, not the deal.
    partitions = -(-settings.kafka.partitions // workers) * workers
    kafka = {
        "requests": f"{run}.requests",
        "priority": f"{run}.requests.priority",
        "completions": f"{run}.completions",
        "deadletters": f"{run}.deadletters",
        "group": run,
        "partitions": partitions,
        # Nobody comes back under an old name, and a member that is gone is to be gone.
        "static_membership": False,
    }
    return settings.model_copy(
        update={
            "kafka": settings.kafka.model_copy(update=kafka),
            "store": settings.store.model_copy(update={"bucket": run}),
        }
    )


def request_topics(settings: Settings) -> int:
    """How many topics workers read: each has the same number of partitions."""
    return len({settings.kafka.requests, settings.kafka.priority})
