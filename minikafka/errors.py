"""Every error that minikafka tells a peer or a person, in one hierarchy:

    MinikafkaError                     has a Kafka error code, a name and a retriable flag
    ├── RetriableError                 the same request may succeed later, perhaps elsewhere
    │   ├── NotLeaderOrFollowerError, UnknownTopicOrPartitionError, FencedLeaderEpochError, …
    │   ├── StaleMetadataError …       (refresh metadata first: `refresh_metadata` is true)
    │   └── NotCoordinatorError …      (find the coordinator anew: `refresh_coordinator` is true)
    ├── FatalError                     it never will, as it stands
    │   └── OffsetOutOfRangeError, MessageTooLargeError, InvalidTopicError, InvalidConfigError, …
    └── UsageError                     a person's command or configuration is wrong: exit status 2
        └── PortTakenError             where it is to listen somebody does: exit status 3

On the wire an error is (code, message, retriable); `error_for_code` turns it back into the class.
Codes and names are Kafka's (Errors in Apache Kafka's protocol guide).
"""

from __future__ import annotations

from typing import ClassVar

NONE = 0


class MinikafkaError(Exception):
    """Base of all. `str(error)` is a sentence: what is wrong, and what would be right."""

    code: ClassVar[int] = -1
    name: ClassVar[str] = "UNKNOWN_SERVER_ERROR"
    retriable: ClassVar[bool] = False
    refresh_metadata: ClassVar[bool] = False
    refresh_coordinator: ClassVar[bool] = False

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.name)

    @property
    def message(self) -> str:
        return str(self)


class UsageError(MinikafkaError):
    """A command line, a configuration or a data directory that cannot work as it is."""

    code = 42
    name = "INVALID_REQUEST"


class PortTakenError(UsageError):
    """Another process listens where this one was told to: with another port, or later, it works."""


class UnknownServerError(MinikafkaError):
    """A bug or an unforeseen failure on the server: its log has the details."""


class RetriableError(MinikafkaError):
    retriable = True


class FatalError(MinikafkaError):
    pass


class _Stale(RetriableError):
    refresh_metadata = True


class _StaleCoordinator(RetriableError):
    """Ask anew who coordinates."""

    refresh_coordinator = True


class OffsetOutOfRangeError(FatalError):
    code, name = 1, "OFFSET_OUT_OF_RANGE"


class CorruptMessageError(RetriableError):
    code, name = 2, "CORRUPT_MESSAGE"


class UnknownTopicOrPartitionError(_Stale):
    code, name = 3, "UNKNOWN_TOPIC_OR_PARTITION"


class LeaderNotAvailableError(_Stale):
    code, name = 5, "LEADER_NOT_AVAILABLE"


class NotLeaderOrFollowerError(_Stale):
    code, name = 6, "NOT_LEADER_OR_FOLLOWER"


class RequestTimedOutError(RetriableError):
    code, name = 7, "REQUEST_TIMED_OUT"


class BrokerNotAvailableError(_Stale):
    """This broker serves nobody now (it stops, or is out of touch with ZooKeeper): another one may
    lead."""

    code, name = 8, "BROKER_NOT_AVAILABLE"


class ReplicaNotAvailableError(_Stale):
    code, name = 9, "REPLICA_NOT_AVAILABLE"


class MessageTooLargeError(FatalError):
    code, name = 10, "MESSAGE_TOO_LARGE"


class RecordListTooLargeError(FatalError):
    """The batch is larger than a segment may be."""

    code, name = 18, "RECORD_LIST_TOO_LARGE"


class TopicAuthorizationFailedError(FatalError):
    """Who asks may not do that with this topic; with those of the brokers' own nobody may."""

    code, name = 29, "TOPIC_AUTHORIZATION_FAILED"


class GroupAuthorizationFailedError(FatalError):
    code, name = 30, "GROUP_AUTHORIZATION_FAILED"


class ClusterAuthorizationFailedError(FatalError):
    code, name = 31, "CLUSTER_AUTHORIZATION_FAILED"


class TransactionalIdAuthorizationFailedError(FatalError):
    code, name = 53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"


class DelegationTokenAuthorizationFailedError(FatalError):
    code, name = 65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED"


class InvalidTxnStateError(FatalError):
    code, name = 48, "INVALID_TXN_STATE"


class OffsetMetadataTooLargeError(FatalError):
    code, name = 12, "OFFSET_METADATA_TOO_LARGE"


class NetworkError(_Stale):
    code, name = 13, "NETWORK_EXCEPTION"


class CoordinatorLoadInProgressError(RetriableError):
    """The coordinator is there, and still reads what its predecessor left."""

    code, name = 14, "COORDINATOR_LOAD_IN_PROGRESS"


class CoordinatorNotAvailableError(_StaleCoordinator):
    code, name = 15, "COORDINATOR_NOT_AVAILABLE"


class NotCoordinatorError(_StaleCoordinator):
    code, name = 16, "NOT_COORDINATOR"


class InvalidTopicError(FatalError):
    code, name = 17, "INVALID_TOPIC_EXCEPTION"


