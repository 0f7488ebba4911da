"""What an administrator is to be told in the broker's log: settings that are taken and have no
effect here. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from minikafka.api.requests import (
    AlterBrokerConfigRequest,
    AlterTopicConfigRequest,
    ControllerRequest,
    CreateTopicsRequest,
)
from minikafka.config import BrokerConfig, TopicConfig, without_effect


def notices(request: ControllerRequest) -> Iterator[str]:
    """Sentences about the settings in a request that has been granted."""
    if isinstance(request, CreateTopicsRequest):
        for topic in request.topics:
            for sentence in without_effect(TopicConfig, _valid(topic.configs)):
                yield f"topic {topic.name}: {sentence}"
    elif isinstance(request, AlterTopicConfigRequest):
        for sentence in without_effect(TopicConfig, _valid(request.changes)):
            yield f"topic {request.topic}: {sentence}"
    elif isinstance(request, AlterBrokerConfigRequest):
        for sentence in without_effect(BrokerConfig, _valid(request.changes)):
            yield f"broker {request.broker}: {sentence}"


def _valid(changes: Mapping[str, str | None]) -> dict[str, str]:
    return {name: text for name, text in changes.items() if text is not None}
