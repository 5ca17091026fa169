package ingress

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/execution"
	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// with sends a request with headers.
func with(t *testing.T, method, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for pair := range slices.Chunk(headers, 2) {
		r.Header.Add(pair[0], pair[1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

func kind(body string) string {
	var p struct{ Type string }
	_ = json.Unmarshal([]byte(body), &p)
	return strings.TrimPrefix(p.Type, "urn:picloud:problem:")
}

func TestRespondAsync(t *testing.T) {
	t.Parallel()
	l, url := setup(t, nil)
	for _, prefer := range []string{"respond-async", "wait=10, Respond-Async; x=1"} {
		res, body := with(t, "POST", url+"/sync/1/x", "b", "Prefer", prefer)
		e := <-l.taken
		var got struct {
			ID  string    `json:"execution_id"`
			At  time.Time `json:"accepted_at"`
			URL string    `json:"result_url"`
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != 202 || got.ID != e.ID.String() || got.URL != res.Header.Get("Location") || got.At.IsZero() ||
			!strings.HasPrefix(got.URL, "/.picloud/results/"+got.ID+"?t=") || len(got.URL) != len("/.picloud/results/?t=")+36+32 ||
			res.Header.Get("Preference-Applied") != "respond-async" || e.Sync() || !e.KeepAnswer {
			t.Errorf("%d %s %+v", res.StatusCode, body, e)
		}
	}
	res, _ := with(t, "POST", url+"/async", "b")
	if e := <-l.taken; res.Header.Get("Preference-Applied") != "" || res.Header.Get("Location") == "" || !e.KeepAnswer {
		t.Errorf("a route in async mode: %v", res.Header)
	}
}

func TestHTTPTrigger(t *testing.T) {
	t.Parallel()
	l, url := setup(t, nil)
	if res, body := with(t, "POST", url+"/orders/7", ""); res.StatusCode != 202 {
		t.Fatal(body)
	}
	e := <-l.taken
	if e.Lane == e.Target || e.Lane != e.Trigger || e.Gate != outbox.OrderGate("order 7") || e.MaxAttempts != 9 {
		t.Fatalf("%+v", e)
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	l, url := setup(t, nil)
	entry := func(method, path, body string, headers ...string) *outbox.Idempotency {
		t.Helper()
		if res, b := with(t, method, url+path, body, append(headers, "Prefer", "respond-async")...); res.StatusCode != 202 {
			t.Fatalf("%d %s", res.StatusCode, b)
		}
		return (<-l.taken).Idempotency
	}
	first := entry("POST", "/sync/1/x?a=1", "body", "Idempotency-Key", "k")
	if first == nil || first.Key != "k" || len(first.Hash) != 32 {
		t.Fatalf("%+v", first)
	}
	if same := entry("POST", "/sync/1/x?a=1", "body", "Idempotency-Key", "k", "X-Other", "1"); string(same.Hash) != string(first.Hash) ||
		same.Scope != first.Scope {
		t.Error("the same request has another hash")
	}
	for name, other := range map[string]*outbox.Idempotency{
		"method":        entry("PUT", "/sync/1/x?a=1", "body", "Idempotency-Key", "k"),
		"path":          entry("POST", "/sync/2/x?a=1", "body", "Idempotency-Key", "k"),
		"query":         entry("POST", "/sync/1/x?a=2", "body", "Idempotency-Key", "k"),
		"body":          entry("POST", "/sync/1/x?a=1", "other", "Idempotency-Key", "k"),
		"authorization": entry("POST", "/sync/1/x?a=1", "body", "Idempotency-Key", "k", "Authorization", "b"),
		"cookie":        entry("POST", "/sync/1/x?a=1", "body", "Idempotency-Key", "k", "Cookie", "b"),
		"content type":  entry("POST", "/sync/1/x?a=1", "body", "Idempotency-Key", "k", "Content-Type", "b"),
	} {
		if string(other.Hash) == string(first.Hash) {
			t.Errorf("another %s makes no other request", name)
		}
	}
	if entry("GET", "/sync/1/x", "", "Idempotency-Key", "k") != nil || entry("POST", "/sync/1/x", "") != nil {
		t.Error("a key where none belongs")
	}
	for _, bad := range [][]string{
		{"Idempotency-Key", ""},
		{"Idempotency-Key", strings.Repeat("k", 256)},
		{"Idempotency-Key", "\xff"},
		{"Idempotency-Key", "a", "Idempotency-Key", "b"},
	} {
		if res, body := with(t, "POST", url+"/sync/1/x", "", bad...); res.StatusCode != 400 {
			t.Errorf("%q: %d %s", bad, res.StatusCode, body)
		}
	}
}

func TestSentAgain(t *testing.T) {
	t.Parallel()
	l, url := setup(t, answer(200, "fresh"))
	first := &outbox.Duplicate{Entry: uuid.Must(uuid.NewV7())}
	l.refuse = first
	again := func(path string) (*http.Response, string) {
		return with(t, "POST", url+path, "", "Idempotency-Key", "k")
	}

	res, body := again("/async")
	if res.StatusCode != 202 || !strings.Contains(body, first.Entry.String()) || res.Header.Get("Idempotency-Replayed") != "true" ||
		res.Header.Get(ExecutionHeader) != first.Entry.String() {
		t.Errorf("async: %d %s", res.StatusCode, body)
	}
	for _, c := range []struct {
		res    *outbox.Result
		status int
		kind   string
	}{
		{nil, 409, "result_not_kept"},
		{&outbox.Result{State: outbox.Running}, 409, "in_flight"},
		{&outbox.Result{Outcome: outbox.Abandoned}, 409, "result_not_kept"},
		{&outbox.Result{Answer: &outbox.Answer{Status: 502, Kind: "script_error", Error: "the secret"}}, 502, "script_error"},
	} {
		if c.res != nil {
			l.store(first.Entry, c.res)
		}
		res, body := again("/sync/1/x")
		if res.StatusCode != c.status || kind(body) != c.kind || (c.kind == "in_flight") != (res.Header.Get("Retry-After") == "1") ||
			strings.Contains(body, "secret") {
			t.Errorf("%d %s, want %s", res.StatusCode, body, c.kind)
		}
	}
	l.store(first.Entry, &outbox.Result{Answer: &outbox.Answer{
		Status: 201, Headers: []event.Header{{Name: "X-A", Value: "1"}}, Body: []byte("kept"),
	}})
	res, body = again("/sync/1/x")
	if res.StatusCode != 201 || body != "kept" || res.Header.Get("X-A") != "1" || res.Header.Get("Idempotency-Replayed") != "true" ||
		res.Header.Get(ExecutionHeader) != first.Entry.String() {
		t.Errorf("%d %s %v", res.StatusCode, body, res.Header)
	}

	l.free = true // the first was never started
	res, body = again("/sync/1/x")
	if e := <-l.taken; res.StatusCode != 200 || body != "fresh" || !e.Sync() || !e.KeepAnswer ||
		res.Header.Get("Idempotency-Replayed") != "" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

func TestResult(t *testing.T) {
	t.Parallel()
	l, url := setup(t, nil)
	_, body := with(t, "POST", url+"/async", "")
	e := <-l.taken
	var got struct {
		URL string `json:"result_url"`
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	gone, goneBody := with(t, "GET", url+got.URL, "")
	wrong, wrongBody := with(t, "GET", url+got.URL+"0", "")
	if gone.StatusCode != 410 || kind(goneBody) != "result_gone" || wrong.StatusCode != 404 || l.looks != 1 {
		t.Errorf("nothing kept %s, wrong token %s, %d looks", goneBody, wrongBody, l.looks)
	}
	if res, _ := with(t, "POST", url+got.URL, ""); res.StatusCode != 405 || res.Header.Get("Allow") != "GET, HEAD" {
		t.Error(res.Status)
	}
	if res, _ := with(t, "GET", url+got.URL+"&wait=soon", ""); res.StatusCode != 400 {
		t.Error(res.Status)
	}

	l.store(e.ID, &outbox.Result{State: outbox.Blocked})
	res, body := with(t, "GET", url+got.URL, "")
	if res.StatusCode != 202 || !strings.Contains(body, `"blocked"`) || res.Header.Get("Retry-After") != "1" ||
		res.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %s %v", res.StatusCode, body, res.Header)
	}
	for _, c := range []struct {
		res    outbox.Result
		status int
		kind   string
	}{
		{outbox.Result{Answer: &outbox.Answer{Status: 504, Kind: "deadline", Error: "late"}}, 504, "deadline"},
		{outbox.Result{Answer: &outbox.Answer{Status: 200, Kind: execution.TooLarge, Error: "large"}}, 507, "answer_too_large"},
		{outbox.Result{Outcome: outbox.Cancelled, Reason: outbox.ReasonUser}, 410, "cancelled"},
		{outbox.Result{Outcome: outbox.Expired}, 410, "expired"},
		{outbox.Result{Outcome: outbox.DeadLettered, Reason: outbox.ReasonExhausted}, 502, "dead_lettered"},
		{outbox.Result{Outcome: outbox.Succeeded}, 410, "result_gone"},
	} {
		l.store(e.ID, &c.res)
		res, body := with(t, "GET", url+got.URL, "")
		if res.StatusCode != c.status || kind(body) != c.kind || res.Header.Get("Retry-After") != "" {
			t.Errorf("%d %s, want %s", res.StatusCode, body, c.kind)
		}
	}
	l.store(e.ID, &outbox.Result{Answer: &outbox.Answer{
		Status: 201, Headers: []event.Header{{Name: "X-A", Value: "1"}, {Name: "Cache-Control", Value: "private"}}, Body: []byte("kept"),
	}})
	res, body = with(t, "GET", url+got.URL+"&wait=1s", "")
	if res.StatusCode != 201 || body != "kept" || res.Header.Get("X-A") != "1" || res.Header.Get("Cache-Control") != "private" ||
		res.Header.Get(ExecutionHeader) != e.ID.String() {
		t.Errorf("%d %s %v", res.StatusCode, body, res.Header)
	}
}

func TestWaitForAResult(t *testing.T) {
	t.Parallel()
	l, url := setup(t, nil)
	res, _ := with(t, "POST", url+"/async", "")
	e := <-l.taken
	at := url + res.Header.Get("Location")
	l.store(e.ID, &outbox.Result{State: outbox.Ready})

	if res, _ := with(t, "GET", at+"&wait=150ms", ""); res.StatusCode != 202 || l.looks < 2 {
		t.Errorf("%s after %d looks", res.Status, l.looks)
	}
	r, _ := http.NewRequestWithContext(t.Context(), "GET", at, nil)
	r.Header.Set("Accept", "text/html, text/event-stream;q=0.9")
	stream, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	lines := bufio.NewScanner(stream.Body)
	next := func() (name, data string) {
		t.Helper()
		for lines.Scan() {
			if s, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				name = s
			}
			if s, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return name, s
			}
		}
		return "", ""
	}
	if name, data := next(); name != "state" || !strings.Contains(data, `"ready"`) {
		t.Fatalf("%s %s", name, data)
	}
	l.store(e.ID, &outbox.Result{State: outbox.Running})
	if name, data := next(); name != "state" || !strings.Contains(data, `"running"`) {
		t.Fatalf("%s %s", name, data)
	}
	waited := make(chan string)
	go func() {
		_, body := with(t, "GET", at+"&wait=60", "")
		waited <- body
	}()
	l.store(e.ID, &outbox.Result{Answer: &outbox.Answer{
		Status: 200, Headers: []event.Header{{Name: "X-A", Value: "1"}}, Body: []byte("two\nlines"),
	}})
	if body := <-waited; body != "two\nlines" {
		t.Errorf("waited for %q", body)
	}
	name, data := next()
	var got struct {
		Status  int
		Headers []event.Header
		Body    *string
	}
	if err := json.Unmarshal([]byte(data), &got); err != nil || name != "result" || got.Status != 200 || got.Body == nil ||
		!strings.Contains(data, `"name":"X-A"`) || *got.Body != "two\nlines" || !slices.Contains(got.Headers, event.Header{Name: "X-A", Value: "1"}) {
		t.Errorf("%s %s %v", name, data, err)
	}
	if name, _ := next(); name != "" {
		t.Errorf("the stream goes on with %s", name)
	}

	l.store(e.ID, &outbox.Result{Answer: &outbox.Answer{Status: 200, Body: []byte{0xff}}})
	if _, body := with(t, "GET", at, "", "Accept", "text/event-stream"); !strings.Contains(body, `"body_base64":"/w=="`) {
		t.Errorf("a body that is no text: %s", body)
	}
}

// Those who wait are answered before the server ends, and only so many may wait.
func TestWaitingIsBounded(t *testing.T) {
	t.Parallel()
	l, url, in := setupIngress(t, nil)
	res, _ := with(t, "POST", url+"/async", "")
	e := <-l.taken
	at := url + res.Header.Get("Location")
	l.store(e.ID, &outbox.Result{State: outbox.Ready})
	for range resultWaiters {
		in.seat()
	}
	if res, _ := with(t, "GET", at+"&wait=60s", ""); res.StatusCode != 202 {
		t.Error(res.Status)
	}
	if res, body := with(t, "GET", at, "", "Accept", "text/event-stream"); res.StatusCode != 429 || res.Header.Get("Retry-After") != "1" {
		t.Errorf("%s %s", res.Status, body)
	}
	in.rise()
	waited := make(chan int)
	go func() {
		res, _ := with(t, "GET", at+"&wait=60s", "")
		waited <- res.StatusCode
	}()
	in.Drain()
	in.Drain()
	if status := <-waited; status != 202 {
		t.Error(status)
	}
}

// A caller that has waited as long as its route lets it gets a 202, if the entry could be told to go on alone.
func TestRouteWait(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		detach   []bool // what happens, one try after the other; the last stays
		err      error
		status   int
		released inbox.Release
	}{
		"goes on alone":       {[]bool{true}, nil, 202, inbox.Detached},
		"not stored at first": {[]bool{false, false, true}, nil, 202, inbox.Detached},
		"has ended":           {[]bool{false}, nil, 200, inbox.Attached},
		"not known":           {[]bool{false}, errors.New("the database is away"), 200, inbox.InDoubt},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tries := make(chan struct{}, 100)
			ended := make(chan inbox.Release, 1)
			enough := max(1, len(c.detach))
			l, url := setup(t, func(_ *outbox.Entry, r *inbox.Reply) {
				for range enough {
					<-tries
				}
				_ = r.Head(engine.Head{Status: 200})
				_ = r.End(nil)
				ended <- r.Released()
			})
			n := 0
			l.detach = func(*outbox.Entry) (bool, error) {
				done := c.detach[min(n, len(c.detach)-1)]
				n++
				tries <- struct{}{}
				return done, c.err
			}
			res, body := with(t, "POST", url+"/wait", "")
			if res.StatusCode != c.status || (c.status == 202) != (res.Header.Get("Location") != "") {
				t.Errorf("%d %s", res.StatusCode, body)
			}
			if got := <-ended; got != c.released {
				t.Errorf("released as %v", got)
			}
		})
	}
	l, url := setup(t, fail(fault.New(fault.ScriptError, fault.Script, "at once")))
	l.detach = func(*outbox.Entry) (bool, error) { return false, nil } // it has ended, where the answer takes longer than the wait
	if res, body := with(t, "POST", url+"/wait", ""); res.StatusCode != 502 {
		t.Errorf("an answer in time: %d %s", res.StatusCode, body)
	}
}
