"""The simulator is tested itself: each safety rule switched off must be found.

`python -m tests.simulation.mutations [--lives 2000] [--steps 500] [--jobs 2] [--only NAME]` lives
with one rule off after another, until an invariant fails, and prints a table: the mutation, how
many lives it took (or which scenario of test_races_of_*.py is needed), and what failed.

A mutation is a line of the product that reads otherwise: a function is compiled anew from its
source with `old` replaced by `new`, for the time of `applied`. So the table goes stale loudly: if
the source does not hold `old` any more, that is an error."""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from typing import Any

from tests.simulation import life


@dataclass(frozen=True)
class Mutation:
    """In `module`, the function `where` (Class.method): `old` reads `new`. `rule`: what is off.
    `also`: more of the same, (where, old, new); in another module as `module:where`."""

    name: str
    rule: str
    module: str
    where: str
    old: str
    new: str
    also: tuple[tuple[str, str, str], ...] = ()


MUTATIONS = (
    Mutation(
        "R2 epoch",
        "removals from the ISR do not move the leader epoch",
        "core.control.election",
        "next_state",
        "bump = decision.leader != old.leader or bool(left)",
        "bump = decision.leader != old.leader",
    ),
    Mutation(
        "R3 order",
        "an older State replaces a newer one",
        "core.replication.partition",
        "Partition._adopt",
        "state.partition_version <= held.partition_version",
        "state.partition_version == held.partition_version",
    ),
    Mutation(
        "R4 continuity",
        "positions of followers are kept over a gap in the versions",
        "core.replication.partition",
        "Partition._become_leader",
        "held.partition_version + 1 == state.partition_version",
        "held.partition_version < state.partition_version",
    ),
    Mutation(
        "R5 maximal ISR, removals",
        "a proposed removal counts at once",
        "core.replication.high_watermark",
        "committed_offset",
        "maximal = isr.maximal if isr.additions else isr.committed",
        "maximal = {m for m, _ in isr.pending.isr} if isr.pending else isr.committed",
    ),
    Mutation(
        "R5 maximal ISR, additions",
        "a proposed addition does not count yet",
        "core.replication.high_watermark",
        "committed_offset",
        "maximal = isr.maximal if isr.additions else isr.committed",
        "maximal = isr.committed",
    ),
    Mutation(
        "R6 incarnation of a joiner",
        "another incarnation joins than the leader saw (KIP-903)",
        "core.control.alter_partition",
        "_ineligible",
        "if broker.broker_epoch != broker_epoch:",
        "if False:",
    ),
    Mutation(
        "R6 incarnation of a fetcher",
        "fetches of an older incarnation count",
        "core.replication.leader",
        "Leader.record_replica_fetch",
        "if replica_broker_epoch < progress.broker_epoch:",
        "if False:",
        (
            (
                "broker.replication.follower_sessions:FollowerSessions.on_request",
                "request.replica_broker_epoch < session.broker_epoch",
                "False",
            ),
        ),
    ),
    Mutation(
        "session: number",
        "a request counts whatever its number in the session",
        "broker.replication.follower_sessions",
        "FollowerSessions.on_request",
        "if request.session_epoch != session.session_epoch + 1:",
        "if False:",
    ),
    Mutation(
        "session: incarnation",
        "a request counts in the session of another incarnation",
        "broker.replication.follower_sessions",
        "FollowerSessions.on_request",
        "or session.broker_epoch != request.replica_broker_epoch",
        "or False",
    ),
    Mutation(
        "session: a topic made anew",
        "a fetch counts for a replica that has left the broker",
        "broker.replication.follower_sessions",
        "Followed.settle",
        "if replica.stopped or replica.topic_id != self.position.topic_id:",
        "if False:",
    ),
    Mutation(
        "session: last fetch before an append",
        "who was not named is taken to have been silent",
        "broker.replication.replica",
        "Replica.append_as_leader",
        "self.settle_watches()",
        "pass",
    ),
    Mutation(
        "session: news",
        "a quiet partition's high watermark is not told",
        "broker.replication.follower_sessions",
        "Followed.on_high_watermark",
        "self.session.news[self.position.topic_partition] = self",
        "pass",
    ),
    Mutation(
        "R6 incarnation of a target",
        "messages to an older incarnation are taken",
        "broker.replication.replica_manager",
        "ReplicaManager._fence",
        "if request.target_broker_epoch < self.broker_epoch:",
        "if False:",
    ),
    Mutation(
        "R6 controller epoch",
        "messages of an older controller are taken",
        "broker.replication.replica_manager",
        "ReplicaManager._fence",
        "if request.controller_epoch < self.metadata.controller_epoch:",
        "if False:",
    ),
    Mutation(
        "R7 epoch of a fetch",
        "fetches of another leader epoch count",
        "core.replication.leader",
        "Leader.check_replica_fetch",
        "self.check_leader_epoch(position.current_leader_epoch)",
        "pass",
    ),
    Mutation(
        "R7 last fetched epoch",
        "a log that diverges is not noticed",
        "core.replication.leader",
        "Leader.check_replica_fetch",
        "if position.last_fetched_epoch >= 0:",
        "if False:",
    ),
    Mutation(
        "R7 replies by offset only",
        "a reply counts if the offset is the same",
        "core.replication.follower",
        "Follower.answers",
        "position.topic_id == self.topic_id\n"
        "        and position.fetch_offset == self.log_state.log_end_offset\n"
        "        and position.last_fetched_epoch == self.log_state.last_epoch\n"
        "        and position.current_leader_epoch == self.state.leader_epoch",
        "position.fetch_offset == self.log_state.log_end_offset",
    ),
    Mutation(
        "epoch check on append",
        "a reply counts whatever leader epoch it was asked under",
        "core.replication.follower",
        "Follower.answers",
        "and position.current_leader_epoch == self.state.leader_epoch",
        "",
    ),
    Mutation(
        "HW gating",
        "the high watermark moves with fewer than min.insync.replicas",
        "core.replication.high_watermark",
        "committed_offset",
        "if len(isr.committed) < min_insync:",
        "if False:",
    ),
    Mutation(
        "HW waits for the unknown",
        "a member of whom nothing is known does not hold the high watermark",
        "core.replication.high_watermark",
        "committed_offset",
        "return None\n        lowest = min(lowest, progress.log_end_offset)",
        "continue\n        lowest = min(lowest, progress.log_end_offset)",
    ),
    Mutation(
        "truncation by epoch",
        "a follower cuts to its own high watermark (KIP-101)",
        "core.replication.follower",
        "Follower.on_diverging",
        "return self._truncate(min(target, self.log_state.log_end_offset))",
        "return self._truncate(self.log_state.high_watermark)",
    ),
    Mutation(
        "truncation by the largest common epoch",
        "an unknown epoch is cut at the leader's offset (KIP-279)",
        "core.replication.follower",
        "Follower.on_diverging",
        "target = local.offset",
        "target = end.offset",
    ),
    Mutation(
        "dead before bounced",
        "the dead fail first, while the bounced still count as they were",
        "core.control.controller",
        "Controller.on_brokers",
        "yield from self._settle()",
        "self.context.brokers = {b: known.get(b, brokers[b]) for b in brokers}\n"
        "    yield from self._settle()\n"
        "    self.context.brokers = dict(brokers)\n"
        "    yield from self._settle()",
        (
            (
                "Controller.on_brokers",
                "changed = brokers != self.context.brokers",
                "known = dict(self.context.brokers)\n    changed = brokers != known",
            ),
        ),
    ),
    Mutation(
        "epoch_start on join",
        "a replica joins that has not reached the start of the epoch (KAFKA-7128)",
        "core.replication.leader",
        "Leader._may_join",
        "max(self.log_state.high_watermark, self.epoch_start)",
        "self.log_state.high_watermark",
    ),
    Mutation(
        "join below the high watermark",
        "a replica joins wherever it is",
        "core.replication.leader",
        "Leader._may_join",
        "progress.log_end_offset >= max(self.log_state.high_watermark, self.epoch_start)",
        "progress.log_end_offset >= 0",
    ),
    Mutation(
        "eligibility: shutting down",
        "a broker that shuts down joins again (KIP-841)",
        "core.control.alter_partition",
        "_ineligible",
        "if member in view.shutting_down:",
        "if False:",
    ),
    Mutation(
        "ineligible is forgotten",
        "a refused addition is simply forgotten, while a copy of it is on its way",
        "core.replication.leader",
        "Leader.on_proposal_refused",
        'return self._propose(set(self.isr.committed), "the addition was refused")',
        "self.isr.adopt(self.isr.committed)\n        return []",
    ),
    Mutation(
        "fenced controller write",
        "writes of a controller that is deposed are not fenced (KAFKA-6082)",
        "zookeeper.fence",
        "Fence._fenced",
        "multi.check(self._epoch_path, lease.epoch_version)",
        "multi.check(self._epoch_path, -1)",
    ),
    Mutation(
        "work of a later controller",
        "a controller that was deposed while it took over decides on what it read",
        "core.control.controller",
        "Controller.load",
        "if newest > self.context.controller_epoch:",
        "if False:",
    ),
    Mutation(
        "storage identity",
        "a lost disk is not noticed",
        "core.control.incarnation",
        "standing",
        "if broker.dirty or (storage_id is not None and storage_id != broker.storage_id):",
        "if False:",
    ),
    Mutation(
        "term of parked requests",
        "who waits for an acknowledgement waits on when leadership is lost, and the next time that "
        "this replica leads is told (KAFKA-1148)",
        "core.replication.partition",
        "Partition._become_follower",
        "effects = self._leader.end(self._not_leader())",
        "self._kept = self._leader.parked",
        (
            (
                "Partition._become_leader",
                "return self._leader.adopt(",
                "self._leader.parked = getattr(self, '_kept', self._leader.parked)\n"
                "    self._kept = self._leader.parked\n"
                "    return self._leader.adopt(",
            ),
        ),
    ),
    Mutation(
        "acknowledgement without waiting",
        "acks=all is answered after the leader's append",
        "core.replication.leader",
        "Leader.park",
        "if required_offset <= self.log_state.high_watermark:",
        "if True:",
    ),
    Mutation(
        "consumers read all",
        "consumers see what is not committed",
        "broker.replication.fetch",
        "_readable_end",
        "else log.high_watermark",
        "else log.log_end_offset",
    ),
    Mutation(
        "latest offset of a new leader",
        "it is told before the predecessor's is known (KIP-207)",
        "core.replication.leader",
        "Leader.latest_offset",
        "if self.log_state.high_watermark < self.first_own_offset:",
        "if False:",
    ),
    Mutation(
        "the last members stay",
        "an ISR of which all died is emptied",
        "core.control.election",
        "after_failures",
        "kept = view.ordered(m for m in state.isr if view.condition(m) is not Condition.LOST)",
        "kept = ()",
    ),
    Mutation(
        "election from the ISR",
        "any live replica may lead",
        "core.control.election",
        "for_leaderless",
        "intact = view.members(Condition.HEALTHY, Condition.RETURNED)",
        "intact = tuple(r for r in view.assignment.replicas if view.usable(r))",
    ),
    Mutation(
        "producers after truncation",
        "what was cut is still remembered of producers (KAFKA-12153)",
        "broker.replication.replica",
        "Replica._truncate",
        "self.step(LogTruncated(self.log.log_end_offset, self.log.load_producers()))",
        "self.step(LogTruncated(self.log.log_end_offset, self.core.log_state.producers))",
    ),
    Mutation(
        "flush before acknowledging, follower",
        "a follower fetches on before what it has is on the disk",
        "broker.replication.replicator",
        "LeaderLoop._fetch_once",
        "await self._flush_what_must()",
        "pass",
    ),
    Mutation(
        "flush before acknowledging, leader",
        "a leader counts what is not on its disk",
        "core.replication.leader",
        "Leader.advance_high_watermark",
        "if self.settings.flush_before_ack:",
        "if False:",
    ),
    Mutation(
        "messages in order",
        "a message of the controller that was overtaken is taken all the same",
        "broker.replication.replica_manager",
        "ReplicaManager.update_state",
        "if order < self._last_message:",
        "if False:",
    ),
    Mutation(
        "dirty once",
        "a broker that started dirty says so again in each later session",
        "broker.broker",
        "Broker._register_again",
        "self.info = replace(self.info, dirty=False)",
        "pass",
    ),
    Mutation(
        "reassignment: the target is in sync",
        "the old replicas leave as soon as one of the new ones is in sync",
        "core.control.reassignment",
        "retirement",
        "set(state.isr).issuperset(assignment.target)",
        "not set(state.isr).isdisjoint(assignment.target)",
    ),
    Mutation(
        "reassignment: State before assignment",
        "the assignment is written before the ISR is shrunk",
        "core.control.reassignments",
        "Reassignments.retire",
        "written = yield from self._states.commit_once(moving, rule, tell=False)\n"
        "    yield from self._nodes.write_assignments({tp: after[tp] for tp in written})",
        "written = [tp for tp in moving if (v := self._context.view(tp)) and rule(tp, v)]\n"
        "    old = {tp: self._context.view(tp) for tp in written}\n"
        "    yield from self._nodes.write_assignments({tp: after[tp] for tp in written})\n"
        "    again = lambda tp, _: rule(tp, old[tp])\n"
        "    yield from self._states.commit_once(written, again, tell=False)",
    ),
    Mutation(
        "reassignment: a late drop",
        "a replica that is wanted again deletes its log",
        "broker.replication.replica_manager",
        "ReplicaManager._to_delete",
        "held.partition_version > partition_version",
        "False",
    ),
    Mutation(
        "reassignment: drops while away",
        "a broker that comes back is not told what to delete",
        "core.control.controller",
        "Controller._welcome",
        "self._reassignments.tell_dropped(broker_id)",
        "pass",
    ),
    Mutation(
        "reassignment: an assignment with a State that is known",
        "a leader that has the State already does not take the assignment",
        "core.replication.partition",
        "Partition._adopt",
        "return self._reassign(assignment, now_ms) if known else []",
        "return []",
    ),
    Mutation(
        "an outsider that has just left",
        "who has left the ISR is waited for as one that is about to join",
        "core.replication.leader",
        "Leader._forget_outsiders",
        "if broker_id not in state.isr:",
        "if broker_id in self.assignment.adding and broker_id not in state.isr:",
    ),
    Mutation(
        "reassignment: positions of replicas that are added",
        "what a replica fetched before it was dropped and added again counts",
        "core.replication.leader",
        "Leader._forget_outsiders",
        "if broker_id not in state.isr:",
        "if False:",
    ),
    Mutation(
        "reassignment: who leads has to know of it",
        "a replica that is added may lead while it deletes the log that it had before",
        "core.control.election",
        "unclean_election",
        "view.usable(r) and r not in view.untold",
        "view.usable(r)",
    ),
    Mutation(
        "reassignment: the failed disk of a log that is gone",
        "a replica that begins anew is kept out of the ISR for the log that failed before",
        "core.control.reassignments",
        "Reassignments.forget_dropped",
        "self._context.failed_replicas.get(tp, {}).pop(broker_id, None)",
        "pass",
    ),
    Mutation(
        "liar: CRC",
        "a batch is taken whatever its CRC",
        "records.check",
        "checked_header",
        "verify_crc(batch, position, header)",
        "pass",
    ),
    Mutation(
        "liar: count of offsets",
        "a batch claims more offsets than records",
        "records.check",
        "_problem_of",
        "if header.record_count != header.last_offset_delta + 1:",
        "if False:",
    ),
    Mutation(
        "liar: too few records",
        "a batch counts more records than it holds",
        "records.pieces",
        "pieces",
        "if seen < count:",
        "if False:",
    ),
    Mutation(
        "liar: more than is counted",
        "bytes follow the records that are counted",
        "records.pieces",
        "pieces",
        "if place == count and walked.position < len(data):",
        "if False:",
    ),
    Mutation(
        "liar: records",
        "what is wrong with a record is not looked at",
        "records.pieces",
        "pieces",
        "if walked.problem is not None:",
        "if False:",
        (("pieces", "if seen < count:", "if False:"),),
    ),
    Mutation(
        "liar: size",
        "a batch may be of any size",
        "records.check",
        "check_size",
        "if size_bytes > rules.max_message_bytes:",
        "if False:",
    ),
    Mutation(
        "liar: length",
        "a batch may claim more bytes than there are",
        "records.check",
        "checked_header",
        "if header.size_bytes > len(batch) - position:",
        "if False:",
    ),
    Mutation(
        "liar: largest time",
        "the largest timestamp of the header is believed",
        "records.check",
        "checked",
        "attributes, max_timestamp_ms = header.attributes, seen.max_timestamp_ms",
        "attributes, max_timestamp_ms = header.attributes, header.max_timestamp_ms",
    ),
    Mutation(
        "liar: control batch",
        "a client writes marks of transactions",
        "records.check",
        "_problem_of",
        "if header.attributes & CONTROL:",
        "if False:",
    ),
    Mutation(
        "coordinators: the newest connection",
        "T10: requests on older connections are executed",
        "core.transactions.connections",
        "NewestConnections.hears",
        "return connection >= newest",
        "return True",
    ),
    Mutation(
        "coordinators: numbers of markers",
        "T5: late copies of messages with markers count",
        "core.transactions.markers",
        "MarkerFilter.takes",
        "or heard <= self._last.get(sender.broker_id, (0, 0))",
        "",
    ),
    Mutation(
        "coordinators: what is committed is told",
        "T1: answers and markers leave when the record is appended",
        "broker.transactions.shard",
        "TransactionShard._write_batch",
        "self._after(transactional_id, effects)",
        "self._after(transactional_id, effects); self._on_committed([each])",
    ),
    Mutation(
        "coordinators: the next one tells again",
        "T2: who takes over forgets what was decided",
        "core.transactions.transaction",
        "Transaction.restore",
        "self._on_prepare_committed(now)",
        "pass",
    ),
    Mutation(
        "coordinators: what is repeated is written again",
        "T1: that an end is a repetition is told from memory",
        "core.transactions.transaction",
        "Transaction._decide",
        "self._write(Write(self.value, result), waiting)",
        "self._reply(waiting, result)",
    ),
    Mutation(
        "coordinators: too few replicas delay",
        "T1: what is appended and not acknowledged is waited for no longer",
        "broker.coordinators.partition",
        "CoordinatorPartition._on_outcome",
        "if isinstance(outcome, NotEnoughReplicasAfterAppendError) and self.leads:",
        "if False:",
    ),
    Mutation(
        "liar: transaction",
        "a client writes records of no transaction",
        "records.check",
        "checked_header",
        "if header.attributes & TRANSACTIONAL and not has_transactional_id:",
        "if False:",
        (
            (
                "core.replication.leader:Leader.plan_append",
                "if header.attributes & TRANSACTIONAL:",
                "if False:",
            ),
        ),
    ),
    Mutation(
        "transactions: no guard",
        "a batch opens a transaction without the coordinator's word",
        "core.replication.transactional",
        "OpeningTransactions.admit",
        "word = self._word",
        "return True",
    ),
    Mutation(
        "transactions: the guard outlives a marker",
        "a word counts also after a marker of its producer",
        "core.replication.transactional",
        "OpeningTransactions.on_marker",
        "self._word = None",
        "return []",
    ),
    Mutation(
        "transactions: a late marker of the same epoch",
        "an end that raised the epoch ends a transaction of that epoch (KIP-1228)",
        "core.replication.transactional",
        "planned_marker",
        "(end.raised and again and known.is_open)",
        "False",
    ),
    Mutation(
        "transactions: coordinator epoch",
        "markers of an older coordinator are taken",
        "core.replication.transactional",
        "planned_marker",
        "if coordinator_epoch < known.coordinator_epoch:",
        "if False:",
        (
            (
                "core.replication.transactional:planned_marker",
                "said = again and coordinator_epoch == known.coordinator_epoch",
                "said = coordinator_epoch == known.coordinator_epoch",
            ),
        ),
    ),
    Mutation(
        "transactions: stable at the marker",
        "a transaction is stable once it has a marker, not once that is committed",
        "core.replication.log_state",
        "LogState.appended",
        "self.log_end_offset = header.next_offset",
        "self.log_end_offset = header.next_offset; "
        "self.producers.unstable.settle(header.next_offset)",
    ),
    Mutation(
        "transactions: the ended ones in a snapshot",
        "a snapshot does not know of markers that are not committed",
        "core.replication.producer_state",
        "ProducerStateTable.copied",
        "for first_offset, marker_offset in self.unstable.ended():",
        "for first_offset, marker_offset in ():",
    ),
    Mutation(
        "transactions: followers and markers",
        "a follower does not look into markers",
        "broker.replication.replica",
        "Replica.append_as_follower",
        "markers = markers_in([records], headers)",
        "markers = {}",
    ),
    Mutation(
        "transactions: epochs of markers",
        "a marker moves no epoch",
        "core.replication.producer_state",
        "ProducerStateTable._end",
        "known.raise_epoch(header.producer_epoch)",
        "pass",
    ),
    Mutation(
        "transactions: what is stable",
        "who wants committed records only reads up to the high watermark",
        "broker.replication.fetch",
        "_readable_end",
        "log.last_stable_offset if read_committed else log.high_watermark",
        "log.high_watermark",
    ),
    Mutation(
        "transactions: aborted ones are told",
        "a fetch names no aborted transaction",
        "broker.replication.fetch",
        "FetchHandler._read_consumer",
        "result.aborted = replica.aborted(item.fetch_offset, max_bytes, end_offset)",
        "pass",
    ),
    # Races 25 to 44, and what has to be missed by transactions.md section 9.
    Mutation(
        "transactions: older epochs",
        "what is below the epoch of a marker is appended",
        "core.replication.producer_state",
        "ProducerStateTable.check",
        "if header.producer_epoch < known.producer_epoch:",
        "if header.producer_epoch < known.producer_epoch - 1:",
    ),
    Mutation(
        "coordinators: an end while the last one completes",
        "who repeats an end is told that it is done before it is",
        "core.transactions.rules",
        "_end_again_tv1",
        "if value.state.is_prepare:",
        "if False:",
    ),
    Mutation(
        "coordinators: a fresh producer id",
        "where no epoch is left there is no other producer id",
        "core.transactions.rules",
        "Circumstances.fresh_after",
        "return self.needed() if value.producer_epoch >= self.max_epoch else NO_PRODUCER_ID",
        "return NO_PRODUCER_ID",
    ),
    Mutation(
        "coordinators: a producer id is given once",
        "a fresh producer id is given out again",
        "core.transactions.producer_ids",
        "SpareProducerIds.take",
        "return self._ids.pop()",
        "return self._ids[-1]",
    ),
    Mutation(
        "coordinators: an Init that is repeated",
        "who goes on, and says so again, is fenced (KIP-360)",
        "core.transactions.rules",
        "_on_init",
        "if value.is_last(*known) and value.state is not TransactionState.ONGOING:",
        "if False:",
    ),
    Mutation(
        "coordinators: an Init of another",
        "whom a new producer has fenced is taken for one that repeats itself",
        "core.transactions.rules",
        "_on_init",
        "last_epoch = NO_PRODUCER_EPOCH",
        "last_epoch = value.producer_epoch",
    ),
    Mutation(
        "coordinators: deleted topics",
        "that a topic has been deleted is not noticed",
        "broker.transactions.markers",
        "MarkerChannel.route",
        "return Deleted() if self._metadata.is_complete else Nowhere()",
        "return Nowhere()",
    ),
    Mutation(
        "coordinators: all brokers know of them",
        "there are transactions while a broker knows of none",
        "broker.transactions.coordinator",
        "TransactionCoordinator._check_agreed",
        "if not self._agreed():",
        "if False:",
    ),
    Mutation(
        "coordinators: an end raises the epoch",
        "an end of the second version leaves the epoch of a transaction of the first (KIP-890)",
        "core.transactions.rules",
        "_end",
        "if not request.is_tv2:",
        "if True:",
    ),
    Mutation(
        "coordinators: the same leader under another epoch",
        "T1: what is known is read anew, and who waits is told to look elsewhere",
        "broker.transactions.shards",
        "TransactionShards.on_role_changed",
        "if leads and shard.is_of(replica):",
        "if False:",
    ),
    Mutation(
        "coordinators: what could not be written",
        "what a coordinator has to write, and could not, is not tried again",
        "core.transactions.transaction",
        "Transaction.on_refused",
        "self._retry_at_ms = now.ms + self._settings.retry_ms",
        "self._retry_at_ms = now.ms + 10**9",
    ),
    Mutation(
        "coordinators: a marker that is past",
        "a partition that is past an epoch is never done with its marker (KAFKA-19999)",
        "core.transactions.marker_outbox",
        "MarkerOutbox.on_answer",
        "self._confirm(item, How.PAST)",
        "pass",
    ),
    Mutation(
        "transactions: an administrator's marker",
        "it speaks for a later coordinator than there is",
        "core.replication.transactional",
        "planned_marker",
        "coordinator_epoch = max(known.coordinator_epoch, 0)",
        "coordinator_epoch = 2**31 - 1",
    ),
    Mutation(
        "coordinators: an administrator's abort of nothing",
        "a marker is written though nothing is open",
        "broker.transactions.coordinator",
        "TransactionCoordinator._abort",
        "if known is None or not known.is_open:",
        "if known is None:",
    ),
    Mutation(
        "transactions: whom a marker made known",
        "what follows on an empty transaction has to begin with 0 in the first version, too",
        "core.replication.producer_state",
        "ProducerStateTable.update",
        "known.starts_anywhere = header.base_sequence == NO_SEQUENCE",
        "known.starts_anywhere = False",
    ),
    Mutation(
        "transactions: who has one open",
        "a silent producer is forgotten while its transaction is open",
        "core.replication.producer_state",
        "ProducerStateTable.expire",
        "if state.is_open:",
        "if False:",
    ),
    Mutation(
        "transactions: the stable end of a new leader",
        "it is told before the predecessor's is known (KIP-207)",
        "core.replication.leader",
        "Leader.latest_offset",
        "if self.log_state.high_watermark < self.first_own_offset:",
        "if not read_committed and self.log_state.high_watermark < self.first_own_offset:",
    ),
    Mutation(
        "transactions: above what is stable",
        "a reader above the last stable offset of a new leader is told that it is out of range",
        "core.replication.leader",
        "Leader.check_consumer_fetch",
        "<= self.log_state.log_end_offset:",
        "<= self.log_state.last_stable_offset:",
    ),
    Mutation(
        "transactions: one question",
        "each batch that waits asks for itself",
        "core.replication.transactional",
        "OpeningTransactions.wait",
        "if guard is not None:",
        "if False:",
    ),
    Mutation(
        "transactions: what may be different later",
        "a retriable error of a coordinator is its word",
        "core.replication.transactional",
        "OpeningTransactions.answered",
        "if error is not None and error.retriable:",
        "if False:",
    ),
    Mutation(
        "transactions: what waits behind another",
        "what follows on a batch whose time is over is appended without it",
        "core.replication.transactional",
        "OpeningTransactions.give_up",
        "return self._refuse(producer_id, error)",
        "guard.waiting = [each for each in guard.waiting if each.token != token]\n"
        "            return [RefuseWaiting(token, error)]",
    ),
    Mutation(
        "transactions: guards of a leadership",
        "who waits for a word waits on when the leadership is over",
        "core.replication.transactional",
        "OpeningTransactions.refuse_all",
        "return [effect for each in list(self._guards) for effect in self._refuse(each, error)]",
        "return []",
    ),
    Mutation(
        "transactions: compaction, entries that stay",
        "the index keeps what a round has taken (T7)",
        "log.compaction",
        "Round.aborted_in",
        "and entry.last_offset >= self.end_offset",
        "",
    ),
    Mutation(
        "transactions: compaction, entries that go",
        "the index loses what a round has left (T7)",
        "log.compaction",
        "Round.aborted_in",
        "and entry.last_offset >= self.end_offset",
        "and False",
    ),
    Mutation(
        "transactions: compaction, last markers",
        "the last marker of a producer goes, and its epoch falls",
        "log.compaction",
        "Round._what_stays_of_marker",
        "if self._is_past_horizon(header) and header.base_offset not in self.last_markers:",
        "if self._is_past_horizon(header):",
    ),
    Mutation(
        "transactions: epochs in snapshots",
        "a snapshot does not have the epochs of producers",
        "log.producers",
        "write_snapshot",
        "state.producer_epoch,",
        "0,",
    ),
    Mutation(
        "transactions: emptied batches",
        "a batch without records opens a transaction",
        "core.replication.producer_state",
        "ProducerStateTable.update",
        "if known.open_first_offset == NO_TRANSACTION and header.record_count:",
        "if known.open_first_offset == NO_TRANSACTION:",
    ),
    Mutation(
        "transactions: all that was aborted is told",
        "the search ends at the first entry",
        "log.transaction_index",
        "TransactionIndex.find",
        "if entry.last_stable_offset >= end_offset:",
        "if True:",
    ),
    Mutation(
        "transactions: aborted later",
        "what ended in a later segment than is read is not told",
        "log.transaction_index",
        "TransactionIndex.find",
        "bases[max(0, bisect_right(bases, offset) - 1) :]",
        "bases[max(0, bisect_right(bases, offset) - 1) :][:1]",
    ),
    # Of the offsets of groups: races 36 to 39.
    Mutation(
        "groups: the higher record",
        "the value counts whose marker came last, not that of the higher record",
        "core.groups.offset_table",
        "OffsetTable.put",
        "if known is None or known.record_offset < value.record_offset:",
        "if True:",
    ),
    Mutation(
        "groups: the order of arrival",
        "what a transaction commits never replaces what is there already",
        "core.groups.offsets",
        "GroupOffsets.stage",
        "self.table.stage(producer_id, each, value.at(record_offset))",
        "self.table.stage(producer_id, each, value)",
    ),
    Mutation(
        "groups: aborted ones",
        "staged offsets count however their transaction ends",
        "core.groups.offset_table",
        "OffsetTable.settle",
        "offsets.items() if commits else ()",
        "offsets.items()",
    ),
    Mutation(
        "groups: staged ones do not expire",
        "an offset expires while a transaction is about to move it",
        "core.groups.offsets",
        "GroupOffsets.expired",
        "or each in staged",
        "",
    ),
    Mutation(
        "groups: deletions take staged ones",
        "what is deleted comes back with a transaction that began before",
        "core.groups.offset_table",
        "OffsetTable.forget",
        "for offsets in (self.committed, *self._all_staged()):",
        "for offsets in (self.committed,):",
    ),
    Mutation(
        "groups: stable ones",
        "who wants stable offsets is told those that a transaction may yet replace",
        "core.groups.offsets",
        "GroupOffsets.fetch",
        "self.table.staged() if require_stable else set()",
        "set()",
    ),
    Mutation(
        "groups: a marker that is committed",
        "a marker counts when it is in the log, not when it is committed",
        "core.groups.offset_table",
        "OffsetTable.end",
        "self._ending[marker_offset] = (commits, offsets)",
        "self._ending[marker_offset] = (commits, offsets); self.settle(marker_offset)",
    ),
    Mutation(
        "groups: markers while they are read",
        "a marker is taken while the groups are read, and ends nothing there (KAFKA-17507)",
        "broker.groups.shard",
        "GroupShard.check_takes_markers",
        "if not self.loaded:",
        "if False:",
        (("GroupShard.on_marker", "assert self.loaded, (self.topic_partition, offset)", "pass"),),
    ),
    Mutation(
        "groups: a marker is confirmed when it counts",
        "a marker is confirmed when it is in the log",
        "broker.replication.transactional",
        "end_transaction",
        "committed = replica.park(plan.required_offset)",
        "committed = replica.park(0)",
    ),
    Mutation(
        "groups: staged ones are read",
        "the next coordinator does not know what is staged",
        "broker.groups.shard",
        "_Reader.stage",
        "if record is not None:",
        "if False:",
    ),
    Mutation(
        "groups: the member is asked for again",
        "offsets are staged of a member that has gone while they waited for the word (KIP-447)",
        "broker.groups.coordinator",
        "GroupCoordinator._stage_known",
        "check = partial(self._check_in_transaction, request)",
        "check = self._now",
    ),
)


