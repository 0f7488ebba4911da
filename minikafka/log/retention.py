"""Which segments of a log may go, and when the active one is to be rolled: decisions only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from minikafka.config import TopicConfig
from minikafka.log.index import MAX_RELATIVE_OFFSET
from minikafka.log.segment import Segment
from minikafka.model import BatchHeader

NO_LIMIT = -1


def roll_is_due(
    segment: Segment, config: TopicConfig, size_bytes: int, headers: Sequence[BatchHeader]
) -> bool:
    """Must the active segment be closed before `size_bytes` more, of these batches, go in?"""
    if segment.size_bytes == 0:
        return False
    if segment.size_bytes + size_bytes > config.segment_bytes:
        return True
    if headers[-1].last_offset - segment.base_offset > MAX_RELATIVE_OFFSET:
        return True
    if segment.index_is_full(config.segment_index_bytes):
        return True
    first_ms, newest_ms = segment.first_timestamp_ms, headers[0].max_timestamp_ms
    return first_ms >= 0 and newest_ms - first_ms > _age_limit_ms(segment, config)


def _age_limit_ms(segment: Segment, config: TopicConfig) -> int:
    """Of an active segment: what is to be compacted by some age has to be closed by then."""
    limit_ms = config.segment_ms
    if config.segment_jitter_ms:
        limit_ms -= int(min(config.segment_jitter_ms, limit_ms) * segment.chance())
    if config.compacted:
        return min(limit_ms, config.max_compaction_lag_ms)
    return limit_ms


def roll_by_age_is_due(segment: Segment, config: TopicConfig, now_timestamp_ms: int) -> bool:
    """Is the active segment old, or all in it past retention (it can go only once rolled)?"""
    if segment.size_bytes == 0:
        return False
    first_ms = segment.first_timestamp_ms
    if first_ms < 0:
        first_ms = segment.modified_ms()
    if now_timestamp_ms - first_ms > _age_limit_ms(segment, config):
        return True
    return _is_expired(segment, config, now_timestamp_ms)


def deletable(
    segments: Sequence[Segment],
    config: TopicConfig,
    now_timestamp_ms: int,
    high_watermark: int,
    log_start_offset: int,
) -> int:
    """How many segments, from the oldest on, are to be deleted: never the last, never one that ends
    above the high watermark (KAFKA-5634)."""
    excess_bytes = 0
    if config.retention_bytes >= 0:
        excess_bytes = sum(segment.size_bytes for segment in segments) - config.retention_bytes
    count = 0
    for segment, following in pairwise(segments):
        if following.base_offset > high_watermark:
            break
        excess_bytes -= segment.size_bytes
        below_start = following.base_offset <= log_start_offset
        too_large = config.retention_bytes >= 0 and excess_bytes >= 0
        if not below_start and not (
            config.deletes and (too_large or _is_expired(segment, config, now_timestamp_ms))
        ):
            break
        count += 1
    return count


def _is_expired(segment: Segment, config: TopicConfig, now_timestamp_ms: int) -> bool:
    if config.retention_ms == NO_LIMIT or not config.deletes:
        return False
    newest_ms = segment.max_timestamp()[0]
    if newest_ms < 0:
        newest_ms = segment.modified_ms()
    return now_timestamp_ms - newest_ms > config.retention_ms
