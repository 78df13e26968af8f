"""A real Apache Kafka for tests: one or three brokers in KRaft mode on 127.0.0.1.

Owns the brokers' settings and their lives; `kafka_jars.py` gets the program, `kafka_node.py` runs
one broker. The data is thrown away at `stop`.
"""

import base64
import uuid
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from . import kafka_jars
from .errors import ServiceError
from .kafka_node import KafkaNode
from .kafka_proxy import KafkaProxy
from .ports import HOST, free_ports
from .versions import KAFKA_VERSION
from .waiting import wait_until

START_DEADLINE_S = 90.0
"""One broker takes 3 s on two idle cores, three take 7 s; this is for a busy machine."""

DEFAULT_HEAP_MB = 384

_SETTINGS = {
    # A topic that a test forgot to create is a mistake to be seen.
    "auto.create.topics.enable": "false",
    # 50 partitions each by default: most of a first consumer's or transaction's wait.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    # Classic groups: don't wait for more members, and let a killed one be noticed in seconds.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # The consumer protocol (KIP-848) takes these from the broker, where the client has no say:
    # 45 s and 5 s by default.
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "500",
    # How often transactions of a vanished producer are looked for: 10 s by default.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    # A killed broker is out of the cluster after 3 s (9 s by default).
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # 128 MiB of heap by default.
    "log.cleaner.dedupe.buffer.size": "4194304",
    # 10 MiB reserved for each of a partition's indexes by default.
    "log.index.size.max.bytes": "1048576",
}