@contextmanager
def applied(mutation: Mutation) -> Iterator[None]:
    """The product with these lines otherwise."""
    module = importlib.import_module(f"minikafka.{mutation.module}")
    edits: dict[tuple[Any, str], list[tuple[str, str]]] = {}
    for where, old, new in ((mutation.where, mutation.old, mutation.new), *mutation.also):
        other, colon, function = where.rpartition(":")
        owner = importlib.import_module(f"minikafka.{other}") if colon else module
        edits.setdefault((owner, function), []).append((old, new))
    with ExitStack() as stack:
        for (owner, function), changes in edits.items():
            stack.enter_context(_edited(owner, function, changes, mutation.name))
        yield


@contextmanager
def _edited(module: Any, where: str, changes: list[tuple[str, str]], name: str) -> Iterator[None]:
    owner: Any = module
    *classes, function = where.split(".")
    for each in classes:
        owner = getattr(owner, each)
    original = inspect.getattr_static(owner, function)
    changed = _compiled(module, original, changes, name)
    places = [owner, *(_importers(module, function, original) if owner is module else ())]
    for place in places:
        setattr(place, function, changed)
    try:
        yield
    finally:
        for place in places:
            setattr(place, function, original)


def _compiled(module: Any, original: Any, changes: list[tuple[str, str]], name: str) -> Any:
    source = textwrap.dedent(inspect.getsource(original))
    assert "super()" not in source, f"{name}: super() needs a class around it, and would fail"
    for old, new in changes:
        assert source.count(old) == 1, f"{name}: the source does not hold {old!r}"
        source = source.replace(old, new)
    scope: dict[str, Any] = {}
    source = "from __future__ import annotations\n" + source
    exec(compile(source, f"<{name}>", "exec"), module.__dict__, scope)
    return scope[original.__name__]


