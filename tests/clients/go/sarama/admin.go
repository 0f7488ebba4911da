package main

import (
	"fmt"

	"strconv"

	"github.com/IBM/sarama"

	"minikafka/clients/spoken"
)

type administrator struct {
	sarama.ClusterAdmin
	client sarama.Client
}

func admin(ask *spoken.Ask) error {
	client, err := sarama.NewClient(ask.Addresses(), settings())
	if err != nil {
		return err
	}
	under, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		return err
	}
	defer under.Close()
	a := administrator{under, client}
	return spoken.Calls{
		"create_topic":      a.createTopic,
		"topics":            a.topics,
		"config":            a.config,
		"set_config":        a.setConfig,
		"broker_config":     a.brokerConfig,
		"set_broker_config": a.setBrokerConfig,
		"add_partitions":    a.addPartitions,
		"delete_topic":      a.deleteTopic,
		"delete_records":    a.deleteRecords,
		"offsets":           a.offsets,
		"groups":            a.groups,
		"group":             a.describeGroup,
		"committed":         a.committed,
		"delete_group":      a.deleteGroup,
	}.Answer()
}

func (a administrator) createTopic(ask *spoken.Ask) (any, error) {
	configs := map[string]*string{}
	for name, value := range ask.Configs {
		configs[name] = &value
	}
	return nil, a.CreateTopic(ask.Topic, &sarama.TopicDetail{
		NumPartitions:     int32(ask.Partitions),
		ReplicationFactor: ask.Replication,
		ConfigEntries:     configs,
	}, false)
}

func (a administrator) topics(*spoken.Ask) (any, error) {
	found, err := a.ListTopics()
	counts := map[string]int32{}
	for name, topic := range found {
		counts[name] = topic.NumPartitions
	}
	return counts, err
}

func (a administrator) valueOf(kind sarama.ConfigResourceType, of, name string) (any, error) {
	found, err := a.DescribeConfig(sarama.ConfigResource{
		Type: kind, Name: of, ConfigNames: []string{name},
	})
	if err != nil {
		return nil, err
	}
	for _, entry := range found {
		if entry.Name == name {
			return entry.Value, nil
		}
	}
	return nil, fmt.Errorf("there is no %s", name)
}

func (a administrator) config(ask *spoken.Ask) (any, error) {
	return a.valueOf(sarama.TopicResource, ask.Topic, ask.Name)
}

func (a administrator) brokerConfig(ask *spoken.Ask) (any, error) {
	return a.valueOf(sarama.BrokerResource, strconv.Itoa(int(ask.Broker)), ask.Name)
}

func alteration(ask *spoken.Ask) map[string]sarama.IncrementalAlterConfigsEntry {
	how := sarama.IncrementalAlterConfigsOperationSet
	if ask.Value == nil {
		how = sarama.IncrementalAlterConfigsOperationDelete
	}
	return map[string]sarama.IncrementalAlterConfigsEntry{
		ask.Name: {Operation: how, Value: ask.Value},
	}
}

func (a administrator) setConfig(ask *spoken.Ask) (any, error) {
	return nil, a.IncrementalAlterConfig(sarama.TopicResource, ask.Topic, alteration(ask), false)
}

func (a administrator) setBrokerConfig(ask *spoken.Ask) (any, error) {
	name := strconv.Itoa(int(ask.Broker))
	return nil, a.IncrementalAlterConfig(sarama.BrokerResource, name, alteration(ask), false)
}

func (a administrator) addPartitions(ask *spoken.Ask) (any, error) {
	return nil, a.CreatePartitions(ask.Topic, int32(ask.Partitions), nil, false)
}

func (a administrator) deleteTopic(ask *spoken.Ask) (any, error) {
	return nil, a.DeleteTopic(ask.Topic)
}

func (a administrator) deleteRecords(ask *spoken.Ask) (any, error) {
	err := a.DeleteRecords(ask.Topic, map[int32]int64{ask.Partition: ask.Before})
	if err != nil {
		return nil, err
	}
	return a.client.GetOffset(ask.Topic, ask.Partition, sarama.OffsetOldest)
}

func (a administrator) offsets(ask *spoken.Ask) (any, error) {
	// The topic may be younger than what the client knows.
	if err := a.client.RefreshMetadata(ask.Topic); err != nil {
		return nil, err
	}
	begin, err := a.client.GetOffset(ask.Topic, ask.Partition, sarama.OffsetOldest)
	if err != nil {
		return nil, err
	}
	end, err := a.client.GetOffset(ask.Topic, ask.Partition, sarama.OffsetNewest)
	return []int64{begin, end}, err
}

func (a administrator) groups(*spoken.Ask) (any, error) {
	found, err := a.ListConsumerGroups()
	names := []string{}
	for name := range found {
		names = append(names, name)
	}
	return names, err
}

func (a administrator) describeGroup(ask *spoken.Ask) (any, error) {
	found, err := a.DescribeConsumerGroups([]string{ask.Group})
	if err != nil {
		return nil, err
	}
	if found[0].Err != sarama.ErrNoError {
		return nil, found[0].Err
	}
	return map[string]any{"state": found[0].State, "members": len(found[0].Members)}, nil
}

func (a administrator) committed(ask *spoken.Ask) (any, error) {
	found, err := a.ListConsumerGroupOffsets(ask.Group, nil)
	if err != nil {
		return nil, err
	}
	known := map[string]int64{}
	for partition, block := range found.Blocks[ask.Topic] {
		if block.Offset >= 0 {
			known[strconv.Itoa(int(partition))] = block.Offset
		}
	}
	return known, nil
}

func (a administrator) deleteGroup(ask *spoken.Ask) (any, error) {
	return nil, a.DeleteConsumerGroup(ask.Group)
}
