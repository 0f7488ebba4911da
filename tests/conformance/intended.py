"""Where minikafka means to answer otherwise than Apache Kafka 3.9, and why.

Each is needed: a test fails for one that has become idle.
"""

from __future__ import annotations

from minikafka.kafka.apis import ApiKey
from tests.conformance.compare import Intended

_CONFIGS = "results.*.configs."
INTENDED = [
    # --- words, and forms that say the same ---
    *(
        Intended("with an error there is a message, where Kafka has none", api, path=path)
        for api, path in (
            (ApiKey.CREATE_TOPICS, "topics.*.error_message"),
            (ApiKey.DESCRIBE_CONFIGS, "results.*.error_message"),
            (ApiKey.INCREMENTAL_ALTER_CONFIGS, "responses.*.error_message"),
            (ApiKey.DESCRIBE_PRODUCERS, "topics.*.error_message"),
        )
    ),
    Intended(
        "without an error there is no message, where Kafka has NONE",
        ApiKey.FIND_COORDINATOR,
        path="error_message",
    ),
    Intended(
        "no records are an empty byte string, not a null one: clients take both alike",
        ApiKey.FETCH,
        "an unknown isolation level",
        "responses.*.records",
    ),
    # --- what Kafka stumbles over ---
    Intended(
        "it is told that there is no such operation, where Kafka tells of an unknown error",
        ApiKey.INCREMENTAL_ALTER_CONFIGS,
        "*operation*",
        "responses.*.error_code",
    ),
    *(
        Intended(
            "it is told that there is no such level, where Kafka tells of an unknown error",
            api,
            "an unknown isolation level",
            path,
        )
        for api, path in (
            (ApiKey.FETCH, "*error_code"),
            (ApiKey.LIST_OFFSETS, "topics.*.error_code"),
        )
    ),
    Intended(
        "less than nothing is as little as there can be: one batch, so that the reader gets on",
        ApiKey.FETCH,
        "at most -1 bytes of the partition",
    ),
    # --- what is not believed, or counts for nothing here ---
    Intended(
        "the epoch of the last record is of use to replicas alone, who fetch over gRPC",
        ApiKey.FETCH,
        "after an epoch that is not there",
    ),
    Intended(
        "a client may call itself what it likes: it is not used",
        ApiKey.API_VERSIONS,
        "a bad name of software*",
    ),
    Intended(
        "an array that is null where it must not be is an empty one",
        ApiKey.CREATE_TOPICS,
        "null topics",
    ),
    *(
        Intended("what is asked twice is answered once", api, case, path)
        for api, case, path in (
            (ApiKey.DESCRIBE_CONFIGS, "a resource twice", "results"),
            (ApiKey.DESCRIBE_GROUPS, "one twice", "groups"),
            (ApiKey.FIND_COORDINATOR, "one twice", "coordinators"),
            (ApiKey.ADD_PARTITIONS_TO_TXN, "it twice", "results_*.plain.results_by_partition"),
        )
    ),
    Intended(
        "an administrator is told that nothing is open, where Kafka writes a marker all the same",
        ApiKey.WRITE_TXN_MARKERS,
        "an abort of nothing",
        "markers.*.error_code",
    ),
    Intended(
        "what is committed coordinators alone decide, and they speak gRPC",
        ApiKey.WRITE_TXN_MARKERS,
        "a commit",
        "markers.*.error_code",
    ),
    # --- what there is ---
    Intended(
        "the versions are those of Kafka 3.0 so far",
        ApiKey.API_VERSIONS,
        "versions",
        "api_keys*",
    ),
    Intended(
        "transaction.version is known, which that Kafka has not yet",
        ApiKey.API_VERSIONS,
        "versions",
        "supported_features",
    ),
    Intended(
        "transaction.version is finalized, as in a Kafka without ZooKeeper",
        ApiKey.API_VERSIONS,
        "versions",
        "finalized_features",
    ),
    Intended(
        "a topic that is made by asking is there with the answer",
        ApiKey.METADATA,
        "made by asking",
        "topics.*",
    ),
    # --- configurations ---
    Intended(
        "minikafka's own property",
        ApiKey.DESCRIBE_CONFIGS,
        path=f"{_CONFIGS}flush.before.ack",
    ),
    Intended(
        "the rate has a default, and is described without having been set",
        ApiKey.DESCRIBE_CONFIGS,
        path=f"{_CONFIGS}leader.replication.throttled.rate",
    ),
    Intended(
        "background.threads has a default of its own, and changes with a restart",
        ApiKey.DESCRIBE_CONFIGS,
        path=f"{_CONFIGS}background.threads.*",
    ),
    Intended(
        "a property that the start file sets to its default counts as not set",
        ApiKey.DESCRIBE_CONFIGS,
        path=f"{_CONFIGS}*.config_source",
    ),
    Intended(
        "the hours are told, from which the milliseconds come",
        ApiKey.DESCRIBE_CONFIGS,
        "*with synonyms",
        f"{_CONFIGS}*.synonyms*",
    ),
    Intended(
        "a property that needs a restart is a matter of configuration",
        ApiKey.INCREMENTAL_ALTER_CONFIGS,
        "of a broker, what cannot be altered",
        "responses.*.error_code",
    ),
    Intended(
        "with an error no offset is told",
        ApiKey.PRODUCE,
        "filling the compacted",
        "*.log_start_offset",
    ),
]
