package enginetest

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/plugin"
)

// Dial serves an engine on a unix socket, as a plugin process does, and connects to it. Both ends close with the test.
func Dial(tb testing.TB, e engine.Engine) *engine.Client {
	tb.Helper()
	return Connect(tb, func(s *grpc.Server) { engine.Register(s, e) })
}

// Connect is Dial for a server of one's own making.
func Connect(tb testing.TB, register func(*grpc.Server)) *engine.Client {
	tb.Helper()
	c, err := engine.Dial(context.Background(), Listen(tb, register))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

// Listen serves on a unix socket and returns a connection to it. Both close with the test.
func Listen(tb testing.TB, register func(*grpc.Server)) *grpc.ClientConn {
	tb.Helper()
	dir, err := os.MkdirTemp("", "pic") // tb.TempDir is too long for a socket
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		tb.Fatal(err)
	}
	s := grpc.NewServer(plugin.ServerOptions()...)
	register(s)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	conn, err := grpc.NewClient("unix:"+path,
		append(plugin.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = conn.Close() // a session that has ended may have closed it
		s.Stop()
		if err := <-served; err != nil {
			tb.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	return conn
}

// Request makes a request for one run of a bundle with a body.
func Request(tb testing.TB, bundle, body string) *engine.Request {
	tb.Helper()
	env, err := (&event.Envelope{ID: "e1", Source: "http", Type: "http.request", HTTP: &event.HTTP{Method: "POST", Path: "/"}}).Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return &engine.Request{Bundle: bundle, ExecutionID: "x1", Attempt: 1, Envelope: env, Body: []byte(body)}
}

// Answer is a Reply that keeps what it is given. Its methods are safe for concurrent use.
type Answer struct {
	mu    sync.Mutex
	heads []engine.Head
	body  bytes.Buffer
}

// Head keeps a head.
func (a *Answer) Head(h engine.Head) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heads = append(a.heads, h)
	return nil
}

// Write keeps a chunk.
func (a *Answer) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.body.Write(p)
}

// Heads returns what Head was called with.
func (a *Answer) Heads() []engine.Head {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.heads
}

// Body returns the body so far.
func (a *Answer) Body() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.body.String()
}
