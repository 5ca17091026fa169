package outbound_test

import (
	"bytes"
	"compress/gzip"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/picloud/picloud/core/outbound"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/guard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var app = uuid.New()

// client makes one that may reach what a list allows.
func client(t *testing.T, allow string, own ...string) *outbound.Client {
	t.Helper()
	list, err := guard.ParseAllowed(allow)
	if err != nil {
		t.Fatal(err)
	}
	c := outbound.New(guard.Config{Allow: list, Own: own})
	t.Cleanup(c.Close)
	return c
}

// serve starts a server and returns its address, host:port.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// raw starts a server of connections.
func raw(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func get(t *testing.T, c *outbound.Client, url string) (*outbound.Response, error) {
	t.Helper()
	return c.Do(t.Context(), app, &outbound.Request{Method: "GET", URL: url})
}

// refused checks that a request fails with a kind and a message that holds words, and that it names no address.
func refused(t *testing.T, what string, err error, kind fault.Kind, words string) {
	t.Helper()
	f := fault.From(err)
	if f == nil || f.Kind != kind || !strings.Contains(f.Message, words) || strings.Contains(f.Message, "127.0.0.") {
		t.Errorf("%.100s: %+v, want %s with %q", what, f, kind, words)
	}
}

// unreachable is what all have in common that cannot be reached.
func unreachable(t *testing.T) error {
	t.Helper()
	_, err := client(t, "").Do(t.Context(), app, &outbound.Request{Method: "GET", URL: "http://127.0.0.1/"})
	refused(t, "loopback", err, fault.Unavailable, "cannot be reached")
	return err
}

func gzipped(t *testing.T, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// until waits for c, or for the end of the test.
func until(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-t.Context().Done():
		t.Fatal(what)
	}
}
