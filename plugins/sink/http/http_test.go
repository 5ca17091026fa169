package http_test

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"

	httpsink "github.com/picloud/picloud/plugins/sink/http"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/sink"
	"github.com/picloud/picloud/sdk/sink/sinktest"
)

// The test binary is also the plugin.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "child:sink" {
		sink.Serve(httpsink.New())
		return
	}
	goleak.VerifyTestMain(m)
}

func key(b byte) string {
	return "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32))
}

// receiver is a web server that takes only what is signed with the second of two keys.
type receiver struct {
	t      testing.TB
	server *httptest.Server
	mu     sync.Mutex
	mode   sinktest.Mode
	let    chan struct{}
	got    []sinktest.Received
	heads  []http.Header
	answer http.HandlerFunc // in place of the mode's
}

func newReceiver(tb testing.TB) *receiver {
	r := &receiver{t: tb, let: make(chan struct{})}
	r.server = httptest.NewServer(r)
	tb.Cleanup(func() {
		r.Set(sinktest.Accept)
		r.server.CloseClientConnections()
		r.server.Close()
	})
	return r
}

func (r *receiver) Config() []byte {
	return fmt.Appendf(nil, `{"url": %q, "keys": [%q, %q], "headers": {"X-Own": "yes"}}`, r.server.URL+"/hook?x=1", key(1), key(2))
}

func (r *receiver) Set(m sinktest.Mode) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mode = m
	close(r.let)
	r.let = make(chan struct{})
}

