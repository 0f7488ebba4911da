// KafkaJS: see ../programs/common.py for what is spoken here.
"use strict";

const path = require("path");
const readline = require("readline");
const { createRequire } = require("module");

const installed = createRequire(path.join(process.env.KAFKAJS_HOME, "package.json"));
const { Kafka, CompressionTypes, CompressionCodecs, logLevel, ConfigResourceTypes } = installed("kafkajs");
const SnappyCodec = installed("kafkajs-snappy");
const lz4 = installed("lz4js");
const xxhash = installed("lz4js/xxh32.js");

const LZ4_BLOCK_BYTES = 4 * 1024 * 1024;
CompressionCodecs[CompressionTypes.Snappy] = SnappyCodec;
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  async compress(encoder) {
    const frame = Buffer.from(lz4.compress(encoder.buffer));
    // Kafka refuses frames whose blocks may depend on one another, as Java cannot read them. lz4js
    // does not say that they do not; with one block, which is all that we write, it is so.
    if (encoder.buffer.length > LZ4_BLOCK_BYTES) throw new Error("too large for one block");
    frame[4] |= 0x20;
    frame[6] = xxhash.hash(0, frame, 4, 2) >> 8;
    return frame;
  },
  async decompress(buffer) {
    return Buffer.from(lz4.decompress(buffer));
  },
});
const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
};

const ask = JSON.parse(process.argv[2]);
const kafka = new Kafka({
  clientId: "kafkajs",
  brokers: ask.bootstrap.split(","),
  logLevel: logLevel.WARN,
  logCreator: () => ({ label, log }) => console.error(label, JSON.stringify(log)),
  retry: { retries: 60, initialRetryTime: 100, maxRetryTime: 1000 },
});

const emit = (document) => process.stdout.write(JSON.stringify(document) + "\n");
const text = (data) => (data === null || data === undefined ? null : data.toString());

function emitRecord(topic, partition, message) {
  const headers = Object.entries(message.headers || {}).flatMap(([name, values]) =>
    [].concat(values).map((value) => [name, text(value)]),
  );
  emit({
    record: {
      topic,
      partition,
      offset: Number(message.offset),
      timestamp_ms: Number(message.timestamp),
      key: text(message.key),
      value: text(message.value),
      headers,
    },
  });
}

// What came meanwhile goes as one request, in the order of the lines.
async function produce() {
  const producer = kafka.producer({
    idempotent: ask.idempotent,
    maxInFlightRequests: ask.idempotent ? 1 : undefined,
    allowAutoTopicCreation: true,
  });
  await producer.connect();
  const waiting = [];
  let leftOut = [];
  let ended = false;
  let wake = () => {};
  const lines = readline.createInterface({ input: process.stdin });
  lines.on("line", (line) => (waiting.push(JSON.parse(line)), wake()));
  lines.on("close", () => ((ended = true), wake()));
  while (leftOut.length || waiting.length || !ended) {
    if (!leftOut.length && !waiting.length) {
      await new Promise((resolve) => (wake = resolve));
      continue;
    }
    // A request of KafkaJS is one batch a partition, which must not exceed max.message.bytes.
    let size = 0;
    const fits = waiting.findIndex((record) => (size += (record.value ?? "").length) > 500000);
    const records = leftOut.length
      ? leftOut
      : waiting.splice(0, fits < 0 ? waiting.length : Math.max(fits, 1));
    leftOut = [];
    const messages = records.map((record) => ({
      key: record.key ?? null,
      value: record.value ?? null,
      partition: record.partition ?? undefined,
      timestamp: record.timestamp_ms ? String(record.timestamp_ms) : undefined,
      headers: Object.fromEntries(record.headers || []),
    }));
    try {
      const answers = await producer.send({
        topic: ask.topic,
        acks: { all: -1, 1: 1, 0: 0 }[ask.acks],
        compression: CODECS[ask.codec],
        messages,
      });
      const only = answers && answers.length === 1 ? answers[0] : null;
      // KafkaJS 2.2.4 sends a request to each leader and keeps their answers by broker. If one dies,
      // and its partitions go to a broker that has answered already, it takes them for answered: a
      // send succeeds without their records, of which its answers say nothing. As they were, these
      // are sent again by themselves.
      const answered = new Set((answers ?? []).map((each) => each.partition));
      const left = (record) => ask.acks !== "0" && Number.isInteger(record.partition) && !answered.has(record.partition);
      leftOut = records.filter(left);
      records.filter((record) => !left(record)).forEach((record, index) =>
        emit({
          acknowledged: record.value ?? null,
          partition: only ? only.partition : -1,
          offset: only && only.baseOffset !== undefined ? Number(only.baseOffset) + index : -1,
        }),
      );
    } catch (error) {
      records.forEach((record) => emit({ failed: record.value ?? null, error: String(error) }));
    }
  }
  await producer.disconnect();
}

