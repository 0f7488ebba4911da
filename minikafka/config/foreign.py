"""Kafka's properties of a broker that minikafka has no use for: a server.properties from elsewhere
is taken as it is, and whoever starts the broker is told what has no effect.

Refused is what would protect the cluster and does not do so here: who believes in it would be
wrong. A name that Kafka does not have either is a typing error, and no matter of this module. The
names are those that Apache Kafka 3.9 declares, and some of older ones. Pure, without state.
"""

from __future__ import annotations

# Names that a person makes up after these.
_FAMILIES = ("rlmm.config.", "rsm.config.")

_NAMES = frozenset(
    """
advertised.host.name advertised.port alter.log.dirs.replication.quota.window.num
alter.log.dirs.replication.quota.window.size.seconds auto.include.jmx.reporter
broker.heartbeat.interval.ms broker.id.generation.enable broker.session.timeout.ms
broker.session.uuid client.quota.callback.class control.plane.listener.name
controller.listener.names controller.quorum.append.linger.ms controller.quorum.bootstrap.servers
controller.quorum.election.backoff.max.ms controller.quorum.election.timeout.ms
controller.quorum.fetch.timeout.ms controller.quorum.request.timeout.ms
controller.quorum.retry.backoff.ms controller.quorum.voters controller.quota.window.num
controller.quota.window.size.seconds controller.socket.timeout.ms
delegation.token.expiry.check.interval.ms delegation.token.expiry.time.ms
delegation.token.master.key delegation.token.max.lifetime.ms delegation.token.secret.key
delete.records.purgatory.purge.interval.requests early.start.listeners
eligible.leader.replicas.enable fetch.max.bytes fetch.purgatory.purge.interval.requests
group.consumer.assignors group.consumer.heartbeat.interval.ms
group.consumer.max.heartbeat.interval.ms group.consumer.max.session.timeout.ms
group.consumer.max.size group.consumer.migration.policy group.consumer.min.heartbeat.interval.ms
group.consumer.min.session.timeout.ms group.consumer.session.timeout.ms
group.coordinator.append.linger.ms group.coordinator.new.enable
group.coordinator.rebalance.protocols group.coordinator.threads group.share.delivery.count.limit
group.share.enable group.share.heartbeat.interval.ms group.share.max.groups
group.share.max.heartbeat.interval.ms group.share.max.record.lock.duration.ms
group.share.max.session.timeout.ms group.share.max.size group.share.min.heartbeat.interval.ms
group.share.min.record.lock.duration.ms group.share.min.session.timeout.ms
group.share.partition.max.record.locks group.share.record.lock.duration.ms
group.share.session.timeout.ms host.name initial.broker.registration.timeout.ms
inter.broker.listener.name inter.broker.protocol.version kafka.metrics.polling.interval.secs
kafka.metrics.reporters log.cleaner.hash.algorithm log.cleaner.io.buffer.load.factor
log.cleaner.io.buffer.size log.cleaner.io.max.bytes.per.second log.dir.failure.timeout.ms
log.flush.start.offset.checkpoint.interval.ms log.index.interval.messages log.initial.task.delay.ms
max.connection.creation.rate max.request.partition.size.limit metadata.log.dir
metadata.log.max.record.bytes.between.snapshots metadata.log.max.snapshot.interval.ms
metadata.log.segment.bytes metadata.log.segment.min.bytes metadata.log.segment.ms
metadata.max.idle.interval.ms metadata.max.retention.bytes metadata.max.retention.ms
metric.reporters metrics.num.samples metrics.recording.level metrics.sample.window.ms node.id
num.io.threads num.network.threads num.recovery.threads.per.data.dir
num.replica.alter.log.dirs.threads num.replica.fetchers offsets.commit.required.acks
offsets.commit.timeout.ms offsets.load.buffer.size offsets.topic.compression.codec
password.encoder.cipher.algorithm password.encoder.iterations password.encoder.key.length
password.encoder.keyfactory.algorithm password.encoder.old.secret password.encoder.secret port
principal.builder.class producer.id.expiration.check.interval.ms
producer.purgatory.purge.interval.requests queued.max.requests quota.window.num
quota.window.size.seconds remote.fetch.max.wait.ms remote.log.index.file.cache.total.size.bytes
remote.log.manager.copier.thread.pool.size remote.log.manager.copy.max.bytes.per.second
remote.log.manager.copy.quota.window.num remote.log.manager.copy.quota.window.size.seconds
remote.log.manager.expiration.thread.pool.size remote.log.manager.fetch.max.bytes.per.second
remote.log.manager.fetch.quota.window.num remote.log.manager.fetch.quota.window.size.seconds
remote.log.manager.task.interval.ms remote.log.manager.task.retry.backoff.max.ms
remote.log.manager.task.retry.backoff.ms remote.log.manager.task.retry.jitter
remote.log.manager.thread.pool.size remote.log.metadata.custom.metadata.max.bytes
remote.log.metadata.manager.class.name remote.log.metadata.manager.class.path
remote.log.metadata.manager.impl.prefix remote.log.metadata.manager.listener.name
remote.log.reader.max.pending.tasks remote.log.reader.threads remote.log.storage.manager.class.name
remote.log.storage.manager.class.path remote.log.storage.manager.impl.prefix
remote.log.storage.system.enable replica.selector.class replica.socket.receive.buffer.bytes
replica.socket.timeout.ms replication.quota.window.num replication.quota.window.size.seconds
request.timeout.ms reserved.broker.max.id sasl.client.callback.handler.class sasl.kerberos.kinit.cmd
sasl.kerberos.min.time.before.relogin sasl.kerberos.principal.to.local.rules
sasl.kerberos.service.name sasl.kerberos.ticket.renew.jitter
sasl.kerberos.ticket.renew.window.factor sasl.login.callback.handler.class sasl.login.class
sasl.login.connect.timeout.ms sasl.login.read.timeout.ms sasl.login.refresh.buffer.seconds
sasl.login.refresh.min.period.seconds sasl.login.refresh.window.factor
sasl.login.refresh.window.jitter sasl.login.retry.backoff.max.ms sasl.login.retry.backoff.ms
sasl.mechanism.controller.protocol sasl.mechanism.inter.broker.protocol
sasl.oauthbearer.clock.skew.seconds sasl.oauthbearer.expected.audience
sasl.oauthbearer.expected.issuer sasl.oauthbearer.jwks.endpoint.refresh.ms
sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms sasl.oauthbearer.jwks.endpoint.retry.backoff.ms
sasl.oauthbearer.jwks.endpoint.url sasl.oauthbearer.scope.claim.name sasl.oauthbearer.sub.claim.name
sasl.oauthbearer.token.endpoint.url sasl.server.callback.handler.class sasl.server.max.receive.size
security.providers server.max.startup.time.ms socket.connection.setup.timeout.max.ms
socket.connection.setup.timeout.ms socket.listen.backlog.size socket.receive.buffer.bytes
socket.send.buffer.bytes ssl.keymanager.algorithm ssl.provider ssl.secure.random.implementation
ssl.trustmanager.algorithm telemetry.max.bytes
transaction.abort.timed.out.transaction.cleanup.interval.ms
transaction.partition.verification.enable transaction.state.log.load.buffer.size
unclean.leader.election.interval.ms unstable.api.versions.enable unstable.feature.versions.enable
zookeeper.clientCnxnSocket zookeeper.max.in.flight.requests zookeeper.metadata.migration.enable
zookeeper.metadata.migration.min.batch.size zookeeper.ssl.cipher.suites zookeeper.ssl.crl.enable
zookeeper.ssl.enabled.protocols zookeeper.ssl.endpoint.identification.algorithm
zookeeper.ssl.keystore.location zookeeper.ssl.keystore.password zookeeper.ssl.keystore.type
zookeeper.ssl.ocsp.enable zookeeper.ssl.protocol zookeeper.ssl.truststore.location
zookeeper.ssl.truststore.password zookeeper.ssl.truststore.type zookeeper.sync.time.ms
""".split()  # noqa: SIM905
)

