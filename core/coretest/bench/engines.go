//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
)

// language is one of those that the same handlers are written in: a hello and an order each.
type language struct{ name, suffix string }

var (
	goScripts = language{"Go", ".go"}
	tsScripts = language{"TypeScript", ".ts"}
	languages = []language{goScripts, tsScripts, {"Starlark", ".star"}, {"WebAssembly", ".wasm"}}
)

// engines measures what scripts in each language cost: under load, for the first call, and in memory.
func (b *bench) engines(ctx context.Context) error {
	for _, handler := range []string{"hello", "orders"} {
		if err := b.buildGuest(ctx, handler); err != nil {
			return err
		}
	}
	if err := b.enginesLoaded(ctx); err != nil {
		return err
	}
	if err := b.coldStarts(ctx, languages...); err != nil {
		return err
	}
	return b.memory(ctx)
}

// buildGuest compiles the handler in Go into a WebAssembly module.
func (b *bench) buildGuest(ctx context.Context, handler string) error {
	path := func(name string) string { return filepath.Join(b.dir, name) }
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s", "-buildmode=c-shared",
		"-o", path(handler+".wasm"), path(handler+".go"), path("guest.go"))
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s.wasm: %w: %s", handler, err, out)
	}
	return nil
}

// enginesLoaded calls the handlers in every language in turn, beside the bare server and the peers.
func (b *bench) enginesLoaded(ctx context.Context) (err error) {
	server, targets, stopAll, err := b.servers(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopAll()) }()
	targets = only(targets, "hello", "orders")
	for _, l := range languages {
		for _, handler := range []target{{as: "hello"}, {as: "orders", body: order}} {
			method, path := http.MethodGet, "/"+handler.as+l.suffix
			if handler.body != "" {
				method = http.MethodPost
			}
			err := b.deploy(ctx, handler.as+l.suffix, method+" "+path, "--name", handler.as+"-"+l.suffix[1:])
			if err != nil {
				return err
			}
			handler.name, handler.url, handler.pid = l.name+", "+handler.as, "http://"+b.public+path, server
			targets = append(targets, handler)
		}
	}
	if err := answerAlike(ctx, targets); err != nil {
		return err
	}
	conns := []int{1, 64}
	samples, err := b.compare(ctx, targets, conns)
	if err != nil {
		return err
	}
	if err := report(os.Stdout, targets, conns, samples); err != nil {
		return err
	}
	p50 := func(name string) float64 {
		return median(samples[fmt.Sprint(name, 1)], func(s sample) float64 { return float64(s.P50) })
	}
	for _, l := range languages {
		fmt.Printf("%s: a call that does nothing takes %s longer than from net/http\n", l.name,
			micros(p50(l.name+", hello")-p50("net/http, hello")))
	}
	fmt.Println()
	return nil
}

// answerAlike refuses targets whose handlers do something else than others of their kind.
func answerAlike(ctx context.Context, targets []target) error {
	known := map[string]any{}
	for _, t := range targets {
		answer, err := fetch(ctx, t.url, "", t.body)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		var value any
		if err := json.Unmarshal(answer, &value); err != nil {
			return fmt.Errorf("%s answers %q: %w", t.name, answer, err)
		}
		if known[t.as] == nil {
			known[t.as] = value
		}
		if !reflect.DeepEqual(known[t.as], value) {
			return fmt.Errorf("%s answers %s, others %v", t.name, answer, known[t.as])
		}
	}
	return nil
}

// fetch calls a URL once, with the body where there is one, and as that of host where it is named.
func fetch(ctx context.Context, url, host, body string) ([]byte, error) {
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Host = host
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("it answers %s: %s", res.Status, answer)
	}
	return answer, err
}
