//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// flooders is how many callers the noisy app has: each of its runs calls services for five seconds.
const flooders = 8

// noisy measures what one app suffers from another that floods every service.
func (b *bench) noisy(ctx context.Context) (err error) {
	server, _, stopAll, err := b.servers(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopAll()) }()
	if err := b.deploy(ctx, "values.go", "/values.go", "--name", "values-go"); err != nil {
		return err
	}
	host, err := b.makeApp(ctx, "flood")
	if err != nil {
		return err
	}
	for _, script := range []string{"taken", "flood"} {
		file := map[string]string{"taken": "hello.go", "flood": "flood.go"}[script]
		if err := b.deploy(ctx, file, "/"+script, "--name", script, "--app", "flood"); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"queues", "create", "flood", "--script", "taken", "--app", "flood"},
		{"triggers", "create", "flood", "--kind", "pubsub", "--script", "taken", "--topic", "flood", "--app", "flood"},
	} {
		if err := b.command(ctx, args...); err != nil {
			return err
		}
	}
	quiet := target{name: "quiet", url: "http://" + b.public + "/values.go", as: "values", pid: server}
	measure := func() (sample, error) { return b.sample(ctx, quiet, 1, max(b.run, 3*time.Second)) }
	alone, err := measure()
	if err != nil {
		return err
	}
	flood, stop := context.WithCancel(ctx)
	var noise sync.WaitGroup
	failed := make([]error, flooders)
	for i := range failed {
		noise.Go(func() {
			for flood.Err() == nil {
				if _, err := fetch(flood, "http://"+b.public+"/flood", host, ""); err != nil && flood.Err() == nil {
					failed[i] = err
					return
				}
			}
		})
	}
	together, err := measure()
	stop()
	noise.Wait()
	if err := errors.Join(append(failed, err)...); err != nil {
		return err
	}
	fmt.Printf("a kv get of a quiet app at 1 connection: p50 %s, p99 %s; beside %d runs of an app that floods every service: p50 %s, p99 %s, %.1f times\n\n",
		micros(float64(alone.P50)), micros(float64(alone.P99)), flooders, micros(float64(together.P50)), micros(float64(together.P99)),
		float64(together.P99)/float64(alone.P99))
	return nil
}
