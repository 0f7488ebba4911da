package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/IBM/sarama"

	"minikafka/clients/spoken"
)

// reader is the member of a group that commits its offsets with transactions only. What it reads
// waits until somebody asks for it.
type reader struct {
	ask   *spoken.Ask
	found chan *sarama.ConsumerMessage
	leave func() error
}

func join(addresses []string, ask *spoken.Ask) (*reader, error) {
	config := settings()
	config.Consumer.Group.Session.Timeout = time.Duration(ask.SessionTimeoutMs) * time.Millisecond
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	group, err := sarama.NewConsumerGroup(addresses, ask.Group, config)
	if err != nil {
		return nil, err
	}
	go func() {
		for err := range group.Errors() {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	until, end := context.WithCancel(context.Background())
	ended := make(chan struct{})
	joined := &reader{ask: ask, found: make(chan *sarama.ConsumerMessage)}
	joined.leave = func() error {
		end()
		<-ended
		return group.Close()
	}
	go func() {
		defer close(ended)
		for until.Err() == nil {
			if err := group.Consume(until, []string{ask.Topic}, joined); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}()
	return joined, nil
}

func (r *reader) Setup(sarama.ConsumerGroupSession) error { return nil }

func (r *reader) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (r *reader) ConsumeClaim(
	session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim,
) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			select {
			case r.found <- message:
			case <-session.Context().Done():
				return nil
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func (r *reader) poll(count int) [][]any {
	found := [][]any{}
	for len(found) < count {
		message := <-r.found
		found = append(found, []any{message.Partition, message.Offset, string(message.Value)})
	}
	return found
}

func transact(ask *spoken.Ask) error {
	config := settings()
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	config.Producer.Partitioner = newPartitioner
	config.Producer.Return.Successes = true
	config.Producer.Transaction.ID = ask.ID
	config.Producer.Transaction.Timeout = time.Duration(ask.TimeoutMs) * time.Millisecond
	config.Producer.Transaction.Retry.Max = attempts
	config.Producer.Transaction.Retry.Backoff = 100 * time.Millisecond
	config.Net.MaxOpenRequests = 1
	var producer sarama.SyncProducer
	var reading *reader
	then := func(error) string {
		if producer == nil || producer.TxnStatus()&sarama.ProducerTxnFlagFatalError != 0 {
			return "die"
		}
		return "abort"
	}
	return spoken.Calls{
		"init": func(*spoken.Ask) (_ any, err error) {
			producer, err = sarama.NewSyncProducer(ask.Addresses(), config)
			return nil, err
		},
		"begin": func(*spoken.Ask) (any, error) { return nil, producer.BeginTxn() },
		"send": func(ask *spoken.Ask) (any, error) {
			messages := []*sarama.ProducerMessage{}
			for _, value := range ask.Values {
				wanted := spoken.Record{Value: &value, Partition: &ask.Partition}
				messages = append(messages, messageOf(ask.Topic, wanted))
			}
			return nil, first(producer.SendMessages(messages))
		},
		"commit": func(*spoken.Ask) (any, error) { return nil, producer.CommitTxn() },
		"abort":  func(*spoken.Ask) (any, error) { return nil, producer.AbortTxn() },
		"join": func(wanted *spoken.Ask) (_ any, err error) {
			reading, err = join(ask.Addresses(), wanted)
			return nil, err
		},
		"poll": func(ask *spoken.Ask) (any, error) { return reading.poll(ask.Count), nil },
		"send_offsets": func(wanted *spoken.Ask) (any, error) {
			offsets := []*sarama.PartitionOffsetMetadata{}
			for partition, offset := range wanted.Offsets {
				offsets = append(offsets, &sarama.PartitionOffsetMetadata{
					Partition: partition, Offset: offset, LeaderEpoch: -1,
				})
			}
			told := map[string][]*sarama.PartitionOffsetMetadata{wanted.Topic: offsets}
			return nil, producer.AddOffsetsToTxn(told, reading.ask.Group)
		},
		// Another member: what this one has read ahead could not be told from what it reads again.
		"rewind": func(*spoken.Ask) (_ any, err error) {
			if err := reading.leave(); err != nil {
				return nil, err
			}
			reading, err = join(ask.Addresses(), reading.ask)
			return nil, err
		},
	}.AnswerAnd(then)
}

// first is the error of the first message that failed: that of all says no more than how many did.
func first(err error) error {
	var failed sarama.ProducerErrors
	if errors.As(err, &failed) && len(failed) > 0 {
		return failed[0]
	}
	return err
}
