package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	netmail "net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	gosmtp "github.com/emersion/go-smtp"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/picloud/picloud/core/coretest"
)

// hook is a receiver that takes what is signed with its key, if it is in the mood.
type hook struct {
	url, address, key string

	mu     sync.Mutex
	status int // what it answers; 0: 200
	hold   chan struct{}
	ids    []string // of all requests, in order
	bodies []string // of those that it has taken
	heads  []http.Header
	forged int // requests that were not signed
}

func newHook(t *testing.T) *hook {
	h := &hook{key: "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))}
	s := httptest.NewServer(h)
	t.Cleanup(func() { h.set(0, nil); s.CloseClientConnections(); s.Close() })
	h.url, h.address = s.URL, strings.TrimPrefix(s.URL, "http://")
	return h
}

// set has it answer with a status, once hold is closed.
func (h *hook) set(status int, hold chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status, h.hold = status, hold
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	signature, err := webhooks.NewWebhook(h.key)
	if err == nil {
		err = signature.Verify(body, r.Header)
	}
	h.mu.Lock()
	status, hold := h.status, h.hold
	h.ids = append(h.ids, r.Header.Get("Webhook-Id"))
	if err != nil {
		h.forged++
	}
	h.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
			return
		}
	}
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bodies, h.heads = append(h.bodies, string(body)), append(h.heads, r.Header)
}

// taken is what it has taken, sorted.
func (h *hook) taken() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(slices.Values(h.bodies))
}

// asked are the ids of all requests.
func (h *hook) asked() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.ids)
}

// quick is a policy under which nobody waits for long.
const quick = `{"max_attempts": 25, "backoff": {"kind": "constant", "base": "20ms"}}`

// withHook starts a node with a receiver, and the sink "billing" that leads to it.
func withHook(t *testing.T, more ...string) (*instance, *hook) {
	t.Helper()
	h := newHook(t)
	n := start(t, setup{command: "dev", data: coretest.DataDir(t), args: append([]string{"--http-allow", h.address}, more...)})
	n.command("secrets", "set", "KEY", "--file", write(t, t.TempDir(), "key", h.key+"\n"))
	n.command("sinks", "create", "billing", "--url", h.url+"/hook", "--key", "KEY", "--policy", quick)
	return n, h
}

// delivered are the attempts at what went to a sink.
func (n *instance) delivered(sink string) (list []attempt) {
	for _, e := range rows[attempt](n.t, n.command("executions", "ls", "--limit", "0")) {
		if e.Sink == sink {
			list = append(list, e)
		}
	}
	return list
}

type attempt struct {
	ID, Sink, Outcome, Reason, Kind, Error string
	Attempt, Status, Version               int
}

