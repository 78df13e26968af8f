"""Real services for the tests, as plain processes: Apache Kafka, MinIO and a Schema Registry.

Each is provisioned once into a cache outside the checkout (Kafka's and the registry's jars through
Maven, MinIO built through Go), then started on free ports of 127.0.0.1 with throw-away data.
Nothing here knows of speechmill itself.

    with KafkaCluster(brokers=3) as kafka, MinioServer() as store:
        ...  # kafka.bootstrap, store.endpoint, store.access_key, store.secret_key

From a shell: `python -m tests.services provision` and `python -m tests.services run`.
"""

from .errors import ProvisionError, ServiceError
from .kafka import KafkaCluster
from .minio import MinioServer
from .registry import SchemaRegistry
from .waiting import wait_until

__all__ = [
    "KafkaCluster",
    "MinioServer",
    "ProvisionError",
    "SchemaRegistry",
    "ServiceError",
    "wait_until",
]
