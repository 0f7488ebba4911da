"""Who may do what, and who is known, by the configuration: what a broker follows of ZooKeeper."""

from __future__ import annotations

from collections.abc import Callable

from minikafka.broker.access.access import Access
from minikafka.config import BrokerConfig
from minikafka.security.authorizer import Authorizer
from minikafka.security.scram import HASHES
from minikafka.zookeeper.stores.acls import ZooKeeperAcls
from minikafka.zookeeper.stores.store import ZooKeeperStore
from minikafka.zookeeper.stores.users import ZooKeeperUsers


def access_of(config: BrokerConfig, store: ZooKeeperStore, now_ms: Callable[[], int]) -> Access:
    """With an authorizer if one is asked for, and users if a listener offers SCRAM."""
    authorizer = None
    if config.authorizer_class_name:
        authorizer = Authorizer(
            config.super_users, allow_if_no_acl=config.allow_everyone_if_no_acl_found
        )
    return Access(
        ZooKeeperAcls(store.znodes(), store.root),
        ZooKeeperUsers(store.znodes(), store.root),
        now_ms,
        authorizer=authorizer,
        scram=_offers_scram(config),
    )


def _offers_scram(config: BrokerConfig) -> bool:
    return any(
        mechanism in HASHES
        for listener in config.listeners or ()
        for mechanism in config.mechanisms_of(listener.name)
    )