def _importers(module: Any, name: str, original: Any) -> list[Any]:
    """Who has taken the function by name from its module."""
    return [
        other
        for key, other in list(sys.modules.items())
        if key.startswith("minikafka.")
        and other is not module
        and getattr(other, name, None) is original
    ]


def hunt(mutation: Mutation, lives: int, steps: int, jobs: int) -> tuple[int, int, str] | None:
    """(lives until found, seed, what failed), or None."""
    with applied(mutation):
        if jobs == 1:
            results = map(partial(_violation, steps=steps), range(lives))
            return _first(results)
        with get_context("fork").Pool(jobs) as pool:
            return _first(pool.imap(partial(_violation, steps=steps), range(lives), chunksize=2))


def _violation(seed: int, steps: int) -> tuple[int, str | None]:
    return seed, life.live(seed, steps).violation


def _first(results: Any) -> tuple[int, int, str] | None:
    for count, (seed, violation) in enumerate(results, 1):
        if violation is not None:
            return count, seed, violation
    return None


def cases() -> Iterator[tuple[str, Callable[[], None]]]:
    """Every scenario of the races, with its parameters."""
    from tests.simulation import (
        test_races_of_controllers,
        test_races_of_coordinators,
        test_races_of_ends,
        test_races_of_groups,
        test_races_of_leaders,
        test_races_of_liars,
        test_races_of_logs,
        test_races_of_messages,
        test_races_of_openings,
        test_races_of_operation,
        test_races_of_reassignments,
        test_races_of_sessions,
        test_races_of_transactions,
    )

    modules = (
        test_races_of_leaders,
        test_races_of_liars,
        test_races_of_messages,
        test_races_of_controllers,
        test_races_of_coordinators,
        test_races_of_groups,
        test_races_of_reassignments,
        test_races_of_sessions,
        test_races_of_transactions,
        test_races_of_ends,
        test_races_of_openings,
        test_races_of_operation,
        test_races_of_logs,
    )
    for name, function in ((n, f) for module in modules for n, f in vars(module).items()):
        if not name.startswith("test_"):
            continue
        choices: list[list[dict[str, Any]]] = []
        for mark in getattr(function, "pytestmark", ()):
            names = mark.args[0] if isinstance(mark.args[0], tuple) else (mark.args[0],)
            choices.append(
                [
                    dict(zip(names, value if len(names) > 1 else (value,), strict=True))
                    for value in mark.args[1]
                ]
            )
        for chosen in product(*choices):
            arguments = {key: value for each in chosen for key, value in each.items()}
            yield f"{name}{list(arguments.values()) or ''}", partial(function, **arguments)


