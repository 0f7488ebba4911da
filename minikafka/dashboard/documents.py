"""The JSON that the page gets: pictures, events, samples. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minikafka.dashboard.history import (
    BrokerView,
    ControllerView,
    Event,
    PartitionView,
    Picture,
    SourceView,
    TopicGone,
    View,
)
from minikafka.dashboard.offsets import Sample
from minikafka.model import TopicPartition


def view_document(view: View) -> dict[str, Any]:
    """`kind` says what it is a view of; the page keeps it under that and its `key`."""
    match view:
        case BrokerView():
            return {
                "kind": "broker",
                "key": view.broker_id,
                "id": view.broker_id,
                "name": view.name,
                "status": view.status,
                "registered": view.registered,
                "process": view.process,
                "grpc": view.grpc,
                "kafka": view.kafka,
                "rack": view.rack,
            }
        case PartitionView():
            return {
                "kind": "partition",
                "key": str(view.key),
                "topic": view.topic,
                "partition": view.partition,
                "replicas": view.replicas,
                "leader": view.leader,
                "epoch": view.leader_epoch,
                "isr": view.isr,
                "version": view.partition_version,
                "adding": view.adding,
                "removing": view.removing,
            }
        case TopicGone(topic):
            return {"kind": "topic-gone", "key": topic, "topic": topic}
        case ControllerView(controller_id, controller_epoch):
            return {
                "kind": "controller",
                "key": "controller",
                "id": controller_id,
                "epoch": controller_epoch,
            }
        case SourceView(source, is_heard, detail):
            return {"kind": "source", "key": source, "heard": is_heard, "detail": detail}


def event_document(event: Event) -> dict[str, Any]:
    """An event with the view that it led to."""
    return {
        "number": event.number,
        "at": event.at_ms,
        "text": event.text,
        "reason": event.reason,
        "tone": event.tone,
        "view": view_document(event.view),
    }


def picture_document(picture: Picture) -> list[dict[str, Any]]:
    """All views of a picture, in an order in which they read well."""
    views: list[View] = [
        *picture.sources.values(),
        picture.controller,
        *(picture.brokers[each] for each in sorted(picture.brokers)),
        *(picture.partitions[each] for each in sorted(picture.partitions)),
    ]
    return [view_document(each) for each in views]


def sample_document(sample: Sample, rate: float) -> list[Any]:
    """[log start, high watermark, log end, [[broker, log end, lag in ms], …], records a second]"""
    return [
        sample.log_start_offset,
        sample.high_watermark,
        sample.log_end_offset,
        sample.replicas,
        round(rate, 1),
    ]


def samples_document(
    samples: Mapping[TopicPartition, Sample], rates: Mapping[TopicPartition, float]
) -> dict[str, list[Any]]:
    return {str(key): sample_document(each, rates.get(key, 0.0)) for key, each in samples.items()}
