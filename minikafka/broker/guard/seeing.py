"""Which topics a caller sees: those that it may Describe.

One that is named and may not be described is refused, whether it is there or not; where all are
asked for, it is left out. Who may describe a topic that is not there has it made by asking for it
only with Create, on the cluster or on the topic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from minikafka.api.requests import ClusterMetadata, TopicMetadata
from minikafka.api.service import BrokerService
from minikafka.broker.guard.asking import Asking
from minikafka.errors import UnknownTopicOrPartitionError
from minikafka.security.acl import Operation, ResourceType

_REQUEST = "Metadata"
_AUTO_CREATE = "auto.create.topics.enable"


async def metadata(
    service: BrokerService, asking: Asking, topics: Sequence[str] | None, allow_auto_create: bool
) -> ClusterMetadata:
    """See BrokerService.metadata."""
    describe, topic = Operation.DESCRIBE, ResourceType.TOPIC
    if topics is None:
        found = await service.metadata(None, False)
        names = (each.name for each in found.topics)
        hidden = await asking.hidden(_REQUEST, describe, topic, names)
        if hidden:
            found = replace(found, topics=[t for t in found.topics if t.name not in hidden])
        return found
    refused = await asking.refusals(_REQUEST, describe, topic, topics)
    seen = topics
    if refused:
        seen = [name for name in dict.fromkeys(topics) if name not in refused]
    if allow_auto_create and seen:
        found = await _made(service, asking, seen)
    else:
        found = await service.metadata(seen, False)
    if not refused:
        return found
    answers = {each.name: each for each in found.topics}
    answers |= {name: TopicMetadata(name, error=error) for name, error in refused.items()}
    return replace(found, topics=[answers[name] for name in dict.fromkeys(topics)])


async def _made(service: BrokerService, asking: Asking, names: Sequence[str]) -> ClusterMetadata:
    """With what was made of them that was not there."""
    if asking.may(_REQUEST, Operation.CREATE, named=False):
        return await service.metadata(names, True)
    found = await service.metadata(names, False)
    absent = [
        each.name for each in found.topics if isinstance(each.error, UnknownTopicOrPartitionError)
    ]
    if not absent or not await _makes_topics(service):
        return found
    refused = await asking.refusals(_REQUEST, Operation.CREATE, ResourceType.TOPIC, absent)
    answers = {name: TopicMetadata(name, error=error) for name, error in refused.items()}
    wanted = [name for name in absent if name not in refused]
    if wanted:
        made = await service.metadata(wanted, True)
        answers |= {each.name: each for each in made.topics}
    return replace(found, topics=[answers.get(each.name, each) for each in found.topics])


async def _makes_topics(service: BrokerService) -> bool:
    """Where none is made by asking, one that is not there is just not there."""
    configs = await service.describe_broker_configs(str(service.broker_id))
    return any(each.name == _AUTO_CREATE and each.value == "true" for each in configs)