class NotEnoughReplicasError(RetriableError):
    """Nothing was appended."""

    code, name = 19, "NOT_ENOUGH_REPLICAS"


class NotEnoughReplicasAfterAppendError(RetriableError):
    """The record was appended and may yet be committed."""

    code, name = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND"


class InvalidRequiredAcksError(FatalError):
    code, name = 21, "INVALID_REQUIRED_ACKS"


class IllegalGenerationError(FatalError):
    code, name = 22, "ILLEGAL_GENERATION"


class InconsistentGroupProtocolError(FatalError):
    code, name = 23, "INCONSISTENT_GROUP_PROTOCOL"


class InvalidGroupIdError(FatalError):
    code, name = 24, "INVALID_GROUP_ID"


class UnknownMemberIdError(FatalError):
    code, name = 25, "UNKNOWN_MEMBER_ID"


class InvalidSessionTimeoutError(FatalError):
    code, name = 26, "INVALID_SESSION_TIMEOUT"


class RebalanceInProgressError(FatalError):
    """Join again; whoever only repeats the request gets the same answer."""

    code, name = 27, "REBALANCE_IN_PROGRESS"


class InvalidCommitOffsetSizeError(FatalError):
    code, name = 28, "INVALID_COMMIT_OFFSET_SIZE"


class UnsupportedVersionError(FatalError):
    code, name = 35, "UNSUPPORTED_VERSION"


class TopicAlreadyExistsError(FatalError):
    code, name = 36, "TOPIC_ALREADY_EXISTS"


class InvalidPartitionsError(FatalError):
    code, name = 37, "INVALID_PARTITIONS"


class InvalidReplicationFactorError(FatalError):
    code, name = 38, "INVALID_REPLICATION_FACTOR"


class InvalidReplicaAssignmentError(FatalError):
    code, name = 39, "INVALID_REPLICA_ASSIGNMENT"


class InvalidConfigError(FatalError):
    code, name = 40, "INVALID_CONFIG"


class NotControllerError(RetriableError):
    code, name = 41, "NOT_CONTROLLER"


class InvalidRequestError(FatalError):
    code, name = 42, "INVALID_REQUEST"


class OutOfOrderSequenceNumberError(FatalError):
    code, name = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER"


class DuplicateSequenceNumberError(FatalError):
    code, name = 46, "DUPLICATE_SEQUENCE_NUMBER"


class InvalidProducerEpochError(FatalError):
    code, name = 47, "INVALID_PRODUCER_EPOCH"


class KafkaStorageError(_Stale):
    """The disk under this replica failed or is full: the replica is fenced."""

    code, name = 56, "KAFKA_STORAGE_ERROR"


class ResourceShortageError(KafkaStorageError):
    """This broker lacks file descriptors or memory for it at this moment. Nothing was changed, and
    the replica is not fenced: the same request may succeed soon. (Clients hear its parent.)"""


class OperationNotAttemptedError(FatalError):
    """It was right, but something else in the same request was not, and all or none is done."""

    code, name = 55, "OPERATION_NOT_ATTEMPTED"


class UnknownProducerIdError(FatalError):
    code, name = 59, "UNKNOWN_PRODUCER_ID"


class ReassignmentInProgressError(FatalError):
    code, name = 60, "REASSIGNMENT_IN_PROGRESS"


class NonEmptyGroupError(FatalError):
    code, name = 68, "NON_EMPTY_GROUP"


class GroupIdNotFoundError(FatalError):
    code, name = 69, "GROUP_ID_NOT_FOUND"


class TopicDeletionDisabledError(FatalError):
    code, name = 73, "TOPIC_DELETION_DISABLED"


class PolicyViolationError(FatalError):
    code, name = 44, "POLICY_VIOLATION"


class FencedLeaderEpochError(_Stale):
    code, name = 74, "FENCED_LEADER_EPOCH"


class UnknownLeaderEpochError(_Stale):
    code, name = 75, "UNKNOWN_LEADER_EPOCH"


class UnsupportedCompressionTypeError(FatalError):
    code, name = 76, "UNSUPPORTED_COMPRESSION_TYPE"


class StaleBrokerEpochError(FatalError):
    code, name = 77, "STALE_BROKER_EPOCH"


class OffsetNotAvailableError(RetriableError):
    code, name = 78, "OFFSET_NOT_AVAILABLE"


class MemberIdRequiredError(FatalError):
    """Not a failure: join again with the member id that comes with it."""

    code, name = 79, "MEMBER_ID_REQUIRED"


class PreferredLeaderNotAvailableError(RetriableError):
    code, name = 80, "PREFERRED_LEADER_NOT_AVAILABLE"


class GroupMaxSizeReachedError(FatalError):
    code, name = 81, "GROUP_MAX_SIZE_REACHED"


class FencedInstanceIdError(FatalError):
    """Another member has joined with the same instance id since."""

    code, name = 82, "FENCED_INSTANCE_ID"


