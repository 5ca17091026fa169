//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"sync"
	"time"
)

// How often each call is made, and how large the file is, in MiB.
const (
	published = 50 // to up to 100 triggers: a first cause may lead to 10,000 events
	messages  = 500
	fileSize  = 100
)

// calls measures single calls of services from within a script: what a message costs its sender, when it arrives, and what a large file
// costs in memory.
func (b *bench) calls(ctx context.Context, server int) error {
	for _, script := range []struct{ file, name string }{{"calls.go", "calls"}, {"delay.go", "delay"}, {"hello.go", "taken"}} {
		if err := b.deploy(ctx, script.file, "/"+script.name, "--name", script.name); err != nil {
			return err
		}
	}
	for _, n := range []int{0, 1, 10, 100} {
		if err := b.publishTo(ctx, n); err != nil {
			return err
		}
	}
	if err := b.command(ctx, "queues", "create", "delays", "--script", "delay"); err != nil {
		return err
	}
	if _, err := b.call(ctx, "do=send&n=%d", messages); err != nil {
		return err
	}
	var took map[string]int64
	err := poll(ctx, func() bool {
		var err error
		took, err = b.call(ctx, "do=delays&n=0")
		return err != nil || took["n"] == messages
	})
	if err != nil {
		return err
	}
	fmt.Printf("a message through a queue, from its sender to its script, 200 a second: p50 %d us, p99 %d us\n", took["p50"], took["p99"])
	return b.largeFile(ctx, server)
}

// publishTo publishes under a topic that n triggers take.
func (b *bench) publishTo(ctx context.Context, n int) error {
	topic := fmt.Sprintf("n.%d", n)
	for i := range n {
		if err := b.command(ctx, "triggers", "create", fmt.Sprintf("n%d-%d", n, i), "--kind", "pubsub", "--script", "taken", "--topic", topic); err != nil {
			return err
		}
	}
	took, err := b.call(ctx, "do=publish&n=%d&topic=%s", published, topic)
	if err != nil {
		return err
	}
	fmt.Printf("publish to %d triggers: p50 %d us, p99 %d us\n", n, took["p50"], took["p99"])
	return nil
}

// largeFile writes a file and reads it, twice: what the first time needs for good is no matter of size.
func (b *bench) largeFile(ctx context.Context, server int) error {
	if _, err := b.call(ctx, "do=file&n=%d", fileSize); err != nil {
		return err
	}
	before, engines, err := memoryOf(server)
	if err != nil {
		return err
	}
	host, engine := before, sum(engines)
	watched, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		for pause(watched, 10*time.Millisecond) == nil {
			if h, e, err := memoryOf(server); err == nil {
				host, engine = max(host, h), max(engine, sum(e))
			}
		}
	})
	took, err := b.call(ctx, "do=file&n=%d", fileSize)
	stop()
	watching.Wait()
	if err != nil {
		return err
	}
	fmt.Printf("a file of %d MiB: written in %d ms, read in %d ms; host %.0f MB before, at most %.0f; engines %.0f, at most %.0f\n\n", fileSize,
		took["write_us"]/1000, took["read_us"]/1000, before, host, sum(engines), engine)
	return nil
}

func sum(list []float64) (total float64) {
	for _, v := range list {
		total += v
	}
	return total
}

// call has the script do something.
func (b *bench) call(ctx context.Context, query string, args ...any) (took map[string]int64, err error) {
	answer, err := fetch(ctx, "http://"+b.public+"/calls?"+fmt.Sprintf(query, args...), "", "")
	if err != nil {
		return nil, err
	}
	return took, json.Unmarshal(answer, &took)
}

// command runs a command against the server.
func (b *bench) command(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, b.program, append(args, "--data", b.data())...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("picloud %v: %w: %s", args, err, out)
	}
	return nil
}
