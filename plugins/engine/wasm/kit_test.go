package wasm_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/picloud/picloud/plugins/engine/wasm"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// underRace says that the race detector watches. It makes the compiler ten times slower: one of the modules that were built from Go
// must do then.
var underRace = func() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}()

// built are the modules that tests make with the Go toolchain.
var built struct{ command, reactor, example []byte }

func TestMain(m *testing.M) {
	wasm.Bound() // as the process of the engine
	code, err := build(m)
	if err == nil && code == 0 {
		err = goleak.Find()
	}
	if err != nil {
		println(err.Error())
		code = 1
	}
	os.Exit(code)
}

// build builds the modules and runs the tests.
func build(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "picloud-wasm")
	if err != nil {
		return 1, err
	}
	defer func() {
		if failed := os.RemoveAll(dir); err == nil {
			err = failed
		}
	}()
	for _, b := range []struct {
		mode, source string
		module       *[]byte
	}{
		{"exe", "./testdata/suite", &built.command},
		{"c-shared", "./testdata/suite", &built.reactor},
		{"c-shared", "../../../sdk/examples/wasm-hello", &built.example},
	} {
		file := filepath.Join(dir, "built.wasm")
		c := exec.Command("go", "build", "-trimpath", "-ldflags=-s", "-buildmode="+b.mode, "-o", file, b.source)
		c.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
		c.Stderr = os.Stderr
		if err := c.Run(); err != nil {
			return 1, err
		}
		if *b.module, err = os.ReadFile(file); err != nil {
			return 1, err
		}
	}
	return m.Run(), nil
}

func bundle(hash string, module []byte) engine.Bundle {
	return engine.Bundle{Hash: hash, Script: hash, Files: []engine.File{{Name: hash + ".wasm", Data: module}}}
}

func load(tb testing.TB, e engine.Engine, hash string, module []byte) {
	tb.Helper()
	if loaded, err := e.Load(tb.Context(), bundle(hash, module)); err != nil {
		tb.Fatalf("%v %+v", err, loaded.Diagnostics)
	}
	tb.Cleanup(func() { e.Unload(hash) })
}

// answer collects what a run sends.
type answer struct {
	engine.Head
	body bytes.Buffer
	mu   sync.Mutex
	logs []engine.Log
}

type sink struct{ *answer }

func (s sink) Head(h engine.Head) error    { s.answer.Head = h; return nil }
func (s sink) Write(p []byte) (int, error) { return s.body.Write(p) }

func (a *answer) header(name string) string {
	for _, h := range a.Headers {
		if h.Name == name {
			return h.Value
		}
	}
	return ""
}

func invoke(ctx context.Context, e engine.Engine, hash, body string) (*answer, error) {
	a := &answer{}
	err := e.Invoke(ctx, &engine.Invocation{
		Bundle: hash, ExecutionID: "x1", Attempt: 2,
		Event: &event.Envelope{ID: "e1", Type: "http.request", Time: time.Unix(0, 0), HTTP: &event.HTTP{
			Method: "POST", Path: "/users/7", Query: "q=1&q=2",
			Headers: []event.Header{{Name: "Accept", Value: "a"}, {Name: "Accept", Value: "b"}},
			Params:  []event.Param{{Name: "id", Value: "7"}}, Rest: "r/s",
		}},
		Body: []byte(body),
		Log:  func(l engine.Log) { a.mu.Lock(); a.logs = append(a.logs, l); a.mu.Unlock() },
		Call: func(_ context.Context, service, method string, args []byte) ([]byte, error) {
			if service == "echo" {
				return args, nil
			}
			return nil, fault.New(fault.NotFound, fault.Script, "there is no service %s.%s", service, method)
		},
	}, sink{a})
	return a, err
}