// What a script sends arrives signed, with its type; and so do the events of triggers, as JSON.
func TestSinkOfScriptsAndTriggers(t *testing.T) {
	t.Parallel()
	n, h := withHook(t)
	n.command("deploy", script(t, "shop", `sink := ctx.Sink("billing")
	if _, err := sink.Send("plain"); err != nil {
		return nil, err
	}
	if _, err := sink.SendAs("order.paid", map[string]int{"order": 7}); err != nil {
		return nil, err
	}
	_, err := ctx.KV("orders").Set("o1", map[string]int{"total": 7})
	if err != nil {
		return nil, err
	}
	return ctx.Publish("order.paid", "published")`), "--route", "POST /shop")
	n.command("triggers", "create", "changes", "--kind", "kv", "--sink", "billing", "--collection", "orders")
	n.command("triggers", "create", "topics", "--kind", "pubsub", "--sink", "billing", "--topic", "*")
	if r := n.must(http.MethodPost, "/shop", nil); r.status != 200 {
		t.Fatal(r)
	}
	await(t, "all has arrived", func() bool { return len(h.taken()) == 4 })
	got := h.taken()
	slices.SortFunc(got, func(a, b string) int { return len(a) - len(b) })
	if got[0] != "plain" || got[1] != `{"order":7}` {
		t.Errorf("%q", got)
	}
	types := map[string]json.RawMessage{}
	for _, body := range got[2:] {
		var e struct {
			ID, Type, Time, Source, Subject string
			Data                            json.RawMessage
		}
		if err := json.Unmarshal([]byte(body), &e); err != nil || e.ID == "" || e.Time == "" || e.Source == "" {
			t.Errorf("%s: %v", body, err)
		}
		types[e.Type+" "+e.Source+" "+e.Subject] = e.Data
		if !slices.Contains(h.asked(), e.ID) {
			t.Errorf("the id %s is not that of the header", e.ID)
		}
	}
	if string(types["pubsub.message pubsub order.paid"]) != `"published"` || !bytes.Contains(types["kv.create kv orders/o1"], []byte(`"value":{"total":7}`)) {
		t.Errorf("%s", types)
	}
	h.mu.Lock()
	if h.forged > 0 {
		t.Errorf("%d requests were not signed", h.forged)
	}
	typed := slices.ContainsFunc(h.heads, func(x http.Header) bool {
		return x.Get("Ce-Type") == "order.paid" && x.Get("Content-Type") == "application/json"
	})
	h.mu.Unlock()
	if !typed {
		t.Error("nothing says that it is order.paid")
	}
	await(t, "all is recorded", func() bool { return len(n.delivered("billing")) == 4 })
	for _, e := range n.delivered("billing") {
		if e.Outcome != "succeeded" || e.Status != 200 || e.Attempt != 1 || e.Version != 1 {
			t.Errorf("%+v", e)
		}
		if shown := n.command("executions", "show", e.ID); !strings.Contains(shown, "answered 200 OK") || strings.Contains(shown, h.key) {
			t.Errorf("%s", shown)
		}
	}
	if code, _, errs := n.cli("sinks", "delete", "billing"); code == 0 || !strings.Contains(errs, "changes, topics") {
		t.Errorf("a sink that triggers lead to is deleted: %s", errs)
	}
	if out := n.command("sinks", "test", "billing", "--body", `{"try":1}`); !strings.Contains(out, "answered 200 OK") || !slices.Contains(h.taken(), `{"try":1}`) {
		t.Errorf("%s", out)
	}
	h.set(500, nil)
	if code, _, errs := n.cli("sinks", "test", "billing"); code == 0 || !strings.Contains(errs, "500 Internal Server Error") {
		t.Errorf("%d %s", code, errs)
	}
}

// A receiver that is down has everything when it is up again, under the same ids.
func TestSinkIsTriedAgain(t *testing.T) {
	t.Parallel()
	n, h := withHook(t)
	h.set(503, nil)
	n.command("deploy", script(t, "send", `return ctx.Sink("billing").Send(string(ctx.Request.Body))`), "--route", "POST /send")
	n.must(http.MethodPost, "/send", []byte("hello"))
	await(t, "it was refused", func() bool { return len(h.asked()) >= 2 })
	h.set(0, nil)
	await(t, "it is delivered", func() bool { return slices.Equal(h.taken(), []string{"hello"}) })
	if ids := slices.Compact(h.asked()); len(ids) != 1 {
		t.Errorf("one message has the ids %v", ids)
	}
	var attempts []attempt
	await(t, "its end is recorded", func() bool {
		attempts = n.delivered("billing")
		return slices.ContainsFunc(attempts, func(e attempt) bool { return e.Outcome == "succeeded" })
	})
	if len(attempts) < 3 || attempts[len(attempts)-1].Outcome != "retried" || attempts[len(attempts)-1].Status != 503 {
		t.Errorf("%+v", attempts)
	}
}

