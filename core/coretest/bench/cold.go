//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"time"
)

// settled is how long after a change a server has its spares again.
const settled = time.Second

// coldStarts measures the first answer of apps that nobody has called yet, with a spare process and without.
func (b *bench) coldStarts(ctx context.Context) error {
	for _, spares := range []string{"1", "0"} {
		server, _, err := b.picloud(ctx, "serve", "http://"+b.admin+"/readyz", "--engine-spares", spares)
		if err != nil {
			return err
		}
		took, err := b.cold(ctx, "spares"+spares)
		if err := errors.Join(err, stop(server)); err != nil {
			return err
		}
		ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
		least, most := bounds(took, ms)
		fmt.Printf("first answer of an app with %s spare processes: median %.1f ms (%.1f-%.1f, %d apps)\n",
			spares, median(took, ms), least, most, len(took))
	}
	return nil
}

// cold makes apps and calls each once.
func (b *bench) cold(ctx context.Context, name string) ([]time.Duration, error) {
	var took []time.Duration
	for i := range b.starts {
		app := fmt.Sprintf("%s-%d", name, i)
		host := app + ".example.com"
		for _, args := range [][]string{{"apps", "create", app}, {"domains", "add", host, "--app", app}} {
			if out, err := exec.CommandContext(ctx, b.program, append(args, "--data", b.data())...).CombinedOutput(); err != nil {
				return nil, fmt.Errorf("%v: %w: %s", args, err, out)
			}
		}
		if err := b.deploy(ctx, "hello.go", "GET /cold", "--app", app); err != nil {
			return nil, err
		}
		time.Sleep(settled)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.public+"/cold", nil)
		if err != nil {
			return nil, err
		}
		req.Host = host
		began := time.Now()
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(io.Discard, res.Body)
		took = append(took, time.Since(began))
		if err := errors.Join(err, res.Body.Close()); err != nil {
			return nil, err
		}
		if res.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s answers %s", host, res.Status)
		}
	}
	return took, nil
}
