package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/picloud/picloud/core/coretest"
)

// with sends a request with headers, given as name, value, name, value.
func (n *instance) with(method, path, body string, headers ...string) reply {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), method, n.public+path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	r, err := n.do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	return r
}

// create makes a thing of the app default in the control API.
func (n *instance) create(what string, fields map[string]any) {
	n.t.Helper()
	c, err := readCredentials(credentialsFile(n.data))
	if err != nil {
		n.t.Fatal(err)
	}
	body, err := json.Marshal(fields)
	if err != nil {
		n.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodPost, c.URL+"/api/v1/apps/default/"+what, bytes.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	req.Header.Set("Content-Type", "application/json")
	if r, err := n.do(req); err != nil || r.status >= http.StatusBadRequest {
		n.t.Fatalf("create %s: %s, %v", what, r, err)
	}
}

// Answers that come later: asked for, or since the caller's time was over; each of one run.
func TestResults(t *testing.T) {
	t.Parallel()
	seen := newRecorder(t)
	n := start(t, setup{command: "dev", data: coretest.DataDir(t), recorder: seen})
	n.command("deploy", script(t, "slow", `
	took, fails := strings.CutSuffix(string(ctx.Request.Body), " and fail")
	d, err := time.ParseDuration(took)
	if err != nil {
		return nil, err
	}
	if err := ctx.Sleep(d); err != nil {
		return nil, err
	}
	if fails {
		return nil, errors.New("on purpose")
	}
	return picloud.Response{Status: 201, Headers: picloud.Headers{"X-Took": {d.String()}}, Body: "done"}, nil`, "errors", "strings", "time"),
		"--route", "POST /slow")
	n.create("routes", map[string]any{"script": "slow", "method": "POST", "pattern": "/wait", "wait": "100ms"})

	t.Run("respond-async", func(t *testing.T) { respondAsync(t, n, seen) })
	t.Run("wait", func(t *testing.T) { waitThenResult(t, n, seen) })
	t.Run("idempotency", func(t *testing.T) { sentAgain(t, n, seen) })
}

// Beyond the app's share neither records nor answers are kept, and whoever asks is told so; all runs are counted.
func TestResultsBeyondShare(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t), args: []string{"--max-history-bytes", "1048576"}})
	n.command("deploy", script(t, "large", `return strings.Repeat("x", 60_000), nil`, "strings"), "--route", "POST /large")
	const calls = 12 // a day's share is 150 KB
	kept, gone := 0, 0
	for range calls {
		_, result := taken(t, n.with("POST", "/large", "", "Prefer", "respond-async"))
		switch r := n.with("GET", result+"&wait=60s", ""); {
		case r.status == http.StatusOK && len(r.body) >= 60_000:
			kept++
		case r.status == http.StatusGone && strings.Contains(string(r.body), "result_gone"):
			gone++
		default:
			t.Fatalf("the result is %s", r)
		}
	}
	if kept == 0 || gone < calls/2 {
		t.Errorf("%d answers are kept, %d are not", kept, gone)
	}
	coretest.Eventually(t, "all runs are counted", func() bool {
		var usage struct{ Days []struct{ Attempts int } }
		if err := json.Unmarshal([]byte(n.command("scripts", "usage", "large", "--output", "json")), &usage); err != nil {
			t.Fatal(err)
		}
		total := 0
		for _, d := range usage.Days { // two, about midnight
			total += d.Attempts
		}
		return total == calls
	})
}

// taken checks a 202 and returns the execution and the path of its result.
func taken(t *testing.T, r reply) (id, result string) {
	t.Helper()
	id, result = field(r.body, "execution_id"), field(r.body, "result_url")
	if r.status != http.StatusAccepted || id == "" || result == "" || r.header.Get("Location") != result {
		t.Fatalf("not accepted: %s", r)
	}
	return id, result
}

// done checks the answer of the script.
func done(t *testing.T, r reply, took string) {
	t.Helper()
	if r.status != http.StatusCreated || string(r.body) != `done` || r.header.Get("X-Took") != took {
		t.Errorf("result: %s %v", r, r.header)
	}
}

