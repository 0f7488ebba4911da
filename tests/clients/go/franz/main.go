// franz-go, as a client under test.
package main

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"minikafka/clients/spoken"
)

const callTimeout = 30 * time.Second

func main() {
	spoken.Programs{
		"produce": produce, "consume": consume, "group": group, "admin": admin, "transact": transact,
	}.Run()
}

func client(ask *spoken.Ask, options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(options, common(ask)...)...)
}

func common(ask *spoken.Ask) []kgo.Opt {
	return []kgo.Opt{
		kgo.ClientID("franz-go"),
		kgo.SeedBrokers(ask.Addresses()...),
		kgo.MetadataMinAge(100 * time.Millisecond),
	}
}

var acks = map[string]kgo.Acks{"all": kgo.AllISRAcks(), "1": kgo.LeaderAck(), "0": kgo.NoAck()}

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

// anywhere stands for a record that names no partition.
const anywhere = -1

func partitioner() kgo.Partitioner {
	sticky := kgo.StickyKeyPartitioner(nil)
	return kgo.BasicConsistentPartitioner(func(topic string) func(*kgo.Record, int) int {
		any := sticky.ForTopic(topic)
		return func(record *kgo.Record, count int) int {
			if record.Partition != anywhere {
				return int(record.Partition)
			}
			return any.Partition(record, count)
		}
	})
}

func produce(ask *spoken.Ask) error {
	options := []kgo.Opt{
		kgo.DefaultProduceTopic(ask.Topic),
		kgo.RequiredAcks(acks[ask.Acks]),
		kgo.ProducerBatchCompression(codecs[ask.Codec]),
		kgo.RecordPartitioner(partitioner()),
		kgo.ProducerLinger(5 * time.Millisecond),
		kgo.AllowAutoTopicCreation(),
	}
	if !ask.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	producer, err := client(ask, options...)
	if err != nil {
		return err
	}
	defer producer.Close()
	err = spoken.Records(func(wanted spoken.Record) error {
		record := &kgo.Record{
			Key:       spoken.Data(wanted.Key),
			Value:     spoken.Data(wanted.Value),
			Partition: anywhere,
		}
		for _, header := range wanted.Headers {
			record.Headers = append(record.Headers, kgo.RecordHeader{
				Key: header[0], Value: []byte(header[1]),
			})
		}
		if wanted.Partition != nil {
			record.Partition = *wanted.Partition
		}
		if wanted.TimestampMs != nil {
			record.Timestamp = time.UnixMilli(*wanted.TimestampMs)
		}
		producer.Produce(context.Background(), record, func(sent *kgo.Record, err error) {
			if err != nil {
				spoken.Failed(wanted.Value, err)
			} else {
				spoken.Acknowledged(wanted.Value, sent.Partition, sent.Offset)
			}
		})
		return nil
	})
	if err != nil {
		return err
	}
	return producer.Flush(context.Background())
}

func tell(record *kgo.Record) {
	found := spoken.Found{
		Topic:       record.Topic,
		Partition:   record.Partition,
		Offset:      record.Offset,
		TimestampMs: record.Timestamp.UnixMilli(),
		Key:         spoken.Text(record.Key),
		Value:       spoken.Text(record.Value),
	}
	for _, header := range record.Headers {
		found.Headers = append(found.Headers, spoken.Header{header.Key, string(header.Value)})
	}
	spoken.Read(found)
}

func begin(from spoken.From) kgo.Offset {
	offset := kgo.NewOffset()
	switch {
	case from.Word == "earliest":
		return offset.AtStart()
	case from.Word == "latest":
		return offset.AtEnd()
	case from.Offset != nil:
		return offset.At(*from.Offset)
	}
	return offset.AfterMilli(*from.TimestampMs)
}

func consume(ask *spoken.Ask) error {
	options := []kgo.Opt{kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		ask.Topic: {ask.Partition: begin(ask.From)},
	})}
	if ask.Isolation == "read_committed" {
		options = append(options, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	consumer, err := client(ask, options...)
	if err != nil {
		return err
	}
	defer consumer.Close()
	for left := ask.Count; left > 0; {
		fetches := consumer.PollRecords(context.Background(), left)
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(tell)
		left -= fetches.NumRecords()
	}
	return nil
}

// group balances as franz-go does by default: cooperatively, so that only changes are told to it.
func group(ask *spoken.Ask) error {
	asked, release := spoken.UntilAsked()
	defer release()
	had := map[int32]bool{}
	change := func(topics map[string][]int32, have bool) {
		for _, partition := range topics[ask.Topic] {
			if have {
				had[partition] = true
			} else {
				delete(had, partition)
			}
		}
		partitions := []int32{}
		for partition := range had {
			partitions = append(partitions, partition)
		}
		spoken.Assigned(partitions)
	}
	gained := func(_ context.Context, _ *kgo.Client, topics map[string][]int32) { change(topics, true) }
	lost := func(_ context.Context, _ *kgo.Client, topics map[string][]int32) { change(topics, false) }
	member, err := client(ask,
		kgo.ConsumerGroup(ask.Group),
		kgo.ConsumeTopics(ask.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(time.Duration(ask.SessionTimeoutMs)*time.Millisecond),
		kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(gained),
		kgo.OnPartitionsRevoked(lost),
		kgo.OnPartitionsLost(lost),
	)
	if err != nil {
		return err
	}
	defer member.CloseAllowingRebalance()
	for asked.Err() == nil {
		fetches := member.PollFetches(asked)
		fetches.EachRecord(tell)
		if fetches.NumRecords() > 0 {
			if err := member.CommitUncommittedOffsets(context.Background()); err != nil {
				warn("commit: %v", err)
			}
		}
		fetches.EachError(func(topic string, partition int32, err error) {
			if asked.Err() == nil {
				warn("%s-%d: %v", topic, partition, err)
			}
		})
		member.AllowRebalance()
	}
	return nil
}

func admin(ask *spoken.Ask) error {
	under, err := client(ask)
	if err != nil {
		return err
	}
	defer under.Close()
	calls := spoken.Calls{}
	for name, call := range administration {
		calls[name] = func(ask *spoken.Ask) (any, error) {
			ctx, release := context.WithTimeout(context.Background(), callTimeout)
			defer release()
			return call(ctx, kadm.NewClient(under), ask)
		}
	}
	return calls.Answer()
}
