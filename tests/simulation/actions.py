"""What can be done to a simulated cluster: the verbs, each with its own chance and time.

An `Action` is complete in itself: words, how long the world runs after it, and a seed for whatever
the world decides by chance in that time. So actions can be left out of a list, and the others still
mean what they meant. One that makes no sense (kill who is dead) does nothing.

    kill A | restart A | terminate A       SIGKILL, start, SIGTERM
    power A 0.5                            the host goes down: half of what was not flushed survives
    replace-disk A | fill A | free A       an empty disk (the process is killed); a full one; room
    pause A | resume A                     SIGSTOP, SIGCONT
    cut A B | cut-one-way A B | heal A B   links; Z is ZooKeeper
    isolate A | heal                       from all, and from ZooKeeper; all links work again
    hold update_state C A                  such requests of C's to A stay on their way (*: anybody)
    break-off | release                    who waits for them hears that the connection broke; they
                                           arrive after all, and no more are held
    expire A | expire-dead A               ZooKeeper ends its session; those of its dead processes
    fault A lost|applied|pass              what befalls A's next write to ZooKeeper
    break A                                A's connection with ZooKeeper breaks
    depose | depose softly                 somebody deletes the controller's place in the queue and
                                           /controller, to force an election; /controller alone
    clock A 5000                           its wall clock jumps
    produce A t-0 all|1|0 2 [producer 0]   two records in a batch, sent to A
    lie A t-0 half-a-header 7 [20]         a batch that is not what it says, of a seed; 20 of them
    consume A t-0 7 | latest A t-0
    txn-write A t-0 0                      a batch of the transaction of producer 0, sent to A; or
                                           again the one that it is not sure of
    txn-end 0 commit|abort                 its transaction ends
    transact 0 1|2 commit|abort t-0 g:t-1  a whole one, of a client that asks the coordinator, in
                                           this version of the protocol: with records in t-0, and
                                           an offset that group g has reached in t-1
    offset-commit g:t-0 | offset-delete g:t-0 | group-delete g
    group-join g | group-leave g           a member, for which is committed from then on
    offset-fetch g:t-0 stable|any          what g has committed; stable: none that a transaction may
                                           yet replace
    txn-consume A t-0 7                    a fetch of committed records
    txn-coordinator                        another coordinator, with a higher epoch
    producer A 0                           an idempotent producer gets its id
    create A t 12,23 [name=value …]        topic t: partition 0 on A and B, 1 on B and C
    delete-records A t-0 5                 everything below 5
    delete A t | configure A t name=value | elect A t-0 preferred|unclean
    reassign A t-0 BCD|cancel              A is asked to move t-0 to B, C and D
    wait
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from minikafka.model import TopicPartition
from tests.simulation.clients import Clients
from tests.simulation.group_log import Key
from tests.simulation.liar import KNOWN, Liar
from tests.simulation.network import Exchange
from tests.simulation.world import Host, World
from tests.simulation.zookeeper import ZOOKEEPER


@dataclass(frozen=True, slots=True)
class Action:
    """`words` as above; then the world runs for `run_ms`."""

    words: tuple[str, ...]
    run_ms: float = 0.0
    seed: int = 0

    def __str__(self) -> str:
        return " ".join(self.words)


class Player:
    """Does actions to a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clients = Clients(world)
        self.liar = Liar(world)
        self._held: list[Exchange] = []
        self._by_name = {host.name: host for host in world.hosts.values()}
        self._verbs: dict[str, Callable[..., object]] = {
            "kill": lambda a: world.kill(self._by_name[a]),
            "restart": lambda a: world.start(self._by_name[a]),
            "terminate": self._terminate,
            "power": lambda a, survives: world.power_off(self._by_name[a], float(survives)),
            "replace-disk": lambda a: world.lose_disk(self._by_name[a]),
            "fill": lambda a: self._fill(a, True),
            "free": lambda a: self._fill(a, False),
            "pause": self._pause,
            "resume": self._resume,
            "cut": lambda a, b: world.cut(self._number(a), self._number(b)),
            "cut-one-way": lambda a, b: world.cut(
                self._number(a), self._number(b), both_ways=False
            ),
            "isolate": self._isolate,
            "heal": self._heal,
            "hold": self._hold,
            "break-off": self._break_off,
            "release": self.release,
            "expire": self._expire,
            "expire-dead": self._expire_dead,
            "fault": self._fault,
            "break": self._break,
            "depose": world.zookeeper.depose,
            "clock": self._clock,
            "produce": self._produce,
            "consume": lambda a, tp, offset: self.clients.consume(
                self._by_name[a], partition(tp), int(offset)
            ),
            "txn-write": lambda a, tp, slot: world.transactions.write(
                self._by_name[a], partition(tp), int(slot)
            ),
            "txn-end": lambda slot, outcome: world.transactions.end(int(slot), outcome),
            "txn-consume": lambda a, tp, offset: world.transactions.consume(
                self._by_name[a], partition(tp), int(offset)
            ),
            "txn-coordinator": self._next_coordinator,
            "transact": self._transact,
            "offset-commit": lambda key: world.members.commit(group_key(key)),
            "offset-fetch": lambda key, how: world.members.fetch(
                group_key(key), stable=how == "stable"
            ),
            "offset-delete": lambda key: world.members.delete_offset(group_key(key)),
            "group-delete": world.members.delete_group,
            "group-join": world.members.join,
            "group-leave": world.members.leave,
            "lie": self._lie,
            "latest": lambda a, tp: self.clients.latest(self._by_name[a], partition(tp)),
            "producer": lambda a, slot: self.clients.new_producer(self._by_name[a], int(slot)),
            "create": self._create,
            "delete": lambda a, topic: self.clients.delete_topic(self._by_name[a], topic),
            "delete-records": lambda a, tp, before: self.clients.delete_records(
                self._by_name[a], partition(tp), int(before)
            ),
            "configure": self._configure,
            "elect": lambda a, tp, how: self.clients.elect(
                self._by_name[a], [partition(tp)], unclean=how == "unclean"
            ),
            "reassign": self._reassign,
            "wait": lambda: None,
        }

    def play(self, action: Action) -> None:
        """Do it, and let the world run."""
        world = self.world
        world.chance.seed(action.seed)
        world.tell(f"> {action}")
        verb, *words = action.words
        self._verbs[verb](*words)
        world.run(action.run_ms)

    # --- verbs -----------------------------------------------------------------------------------

    def _number(self, name: str) -> int:
        return ZOOKEEPER if name == "Z" else self._by_name[name].number

    def _terminate(self, name: str) -> None:
        process = self._by_name[name].process
        if process is not None and not process.ended:
            process.terminate()

    def _fill(self, name: str, full: bool) -> None:
        disk = self._by_name[name].disk
        disk.full = full
        disk.was_full = disk.was_full or full

    def _pause(self, name: str) -> None:
        process = self._by_name[name].process
        if process is not None:
            process.hold()

    def _resume(self, name: str) -> None:
        process = self._by_name[name].process
        if process is not None:
            process.go_on()

    def _isolate(self, name: str) -> None:
        number = self._number(name)
        for other in (ZOOKEEPER, *self.world.hosts):
            if other != number:
                self.world.cut(number, other)

    def _heal(self, *names: str) -> None:
        if not names:
            self.world.heal_links()
            return
        one, other = (self._number(name) for name in names)
        self.world.network.heal_link(one, other)
        self.world.network.heal_link(other, one)

    def _hold(self, kind: str, source: str, target: str) -> None:
        def choose(exchange: Exchange) -> str | None:
            if exchange.kind != kind:
                return None
            if source != "*" and exchange.source_number != self._number(source):
                return None
            if target != "*" and exchange.target != self._number(target):
                return None
            self._held.append(exchange)
            return "hold"

        self.world.network.filters.append(choose)

    def _break_off(self) -> None:
        for exchange in self._held:
            exchange.fail_later(0.0, "the connection broke")

    def release(self) -> None:
        """What was held arrives now, and nothing more is held."""
        self.world.network.filters.clear()
        held, self._held = self._held, []
        for exchange in held:
            exchange.arrive()

    def _expire(self, name: str) -> None:
        process = self._by_name[name].process
        client = None if process is None else process.zookeeper_client
        if client is not None and client.client_id is not None:
            self.world.zookeeper.expire(client.client_id[0])

    def _expire_dead(self, name: str) -> None:
        for process in self.world.ended:
            if process.name == name:
                for session_id in process.sessions:
                    self.world.zookeeper.expire(session_id)

    def _fault(self, name: str, fault: str) -> None:
        self.world.zookeeper.faults.setdefault(self._number(name), []).append(fault)

    def _break(self, name: str) -> None:
        process = self._by_name[name].process
        if process is not None and process.zookeeper_client is not None:
            process.zookeeper_client.break_connection()

    def _clock(self, name: str, step_ms: str) -> None:
        self._by_name[name].clock_ms += int(step_ms)

    def _produce(self, name: str, tp: str, acks: str, count: str, *producer: str) -> None:
        slot = int(producer[1]) if producer else None
        number = -1 if acks == "all" else int(acks)
        self.clients.produce(self._by_name[name], partition(tp), number, int(count), slot)

    def _next_coordinator(self) -> None:
        self.world.transactions.coordinator_epoch += 1

    def _transact(self, slot: str, version: str, outcome: str, *words: str) -> None:
        self.world.coordinated.transact(
            int(slot),
            int(version),
            outcome,
            [partition(word) for word in words if ":" not in word],
            [group_key(word) for word in words if ":" in word],
        )

    def _lie(self, name: str, tp: str, lie: str, seed: str, times: str = "1") -> None:
        for number in range(int(times)):
            self.liar.lie(self._by_name[name], partition(tp), KNOWN[lie], int(seed) + number)

    def _create(self, name: str, topic: str, assignment: str, *configs: str) -> None:
        replicas = [[self._number(replica) for replica in part] for part in assignment.split(",")]
        settings = dict(config.split("=") for config in configs)
        if settings.get("unclean.leader.election.enable") == "true":
            self.world.unclean_topics.add(topic)
        self.clients.create_topic(self._by_name[name], topic, dict(enumerate(replicas)), settings)

    def _configure(self, name: str, topic: str, config: str) -> None:
        key, value = config.split("=")
        if config == "unclean.leader.election.enable=true":
            self.world.unclean_topics.add(topic)
        self.clients.configure(self._by_name[name], topic, {key: value})

    def _reassign(self, name: str, tp: str, target: str) -> None:
        replicas = None if target == "cancel" else [self._number(replica) for replica in target]
        self.clients.reassign(self._by_name[name], partition(tp), replicas)

    def host(self, name: str) -> Host:
        return self._by_name[name]


def partition(text: str) -> TopicPartition:
    """`t-0`"""
    topic, _, number = text.rpartition("-")
    return TopicPartition(topic, int(number))


def group_key(text: str) -> Key:
    """`g:t-0`"""
    group_id, _, topic_partition = text.partition(":")
    return group_id, partition(topic_partition)
