package main

import (
	"errors"
	"time"

	"github.com/IBM/sarama"

	"minikafka/clients/spoken"
)

// transact has no `join`: to commit offsets is asked of other clients.
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
