// A member of a group with franz-go. What it is told and what it tells: README.md of the folder above.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type member struct {
	hold        time.Duration
	lock        sync.Mutex // callbacks come on other goroutines
	uncommitted map[string]map[int32]kgo.EpochOffset
}

func tell(event string, more map[string]any) {
	line := map[string]any{"at": time.Now().UnixMicro(), "event": event}
	for name, value := range more {
		line[name] = value
	}
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

func tellPartitions(event string, partitions map[string][]int32) {
	names := [][2]any{}
	for topic, numbers := range partitions {
		for _, number := range numbers {
			names = append(names, [2]any{topic, number})
		}
	}
	if len(names) > 0 {
		tell(event, map[string]any{"partitions": names})
	}
}

func tellTrouble(err error) {
	tell("trouble", map[string]any{"what": err.Error()})
}

// What cannot be committed now stays, for the next attempt.
func (m *member) commit(client *kgo.Client) {
	m.lock.Lock()
	defer m.lock.Unlock()
	if len(m.uncommitted) == 0 {
		return
	}
	agreed := [][3]any{}
	// A commit waits for a join that is under way, and that may wait for a callback, which waits until AllowRebalance is called.
	limit, end := context.WithTimeout(context.Background(), time.Second)
	defer end()
	client.CommitOffsetsSync(limit, m.uncommitted, func(
		_ *kgo.Client, request *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error,
	) {
		if err != nil {
			tellTrouble(fmt.Errorf("commit: %w", err))
			return
		}
		for _, topic := range response.Topics {
			for _, partition := range topic.Partitions {
				if partition.ErrorCode != 0 {
					tellTrouble(fmt.Errorf("commit: code %d", partition.ErrorCode))
					continue
				}
				at := m.uncommitted[topic.Topic][partition.Partition]
				agreed = append(agreed, [3]any{topic.Topic, partition.Partition, at.Offset})
			}
		}
	})
	for _, partition := range agreed {
		m.drop(partition[0].(string), partition[1].(int32))
	}
	if len(agreed) > 0 {
		tell("committed", map[string]any{"offsets": agreed})
	}
}

func (m *member) drop(topic string, partition int32) {
	delete(m.uncommitted[topic], partition)
	if len(m.uncommitted[topic]) == 0 {
		delete(m.uncommitted, topic)
	}
}

func (m *member) forget(partitions map[string][]int32) {
	m.lock.Lock()
	defer m.lock.Unlock()
	for topic, numbers := range partitions {
		for _, number := range numbers {
			m.drop(topic, number)
		}
	}
}

func (m *member) assigned(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	tellPartitions("assigned", partitions)
}

func (m *member) revoked(_ context.Context, client *kgo.Client, partitions map[string][]int32) {
	if len(partitions) > 0 {
		time.Sleep(m.hold)
	}
	m.commit(client)
	m.forget(partitions)
	tellPartitions("revoked", partitions)
}

func (m *member) lost(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	m.forget(partitions)
	tellPartitions("lost", partitions)
}

func (m *member) read(fetches kgo.Fetches) {
	m.lock.Lock()
	defer m.lock.Unlock()
	fetches.EachError(func(topic string, partition int32, err error) {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			return // nothing came within this poll
		}
		tellTrouble(fmt.Errorf("%s-%d: %w", topic, partition, err))
	})
	fetches.EachPartition(func(partition kgo.FetchTopicPartition) {
		if len(partition.Records) == 0 {
			return
		}
		offsets := []int64{}
		for _, record := range partition.Records {
			offsets = append(offsets, record.Offset)
		}
		tell("records", map[string]any{"partition": [2]any{partition.Topic, partition.Partition}, "offsets": offsets})
		if m.uncommitted[partition.Topic] == nil {
			m.uncommitted[partition.Topic] = map[int32]kgo.EpochOffset{}
		}
		m.uncommitted[partition.Topic][partition.Partition] = kgo.EpochOffset{Epoch: -1, Offset: offsets[len(offsets)-1] + 1}
	})
}

func main() {
	args := map[string]string{}
	for _, arg := range os.Args[1:] {
		name, value, _ := strings.Cut(arg, "=")
		args[name] = value
	}
	millis := func(name string) time.Duration {
		number, _ := strconv.Atoi(args[name])
		return time.Duration(number) * time.Millisecond
	}
	balancers := map[string]kgo.GroupBalancer{
		"range":              kgo.RangeBalancer(),
		"roundrobin":         kgo.RoundRobinBalancer(),
		"sticky":             kgo.StickyBalancer(),
		"cooperative-sticky": kgo.CooperativeStickyBalancer(),
		"uniform":            kgo.StickyBalancer(),
	}
	m := &member{hold: millis("hold"), uncommitted: map[string]map[int32]kgo.EpochOffset{}}
	options := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(args["bootstrap"], ",")...),
		kgo.ClientID(args["name"]),
		kgo.ConsumerGroup(args["group"]),
		kgo.ConsumeTopics(strings.Split(args["topics"], ",")...),
		kgo.Balancers(balancers[args["assignor"]]),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(m.assigned),
		kgo.OnPartitionsRevoked(m.revoked),
		kgo.OnPartitionsLost(m.lost),
		kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.SessionTimeout(millis("session")),
		kgo.MetadataMaxAge(5 * time.Second),
		kgo.FetchMaxWait(100 * time.Millisecond),
	}
	if args["protocol"] == "consumer" {
		options = append(options, kgo.ServerSideBalancer())
	}
	if instance, static := args["instance"]; static {
		options = append(options, kgo.InstanceID(instance))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		tellTrouble(err)
		os.Exit(1)
	}
	enough, end := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		end()
	}()
	committed := time.Now()
	for enough.Err() == nil {
		poll, stop := context.WithTimeout(enough, 50*time.Millisecond)
		m.read(client.PollFetches(poll))
		stop()
		if time.Since(committed) > 100*time.Millisecond {
			committed = time.Now()
			m.commit(client)
		}
		client.AllowRebalance()
	}
	m.commit(client)
	client.CloseAllowingRebalance()
	tell("closed", nil)
}
