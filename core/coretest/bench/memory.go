//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
)

// memory measures what an idle server takes with apps that were called, and that all stay warm.
func (b *bench) memory(ctx context.Context) error {
	for _, part := range []struct {
		language language
		apps     []int
	}{{goScripts, []int{0, 10, 100}}, {tsScripts, []int{10}}} {
		if err := b.warmApps(ctx, part.language, part.apps); err != nil {
			return err
		}
	}
	return nil
}

// warmApps warms up more and more apps of one server.
func (b *bench) warmApps(ctx context.Context, l language, counts []int) (err error) {
	server, _, err := b.picloud(ctx, "serve", "http://"+b.admin+"/readyz", "--engine-idle", "24h", "--engine-spares", "0")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop(server)) }()
	apps := 0
	for _, count := range counts {
		for ; apps < count; apps++ {
			if err := b.warmApp(ctx, l, fmt.Sprintf("warm%s-%d", l.suffix[1:], apps)); err != nil {
				return err
			}
		}
		if err := pause(ctx, calm); err != nil {
			return err
		}
		host, engines, err := memoryOf(server.Process.Pid)
		if err != nil {
			return err
		}
		if len(engines) != count {
			return fmt.Errorf("%d apps are warm, not %d", len(engines), count)
		}
		fmt.Printf("memory of its own with %d warm apps in %s: host %.1f MB", count, l.name, host)
		if count > 0 {
			mb := func(v float64) float64 { return v }
			least, most := bounds(engines, mb)
			fmt.Printf(", each app: median %.1f MB (%.1f-%.1f)", median(engines, mb), least, most)
		}
		fmt.Println()
	}
	return nil
}

// warmApp makes an app and calls it twice at one time, so that it has two interpreters.
func (b *bench) warmApp(ctx context.Context, l language, app string) error {
	host, err := b.makeApp(ctx, app)
	if err != nil {
		return err
	}
	if err := b.deploy(ctx, "warm"+l.suffix, "POST /warm", "--app", app); err != nil {
		return err
	}
	var calls sync.WaitGroup
	failed := make([]error, 2)
	for i := range failed {
		calls.Go(func() { _, failed[i] = fetch(ctx, "http://"+b.public+"/warm", host, order) })
	}
	calls.Wait()
	return errors.Join(failed...)
}

// memoryOf is how many MB of memory are a server's own and those of each of its engine processes: what they do not share
// with others that run the same program.
func memoryOf(server int) (host float64, engines []float64, err error) {
	all, err := processes()
	if err != nil {
		return 0, nil, err
	}
	if host, err = ownMemory(server); err != nil {
		return 0, nil, err
	}
	for _, p := range all {
		if p.parent != server || p.name == "postgres" {
			continue
		}
		mb, err := ownMemory(p.pid)
		if err != nil {
			return 0, nil, err
		}
		engines = append(engines, mb)
	}
	return host, engines, nil
}

func ownMemory(pid int) (mb float64, err error) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(status, []byte("\nRssAnon:"))
	line, _, _ := bytes.Cut(rest, []byte(" kB\n"))
	kb, err := strconv.ParseFloat(string(bytes.TrimSpace(line)), 64)
	return kb / 1024, err
}