func respondAsync(t *testing.T, n *instance, seen *recorder) {
	r := n.with("POST", "/slow", "3s", "Prefer", "respond-async")
	id, result := taken(t, r)
	if r.header.Get("Preference-Applied") != "respond-async" {
		t.Errorf("no preference was applied: %v", r.header)
	}
	if r := n.with("GET", result, ""); r.status != http.StatusAccepted || r.header.Get("Retry-After") != "1" || field(r.body, "state") == "" {
		t.Errorf("pending: %s", r)
	}
	stream := n.with("GET", result, "", "Accept", "text/event-stream") // ends with the result
	if text := string(stream.body); stream.header.Get("Content-Type") != "text/event-stream" ||
		!strings.Contains(text, "event: state\n") || strings.Count(text, "event: result\n") != 1 ||
		!strings.Contains(text, `"status":201`) || !strings.Contains(text, `{"name":"X-Took","value":"3s"}`) {
		t.Errorf("stream: %s", text)
	}
	done(t, n.with("GET", result, ""), "3s")
	if starts := seen.of(id); len(starts) != 1 || starts[1] != 1 {
		t.Errorf("started %v", starts)
	}

	_, result = taken(t, n.with("POST", "/slow", "300ms", "Prefer", "respond-async"))
	done(t, n.with("GET", result+"&wait=60s", ""), "300ms")
	wrong, _, _ := strings.Cut(result, "?")
	for _, path := range []string{wrong, wrong + "?t=" + strings.Repeat("0", 32)} {
		if r := n.with("GET", path, ""); r.status != http.StatusNotFound {
			t.Errorf("without the token: %s", r)
		}
	}

	_, result = taken(t, n.with("POST", "/slow", "no duration", "Prefer", "respond-async"))
	if r := n.with("GET", result, ""); r.status != http.StatusAccepted {
		t.Errorf("a failure that is tried again: %s", r)
	}
}

func waitThenResult(t *testing.T, n *instance, seen *recorder) {
	await(t, "there is an answer in time", func() bool { // which is a tenth of a second
		r := n.with("POST", "/wait", "0s")
		if r.status == http.StatusAccepted {
			_, result := taken(t, r)
			done(t, n.with("GET", result+"&wait=60s", ""), "0s")
			return false
		}
		done(t, r, "0s")
		return true
	})
	id, result := taken(t, n.with("POST", "/wait", "3s"))
	done(t, n.with("GET", result+"&wait=60s", ""), "3s")
	if starts := seen.of(id); len(starts) != 1 || starts[1] != 1 {
		t.Errorf("started %v", starts)
	}

	id, result = taken(t, n.with("POST", "/wait", "2s and fail"))
	if r := n.with("GET", result+"&wait=60s", ""); r.status != http.StatusBadGateway || field(r.body, "execution_id") != id ||
		!strings.Contains(string(r.body), "on purpose") {
		t.Errorf("a failure: %s", r)
	}
	if starts := seen.of(id); len(starts) != 1 || starts[1] != 1 {
		t.Errorf("a failure was started %v", starts)
	}
}

func sentAgain(t *testing.T, n *instance, seen *recorder) {
	before := seen.started()
	first := make(chan reply)
	go func() { first <- n.with("POST", "/slow", "3s", "Idempotency-Key", "one") }()
	await(t, "the first has started", func() bool { return seen.started() > before })
	if r := n.with("POST", "/slow", "3s", "Idempotency-Key", "one"); r.status != http.StatusConflict ||
		!strings.HasSuffix(field(r.body, "type"), ":in_flight") || r.header.Get("Retry-After") != "1" {
		t.Errorf("in flight: %s", r)
	}
	done(t, <-first, "3s")
	var again reply
	await(t, "the answer is kept", func() bool {
		again = n.with("POST", "/slow", "3s", "Idempotency-Key", "one")
		return again.status != http.StatusConflict
	})
	done(t, again, "3s")
	if again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("not marked as replayed: %v", again.header)
	}
	if r := n.with("POST", "/slow", "1ms", "Idempotency-Key", "one"); r.status != http.StatusUnprocessableEntity ||
		!strings.HasSuffix(field(r.body, "type"), ":idempotency_key_reused") {
		t.Errorf("another request: %s", r)
	}

	id, _ := taken(t, n.with("POST", "/slow", "1ms", "Idempotency-Key", "two", "Prefer", "respond-async"))
	if same, _ := taken(t, n.with("POST", "/slow", "1ms", "Idempotency-Key", "two", "Prefer", "respond-async")); same != id {
		t.Errorf("accepted twice: %s and %s", id, same)
	}
	await(t, "the second has started", func() bool { return seen.started() > before+1 })
	if n := seen.started() - before; n != 2 {
		t.Errorf("%d executions, want 2", n)
	}
}
