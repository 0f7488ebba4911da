"""What an administrator is told of settings that have no effect."""

from __future__ import annotations

from minikafka.api.requests import (
    AlterBrokerConfigRequest,
    AlterTopicConfigRequest,
    CreateTopic,
    CreateTopicsRequest,
    DeleteTopicsRequest,
)
from minikafka.broker.notices import notices

WHY = "has no effect: the files of a log grow as they are written"


def test_new_topics_are_told_each_by_its_name() -> None:
    request = CreateTopicsRequest(
        [
            CreateTopic("a", configs={"preallocate": "true", "retention.ms": "5"}),
            CreateTopic("b", configs={"preallocate": "perhaps"}),  # it was refused
        ]
    )
    assert list(notices(request)) == [f"topic a: preallocate=true {WHY}"]


def test_alterations_are_told_but_not_what_is_taken_back() -> None:
    changes = {"preallocate": "true", "remote.storage.enable": None, "segment.ms": "5"}
    found = list(notices(AlterTopicConfigRequest("t", changes)))
    assert found == [f"topic t: preallocate=true {WHY}"]
    of_broker = AlterBrokerConfigRequest("1", {"log.preallocate": "true"})
    assert list(notices(of_broker)) == [f"broker 1: log.preallocate=true {WHY}"]


def test_other_requests_have_no_notices() -> None:
    assert not list(notices(DeleteTopicsRequest(["t"])))