class KafkaCluster:
    """A Kafka of 1 or 3 brokers, numbered from 1, for use in a `with` or by `start` and `stop`.

    Internal topics are replicated to as many brokers as there are, and so should a test's own be
    that kills one. `bootstrap` stays the same from `start` to `stop`.
    """

    name = f"Apache Kafka {KAFKA_VERSION}"

    def __init__(
        self,
        brokers: int = 1,
        *,
        settings: Mapping[str, str] | None = None,
        heap_mb: int = DEFAULT_HEAP_MB,
        fast_start: bool = True,
        proxied: bool = False,
    ) -> None:
        """
        Args:
            brokers: 1 or 3.
            settings: broker settings that win over those of this file.
            heap_mb: each broker's largest heap, in MiB.
            fast_start: compile little and start fast; False for measuring throughput.
            proxied: with a `KafkaProxy` before the brokers, for those clients that are given
                `proxied_bootstrap`.
        """
        if brokers not in (1, 3):
            raise ValueError(f"1 or 3 brokers, not {brokers}: two lose their quorum with either")
        replicas, in_sync = str(brokers), str(min(2, brokers))
        self._settings = {
            **_SETTINGS,
            "default.replication.factor": replicas,
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            **(settings or {}),
        }
        self._count = brokers
        self._heap_mb = heap_mb
        self._fast_start = fast_start
        self._proxied = proxied
        self._proxy: KafkaProxy | None = None
        self._folder: TemporaryDirectory[str] | None = None
        self._nodes: dict[int, KafkaNode] = {}

    @property
    def brokers(self) -> tuple[int, ...]:
        """The brokers' numbers, dead ones too."""
        return tuple(self._nodes)

    @property
    def running(self) -> tuple[int, ...]:
        """The numbers of the brokers whose process lives."""
        return tuple(number for number, node in self._nodes.items() if node.running)

    @property
    def pids(self) -> tuple[int, ...]:
        """The living brokers' process ids."""
        return tuple(node.pid for node in self._nodes.values() if node.running and node.pid)

    @property
    def bootstrap(self) -> str:
        """`bootstrap.servers` for a client: every broker, dead ones too."""
        return ",".join(f"{HOST}:{node.port}" for node in self._nodes.values())

    @property
    def proxy(self) -> KafkaProxy:
        """What clients of `proxied_bootstrap` pass through."""
        if self._proxy is None:
            raise ServiceError("no proxy: not proxied=True, or not started")
        return self._proxy

    @property
    def proxied_bootstrap(self) -> str:
        """`bootstrap.servers` for a client that shall meet the proxy's faults, and never learns
        of another way."""
        return ",".join(f"{HOST}:{port}" for port in self.proxy.ports)

    def start(self) -> None:
        """Provision if need be, and start every broker; returns when all are in the cluster.

        Raises:
            ProvisionError: Kafka can't be had.
            ServiceError: a broker ended, or was not there in time.
        """
        if self._nodes:
            raise ServiceError("the cluster is running already")
        jars = kafka_jars.provision()
        self._folder = TemporaryDirectory(prefix="speechmill-kafka-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        try:
            ports = free_ports((4 if self._proxied else 2) * self._count)
            pairs: list[tuple[int, int]] = []
            if self._proxied:
                pairs = [(ports.pop(), ports.pop()) for _ in range(self._count)]
                self._proxy = KafkaProxy({before: behind for behind, before in pairs})
            self._nodes = {
                number: KafkaNode(
                    number,
                    ports.pop(),
                    ports.pop(),
                    folder / f"broker-{number}",
                    jars=jars,
                    heap_mb=self._heap_mb,
                    fast_start=self._fast_start,
                    proxied=pairs[number - 1] if pairs else None,
                )
                for number in range(1, self._count + 1)
            }
            self._format()
            for node in self._nodes.values():
                node.start()
            self._wait_for(self.brokers)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill every broker and delete their data. Does nothing if none was started."""
        for node in self._nodes.values():
            node.stop()
        self._nodes = {}
        if self._proxy is not None:
            self._proxy.close()
            self._proxy = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def kill(self, broker: int, hard: bool = True) -> None:
        """End a broker and keep its data: `hard` with SIGKILL, else by a controlled shutdown.

        A test with transactions that kills a broker hard needs three: where a partition's only
        replica is killed just after a commit, Kafka (seen with 4.4.0) may give up on the commit's
        marker as it comes back, and readers of committed records then wait there for ever.
        """
        self._nodes[broker].kill(hard)

    def restart(self, broker: int) -> None:
        """Start a broker again on its data and ports; returns when the cluster has it.

        One that is running is shut down first. Others may be dead, while a quorum lives. After a
        hard kill the cluster takes it only when `broker.session.timeout.ms` is over.
        """
        self._nodes[broker].restart()
        self._wait_for((broker,))

    def pause(self, broker: int) -> None:
        """Freeze a broker (SIGSTOP): its connections stay open, and nothing answers."""
        self._nodes[broker].pause()

    def resume(self, broker: int) -> None:
        """Undo `pause`."""
        self._nodes[broker].resume()

    def log_tail(self) -> str:
        """The end of each broker's log, under its number."""
        return "\n".join(
            f"--- broker {number} ---\n{node.log_tail()}" for number, node in self._nodes.items()
        )

    def _format(self) -> None:
        cluster_id = "-"
        while cluster_id.startswith("-"):  # the tool would take it for an option
            cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        voters = ",".join(node.voter for node in self._nodes.values())
        for node in self._nodes.values():
            node.configure(voters, self._settings)
        formatting = [node.format(cluster_id) for node in self._nodes.values()]
        for child in formatting:
            if code := child.wait(START_DEADLINE_S):
                raise ServiceError(f"kafka-storage format: exit {code}\n{child.log_tail()}")

    def _wait_for(self, numbers: tuple[int, ...]) -> None:
        # Silent, as refused connections are expected here; an error comes as an exception anyway.
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

        def all_there() -> bool:
            for number in numbers:
                if not self._nodes[number].running:
                    raise ServiceError(f"broker {number} ended\n{self.log_tail()}")
                if not self._nodes[number].accepts:
                    return False
            try:
                return set(numbers) <= set(admin.list_topics(timeout=1).brokers)
            except KafkaException:
                return False

        try:
            wait_until(all_there, START_DEADLINE_S, f"brokers {numbers} in the cluster")
        except TimeoutError as error:
            raise ServiceError(f"{error}\n{self.log_tail()}") from error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
