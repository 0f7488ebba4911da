"""The APIs that are served, and in which versions: the maxima of Apache Kafka 3.0, but for
DescribeCluster, of which kafka-python needs the next one, and transactions (TRANSACTIONS).

Clients infer a release from this table and behave accordingly, so it is that of a real one; only
what works is in it. (By Produce 11 kafka-python takes it for 3.8, and does nothing that it would
not do with 3.0.) Produce is advertised from version 0, because older librdkafka drops
compression silently when the minimum is 3; batches in formats older than v2 are refused one by one.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class ApiKey(IntEnum):
    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    LIST_GROUPS = 16
    SASL_HANDSHAKE = 17
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    WRITE_TXN_MARKERS = 27
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_ACLS = 29
    CREATE_ACLS = 30
    DELETE_ACLS = 31
    DESCRIBE_CONFIGS = 32
    ALTER_CONFIGS = 33
    DESCRIBE_LOG_DIRS = 35
    SASL_AUTHENTICATE = 36
    CREATE_PARTITIONS = 37
    DELETE_GROUPS = 42
    ELECT_LEADERS = 43
    INCREMENTAL_ALTER_CONFIGS = 44
    ALTER_PARTITION_REASSIGNMENTS = 45
    LIST_PARTITION_REASSIGNMENTS = 46
    OFFSET_DELETE = 47
    DESCRIBE_USER_SCRAM_CREDENTIALS = 50
    ALTER_USER_SCRAM_CREDENTIALS = 51
    DESCRIBE_CLUSTER = 60
    DESCRIBE_PRODUCERS = 61
    DESCRIBE_TRANSACTIONS = 65
    LIST_TRANSACTIONS = 66


class Api(NamedTuple):
    """The versions that are served, and the first one with compact fields and tags (KIP-482)."""

    min_version: int
    max_version: int
    first_flexible: int


SASL = (ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE)  # how a name is proved

_NEVER = 1_000

APIS: dict[ApiKey, Api] = {
    ApiKey.PRODUCE: Api(0, 9, 9),
    ApiKey.FETCH: Api(4, 12, 12),
    ApiKey.LIST_OFFSETS: Api(1, 7, 6),
    ApiKey.METADATA: Api(0, 11, 9),
    ApiKey.OFFSET_COMMIT: Api(2, 8, 8),
    ApiKey.OFFSET_FETCH: Api(1, 8, 6),
    ApiKey.FIND_COORDINATOR: Api(0, 4, 3),
    ApiKey.JOIN_GROUP: Api(0, 7, 6),
    ApiKey.HEARTBEAT: Api(0, 4, 4),
    ApiKey.LEAVE_GROUP: Api(0, 4, 4),
    ApiKey.SYNC_GROUP: Api(0, 5, 4),
    ApiKey.DESCRIBE_GROUPS: Api(0, 5, 5),
    ApiKey.LIST_GROUPS: Api(0, 4, 3),
    ApiKey.SASL_HANDSHAKE: Api(0, 1, _NEVER),
    ApiKey.API_VERSIONS: Api(0, 3, 3),
    ApiKey.CREATE_TOPICS: Api(2, 7, 5),
    ApiKey.DELETE_TOPICS: Api(1, 6, 4),
    ApiKey.DELETE_RECORDS: Api(0, 2, 2),
    ApiKey.INIT_PRODUCER_ID: Api(0, 4, 2),
    ApiKey.OFFSET_FOR_LEADER_EPOCH: Api(2, 4, 4),
    ApiKey.DESCRIBE_ACLS: Api(1, 2, 2),
    ApiKey.CREATE_ACLS: Api(1, 2, 2),
    ApiKey.DELETE_ACLS: Api(1, 2, 2),
    ApiKey.DESCRIBE_CONFIGS: Api(1, 4, 4),
    ApiKey.ALTER_CONFIGS: Api(0, 2, 2),
    ApiKey.SASL_AUTHENTICATE: Api(0, 2, 2),
    ApiKey.CREATE_PARTITIONS: Api(0, 3, 2),
    ApiKey.DELETE_GROUPS: Api(0, 2, 2),
    ApiKey.ELECT_LEADERS: Api(0, 2, 2),
    ApiKey.INCREMENTAL_ALTER_CONFIGS: Api(0, 1, 1),
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: Api(0, 0, 0),
    ApiKey.LIST_PARTITION_REASSIGNMENTS: Api(0, 0, 0),
    ApiKey.DESCRIBE_LOG_DIRS: Api(1, 2, 2),
    ApiKey.OFFSET_DELETE: Api(0, 0, _NEVER),
    ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS: Api(0, 0, 0),
    ApiKey.ALTER_USER_SCRAM_CREDENTIALS: Api(0, 0, 0),
    ApiKey.DESCRIBE_CLUSTER: Api(0, 1, 0),
}

# Transactions, and what goes with them. AddPartitionsToTxn from 4 on is between brokers, which here
# speak gRPC. From Produce 12, EndTxn 5 and TxnOffsetCommit 5 on a client speaks TV2 (KIP-890): only
# if it is told of the feature transaction.version, whatever the table says.
TRANSACTIONS: dict[ApiKey, Api] = {
    ApiKey.PRODUCE: Api(0, 12, 9),
    ApiKey.INIT_PRODUCER_ID: Api(0, 5, 2),
    ApiKey.ADD_PARTITIONS_TO_TXN: Api(0, 3, 3),
    ApiKey.ADD_OFFSETS_TO_TXN: Api(0, 4, 3),
    ApiKey.END_TXN: Api(0, 5, 3),
    ApiKey.WRITE_TXN_MARKERS: Api(1, 1, 1),
    ApiKey.TXN_OFFSET_COMMIT: Api(0, 5, 3),
    ApiKey.DESCRIBE_PRODUCERS: Api(0, 0, 0),
    ApiKey.DESCRIBE_TRANSACTIONS: Api(0, 0, 0),
    ApiKey.LIST_TRANSACTIONS: Api(0, 1, 0),
}
APIS |= TRANSACTIONS


def find(api_key: int) -> Api | None:
    """The row of an API; None if it is not served."""
    return APIS.get(api_key)  # type: ignore[call-overload, no-any-return]
