"""Where everything lies in ZooKeeper (replication.md section 1).

A `Layout` is the paths under one chroot; the chroot is part of every path that is sent, so that
kazoo's own chroot is not needed (which cannot make one that is not there).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from minikafka.errors import InvalidRequestError

_CONFIG_CHANGE = "config_change_"


@dataclass(frozen=True, slots=True)
class Layout:
    """`root`: "" or "/name[/name…]", without a slash at the end."""

    root: str = ""

    @property
    def controller(self) -> str:
        return f"{self.root}/controller"

    @property
    def controller_epoch(self) -> str:
        return f"{self.root}/controller_epoch"

    @property
    def broker_ids(self) -> str:
        return f"{self.root}/brokers/ids"

    @property
    def controller_queue(self) -> str:
        return f"{self.root}/controller_queue"

    def candidate_prefix(self, broker_id: int, token: str) -> str:
        """ZooKeeper appends ten digits to it."""
        return f"{self.controller_queue}/c-{broker_id}-{token}-"

    def broker(self, broker_id: int) -> str:
        return f"{self.broker_ids}/{broker_id}"

    @property
    def topics(self) -> str:
        return f"{self.root}/brokers/topics"

    def topic(self, topic: str) -> str:
        return f"{self.topics}/{_name(topic)}"

    def partitions(self, topic: str) -> str:
        return f"{self.topic(topic)}/partitions"

    def partition(self, topic: str, partition: int) -> str:
        return f"{self.partitions(topic)}/{partition}"

    def state(self, topic: str, partition: int) -> str:
        return f"{self.partition(topic, partition)}/state"

    @property
    def topic_configs(self) -> str:
        return f"{self.root}/config/topics"

    def topic_config(self, topic: str) -> str:
        return f"{self.topic_configs}/{_name(topic)}"

    @property
    def broker_configs(self) -> str:
        return f"{self.root}/config/brokers"

    def broker_config(self, broker: str) -> str:
        """`broker`: an id as text, or DEFAULT_BROKER for all of them."""
        return f"{self.broker_configs}/{_name(broker)}"

    def config(self, entity_path: str) -> str | None:
        """The node of `topics/<topic>` or `brokers/<id>`, as announcements name it; None: of
        something else."""
        folder, _, name = entity_path.partition("/")
        if "/" in name or name in ("", ".", ".."):
            return None
        if folder == "topics":
            return self.topic_config(name)
        return self.broker_config(name) if folder == "brokers" else None

    @property
    def config_changes(self) -> str:
        return f"{self.root}/config/changes"

    @property
    def config_change_prefix(self) -> str:
        """ZooKeeper appends ten digits to it."""
        return f"{self.config_changes}/{_CONFIG_CHANGE}"

    @property
    def users(self) -> str:
        return f"{self.root}/config/users"

    def user(self, sanitized: str) -> str:
        """`sanitized`: the user's name as stores/users.py writes it."""
        return f"{self.users}/{_name(sanitized)}"

    @property
    def acls(self) -> str:
        """Of literal patterns: a folder for each type of resource is below."""
        return f"{self.root}/kafka-acl"

    @property
    def prefixed_acls(self) -> str:
        return f"{self.root}/kafka-acl-extended/prefixed"

    @property
    def acl_changes(self) -> str:
        return f"{self.root}/kafka-acl-changes"

    @property
    def prefixed_acl_changes(self) -> str:
        return f"{self.root}/kafka-acl-extended-changes"

    @property
    def decoy(self) -> str:
        return f"{self.root}/security/decoy"

    @property
    def delete_topics(self) -> str:
        return f"{self.root}/admin/delete_topics"

    def delete_topic(self, topic: str) -> str:
        return f"{self.delete_topics}/{_name(topic)}"

    @property
    def preferred_election(self) -> str:
        return f"{self.root}/admin/preferred_replica_election"

    @property
    def producer_id_block(self) -> str:
        return f"{self.root}/latest_producer_id_block"

    @property
    def feature(self) -> str:
        return f"{self.root}/feature"

    @property
    def cluster_id(self) -> str:
        return f"{self.root}/cluster/id"

    @property
    def cluster_proposals(self) -> str:
        return f"{self.root}/cluster/proposals"

    def persistent(self) -> list[str]:
        """The nodes that are made at start and never deleted, each after its parents. All are empty
        except /controller_epoch."""
        chroot = self.root.split("/")[1:]
        parents = ["/" + "/".join(chroot[: depth + 1]) for depth in range(len(chroot))]
        return [
            *parents,
            f"{self.root}/brokers",
            self.broker_ids,
            self.topics,
            f"{self.root}/config",
            self.topic_configs,
            self.broker_configs,
            self.config_changes,
            f"{self.root}/admin",
            self.delete_topics,
            f"{self.root}/cluster",
            self.controller_epoch,
            self.controller_queue,
        ]


def split_connect(connect: str) -> tuple[str, Layout]:
    """("host:port,host:port", layout) of a connect string `host:port,…[/chroot]`."""
    hosts, _, chroot = connect.partition("/")
    return hosts, Layout(f"/{chroot.strip('/')}" if chroot.strip("/") else "")


# What ZooKeeper takes in no path, and what separates the names in it.
_NO_NAME = re.compile("[/\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]")
_MAX_NAME_CHARACTERS = 4_096


def check_node_name(name: str) -> None:
    """InvalidRequestError for a name from outside that no node can have."""
    if name in ("", ".", "..") or _NO_NAME.search(name):
        raise InvalidRequestError(f"{name[:256]!r} cannot be the name of a node of ZooKeeper")
    if len(name) > _MAX_NAME_CHARACTERS:
        raise InvalidRequestError(
            f"a name of {len(name)} characters is too long to be kept: at most "
            f"{_MAX_NAME_CHARACTERS}"
        )


def _name(name: str) -> str:
    assert "/" not in name, f"{name!r} is no name of a node"
    assert name not in ("", ".", ".."), f"{name!r} is no name of a node"
    return name
