package main

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"

	"minikafka/clients/spoken"
)

func warn(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
}

var administration = map[string]func(context.Context, *kadm.Client, *spoken.Ask) (any, error){
	"create_topic":       createTopic,
	"topics":             topics,
	"config":             config,
	"set_config":         setConfig,
	"broker_config":      brokerConfig,
	"set_broker_config":  setBrokerConfig,
	"set_broker_default": setBrokerDefault,
	"add_partitions":     addPartitions,
	"delete_topic":       deleteTopic,
	"delete_records":     deleteRecords,
	"offsets":            offsets,
	"groups":             groups,
	"group":              describeGroup,
	"committed":          committed,
	"delete_group":       deleteGroup,
}

func createTopic(ctx context.Context, admin *kadm.Client, ask *spoken.Ask) (any, error) {
	configs := map[string]*string{}
	for name, value := range ask.Configs {
		configs[name] = &value
	}
	answer, err := admin.CreateTopic(ctx, int32(ask.Partitions), ask.Replication, configs, ask.Topic)
	if err != nil {
		return nil, err
	}
	return nil, answer.Err
}

func topics(ctx context.Context, admin *kadm.Client, _ *spoken.Ask) (any, error) {
	found, err := admin.ListTopics(ctx)
	counts := map[string]int{}
	for name, topic := range found {
		counts[name] = len(topic.Partitions)
	}
	return counts, err
}

func valueOf(found kadm.ResourceConfigs, err error, name string) (any, error) {
	if err != nil {
		return nil, err
	}
	for _, resource := range found {
		if resource.Err != nil {
			return nil, resource.Err
		}
		for _, config := range resource.Configs {
			if config.Key == name {
				return config.Value, nil
			}
		}
	}
	return nil, fmt.Errorf("there is no %s", name)
}

func config(ctx context.Context, admin *kadm.Client, ask *spoken.Ask) (any, error) {
	found, err := admin.DescribeTopicConfigs(ctx, ask.Topic)
	return valueOf(found, err, ask.Name)
}

func brokerConfig(ctx context.Context, admin *kadm.Client, ask *spoken.Ask) (any, error) {
	found, err := admin.DescribeBrokerConfigs(ctx, ask.Broker)
	return valueOf(found, err, ask.Name)
}

func altered(answers kadm.AlterConfigsResponses, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	for _, answer := range answers {
		if answer.Err != nil {
			return nil, fmt.Errorf("%w: %s", answer.Err, answer.ErrMessage)
		}
	}
	return nil, nil
}

func alteration(ask *spoken.Ask) []kadm.AlterConfig {
	how := kadm.SetConfig
	if ask.Value == nil {
		how = kadm.DeleteConfig
	}
	return []kadm.AlterConfig{{Op: how, Name: ask.Name, Value: ask.Value}}
}

func setConfig(ctx context.Context, admin *kadm.Client, ask *spoken.Ask) (any, error) {
	return altered(admin.AlterTopicConfigs(ctx, alteration(ask), ask.Topic))
}

func setBrokerConfig(ctx context.Context, admin *kadm.Client, ask *spoken.Ask) (any, error) {
	return altered(admin.AlterBrokerConfigs(ctx, alteration(ask), ask.Broker))
}

func setBrokerDefault(ctx context.Context, admin *kadm.Client, ask *spoken.Ask) (any, error) {
	return altered(admin.AlterBrokerConfigs(ctx, alteration(ask)))
}

func addPartitions(ctx context.Context, admin *kadm.Client, ask *spoken.Ask) (any, error) {
	answers, err := admin.UpdatePartitions(ctx, ask.Partitions, ask.Topic)
	if err != nil {
		return nil, err
	}
	return nil, answers.Error()
}

func deleteTopic(ctx context.Context, admin *kadm.Client, ask *spoken.Ask) (any, error) {
	answers, err := admin.DeleteTopics(ctx, ask.Topic)
	if err != nil {
		return nil, err
	}
	return nil, answers.Error()
}

func deleteRecords(ctx context.Context, admin *kadm.Client, ask *spoken.Ask) (any, error) {
	before := kadm.Offsets{}
	before.AddOffset(ask.Topic, ask.Partition, ask.Before, -1)
	answers, err := admin.DeleteRecords(ctx, before)
	if err != nil {
		return nil, err
	}
	answer := answers[ask.Topic][ask.Partition]
	return answer.LowWatermark, answer.Err
}

func offsets(ctx context.Context, admin *kadm.Client, ask *spoken.Ask) (any, error) {
	ends := []int64{}
	for _, list := range []func(context.Context, ...string) (kadm.ListedOffsets, error){
		admin.ListStartOffsets, admin.ListEndOffsets,
	} {
		found, err := list(ctx, ask.Topic)
		if err != nil {
			return nil, err
		}
		offset, known := found.Lookup(ask.Topic, ask.Partition)
		if !known || offset.Err != nil {
			return nil, fmt.Errorf("no offset of %s-%d: %w", ask.Topic, ask.Partition, offset.Err)
		}
		ends = append(ends, offset.Offset)
	}
	return ends, nil
}

func groups(ctx context.Context, admin *kadm.Client, _ *spoken.Ask) (any, error) {
	found, err := admin.ListGroups(ctx)
	return found.Groups(), err
}

func describeGroup(ctx context.Context, admin *kadm.Client, ask *spoken.Ask) (any, error) {
	found, err := admin.DescribeGroups(ctx, ask.Group)
	if err != nil {
		return nil, err
	}
	group := found[ask.Group]
	return map[string]any{"state": group.State, "members": len(group.Members)}, group.Err
}

func committed(ctx context.Context, admin *kadm.Client, ask *spoken.Ask) (any, error) {
	found, err := admin.FetchOffsets(ctx, ask.Group)
	if err != nil {
		return nil, err
	}
	known := map[string]int64{}
	for partition, offset := range found[ask.Topic] {
		if offset.At >= 0 {
			known[strconv.Itoa(int(partition))] = offset.At
		}
	}
	return known, nil
}

func deleteGroup(ctx context.Context, admin *kadm.Client, ask *spoken.Ask) (any, error) {
	answer, err := admin.DeleteGroup(ctx, ask.Group)
	if err != nil {
		return nil, err
	}
	return nil, answer.Err
}
