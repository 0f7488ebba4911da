"""Torment: a cluster of real processes under faults, and a judge of what its clients saw.

    make torment MINUTES=10 ARGS="--zookeeper local:3"
    python -m tests.integration.torment.run --minutes 10 --zookeeper local:3 --seed 7 --faults kill

What runs: three brokers as processes of their own (`--brokers N` for more), ZooKeeper as our
embedded server or as an ensemble of Apache's, two topics with five partitions of three replicas
(min.insync.replicas=2; one topic rolls its segments at 128 KiB, one has flush.before.ack). Three
idempotent producers with acks=all: a patient one, one that gives a record up after 4 s, one whose
instances are closed in the middle of their work; and one with acks=1, whose records may be lost and
repeated, and are counted. Two consumers follow from the beginning (by `poll`, by `poll_batches`),
others come and read a stretch in the middle. librdkafka does the same through Kafka's protocol: an
idempotent producer, a consumer that follows, and two members of a group, of which one comes and
goes; the third member is our client's. They commit what they were given, and ask what is committed.
Everything a client does is a line in history.jsonl, with start, end and outcome (ok, failed for
certain, unknown).

Beside them walks a client that lies (liar.py; `--no-liar` leaves it out): batches that are not what
they say, to topics of its own and to those of the others; requests that are begun and not ended,
answers that it never reads, many connections, noise; and it comes back, and tells the truth.

What is done to it: SIGKILL, SIGTERM, SIGSTOP of one broker (a leader, the controller, anybody),
SIGKILL of all of them, rolling restarts; cuts of a broker from everybody, from another broker, from
all other brokers (and then SIGKILL), from ZooKeeper, from the clients, in one direction only; slow
and flapping links, an interface that goes down, a full disk; SIGKILL and SIGSTOP of ZooKeeper's
servers; several of these at once. The faults are drawn from a seed, which is printed, with every
fault and its time; `--seed` repeats the plan.

How it is judged: while there is no fault any more, the liar goes on for six seconds, in which every
partition of the honest must take records without a pause of three. What had to be refused and was
acknowledged is an anomaly, and so is a broker that ever had more memory than memory.py allows.
After the last fault the cluster must become whole by itself, then every partition is read from the
first to the last offset, and the history is held against that (checker.py lists the anomalies:
lost, unseen, duplicate, inconsistent offset, uncommitted read, beyond high watermark, non-monotonic
poll and send, gap, order, end went back, commit lost, unread by group, no outcome, phantom). The
replicas of each partition are compared on disk, byte for byte, below the high watermark.
kafka-python and aiokafka read everything that is stored, also by the liar, and must find the same.
A cluster that does not become whole or takes no write within a minute after a fault, a client that
gives up, a broker that dies of anything but what was done to it: all these are anomalies, too, and
there must be none of any.

Where it runs: with root, or where anybody may make user namespaces, the whole test moves into
network, mount and process namespaces of its own (isolation.py), and each broker and ZooKeeper into
a network namespace in there; the kernel takes all of it away with the last process, also after a
SIGKILL. Needed: iproute2 and util-linux. Elsewhere each broker stands behind a proxy, and its disk
cannot be filled. `--network` forces one or the other.

On an anomaly the exit status is 1, and history, logs and data are kept; it says where.

Modules: run (options, the course of a run, the report), world (the cluster), processes, zookeepers,
disks; liar, lies, lying (the liar as a part of the run), memory, strangers (the readers); network
(what can be broken) with netns and proxy; faults, nemesis (the plan); workload, history, checker,
replicas, availability; transacting, with attempts and java_transactor. tests/unit/torment shows
that the judge can say no.
"""
