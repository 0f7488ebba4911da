package main

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"minikafka/clients/spoken"
)

// transactor is a producer; from `join` on it is that of a session, which commits the offsets of
// all that was polled as it ends a transaction, and goes back to them when it aborts one.
type transactor struct {
	ask      *spoken.Ask
	producer *kgo.Client
	session  *kgo.GroupTransactSession
}

func (t *transactor) options(more ...kgo.Opt) []kgo.Opt {
	return append(append(more, common(t.ask)...),
		kgo.TransactionalID(t.ask.ID),
		kgo.TransactionTimeout(time.Duration(t.ask.TimeoutMs)*time.Millisecond),
		kgo.RecordPartitioner(partitioner()),
		kgo.ProducerLinger(5*time.Millisecond),
	)
}

func (t *transactor) init(ctx context.Context, _ *spoken.Ask) (any, error) {
	_, _, err := t.producer.ProducerID(ctx)
	return nil, err
}

func (t *transactor) begin(context.Context, *spoken.Ask) (any, error) {
	if t.session != nil {
		return nil, t.session.Begin()
	}
	return nil, t.producer.BeginTransaction()
}

func (t *transactor) send(ctx context.Context, ask *spoken.Ask) (any, error) {
	records := []*kgo.Record{}
	for _, value := range ask.Values {
		records = append(records, &kgo.Record{
			Topic: ask.Topic, Partition: ask.Partition, Value: []byte(value),
		})
	}
	return nil, t.producer.ProduceSync(ctx, records...).FirstErr()
}

func (t *transactor) end(how kgo.TransactionEndTry) func(context.Context, *spoken.Ask) (any, error) {
	return func(ctx context.Context, _ *spoken.Ask) (any, error) {
		if t.session == nil {
			return nil, t.producer.EndTransaction(ctx, how)
		}
		committed, err := t.session.End(ctx, how)
		if err == nil && committed != bool(how) {
			err = errors.New("the session has aborted it")
		}
		return nil, err
	}
}

func (t *transactor) join(ctx context.Context, ask *spoken.Ask) (any, error) {
	session, err := kgo.NewGroupTransactSession(t.options(
		kgo.ConsumerGroup(ask.Group),
		kgo.ConsumeTopics(ask.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(time.Duration(ask.SessionTimeoutMs)*time.Millisecond),
		kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RequireStableFetchOffsets(),
	)...)
	if err != nil {
		return nil, err
	}
	t.producer.Close()
	t.producer, t.session = session.Client(), session
	return t.init(ctx, ask)
}

func (t *transactor) poll(_ context.Context, ask *spoken.Ask) (any, error) {
	found := [][]any{}
	for len(found) < ask.Count {
		fetches := t.session.PollRecords(context.Background(), ask.Count-len(found))
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(record *kgo.Record) {
			found = append(found, []any{record.Partition, record.Offset, string(record.Value)})
		})
	}
	return found, nil
}

// then tells what is to be done about an error.
func then(err error) string {
	if errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch) {
		return "die"
	}
	return "abort"
}

func bySession(context.Context, *spoken.Ask) (any, error) { return nil, nil }

func transact(ask *spoken.Ask) error {
	does := &transactor{ask: ask}
	producer, err := kgo.NewClient(does.options()...)
	if err != nil {
		return err
	}
	does.producer = producer
	defer func() { does.producer.Close() }()
	calls := spoken.Calls{}
	for name, call := range map[string]func(context.Context, *spoken.Ask) (any, error){
		"init":         does.init,
		"begin":        does.begin,
		"send":         does.send,
		"commit":       does.end(kgo.TryCommit),
		"abort":        does.end(kgo.TryAbort),
		"join":         does.join,
		"poll":         does.poll,
		"send_offsets": bySession,
		"rewind":       bySession,
	} {
		calls[name] = func(ask *spoken.Ask) (any, error) {
			ctx, release := context.WithTimeout(context.Background(), callTimeout)
			defer release()
			return call(ctx, ask)
		}
	}
	return calls.AnswerAnd(then)
}
