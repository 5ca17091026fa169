package outbound_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbound"
	"github.com/picloud/picloud/sdk/fault"
)

// An answer is taken up to its limits, and not beyond.
func TestLimits(t *testing.T) {
	t.Parallel()
	zeros := func(n int) []byte { return make([]byte, n) }
	dense := gzipped(t, zeros(1<<20))
	body := func(head string, parts ...[]byte) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1<<16))
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\n" + head + "\r\n"))
			for _, p := range parts {
				if _, err := c.Write(p); err != nil {
					return
				}
			}
		}
	}
	endless := func(head, piece string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1<<16))
			_, err := c.Write([]byte(head))
			for err == nil {
				_, err = c.Write([]byte(piece))
			}
		}
	}
	random := make([]byte, 512<<10) // which does not compress
	for i, x := 0, uint32(1); i < len(random); i++ {
		x = x*1664525 + 1013904223
		random[i] = byte(x >> 24)
	}
	mixed := gzipped(t, append(bytes.Clone(random), zeros(outbound.MaxBody-len(random))...))
	longer := gzipped(t, append(bytes.Clone(random), zeros(outbound.MaxBody-len(random)+1)...))
	for what, x := range map[string]struct {
		serve func(net.Conn)
		kind  fault.Kind // empty: it is taken
		words string
		size  int
	}{
		"a body at the limit":    {body("", zeros(outbound.MaxBody)), "", "", outbound.MaxBody},
		"one past it":            {body("", zeros(outbound.MaxBody+1)), fault.Limit, "more than 10485760 bytes", 0},
		"a length past it":       {body(fmt.Sprintf("Content-Length: %d\r\n", outbound.MaxBody+1)), fault.Limit, "more than 10485760 bytes", 0},
		"an endless body":        {endless("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", 1<<15)), fault.Limit, "more than 10485760 bytes", 0},
		"endless chunks":         {endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "8000\r\n"+strings.Repeat("x", 1<<15)+"\r\n"), fault.Limit, "more than 10485760 bytes", 0},
		"gzip at the limit":      {body("Content-Encoding: gzip\r\n", mixed), "", "", outbound.MaxBody},
		"gzip past it":           {body("Content-Encoding: gzip\r\n", longer), fault.Limit, "more than 10485760 bytes", 0},
		"dense, but small":       {body("Content-Encoding: gzip\r\n", dense), "", "", 1 << 20},
		"dense":                  {body("Content-Encoding: gzip\r\n", gzipped(t, zeros(4<<20))), fault.Limit, "100 times", 0},
		"dense in many members":  {body("Content-Encoding: gzip\r\n", dense, dense, dense), fault.Limit, "100 times", 0},
		"gzip that is none":      {body("Content-Encoding: gzip\r\n", []byte("plain text that is long enough")), fault.Unavailable, "gzip", 0},
		"gzip that is cut":       {body("Content-Encoding: gzip\r\n", mixed[:len(mixed)/2]), fault.Unavailable, "", 0},
		"gzip without a body":    {body("Content-Encoding: gzip\r\nContent-Length: 0\r\n"), "", "", 0},
		"another compression":    {body("Content-Encoding: br\r\n", []byte("xyz")), "", "", 3},
		"64 KiB of headers":      {endless("HTTP/1.1 200 OK\r\n", "X-A: b\r\n"), fault.Unavailable, "65536 bytes of headers", 0},
		"one long header":        {endless("HTTP/1.1 200 OK\r\nX-A: ", strings.Repeat("x", 1<<15)), fault.Unavailable, "65536 bytes of headers", 0},
		"an endless status line": {endless("HTTP/1.1 200 ", "x"), fault.Unavailable, "65536 bytes of headers", 0},
		"endless preliminaries":  {endless("", "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"), fault.Unavailable, "no answer in HTTP", 0},
		"no HTTP":                {endless("SSH-2.0-x\r\n", "x"), fault.Unavailable, "no answer in HTTP", 0},
		"nothing":                {func(net.Conn) {}, fault.Unavailable, "no answer in HTTP", 0},
		"a body that is cut":     {body("Content-Length: 10\r\n", []byte("abc")), fault.Unavailable, "no answer in HTTP", 0},
		"an upgrade":             {endless("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "x"), fault.Unavailable, "no answer in HTTP", 0},
	} {
		address := raw(t, x.serve)
		answer, err := get(t, client(t, address), "http://"+address)
		switch {
		case x.kind != "":
			refused(t, what, err, x.kind, x.words)
		case err != nil || len(answer.Body) != x.size:
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Whoever answers a byte at a time has the time that the request has, and no more.
func TestSlow(t *testing.T) {
	t.Parallel()
	for what, head := range map[string]string{"body": "HTTP/1.1 200 OK\r\n\r\n", "headers": "HTTP/1.1 200 OK\r\nX: ", "nothing": ""} {
		began, ended := make(chan struct{}, 100), make(chan struct{}, 100)
		address := raw(t, func(c net.Conn) {
			began <- struct{}{}
			_, _ = c.Read(make([]byte, 1<<16))
			_, _ = c.Write([]byte(head))
			_, _ = io.Copy(io.Discard, c) // until the other side gives up
			ended <- struct{}{}
		})
		for limit := 30 * time.Millisecond; len(began) == 0; limit *= 2 { // it may not have come as far as the server
			_, err := client(t, address).Do(t.Context(), app, &outbound.Request{Method: "GET", URL: "http://" + address, Timeout: limit})
			refused(t, what, err, fault.Deadline, "within "+limit.String())
		}
		until(t, ended, "the connection stays open")
	}
	started := make(chan struct{})
	address := raw(t, func(c net.Conn) { close(started); _, _ = io.Copy(io.Discard, c) })
	ctx, cancel := context.WithCancelCause(t.Context())
	over := errors.New("the run is over")
	go func() { <-started; cancel(over) }()
	_, err := client(t, address).Do(ctx, app, &outbound.Request{Method: "GET", URL: "http://" + address})
	if !errors.Is(err, over) {
		t.Errorf("%v", err)
	}
}

// Who asks cannot tell from an error what is inside: nothing, something closed, or something open.
func TestOneError(t *testing.T) {
	t.Parallel()
	open := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("it was reached") })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	want := unreachable(t).Error()
	c := client(t, "")
	for _, url := range []string{
		"http://" + open, "http://" + closed.Addr().String(), "https://" + open, "http://10.255.255.1/", "http://192.168.77.77/",
		"http://169.254.169.254/", "http://localhost/", "http://absent.invalid/", "http://1.1.1.1:22/", "http://[fd00::1]/",
	} {
		if _, err := get(t, c, url); err == nil || err.Error() != want {
			t.Errorf("%s: %v", url, err)
		}
	}
	if _, err := get(t, client(t, closed.Addr().String()), "http://"+closed.Addr().String()); err == nil || err.Error() != want {
		t.Errorf("what may be reached, but is closed: %v", err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/headers" {
			for i := range 100 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 1000))
			}
		}
		if r.URL.Path == "/endless" {
			for {
				if _, err := w.Write(make([]byte, 1<<15)); err != nil {
					return
				}
			}
		}
		_, _ = w.Write([]byte(r.Proto))
	}))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	address := s.Listener.Addr().String()
	_, err := get(t, client(t, address), s.URL)
	refused(t, "a certificate of nobody", err, fault.Unavailable, "certificate")
	c := client(t, address)
	c.Trust(&tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	if answer, err := get(t, c, s.URL); err != nil || string(answer.Body) != "HTTP/2.0" {
		t.Errorf("%+v, %v", answer, err)
	}
	_, err = get(t, c, s.URL+"/headers")
	refused(t, "many headers in HTTP/2", err, fault.Unavailable, "65536 bytes of headers")
	_, err = get(t, c, s.URL+"/endless")
	refused(t, "an endless body in HTTP/2", err, fault.Limit, "more than 10485760 bytes")
	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	_, err = get(t, client(t, plain), "https://"+plain)
	refused(t, "no TLS", err, fault.Unavailable, "")
}

