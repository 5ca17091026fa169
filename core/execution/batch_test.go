package execution

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/service"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// batchOf makes n entries of one target. The first has attempt 1, the next 2, and so on.
func batchOf(t *testing.T, n int, do engineFunc) (*Runner, []*outbox.Entry) {
	t.Helper()
	r, e, _ := setup(do)
	entries := make([]*outbox.Entry, n)
	for i := range entries {
		env, err := (&event.Envelope{ID: fmt.Sprint("v", i), Source: "queue", Type: "queue.message", TraceParent: "t"}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		x := *e
		x.ID, x.Attempt, x.Envelope, x.Payload = uuid.New(), i+1, env, []byte(fmt.Sprint("body ", i))
		entries[i] = &x
	}
	return r, entries
}

// tell answers with the result of a batch.
func tell(out engine.Reply, body string) error {
	err := out.Head(engine.Head{Status: 200, Headers: []event.Header{
		{Name: "content-type", Value: event.BatchContentType + "; charset=utf-8"},
	}})
	if err == nil {
		_, err = out.Write([]byte(body))
	}
	return err
}

func TestBatch(t *testing.T) {
	t.Parallel()
	var asked *engine.Request
	var entries []*outbox.Entry
	r, entries := batchOf(t, 4, func(ctx context.Context, lone bool, r *engine.Request, out engine.Reply) error {
		if _, ok := ctx.Deadline(); !ok || lone {
			t.Error("no deadline, or alone")
		}
		asked = r
		r.Log([]engine.Log{{Level: "info", Message: "hello"}})
		return tell(out, fmt.Sprintf(`{"failures":[{"id":%q,"error":"bad","retry_after_ms":1500},{"id":%q,"fatal":true}]}`,
			entries[1].ID, entries[3].ID))
	})
	entries[2].Payload = []byte{255, 0}
	results := r.RunBatch(t.Context(), entries)

	env, err := event.Unmarshal(asked.Envelope)
	if err != nil || env.Type != event.BatchType || env.TraceParent != "t" {
		t.Errorf("%+v, %v", env, err)
	}
	if asked.ExecutionID != entries[0].ID.String() || asked.Attempt != 1 {
		t.Errorf("%+v", asked)
	}
	var batch event.Batch
	if err := json.Unmarshal(asked.Body, &batch); err != nil || len(batch.Items) != 4 {
		t.Fatalf("%+v, %v", batch, err)
	}
	for i, item := range batch.Items {
		if item.ID != entries[i].ID.String() || item.Attempt != i+1 || string(item.Data()) != string(entries[i].Payload) ||
			item.Event.ID != fmt.Sprint("v", i) {
			t.Errorf("item %d: %+v", i, item)
		}
	}

	if len(results) != 4 {
		t.Fatalf("%+v", results)
	}
	for i, want := range []*fault.Fault{
		nil,
		{Kind: fault.ScriptError, Origin: fault.Script, Message: "bad", RetryAfter: 1500 * time.Millisecond},
		nil,
		{Kind: fault.ScriptError, Origin: fault.Script, Message: "the script said only that it failed", Fatal: true},
	} {
		res := results[i]
		if (res.Fault == nil) != (want == nil) || want != nil && *res.Fault != *want {
			t.Errorf("result %d: %+v", i, res.Fault)
		}
		if res.Version != 3 || res.Status != 200 || res.Started.IsZero() {
			t.Errorf("result %d: %+v", i, res)
		}
		word := "hello"
		if i > 0 {
			word = entries[0].ID.String()
		}
		if !strings.Contains(string(res.Logs), word) {
			t.Errorf("log %d: %s", i, res.Logs)
		}
	}
}

// Of a failure that is none of the batch's it is not known whose it is: any that is not named may have failed.
func TestBatchOfStrangers(t *testing.T) {
	t.Parallel()
	var entries []*outbox.Entry
	r, entries := batchOf(t, 3, func(_ context.Context, _ bool, _ *engine.Request, out engine.Reply) error {
		return tell(out, fmt.Sprintf(`{"failures":[{"id":"foreign","error":"no stock"},{"id":%q,"error":"bad","fatal":true}]}`, entries[1].ID))
	})
	for i, res := range r.RunBatch(t.Context(), entries) {
		want, words := fault.InvalidResponse, `"foreign"`
		if i == 1 {
			want, words = fault.ScriptError, "bad"
		}
		if res.Fault == nil || res.Fault.Kind != want || !strings.Contains(res.Fault.Message, words) || res.Fault.Fatal != (i == 1) {
			t.Errorf("%d: %+v", i, res.Fault)
		}
	}
}

func TestBatchThatSaysNothing(t *testing.T) {
	t.Parallel()
	r, entries := batchOf(t, 3, func(_ context.Context, _ bool, _ *engine.Request, out engine.Reply) error {
		_ = out.Head(engine.Head{Status: 200})
		_, err := out.Write([]byte(`{"failures":[{"id":"whatever"}]}`)) // of no type that says so
		return err
	})
	for i, res := range r.RunBatch(t.Context(), entries) {
		if res.Fault != nil || res.Logs != nil {
			t.Errorf("%d: %+v", i, res)
		}
	}
}

func TestBatchThatFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   engineFunc
		kind fault.Kind
	}{
		"error": {func(context.Context, bool, *engine.Request, engine.Reply) error {
			return fault.New(fault.ScriptError, fault.Script, "no")
		}, fault.ScriptError},
		"junk": {func(_ context.Context, _ bool, _ *engine.Request, out engine.Reply) error {
			return tell(out, "junk")
		}, fault.InvalidResponse},
		"long": {func(_ context.Context, _ bool, _ *engine.Request, out engine.Reply) error {
			return tell(out, `{"failures":[],"x":"`+strings.Repeat("x", batchOutput)+`"}`)
		}, fault.InvalidResponse},
	} {
		r, entries := batchOf(t, 3, c.do)
		for i, res := range r.RunBatch(t.Context(), entries) {
			if res.Fault == nil || res.Fault.Kind != c.kind || i > 0 && res.Response != nil {
				t.Errorf("%s: result %d: %+v", name, i, res)
			}
		}
	}

	lost := fault.New(fault.Cancelled, fault.Platform, "the node lost its lease")
	r, entries := batchOf(t, 2, func(ctx context.Context, lone bool, _ *engine.Request, _ engine.Reply) error {
		if !lone {
			t.Error("one of them was lost with its engine, and it runs beside others")
		}
		return ctx.Err()
	})
	entries[1].EngineLosses = 1
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(lost)
	for _, res := range r.RunBatch(ctx, entries) {
		if !errors.Is(res.Fault, lost) {
			t.Errorf("%+v", res.Fault)
		}
	}

	r, entries = batchOf(t, 2, nil)
	r.scripts = scripts{}
	for _, res := range r.RunBatch(t.Context(), entries) {
		if !res.Gone || res.Fault == nil {
			t.Errorf("%+v", res)
		}
	}
}