// KafkaJS reads in groups only; a group of its own that commits nothing stands for none.
async function consume() {
  const admin = kafka.admin();
  await admin.connect();
  let offset;
  if (ask.from === "earliest" || ask.from === "latest") {
    const found = await admin.fetchTopicOffsets(ask.topic);
    const ends = found.find((each) => each.partition === ask.partition);
    offset = ask.from === "earliest" ? ends.low : ends.high;
  } else if (ask.from.offset !== undefined) {
    offset = String(ask.from.offset);
  } else {
    const found = await admin.fetchTopicOffsetsByTimestamp(ask.topic, ask.from.timestamp_ms);
    offset = found.find((each) => each.partition === ask.partition).offset;
  }
  await admin.disconnect();
  const consumer = kafka.consumer({
    groupId: `alone-${process.pid}-${Date.now()}`,
    ...(ask.isolation ? { readUncommitted: ask.isolation === "read_uncommitted" } : {}),
  });
  await consumer.connect();
  await consumer.subscribe({ topics: [ask.topic], fromBeginning: true });
  let left = ask.count;
  await new Promise((resolve, reject) => {
    consumer
      .run({
        autoCommit: false,
        eachMessage: async ({ topic, partition, message }) => {
          if (partition !== ask.partition || left === 0 || Number(message.offset) < Number(offset)) return;
          emitRecord(topic, partition, message);
          left -= 1;
          if (left === 0) setImmediate(resolve);
        },
      })
      .catch(reject);
    consumer.seek({ topic: ask.topic, partition: ask.partition, offset });
  });
  // Not consumer.disconnect(): see `leave`. Nobody else is in this group.
  process.stdout.write("", () => process.exit(0)); // when all before it is written
}

// KafkaJS 2.2.4 can turn for ever in disconnect(), at the full speed of a core and deaf to timers:
// if the brokers that it knows of changed while it worked on its last batch (one's session with
// ZooKeeper expired, say), FetchManager.start makes new fetchers after the consumer was stopped,
// and these ask a Runner that answers "not running" at once, again and again.
async function leave(consumer) {
  const { Worker } = require("worker_threads");
  new Worker(`setTimeout(() => process.kill(${process.pid}, "SIGKILL"), 20000)`, { eval: true });
  await consumer.disconnect();
  process.stdout.write("", () => process.exit(0));
}

async function group() {
  const consumer = kafka.consumer({
    groupId: ask.group,
    sessionTimeout: ask.session_timeout_ms,
    heartbeatInterval: 500,
    rebalanceTimeout: 10000,
    maxWaitTimeInMs: 500, // it sends no heartbeat while it waits for records
  });
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) =>
    emit({ assigned: (payload.memberAssignment[ask.topic] || []).sort((a, b) => a - b) }),
  );
  consumer.on(consumer.events.REBALANCING, () => console.error("rebalancing"));
  process.on("SIGTERM", () => leave(consumer));
  await consumer.connect();
  await consumer.subscribe({ topics: [ask.topic], fromBeginning: true });
  await consumer.run({
    autoCommitThreshold: 1,
    eachMessage: async ({ topic, partition, message }) => emitRecord(topic, partition, message),
  });
}

// --- transactions

// It reads by itself, and what it has read waits in `read`.
async function reader({ topic, group, session_timeout_ms }) {
  const consumer = kafka.consumer({
    groupId: group,
    sessionTimeout: session_timeout_ms,
    heartbeatInterval: 500,
    rebalanceTimeout: 10000,
    maxWaitTimeInMs: 500,
  });
  const read = [];
  let wake = () => {};
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => {
      read.push([partition, Number(message.offset), text(message.value)]);
      wake();
    },
  });
  const take = async (count) => {
    while (read.length < count) await new Promise((resolve) => (wake = resolve));
    return read.splice(0, count);
  };
  return { consumer, take, topic, group, session_timeout_ms };
}