// What is refused for good becomes a dead letter at once, which can be replayed under the same id.
func TestSinkRefusedForGood(t *testing.T) {
	t.Parallel()
	n, h := withHook(t)
	h.set(410, nil)
	n.command("deploy", script(t, "send", `return ctx.Sink("billing").Send(string(ctx.Request.Body))`), "--route", "POST /send")
	n.must(http.MethodPost, "/send", []byte("hello"))
	type letter struct{ ID, Sink, Reason, Error string }
	var letters []letter
	await(t, "there is a dead letter", func() bool {
		letters = rows[letter](t, n.command("dead-letters", "ls"))
		return len(letters) == 1
	})
	if l := letters[0]; l.Sink != "billing" || l.Reason != "fatal" || !strings.Contains(l.Error, "410 Gone") || len(h.asked()) != 1 {
		t.Errorf("%+v, %d requests", l, len(h.asked()))
	}
	h.set(0, nil)
	n.command("dead-letters", "replay", letters[0].ID)
	await(t, "it is delivered", func() bool { return slices.Equal(h.taken(), []string{"hello"}) })
	if ids := slices.Compact(h.asked()); len(ids) != 1 {
		t.Errorf("one message has the ids %v", ids)
	}

	// A script can be told of it, and so can another sink.
	h.set(404, nil)
	n.command("deploy", script(t, "alarm", `ctx.Log.Info("told", string(ctx.Request.Body))
	return nil, nil`))
	n.command("triggers", "dead-letter", "alarm", "--script", "alarm")
	n.must(http.MethodPost, "/send", []byte("again"))
	await(t, "its handler has run", func() bool { return len(n.executions("alarm")) == 1 })
	if told := n.command("logs", "alarm"); !strings.Contains(told, "billing") {
		t.Errorf("%s", told)
	}
	n.command("sinks", "create", "elsewhere", "--config", `{"url": "http://192.0.2.1/"}`)
	n.command("triggers", "delete", "alarm")
	n.command("triggers", "dead-letter", "alarm", "--sink", "elsewhere")
	n.must(http.MethodPost, "/send", []byte("and again"))
	await(t, "it was tried once", func() bool {
		return slices.ContainsFunc(n.delivered("elsewhere"), func(e attempt) bool {
			return e.Outcome == "handler_failed" && strings.Contains(e.Error, "cannot be reached")
		})
	})
}

// A sink process that is killed under a delivery costs an attempt; another one delivers.
func TestSinkProcessIsKilled(t *testing.T) {
	t.Parallel()
	n, h := withHook(t)
	hold := make(chan struct{})
	h.set(0, hold)
	n.command("deploy", script(t, "send", `return ctx.Sink("billing").Send(string(ctx.Request.Body))`), "--route", "POST /send")
	n.must(http.MethodPost, "/send", []byte("hello"))
	await(t, "it is on its way", func() bool { return len(h.asked()) == 1 })
	if err := syscall.Kill(n.pluginProcess("sink/http"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "it is tried again", func() bool { return len(h.asked()) == 2 })
	close(hold)
	await(t, "it is delivered", func() bool { return slices.Equal(h.taken(), []string{"hello"}) })
	if ids := slices.Compact(h.asked()); len(ids) != 1 {
		t.Errorf("one message has the ids %v", ids)
	}
	await(t, "both attempts are recorded", func() bool { return len(n.delivered("billing")) == 2 })
	if e := n.delivered("billing")[1]; e.Outcome != "retried" || !strings.Contains(e.Error, "process ended") {
		t.Errorf("%+v", e)
	}
}

// pluginProcess finds the process of a plugin of the node.
func (n *instance) pluginProcess(name string) int {
	n.t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		n.t.Fatal(err)
	}
	for _, file := range all {
		line, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(line, []byte(name)) {
			continue
		}
		status, err := os.ReadFile(filepath.Join(filepath.Dir(file), "status"))
		if err == nil && bytes.Contains(status, fmt.Appendf(nil, "\nPPid:\t%d\n", n.cmd.Process.Pid)) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				n.t.Fatal(err)
			}
			return pid
		}
	}
	n.t.Fatalf("there is no process of %s", name)
	return 0
}