// What is too much for one run comes in several, and every entry has its result.
func TestBatchIsDivided(t *testing.T) {
	t.Parallel()
	var sizes []int
	r, entries := batchOf(t, 5, func(_ context.Context, _ bool, r *engine.Request, out engine.Reply) error {
		var b event.Batch
		if err := json.Unmarshal(r.Body, &b); err != nil {
			return err
		}
		sizes = append(sizes, len(b.Items))
		return tell(out, fmt.Sprintf(`{"failures":[{"id":%q,"error":"first"}]}`, b.Items[0].ID))
	})
	for i, size := range []int{4 << 20, 3 << 20, 2 << 20, 7 << 20, 1} {
		entries[i].Payload = make([]byte, size)
	}
	results := r.RunBatch(t.Context(), entries)
	if fmt.Sprint(sizes) != "[1 2 1 1]" || len(results) != 5 {
		t.Fatalf("%v, %d results", sizes, len(results))
	}
	for i, failed := range []bool{true, true, false, true, true} {
		if (results[i].Fault != nil) != failed {
			t.Errorf("%d: %+v", i, results[i].Fault)
		}
	}
}

// everybody is there and active.
type everybody struct{}

func (everybody) Active(context.Context, uuid.UUID) (bool, error) { return true, nil }

// A run acts for one: events of others come in runs of their own.
func TestBatchIsDividedByPrincipal(t *testing.T) {
	t.Parallel()
	r, entries := batchOf(t, 6, func(ctx context.Context, _ bool, r *engine.Request, out engine.Reply) error {
		if _, err := r.Call(ctx, "kv", "get", nil); err != nil {
			return err
		}
		return tell(out, "{}")
	})
	r.users = everybody{}
	somebody := uuid.New()
	for i := range entries {
		entries[i].Depth = i
		if i == 2 || i == 3 || i == 5 {
			entries[i].Principal = somebody
		}
	}
	var acted []*outbox.Entry
	r.services = serviceFunc(func(_ context.Context, run service.Run, _, _ string, _ []byte) ([]byte, error) {
		acted = append(acted, run.Entry)
		return []byte("{}"), nil
	})
	if results := r.RunBatch(t.Context(), entries); len(results) != 6 {
		t.Errorf("%d results", len(results))
	}
	if !slices.Equal(acted, []*outbox.Entry{entries[1], entries[3], entries[4], entries[5]}) {
		t.Errorf("%d runs: %+v", len(acted), acted)
	}
}

// serviceFunc answers the calls of runs.
type serviceFunc func(ctx context.Context, run service.Run, name, method string, args []byte) ([]byte, error)

func (f serviceFunc) Call(ctx context.Context, run service.Run, name, method string, args []byte) ([]byte, error) {
	return f(ctx, run, name, method, args)
}

// Calls belong to the entry that runs; in a batch to the one whose chain is the longest.
func TestCalls(t *testing.T) {
	t.Parallel()
	ask := func(ctx context.Context, _ bool, r *engine.Request, out engine.Reply) error {
		answer, err := r.Call(ctx, "queue", "send", []byte("args"))
		if err != nil {
			return err
		}
		return tell(out, string(answer))
	}
	r, entries := batchOf(t, 3, ask)
	entries[1].Depth = 4
	var asked service.Run
	r.services = serviceFunc(func(_ context.Context, run service.Run, name, method string, args []byte) ([]byte, error) {
		if asked = run; name+method+string(args) != "queuesendargs" {
			t.Errorf("%s.%s %s", name, method, args)
		}
		return []byte("{}"), nil
	})
	r.RunBatch(t.Context(), entries)
	if asked.Entry != entries[1] || asked.Script == nil || asked.Script.ID != entries[1].Target {
		t.Errorf("%+v", asked)
	}
	r.Run(t.Context(), entries[0])
	if asked.Entry != entries[0] {
		t.Errorf("%+v", asked)
	}
}
