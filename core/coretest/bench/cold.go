//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"
)

// settled is how long after a change a server has its spares again.
const settled = time.Second

// coldStarts measures the first answer of apps that nobody has called yet, with a spare process and without.
func (b *bench) coldStarts(ctx context.Context, scripts ...language) error {
	for _, spares := range []string{"1", "0"} {
		server, _, err := b.picloud(ctx, "serve", "http://"+b.admin+"/readyz", "--engine-spares", spares)
		if err != nil {
			return err
		}
		for _, l := range scripts {
			took, err := b.cold(ctx, l, "cold"+l.suffix[1:]+spares)
			if err != nil {
				return errors.Join(err, stop(server))
			}
			ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
			least, most := bounds(took, ms)
			fmt.Printf("first answer of an app in %s with %s spare processes: median %.1f ms (%.1f-%.1f, %d apps)\n",
				l.name, spares, median(took, ms), least, most, len(took))
		}
		if err := stop(server); err != nil {
			return err
		}
	}
	return nil
}

// cold makes apps and calls each once.
func (b *bench) cold(ctx context.Context, l language, name string) ([]time.Duration, error) {
	var took []time.Duration
	for i := range b.starts {
		app := fmt.Sprintf("%s-%d", name, i)
		host, err := b.makeApp(ctx, app)
		if err != nil {
			return nil, err
		}
		if err := b.deploy(ctx, "hello"+l.suffix, "GET /cold", "--app", app); err != nil {
			return nil, err
		}
		time.Sleep(settled)
		began := time.Now()
		if _, err := fetch(ctx, "http://"+b.public+"/cold", host, ""); err != nil {
			return nil, fmt.Errorf("%s: %w", host, err)
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

// makeApp makes an app that answers to a host of its own.
func (b *bench) makeApp(ctx context.Context, app string) (host string, err error) {
	host = app + ".example.com"
	for _, args := range [][]string{{"apps", "create", app}, {"domains", "add", host, "--app", app}} {
		if out, err := exec.CommandContext(ctx, b.program, append(args, "--data", b.data())...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%v: %w: %s", args, err, out)
		}
	}
	return host, nil
}
