// Package spoken is the small language of the clients under test, for those in Go: see
// ../../programs/common.py for what is spoken.
package spoken

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Longer than any record that a test sends, as JSON.
const maxLineBytes = 16 << 20

// Header is a name and a value, a pair in JSON.
type Header [2]string

// Record is what a program is given to produce; what is left out is nil.
type Record struct {
	Value       *string  `json:"value"`
	Key         *string  `json:"key"`
	Headers     []Header `json:"headers"`
	Partition   *int32   `json:"partition"`
	TimestampMs *int64   `json:"timestamp_ms"`
}

// Found is a record that was read.
type Found struct {
	Topic       string   `json:"topic"`
	Partition   int32    `json:"partition"`
	Offset      int64    `json:"offset"`
	TimestampMs int64    `json:"timestamp_ms"`
	Key         *string  `json:"key"`
	Value       *string  `json:"value"`
	Headers     []Header `json:"headers"`
}

// From says where reading begins: a word, or an offset, or a time.
type From struct {
	Word        string
	Offset      *int64 `json:"offset"`
	TimestampMs *int64 `json:"timestamp_ms"`
}

// UnmarshalJSON takes "earliest", "latest" or an object.
func (f *From) UnmarshalJSON(data []byte) error {
	if data[0] == '"' {
		return json.Unmarshal(data, &f.Word)
	}
	type object From
	return json.Unmarshal(data, (*object)(f))
}

// Ask is what a program is to do, and each call of one that administers.
type Ask struct {
	Do               string            `json:"do"`
	Bootstrap        string            `json:"bootstrap"`
	Topic            string            `json:"topic"`
	Acks             string            `json:"acks"`
	Codec            string            `json:"codec"`
	Idempotent       bool              `json:"idempotent"`
	Partition        int32             `json:"partition"`
	From             From              `json:"from"`
	Count            int               `json:"count"`
	Group            string            `json:"group"`
	SessionTimeoutMs int               `json:"session_timeout_ms"`
	Call             string            `json:"call"`
	Partitions       int               `json:"partitions"`
	Replication      int16             `json:"replication"`
	Configs          map[string]string `json:"configs"`
	Name             string            `json:"name"`
	Value            *string           `json:"value"`
	Broker           int32             `json:"broker"`
	Before           int64             `json:"before"`
	Isolation        string            `json:"isolation"`
	ID               string            `json:"id"`
	TimeoutMs        int64             `json:"timeout_ms"`
	Values           []string          `json:"values"`
	Offsets          map[int32]int64   `json:"offsets"`
}

// Addresses are those of the brokers to begin with.
func (a *Ask) Addresses() []string { return strings.Split(a.Bootstrap, ",") }

var printing sync.Mutex

func emit(document any) {
	line, err := json.Marshal(document)
	if err != nil {
		panic(err)
	}
	printing.Lock()
	defer printing.Unlock()
	if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
		panic(err)
	}
}

// Acknowledged tells that a record is written.
func Acknowledged(value *string, partition int32, offset int64) {
	emit(map[string]any{"acknowledged": value, "partition": partition, "offset": offset})
}

// Failed tells that a record is not.
func Failed(value *string, err error) {
	emit(map[string]any{"failed": value, "error": err.Error()})
}

// Read tells a record that was read.
func Read(record Found) {
	if record.Headers == nil {
		record.Headers = []Header{}
	}
	emit(map[string]any{"record": record})
}

// Assigned tells the partitions that a member has now.
func Assigned(partitions []int32) {
	sorted := append([]int32{}, partitions...)
	slices.Sort(sorted)
	emit(map[string]any{"assigned": sorted})
}

// Text is nil for nil.
func Text(data []byte) *string {
	if data == nil {
		return nil
	}
	text := string(data)
	return &text
}

// Data is nil for nil.
func Data(text *string) []byte {
	if text == nil {
		return nil
	}
	return []byte(*text)
}

// lines gives each line of standard input to take, as it comes.
func lines(take func(line []byte) error) error {
	in := bufio.NewReaderSize(os.Stdin, maxLineBytes)
	for {
		line, err := in.ReadSlice('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := take(line); err != nil {
			return err
		}
	}
}

// Records gives each record of standard input to take, as it comes.
func Records(take func(Record) error) error {
	return lines(func(line []byte) error {
		var record Record
		if err := json.Unmarshal(line, &record); err != nil {
			return err
		}
		return take(record)
	})
}

// Calls are those of a client that administers, by name.
type Calls map[string]func(ask *Ask) (any, error)

// Answer carries out what comes on standard input.
func (calls Calls) Answer() error { return calls.AnswerAnd(nil) }

// AnswerAnd does so, and where a call has failed tells what the client wants done then.
func (calls Calls) AnswerAnd(then func(error) string) error {
	return lines(func(line []byte) error {
		var ask Ask
		if err := json.Unmarshal(line, &ask); err != nil {
			return err
		}
		call, known := calls[ask.Call]
		if !known {
			emit(map[string]any{"error": "there is no " + ask.Call})
			return nil
		}
		result, err := call(&ask)
		if err != nil && then != nil {
			emit(map[string]any{"error": err.Error(), "then": then(err)})
		} else if err != nil {
			emit(map[string]any{"error": err.Error()})
		} else {
			emit(map[string]any{"result": result})
		}
		return nil
	})
}

// UntilAsked is done when SIGTERM comes.
func UntilAsked() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM)
}

// Programs are what a client does, by name.
type Programs map[string]func(ask *Ask) error

// Run is all of main: it does what the only argument says.
func (programs Programs) Run() {
	if err := programs.run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (programs Programs) run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: %s JSON", os.Args[0])
	}
	var ask Ask
	if err := json.Unmarshal([]byte(os.Args[1]), &ask); err != nil {
		return err
	}
	program, known := programs[ask.Do]
	if !known {
		return fmt.Errorf("there is no %q", ask.Do)
	}
	return program(&ask)
}