func (r *receiver) Received() []sinktest.Received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	data, err := io.ReadAll(q.Body)
	signature, _ := webhooks.NewWebhook(key(2))
	wrong := signature.Verify(data, q.Header)
	r.mu.Lock()
	mode, let, answer := r.mode, r.let, r.answer
	if mode == sinktest.Accept && err == nil && wrong == nil {
		r.got = append(r.got, sinktest.Received{EventID: q.Header.Get("Webhook-Id"), Data: data})
		r.heads = append(r.heads, q.Header)
	}
	r.mu.Unlock()
	switch {
	case answer != nil:
		answer(w, q)
	case wrong != nil:
		w.WriteHeader(http.StatusUnauthorized)
	case mode == sinktest.Refuse:
		w.WriteHeader(http.StatusGone)
	case mode == sinktest.Busy:
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusServiceUnavailable)
	case mode == sinktest.Hang:
		select {
		case <-let:
		case <-q.Context().Done():
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func suite() sinktest.Suite {
	return sinktest.Suite{
		Command: []string{os.Args[0], "child:sink"}, New: func(tb testing.TB) sinktest.Receiver { return newReceiver(tb) },
		ContentType: "application/json",
		Data: func(text string, size int) []byte {
			data, _ := json.Marshal(text + strings.Repeat(" ", size)) // a text always encodes
			return data
		},
		Wrong: []string{
			`{}`, `{"url": 1}`, `{"url": "ftp://example.com"}`, `{"url": "http://"}`, `{"url": "http://a@example.com"}`, `{"url": "example.com"}`,
			`{"url": "http://example.com", "method": "GET"}`, `{"url": "http://example.com", "headers": {"a b": "c"}}`,
			`{"url": "http://example.com", "headers": {"A": "b\r\nC: d"}}`, `{"url": "http://example.com", "headers": {"Webhook-Id": "x"}}`,
			`{"url": "http://example.com", "headers": {"host": "x"}}`, `{"url": "http://example.com", "keys": ["whsec_!"]}`,
			`{"url": "http://example.com", "keys": "whsec_` + base64.StdEncoding.EncodeToString(make([]byte, 23)) + `"}`,
			`{"url": "http://example.com", "keys": "whsec_` + base64.StdEncoding.EncodeToString(make([]byte, 65)) + `"}`,
			`{"url": "http://example.com/` + strings.Repeat("x", 8<<10) + `"}`, `{"url": "http://example.com:"}`, `{"url": "http://example.com:99999"}`, `{"url": "http://example.com:0"}`,
		},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	sinktest.Run(t, suite())
}

// pair is an instance in this process, and the receiver.
func pair(t *testing.T, reach sink.Reach) (deliver func(d *sink.Delivery) sink.Answer, r *receiver) {
	t.Helper()
	r = newReceiver(t)
	c := sinktest.Dial(t, httpsink.New())
	instance, err := c.Configure(t.Context(), sink.Config{JSON: r.Config(), Reach: reach})
	if err != nil {
		t.Fatal(err)
	}
	return func(d *sink.Delivery) sink.Answer { return sinktest.Deliver(t, c, instance, d) }, r
}

var inside = sink.Reach{Allow: "127.0.0.0/8"}

// What is sent says what it is, and its own headers.
func TestRequest(t *testing.T) {
	t.Parallel()
	deliver, r := pair(t, inside)
	a := deliver(&sink.Delivery{EventID: "e 1\r\n", Data: []byte("{}"), ContentType: "application/json"})
	if a.Fault != nil || a.Status != 200 || len(a.Logs) == 0 || !strings.Contains(a.Logs[0].Message, "answered 200 OK") {
		t.Fatalf("%+v", a)
	}
	h := r.heads[0]
	if h.Get("Content-Type") != "application/json" || h.Get("X-Own") != "yes" || h.Get("Webhook-Id") != "e_1__" || h.Get("User-Agent") != "PiCloud" {
		t.Errorf("%v", h)
	}
	if n := len(strings.Fields(h.Get("Webhook-Signature"))); n != 2 {
		t.Errorf("%d signatures of two keys", n)
	}
}

// Each status has the consequence that is written down.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	deliver, r := pair(t, inside)
	for status, want := range map[int]string{
		200: "done", 201: "done", 204: "done", 299: "done", 301: "again", 302: "again", 307: "again", 400: "never", 401: "never", 403: "never",
		404: "never", 408: "again", 409: "never", 410: "never", 422: "never", 425: "again", 429: "again", 500: "again", 502: "again",
		503: "again", 504: "again", 599: "again",
	} {
		r.mu.Lock()
		r.answer = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://example.com/")
			w.WriteHeader(status)
		}
		r.mu.Unlock()
		a, got := deliver(&sink.Delivery{EventID: "e"}), "done"
		if f := a.Fault; f != nil {
			if got = "again"; f.Fatal || f.Kind == fault.Invalid {
				got = "never"
			}
			if f.Origin != fault.Script || f.Kind == fault.Unavailable {
				t.Errorf("%d: %+v", status, f)
			}
		}
		if got != want || a.Status != status {
			t.Errorf("%d: %s, not %s: %+v", status, got, want, a)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	deliver, r := pair(t, inside)
	for header, want := range map[string][2]time.Duration{ // between these
		"7": {7 * time.Second, 7 * time.Second}, "0": {}, "-3": {}, "soon": {}, "": {},
		"99999999999": {24 * time.Hour, 24 * time.Hour}, "9223372036854775808": {},
		time.Now().Add(time.Hour).UTC().Format(http.TimeFormat):      {50 * time.Minute, time.Hour},
		time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat):     {},
		time.Now().Add(48 * time.Hour).UTC().Format(http.TimeFormat): {24 * time.Hour, 24 * time.Hour},
	} {
		for _, status := range []int{http.StatusTooManyRequests, http.StatusTemporaryRedirect, http.StatusBadGateway} {
			r.mu.Lock()
			r.answer = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", header)
				w.WriteHeader(status)
			}
			r.mu.Unlock()
			if got := deliver(&sink.Delivery{EventID: "e"}).Fault.RetryAfter; got < want[0] || got > want[1] {
				t.Errorf("%d, %q: %s, not %s to %s", status, header, got, want[0], want[1])
			}
		}
	}
}

// An answer without end is read as far as it matters, and counts by its status.
func TestEndlessAnswer(t *testing.T) {
	t.Parallel()
	deliver, r := pair(t, inside)
	for status, fails := range map[int]bool{200: false, 500: true} {
		r.mu.Lock()
		r.answer = func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			for {
				if _, err := w.Write(bytes.Repeat([]byte("x"), 1<<15)); err != nil {
					return
				}
			}
		}
		r.mu.Unlock()
		a := deliver(&sink.Delivery{EventID: "e"})
		if a.Status != status || (a.Fault != nil) != fails {
			t.Errorf("%+v", a)
		}
		for _, l := range a.Logs {
			if len(l.Message) > 2<<10 {
				t.Errorf("a line of %d bytes", len(l.Message))
			}
		}
	}
}