// A key is changed without a gap, and a sink of another app is none.
func TestSinkKeysAndApps(t *testing.T) {
	t.Parallel()
	n, h := withHook(t)
	n.command("deploy", script(t, "send", `return ctx.Sink("billing").Send(string(ctx.Request.Body))`), "--route", "POST /send")
	n.must(http.MethodPost, "/send", []byte("one"))
	await(t, "it has arrived", func() bool { return len(h.taken()) == 1 })
	h.mu.Lock()
	h.key = "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{8}, 32))
	h.mu.Unlock()
	n.command("secrets", "set", "KEY", "--file", write(t, t.TempDir(), "key", h.key)) // and the sink signs with it
	n.must(http.MethodPost, "/send", []byte("two"))
	await(t, "it has arrived", func() bool { return len(h.taken()) == 2 })
	h.mu.Lock()
	if h.forged > 0 {
		t.Error("the new key is not used")
	}
	h.mu.Unlock()

	n.command("secrets", "delete", "KEY")
	n.must(http.MethodPost, "/send", []byte("three"))
	await(t, "it waits for its key", func() bool {
		return slices.ContainsFunc(n.delivered("billing"), func(e attempt) bool {
			return e.Outcome == "retried" && strings.Contains(e.Error, `no secret "KEY"`)
		})
	})
	if code, _, errs := n.cli("sinks", "create", "x", "--url", h.url, "--key", "NONE"); code == 0 || !strings.Contains(errs, `no secret "NONE"`) {
		t.Errorf("%s", errs)
	}
	for config, why := range map[string]string{
		`{"url": "` + h.url + `", "keys": "` + h.key + `"}`: "picloud secrets set", `{"url": "x"}`: "http://", `{"to": 1}`: "unknown field", `[]`: "no JSON object",
	} {
		if code, _, errs := n.cli("sinks", "create", "x", "--config", config); code == 0 || !strings.Contains(errs, why) {
			t.Errorf("%s: %s", config, errs)
		}
	}
	if code, _, errs := n.cli("sinks", "create", "x", "--kind", "smoke", "--config", "{}"); code == 0 || !strings.Contains(errs, "there are: http, smtp") {
		t.Errorf("%s", errs)
	}

	n.command("apps", "create", "other")
	n.command("deploy", script(t, "thief", `return ctx.Sink("billing").Send("stolen")`), "--app", "other")
	if code, _, errs := n.cli("invoke", "thief", "--app", "other"); code == 0 || !strings.Contains(errs, `there is no sink "billing" in this app`) {
		t.Errorf("%d %s", code, errs)
	}
	if code, _, errs := n.cli("sinks", "show", "billing", "--app", "other"); code == 0 {
		t.Errorf("%s", errs)
	}
}

// post office is a mail server that keeps what it is given.
type postOffice struct {
	address string
	mu      sync.Mutex
	mails   []*netmail.Message
	bodies  []string
	to      [][]string
}

func newPostOffice(t *testing.T) *postOffice {
	p := &postOffice{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = l.Addr().String()
	s := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) { return &desk{postOffice: p}, nil }))
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return p
}

type desk struct {
	*postOffice
	rcpt []string
}

func (d *desk) Reset()                                      { d.rcpt = nil }
func (*desk) Logout() error                                 { return nil }
func (*desk) Mail(string, *gosmtp.MailOptions) error        { return nil }
func (d *desk) Rcpt(to string, _ *gosmtp.RcptOptions) error { d.rcpt = append(d.rcpt, to); return nil }

func (d *desk) Data(r io.Reader) error {
	m, err := netmail.ReadMessage(r)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(m.Body)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mails, d.bodies, d.to = append(d.mails, m), append(d.bodies, string(body)), append(d.to, d.rcpt)
	return nil
}

