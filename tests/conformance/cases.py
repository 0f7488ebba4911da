"""All cases, in the order in which they are played: each finds what those before it have left."""

from __future__ import annotations

from tests.conformance import (
    cases_configs,
    cases_groups,
    cases_logins,
    cases_records,
    cases_topics,
    cases_transactions,
    cases_users,
)

# Given to both systems, under the names that both know.
SETTINGS = {
    "default.replication.factor": "1",
    "num.partitions": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "offset.metadata.max.bytes": "100",
    "group.min.session.timeout.ms": "6000",
    "auto.create.topics.enable": "true",
    "auto.leader.rebalance.enable": "false",
    "log.segment.bytes": "268435456",
    "zookeeper.session.timeout.ms": "6000",
}
CASES = [
    *(*cases_topics.SETUP, *cases_records.SETUP, *cases_groups.SETUP),
    *(*cases_records.CASES, *cases_configs.CASES, *cases_topics.CASES, *cases_groups.CASES),
    *(*cases_transactions.CASES, *cases_users.CASES, *cases_logins.CASES, *cases_topics.LAST),
]