// Inside is out of reach: what the app's author configures leads to public addresses, and whatever is there inside, the words are the same.
func TestInside(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	r := newReceiver(t)
	open := strings.TrimPrefix(r.server.URL, "http://")
	_, port, _ := net.SplitHostPort(open)
	c := sinktest.Dial(t, httpsink.New())
	words := ""
	for _, host := range []string{
		open, closed.Addr().String(), "localhost:" + port, "127.1:" + port, "2130706433:" + port, "0x7f.1:" + port, "[::1]:" + port,
		"[::ffff:127.0.0.1]:" + port, "0:" + port, "169.254.169.254", "10.0.0.1", "[fd00::1]", "1.1.1.1:22", "absent.invalid",
	} {
		instance, err := c.Configure(t.Context(), sink.Config{JSON: fmt.Appendf(nil, `{"url": "http://%s/"}`, host)})
		if err != nil {
			t.Fatal(err)
		}
		a := sinktest.Deliver(t, c, instance, &sink.Delivery{EventID: "e"})
		if a.Fault == nil || words != "" && a.Fault.Message != words || strings.Contains(a.Fault.Message, "127.0") || len(a.Logs) > 0 {
			t.Errorf("%s: %+v", host, a)
			continue
		}
		words = a.Fault.Message
	}
	// What the node listens on is not reached, whatever is allowed.
	instance, err := c.Configure(t.Context(), sink.Config{
		JSON: fmt.Appendf(nil, `{"url": "http://%s/"}`, open), Reach: sink.Reach{Allow: "127.0.0.0/8", Own: []string{open}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if a := sinktest.Deliver(t, c, instance, &sink.Delivery{EventID: "e"}); a.Fault == nil || a.Fault.Message != words {
		t.Errorf("the node itself: %+v", a)
	}
	if got := r.Received(); len(got) > 0 {
		t.Errorf("it was reached: %v", got)
	}
}

// A redirect is not followed, wherever it leads.
func TestRedirect(t *testing.T) {
	t.Parallel()
	deliver, r := pair(t, inside)
	other := newReceiver(t)
	r.answer = func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, other.server.URL, http.StatusTemporaryRedirect)
	}
	if a := deliver(&sink.Delivery{EventID: "e"}); a.Fault == nil || a.Status != http.StatusTemporaryRedirect {
		t.Errorf("%+v", a)
	}
	if len(other.Received()) > 0 {
		t.Error("it was followed")
	}
	for _, nowhere := range []string{"", "http://[", "%zz", "/"} { // an answer like any other
		r.mu.Lock()
		r.answer = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", nowhere)
			w.WriteHeader(http.StatusPermanentRedirect)
		}
		r.mu.Unlock()
		if a := deliver(&sink.Delivery{EventID: "e"}); a.Fault == nil || a.Status != http.StatusPermanentRedirect {
			t.Errorf("to %q: %+v", nowhere, a)
		}
	}
}

// Where there is no TLS connection that is said, whatever it is that the host does not do.
func TestTLS(t *testing.T) {
	t.Parallel()
	refuses := func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, errors.New("no such name") }
	for what, config := range map[string]*tls.Config{
		"a certificate that nobody has signed":    {},
		"no version that is in use":               {MaxVersion: tls.VersionTLS11},
		"a name that is not known":                {GetConfigForClient: refuses},
		"a server that does not speak TLS at all": nil,
	} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Errorf("%s: it was reached", what) }))
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		if config != nil {
			s.TLS = config
			s.StartTLS()
		} else {
			s.Start()
		}
		defer s.Close()
		c := sinktest.Dial(t, httpsink.New())
		instance, err := c.Configure(t.Context(), sink.Config{JSON: fmt.Appendf(nil, `{"url": "https://%s/"}`, s.Listener.Addr()), Reach: inside})
		if err != nil {
			t.Fatal(err)
		}
		if a := sinktest.Deliver(t, c, instance, &sink.Delivery{EventID: "e"}); a.Fault == nil || !strings.HasPrefix(a.Fault.Message, "there is no TLS connection") {
			t.Errorf("%s: %+v", what, a)
		}
	}
}