func (p *postOffice) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.mails)
}

// Scripts in Go and TypeScript send e-mail, with a text, a page and an attachment.
func TestEmail(t *testing.T) {
	t.Parallel()
	office := newPostOffice(t)
	host, port, _ := net.SplitHostPort(office.address)
	n := start(t, setup{command: "dev", data: coretest.DataDir(t), args: []string{
		"--smtp-host", host, "--smtp-port", port, "--smtp-tls", "none", "--smtp-from", "PiCloud <picloud@example.com>",
	}})
	n.command("deploy", script(t, "go", `return ctx.SendEmail(&picloud.Email{
		To: []string{"ada@example.com"}, BCC: []string{"b@example.com"}, Subject: "from Go", Text: "hello", HTML: "<p>hello</p>",
		Attachments: []picloud.Attachment{{Name: "raw.bin", Data: []byte{0, 255}}},
	})`), "--route", "POST /go")
	n.command("deploy", write(t, t.TempDir(), "ts.ts", `import { type Context } from "picloud";
export default async function handle(ctx: Context) {
	try {
		await ctx.email.send({ to: "a@b.c\r\nBcc: x@y.z", subject: "s", text: "t" });
	} catch (e) {
		return await ctx.email.send({
			to: "ada@example.com", from: "Shop <shop@example.com>", subject: "from TypeScript", text: "hello", html: "<p>hello</p>",
			attachments: [{ name: "a.csv", content_type: "text/csv", data: "1,2" }],
		});
	}
}
`), "--route", "POST /ts")
	for _, path := range []string{"/go", "/ts"} {
		if r := n.must(http.MethodPost, path, nil); r.status != 200 {
			t.Fatal(r)
		}
	}
	await(t, "both have arrived", func() bool { return office.count() == 2 })
	for i, m := range office.mails {
		body, from := office.bodies[i], m.Header.Get("From")
		for _, part := range []string{"text/plain", "text/html", "attachment"} {
			if !strings.Contains(body, part) {
				t.Errorf("%s lacks %s", m.Header.Get("Subject"), part)
			}
		}
		switch m.Header.Get("Subject") {
		case "from Go":
			if !strings.Contains(from, "picloud@example.com") || len(office.to[i]) != 2 || !strings.Contains(body, "AP8=") {
				t.Errorf("%s %v", from, office.to[i])
			}
		case "from TypeScript":
			if !strings.Contains(from, "shop@example.com") || len(office.to[i]) != 1 || !strings.Contains(body, "a.csv") {
				t.Errorf("%s %v", from, office.to[i])
			}
		default:
			t.Errorf("%v", m.Header)
		}
	}
	await(t, "both are recorded", func() bool { return len(n.delivered("email")) == 2 })
	for _, e := range n.delivered("email") {
		if e.Outcome != "succeeded" || e.Status != 250 || e.Kind != "sink" {
			t.Errorf("%+v", e)
		}
	}

	n.command("deploy", script(t, "later", `return ctx.SendEmail(&picloud.Email{To: []string{"ada@example.com"}, Subject: "later", Text: "x"},
		&picloud.Delivery{Delay: time.Hour})`, "time"), "--route", "POST /later")
	var id string
	if err := json.Unmarshal(n.must(http.MethodPost, "/later", nil).body, &id); err != nil {
		t.Fatal(err)
	}
	var why struct{ Reasons []struct{ Code string } }
	if err := json.Unmarshal([]byte(n.command("entries", "explain", id)), &why); err != nil || len(why.Reasons) != 1 || why.Reasons[0].Code != "delayed" {
		t.Errorf("the last waits since %+v, %v", why, err)
	}
}