class EligibleLeadersNotAvailableError(RetriableError):
    code, name = 83, "ELIGIBLE_LEADERS_NOT_AVAILABLE"


class ElectionNotNeededError(RetriableError):
    code, name = 84, "ELECTION_NOT_NEEDED"


class NoReassignmentInProgressError(FatalError):
    code, name = 85, "NO_REASSIGNMENT_IN_PROGRESS"


class GroupSubscribedToTopicError(FatalError):
    code, name = 86, "GROUP_SUBSCRIBED_TO_TOPIC"


RecordErrors = tuple[tuple[int, str], ...]


class WrongRecordsError(FatalError):
    """`record_errors` names records of the batch, by their place in it from 0 on, each with what is
    wrong with it (KIP-467)."""

    def __init__(self, message: str = "", record_errors: RecordErrors = ()) -> None:
        super().__init__(message)
        self.record_errors = record_errors


class InvalidRecordError(WrongRecordsError):
    code, name = 87, "INVALID_RECORD"


class InvalidTimestampError(WrongRecordsError):
    code, name = 32, "INVALID_TIMESTAMP"


class UnstableOffsetCommitError(RetriableError):
    """A transaction that is still open has committed offsets of this partition."""

    code, name = 88, "UNSTABLE_OFFSET_COMMIT"


class InvalidUpdateVersionError(FatalError):
    code, name = 95, "INVALID_UPDATE_VERSION"


class UnknownTopicIdError(_Stale):
    code, name = 100, "UNKNOWN_TOPIC_ID"


class InconsistentTopicIdError(_Stale):
    code, name = 103, "INCONSISTENT_TOPIC_ID"


class FetchSessionIdNotFoundError(RetriableError):
    code, name = 70, "FETCH_SESSION_ID_NOT_FOUND"


class InvalidFetchSessionEpochError(RetriableError):
    code, name = 71, "INVALID_FETCH_SESSION_EPOCH"


class SecurityDisabledError(FatalError):
    code, name = 54, "SECURITY_DISABLED"


class ListenerNotFoundError(_Stale):
    """The leader has no listener of the name that the client came through."""

    code, name = 72, "LISTENER_NOT_FOUND"


class UnsupportedSaslMechanismError(FatalError):
    code, name = 33, "UNSUPPORTED_SASL_MECHANISM"


class ResourceNotFoundError(FatalError):
    code, name = 91, "RESOURCE_NOT_FOUND"


class DuplicateResourceError(FatalError):
    """The same thing is in one request twice."""

    code, name = 92, "DUPLICATE_RESOURCE"


class UnacceptableCredentialError(FatalError):
    code, name = 93, "UNACCEPTABLE_CREDENTIAL"


class MismatchedEndpointTypeError(FatalError):
    code, name = 114, "MISMATCHED_ENDPOINT_TYPE"


class UnsupportedEndpointTypeError(FatalError):
    code, name = 115, "UNSUPPORTED_ENDPOINT_TYPE"


class UnsupportedForMessageFormatError(FatalError):
    code, name = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT"


class IneligibleReplicaError(RetriableError):
    code, name = 107, "INELIGIBLE_REPLICA"


class StaleControllerEpochError(FatalError):
    code, name = 11, "STALE_CONTROLLER_EPOCH"


class InvalidProducerIdMappingError(FatalError):
    """The transactional id has another producer id, or is not known."""

    code, name = 49, "INVALID_PRODUCER_ID_MAPPING"


class InvalidTransactionTimeoutError(FatalError):
    code, name = 50, "INVALID_TRANSACTION_TIMEOUT"


class ConcurrentTransactionsError(RetriableError):
    """What this transactional id did before is still being ended."""

    code, name = 51, "CONCURRENT_TRANSACTIONS"


class TransactionCoordinatorFencedError(FatalError):
    """Whoever sends these markers coordinates no more."""

    code, name = 52, "TRANSACTION_COORDINATOR_FENCED"


class ProducerFencedError(FatalError):
    """Another producer has the transactional id now."""

    code, name = 90, "PRODUCER_FENCED"


class TransactionalIdNotFoundError(FatalError):
    code, name = 105, "TRANSACTIONAL_ID_NOT_FOUND"


class TransactionAbortableError(FatalError):
    """This transaction can only be aborted; the next one may succeed."""

    code, name = 120, "TRANSACTION_ABORTABLE"


def _by_code() -> dict[int, type[MinikafkaError]]:
    table: dict[int, type[MinikafkaError]] = {}
    pending: list[type[MinikafkaError]] = [RetriableError, FatalError]
    while pending:
        parent = pending.pop()
        for child in parent.__subclasses__():
            pending.append(child)
            if "code" in child.__dict__:
                assert child.code not in table, f"two errors with code {child.code}"
                table[child.code] = child
    return table


_ERRORS = _by_code()


def error_for_code(code: int, message: str = "") -> MinikafkaError:
    """The error of a Kafka error code (not 0); one that is not known becomes UnknownServerError."""
    assert code != NONE
    return _ERRORS.get(code, UnknownServerError)(message)


PORT_TAKEN = 3