// An app has so many requests under way at a time, and others are not held up by it. What is held of answers is bounded.
func TestCapacity(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			arrived <- struct{}{}
			<-release
		}
		_, _ = w.Write([]byte("0123456789"))
	})
	c := client(t, address)
	var all sync.WaitGroup
	for range outbound.PerApp {
		all.Go(func() {
			answer, err := get(t, c, "http://"+address+"/wait")
			if err != nil {
				t.Error(err)
				return
			}
			answer.Close()
		})
	}
	for range outbound.PerApp {
		<-arrived
	}
	_, err := c.Do(t.Context(), app, &outbound.Request{Method: "GET", URL: "http://" + address, Timeout: 20 * time.Millisecond})
	refused(t, "one more of the app", err, fault.Deadline, "")
	if answer, err := c.Do(t.Context(), uuid.New(), &outbound.Request{Method: "GET", URL: "http://" + address}); err != nil {
		t.Errorf("another app: %v", err)
	} else {
		answer.Close()
	}
	close(release)
	all.Wait()
	if c.Shares() != 0 {
		t.Errorf("something is kept of %d apps", c.Shares())
	}
	if !c.Hold(outbound.HeldBytes - 10) {
		t.Fatal("no room in an idle client")
	}
	answer, err := get(t, c, "http://"+address)
	if err != nil {
		t.Fatalf("at the limit: %v", err)
	}
	_, err = get(t, c, "http://"+address)
	refused(t, "past the limit", err, fault.Overloaded, "too many")
	answer.Close()
	if !c.Hold(1) {
		t.Error("what was held is not given back")
	}
	_, err = get(t, c, "http://"+address)
	refused(t, "past the limit", err, fault.Overloaded, "too many")
	if !c.Hold(9) {
		t.Error("what failed keeps something")
	}
}