// Without a mail server a script is told what to set.
func TestEmailIsNotConfigured(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	n.command("deploy", script(t, "mail", `_, err := ctx.SendEmail(&picloud.Email{To: []string{"a@example.com"}, Subject: "s", Text: "t"})
	return picloud.Response{Body: err.Error()}, nil`), "--route", "GET /mail")
	n.expect("/mail", 200, "unavailable: e-mail is not configured: set smtp_host and smtp_from")
}

// Sinks that share a batch, and one whose events stay in order.
func TestSinkBatchesAndOrder(t *testing.T) {
	t.Parallel()
	n, h := withHook(t)
	n.command("deploy", script(t, "send", `for i := range 40 {
		if _, err := ctx.Publish("batch", i); err != nil {
			return nil, err
		}
		if _, err := ctx.Sink("billing").Send(i, &picloud.Delivery{OrderingKey: "k"}); err != nil {
			return nil, err
		}
	}
	return nil, nil`), "--route", "POST /send")
	n.command("triggers", "create", "batch", "--kind", "pubsub", "--sink", "billing", "--topic", "batch", "--policy", `{"batch": {"size": 20, "window": "50ms"}}`)
	if r := n.must(http.MethodPost, "/send", nil); r.status/100 != 2 {
		t.Fatal(r)
	}
	await(t, "all has arrived", func() bool { return len(h.taken()) == 80 })
	h.mu.Lock()
	defer h.mu.Unlock()
	next := 0
	for _, body := range h.bodies {
		if i, err := strconv.Atoi(body); err == nil {
			if i != next {
				t.Errorf("%d comes where %d should", i, next)
			}
			next = i + 1
		}
	}
}

// A sink that somebody else has written is installed, and is a kind from then on.
func TestInstalledSink(t *testing.T) {
	t.Parallel()
	program, data := filepath.Join(t.TempDir(), "pager"), coretest.DataDir(t)
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, "./testdata/pager")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the sink: %v\n%s", err, out)
	}
	away := &instance{t: t, data: data} // no server runs yet
	if out := away.command("plugin", "add", program); !strings.Contains(out, `"sink/pager"`) {
		t.Errorf("%s", out)
	}
	if out := away.command("plugin", "ls"); !strings.Contains(out, `"sink/pager"`) || !strings.Contains(out, `"sink/http"`) {
		t.Errorf("%s", out)
	}
	n := start(t, setup{command: "dev", data: data})
	n.command("secrets", "set", "TOKEN", "--file", write(t, t.TempDir(), "token", "sesame-open"))
	if code, _, errs := n.cli("sinks", "create", "night", "--kind", "pager", "--config", `{"to": "ada"}`); code == 0 || !strings.Contains(errs, "are needed") {
		t.Errorf("%s", errs)
	}
	n.command("sinks", "create", "night", "--kind", "pager", "--config", `{"to": "ada", "token": {"secret": "TOKEN"}}`)
	if out := n.command("sinks", "test", "night"); !strings.Contains(out, `paged ada with {\"test\":true} by [secret]`) {
		t.Errorf("%s", out)
	}
	away.command("plugin", "delete", "sink/pager")
}

// What waits for a sink that is deleted is a dead letter, not lost.
func TestSinkIsDeleted(t *testing.T) {
	t.Parallel()
	n, h := withHook(t)
	hold := make(chan struct{})
	h.set(http.StatusServiceUnavailable, hold)
	n.command("deploy", script(t, "send", `return ctx.Sink("billing").Send("hello", &picloud.Delivery{OrderingKey: "k"})`), "--route", "POST /send")
	n.must(http.MethodPost, "/send", nil)
	await(t, "the first is on its way", func() bool { return len(h.asked()) > 0 })
	n.must(http.MethodPost, "/send", nil) // waits for it
	n.command("sinks", "delete", "billing")
	close(hold)
	await(t, "both are dead letters", func() bool {
		return strings.Count(n.command("dead-letters", "ls"), `"target_gone"`) == 2
	})
	if len(h.asked()) != 1 {
		t.Errorf("it was asked for %v", h.asked())
	}
}