def failing_scenario(mutation: Mutation, among: str = "") -> tuple[str, str] | None:
    """The first scenario (with `among` in its name) that notices, and what it says."""
    with applied(mutation):
        for name, play in cases():
            if among not in name:
                continue
            try:
                play()
            except Exception as error:
                cause = error.__cause__ or error
                return name, f"{type(cause).__name__} {cause}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutations")
    parser.add_argument("--lives", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--scenarios", action="store_true", help="the scenarios instead of lives")
    parser.add_argument("--case", default="", help="only scenarios with this in their name")
    options = parser.parse_args()
    missed = 0
    for mutation in MUTATIONS:
        if not any(name in mutation.name for name in options.only.split(",")):
            continue
        if options.scenarios:
            noticed = failing_scenario(mutation, options.case)
            missed += noticed is None
            name, what = noticed or ("NOT FOUND", "")
            print(f"| {mutation.name} | {name} | {what.splitlines()[0][:110] if what else ''} |")
            continue
        found = hunt(mutation, options.lives, options.steps, options.jobs)
        missed += found is None
        if found is None:
            print(f"| {mutation.name} | NOT FOUND in {options.lives} lives | |", flush=True)
        else:
            count, seed, violation = found
            print(f"| {mutation.name} | {count} (seed {seed}) | {violation[:110]} |", flush=True)
    return min(1, missed)


if __name__ == "__main__":
    sys.exit(main())