// KafkaJS fetches an id with the first transaction, so that of `init` is kept for `begin`.
async function transact() {
  const producer = kafka.producer({
    transactionalId: ask.id,
    transactionTimeout: ask.timeout_ms,
    idempotent: true,
    maxInFlightRequests: 1,
  });
  let transaction = null;
  let reading = null;
  const calls = {
    init: async () => {
      await producer.connect();
      transaction = await producer.transaction();
    },
    begin: async () => {
      transaction = transaction ?? (await producer.transaction());
    },
    send: async ({ topic, partition, values }) => {
      await transaction.send({ topic, messages: values.map((value) => ({ partition, value })) });
    },
    commit: async () => {
      await transaction.commit();
      transaction = null;
    },
    abort: async () => {
      await transaction.abort();
      transaction = null;
    },
    join: async (wanted) => {
      reading = await reader(wanted);
    },
    poll: ({ count }) => reading.take(count),
    send_offsets: async ({ topic, offsets }) => {
      const partitions = Object.entries(offsets).map(([partition, offset]) => ({
        partition: Number(partition),
        offset: String(offset),
      }));
      await transaction.sendOffsets({ consumerGroupId: reading.group, topics: [{ topic, partitions }] });
    },
    // Another member: what this one is just reading could not be told from what it reads again.
    rewind: async () => {
      await reading.consumer.disconnect();
      reading = await reader(reading);
    },
  };
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const wanted = JSON.parse(line);
    try {
      emit({ result: (await calls[wanted.call](wanted)) ?? null });
    } catch (error) {
      const fenced = ["PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH"].includes(error.type);
      emit({ error: String(error), then: fenced ? "die" : "abort" });
    }
  }
  process.exit(0);
}

const CALLS = {
  create_topic: (admin) =>
    admin
      .createTopics({
        waitForLeaders: true,
        topics: [
          {
            topic: ask.topic,
            numPartitions: ask.partitions,
            replicationFactor: ask.replication,
            configEntries: Object.entries(ask.configs).map(([name, value]) => ({ name, value })),
          },
        ],
      })
      .then(() => null),
  topics: async (admin) => {
    const { topics } = await admin.fetchTopicMetadata();
    return Object.fromEntries(topics.map((each) => [each.name, each.partitions.length]));
  },
  config: async (admin) => {
    const { resources } = await admin.describeConfigs({
      resources: [{ type: ConfigResourceTypes.TOPIC, name: ask.topic }],
      includeSynonyms: false,
    });
    return resources[0].configEntries.find((each) => each.configName === ask.name).configValue;
  },
  set_config: (admin) =>
    admin
      .alterConfigs({
        resources: [
          {
            type: ConfigResourceTypes.TOPIC,
            name: ask.topic,
            configEntries: [{ name: ask.name, value: ask.value }],
          },
        ],
      })
      .then(() => null),
  add_partitions: (admin) =>
    admin
      .createPartitions({ topicPartitions: [{ topic: ask.topic, count: ask.partitions }] })
      .then(() => null),
  delete_topic: (admin) => admin.deleteTopics({ topics: [ask.topic] }).then(() => null),
  delete_records: async (admin) => {
    const partitions = [{ partition: ask.partition, offset: String(ask.before) }];
    await admin.fetchTopicOffsets(ask.topic); // or it knows no leader
    await admin.deleteTopicRecords({ topic: ask.topic, partitions });
    const found = await admin.fetchTopicOffsets(ask.topic);
    return Number(found.find((each) => each.partition === ask.partition).low);
  },
  offsets: async (admin) => {
    const found = await admin.fetchTopicOffsets(ask.topic);
    const ends = found.find((each) => each.partition === ask.partition);
    return [Number(ends.low), Number(ends.high)];
  },
  groups: async (admin) => (await admin.listGroups()).groups.map((each) => each.groupId),
  group: async (admin) => {
    const { groups } = await admin.describeGroups([ask.group]);
    return { state: groups[0].state, members: groups[0].members.length };
  },
  committed: async (admin) => {
    const [found] = await admin.fetchOffsets({ groupId: ask.group, topics: [ask.topic] });
    const known = found.partitions.filter((each) => Number(each.offset) >= 0);
    return Object.fromEntries(known.map((each) => [each.partition, Number(each.offset)]));
  },
  delete_group: (admin) => admin.deleteGroups([ask.group]).then(() => null),
};

async function admin() {
  const client = kafka.admin();
  await client.connect();
  for await (const line of readline.createInterface({ input: process.stdin })) {
    Object.assign(ask, JSON.parse(line));
    try {
      emit({ result: (await CALLS[ask.call](client)) ?? null });
    } catch (error) {
      emit({ error: String(error) });
    }
  }
  await client.disconnect();
}

({ produce, consume, group, admin, transact })
  [ask.do]()
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
