// Sarama, as a client under test: the same source is built with a current version of it (go.mod)
// and with one before 1.45.1 (sarama-1.43.mod), which leaves the largest timestamp of a batch unset.
package main

import (
	"fmt"
	"log"
	"os"
	"time"

	"github.com/IBM/sarama"

	"minikafka/clients/spoken"
)

const attempts = 1000 // of a tenth of a second

func main() {
	sarama.Logger = log.New(os.Stderr, "", log.Ltime)
	spoken.Programs{
		"produce": produce, "consume": consume, "group": group, "admin": admin, "transact": transact,
	}.Run()
}

func settings() *sarama.Config {
	config := sarama.NewConfig()
	config.ClientID = "minikafka-sarama"
	config.Version = sarama.MaxVersion
	config.Metadata.Retry.Max = attempts
	config.Metadata.Retry.Backoff = 100 * time.Millisecond
	config.Consumer.Return.Errors = true
	config.Consumer.Retry.Backoff = 100 * time.Millisecond
	return config
}

var acks = map[string]sarama.RequiredAcks{
	"all": sarama.WaitForAll, "1": sarama.WaitForLocal, "0": sarama.NoResponse,
}

var codecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

// anywhere stands for a record that names no partition.
const anywhere = -1

type partitioner struct{ hashing sarama.Partitioner }

func newPartitioner(topic string) sarama.Partitioner {
	return partitioner{sarama.NewHashPartitioner(topic)}
}

func (p partitioner) Partition(message *sarama.ProducerMessage, count int32) (int32, error) {
	if message.Partition != anywhere {
		return message.Partition, nil
	}
	return p.hashing.Partition(message, count)
}

func (p partitioner) RequiresConsistency() bool { return true }

func produce(ask *spoken.Ask) error {
	config := settings()
	config.Producer.RequiredAcks = acks[ask.Acks]
	config.Producer.Compression = codecs[ask.Codec]
	config.Producer.Idempotent = ask.Idempotent
	config.Producer.Partitioner = newPartitioner
	config.Producer.Retry.Max = attempts
	config.Producer.Retry.Backoff = 100 * time.Millisecond
	config.Producer.Flush.Frequency = 5 * time.Millisecond
	config.Producer.Return.Successes = true
	config.Producer.Return.Errors = true
	if ask.Idempotent {
		config.Net.MaxOpenRequests = 1
	}
	producer, err := sarama.NewAsyncProducer(ask.Addresses(), config)
	if err != nil {
		return err
	}
	told := make(chan struct{}, 2)
	go func() {
		for message := range producer.Successes() {
			spoken.Acknowledged(message.Metadata.(*string), message.Partition, message.Offset)
		}
		told <- struct{}{}
	}()
	go func() {
		for failure := range producer.Errors() {
			spoken.Failed(failure.Msg.Metadata.(*string), failure.Err)
		}
		told <- struct{}{}
	}()
	err = spoken.Records(func(wanted spoken.Record) error {
		producer.Input() <- messageOf(ask.Topic, wanted)
		return nil
	})
	producer.AsyncClose()
	<-told
	<-told
	return err
}

func messageOf(topic string, wanted spoken.Record) *sarama.ProducerMessage {
	message := &sarama.ProducerMessage{Topic: topic, Partition: anywhere, Metadata: wanted.Value}
	if wanted.Key != nil {
		message.Key = sarama.StringEncoder(*wanted.Key)
	}
	if wanted.Value != nil {
		message.Value = sarama.StringEncoder(*wanted.Value)
	}
	for _, header := range wanted.Headers {
		message.Headers = append(message.Headers, sarama.RecordHeader{
			Key: []byte(header[0]), Value: []byte(header[1]),
		})
	}
	if wanted.Partition != nil {
		message.Partition = *wanted.Partition
	}
	if wanted.TimestampMs != nil {
		message.Timestamp = time.UnixMilli(*wanted.TimestampMs)
	}
	return message
}

func tell(message *sarama.ConsumerMessage) {
	found := spoken.Found{
		Topic:       message.Topic,
		Partition:   message.Partition,
		Offset:      message.Offset,
		TimestampMs: message.Timestamp.UnixMilli(),
		Key:         spoken.Text(message.Key),
		Value:       spoken.Text(message.Value),
	}
	for _, header := range message.Headers {
		found.Headers = append(found.Headers, spoken.Header{string(header.Key), string(header.Value)})
	}
	spoken.Read(found)
}

func begin(client sarama.Client, ask *spoken.Ask) (int64, error) {
	switch {
	case ask.From.Word == "earliest":
		return sarama.OffsetOldest, nil
	case ask.From.Word == "latest":
		return sarama.OffsetNewest, nil
	case ask.From.Offset != nil:
		return *ask.From.Offset, nil
	}
	offset, err := client.GetOffset(ask.Topic, ask.Partition, *ask.From.TimestampMs)
	if err == nil && offset < 0 {
		err = fmt.Errorf("no record of %d or later", *ask.From.TimestampMs)
	}
	return offset, err
}

func consume(ask *spoken.Ask) error {
	config := settings()
	if ask.Isolation == "read_committed" {
		config.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	client, err := sarama.NewClient(ask.Addresses(), config)
	if err != nil {
		return err
	}
	defer client.Close()
	offset, err := begin(client, ask)
	if err != nil {
		return err
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return err
	}
	defer consumer.Close()
	reading, err := consumer.ConsumePartition(ask.Topic, ask.Partition, offset)
	if err != nil {
		return err
	}
	for range ask.Count {
		select {
		case message := <-reading.Messages():
			tell(message)
		case err := <-reading.Errors():
			return err
		}
	}
	return reading.Close()
}

// member is what Sarama calls in each generation of a group.
type member struct{ topic string }

func (m member) Setup(session sarama.ConsumerGroupSession) error {
	spoken.Assigned(session.Claims()[m.topic])
	return nil
}

func (m member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m member) ConsumeClaim(
	session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim,
) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			tell(message)
			session.MarkMessage(message, "")
			session.Commit()
		case <-session.Context().Done():
			return nil
		}
	}
}

func group(ask *spoken.Ask) error {
	asked, release := spoken.UntilAsked()
	defer release()
	config := settings()
	config.Consumer.Group.Session.Timeout = time.Duration(ask.SessionTimeoutMs) * time.Millisecond
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	joined, err := sarama.NewConsumerGroup(ask.Addresses(), ask.Group, config)
	if err != nil {
		return err
	}
	go func() {
		for err := range joined.Errors() {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	// A session ends with each rebalance, and with whatever else interrupts it.
	for asked.Err() == nil {
		if err := joined.Consume(asked, []string{ask.Topic}, member{ask.Topic}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			select {
			case <-asked.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
	return joined.Close()
}