# By name: the values that promise nothing, and what is not there.
_PROTECTIONS = {
    "alter.config.policy.class.name": ((), "there are no policies for alterations"),
    "create.topic.policy.class.name": ((), "there are no policies for new topics"),
    "process.roles": ((), "brokers find each other by ZooKeeper, not by KRaft"),
    "security.inter.broker.protocol": (("PLAINTEXT",), "brokers talk to each other in the clear"),
    "ssl.engine.factory.class": ((), "classes are not loaded"),
    "zookeeper.set.acl": (("false",), "nodes in ZooKeeper are open to everybody"),
    "zookeeper.ssl.client.enable": (("false",), "brokers talk to ZooKeeper in the clear"),
}


def is_foreign(name: str) -> bool:
    """Whether this is a property of Apache Kafka's broker that minikafka does not have."""
    return name in _NAMES or name in _PROTECTIONS or name.startswith(_FAMILIES)


def refusal(name: str, text: str) -> str:
    """Why a foreign property cannot be set to this; empty if it can, and has no effect."""
    harmless, missing = _PROTECTIONS.get(name, ((), ""))
    if (
        not missing
        or not text.strip()
        or text.strip().lower() in [each.lower() for each in harmless]
    ):
        return ""
    instead = f": expected {harmless[0]}, or leave it out" if harmless else ": leave it out"
    return f"{name}={text.strip()} would not hold here, since {missing}{instead}"
