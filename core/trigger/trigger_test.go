package trigger

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/event"
)

func input() *Input {
	return &Input{
		HTTP: &event.HTTP{
			Query: "page=2&empty=", Params: []event.Param{{Name: "id", Value: "42"}},
			Headers: []event.Header{{Name: "X-Tenant", Value: "acme"}},
		},
		Body: []byte(`{"customer": {"id": 7, "big": 12345678901234567890}, "tags": ["a", "b"], "paid": true, "note": null}`),
	}
}

func TestExpand(t *testing.T) {
	t.Parallel()
	for template, want := range map[string]string{
		"":                                  "",
		"fixed":                             "fixed",
		"{params.id}":                       "42",
		"{headers.x-tenant}/{query.page}":   "acme/2",
		"c-{body.customer.id}":              "c-7",
		"{body.customer.big}":               "12345678901234567890",
		"{body.tags.1}":                     "b",
		"{body.paid}":                       "true",
		"{body.note}":                       "", // an event without the value has no key
		"{query.empty}":                     "",
		"x{body.missing.deep}":              "",
		"{body.customer}":                   "", // an object is no key
		"{params.id}{headers.not-there}{x}": "",
	} {
		if template != "{params.id}{headers.not-there}{x}" {
			if err := CheckTemplate(template, true); err != nil {
				t.Errorf("%q: %v", template, err)
			}
		}
		if got, err := input().Expand(template); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", template, got, err, want)
		}
	}
	for _, wrong := range []string{"{cookie.x}", "{body}", "{params.}", "{query.x", "a{"} {
		if CheckTemplate(wrong, true) == nil {
			t.Errorf("%q passes", wrong)
		}
	}
	if CheckTemplate("{body.id}", false) != nil || CheckTemplate("{headers.x}", false) == nil {
		t.Error("a message has a body and nothing else")
	}
	long := &Input{Body: []byte(`{"k": "` + strings.Repeat("x", tenant.MaxKey+1) + `"}`)}
	if _, err := long.Expand("{body.k}"); err == nil {
		t.Error("a key that is too long passes")
	}
}

// What a body holds beside the value of a key takes no memory, and what is no JSON has no key.
func TestExpandReadsNoMore(t *testing.T) {
	large := `{"x": [` + strings.Repeat("{},", 200_000) + `{}], "k": 1, "k": {"a": ["b", {"c": "d"}]}}`
	in := &Input{Body: []byte(large)}
	for template, want := range map[string]string{"{body.k.a.1.c}": "d", "{body.k.a.0}": "b", "{body.k.a.2}": "", "{body.k.a.x}": "", "{body.k}": "", "{body.x.9}": ""} {
		if got, err := in.Expand(template); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", template, got, err, want)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if got, _ := (&Input{Body: in.Body}).Expand("{body.k.a.1.c}"); got != "d" {
		t.Error(got)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > uint64(len(large)) {
		t.Errorf("%d bytes of memory for a body of %d", n, len(large))
	}
	for _, junk := range []string{"", "{", `{"a": 1`, `{"a": 1, }`, "nul", `[{"a":1}`} {
		if got, err := (&Input{Body: []byte(junk)}).Expand("{body.a}"); err != nil || got != "" {
			t.Errorf("%s: %q, %v", junk, got, err)
		}
	}
}

// Whatever a body holds, a key is text that the database can store.
func FuzzExpand(f *testing.F) {
	f.Add("{body.a}", []byte(`{"a": "b\u0000\ud800"}`))
	f.Add("{body.0.x}-{body.1}", []byte(`[{"x": 1}, 2]`))
	f.Fuzz(func(t *testing.T, template string, body []byte) {
		key, err := (&Input{Body: body}).Expand(template)
		if err == nil && (strings.ContainsRune(key, 0) || len(key) > tenant.MaxKey+2 || strings.ToValidUTF8(key, "") != key) {
			t.Errorf("%q of %q is %q", template, body, key)
		}
	})
}

func TestApply(t *testing.T) {
	t.Parallel()
	table := &retry.Policy{Kind: retry.Table, Delays: []retry.Duration{1}}
	lane := &tenant.Lane{ID: uuid.New(), Script: &tenant.Script{Policy: tenant.Policy{Backoff: table}}}
	apply := func(p tenant.Policy, o *Options) *outbox.Entry {
		t.Helper()
		l, e := *lane, &outbox.Entry{MaxAttempts: 5}
		l.Policy = p
		if err := Apply(e, &l, o, input()); err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := apply(tenant.Policy{Delay: 3, ExpiresIn: 9, Priority: 2, OrderingKey: "{params.id}"}, nil)
	if e.Lane != lane.ID || e.MaxAttempts != 5 || e.Backoff != table || e.Delay != 3 || e.ExpiresIn != 9 || e.Priority != 2 ||
		e.Gate != outbox.OrderGate("42") || e.GateLimit != 1 || !e.Keyed() {
		t.Errorf("by its policy: %+v", e)
	}
	zero, at := 0, time.Now()
	e = apply(tenant.Policy{Delay: 3, Priority: 2, MaxAttempts: 7, ConcurrencyKey: "{params.id}", KeyConcurrency: 4},
		&Options{RunAt: at, Priority: &zero, ConcurrencyKey: "own"})
	if e.Delay != 0 || !e.RunAt.Equal(at) || e.Priority != 0 || e.MaxAttempts != 7 || e.Gate != outbox.LimitGate(e.Lane, "own") || e.GateLimit != 4 {
		t.Errorf("with options: %+v", e)
	}
	for _, o := range []*Options{{Delay: time.Hour}, {RunAt: at.Add(time.Hour)}, {ExpiresIn: 2}} {
		l := *lane
		l.Policy = tenant.Policy{Delay: 2, ExpiresIn: retry.Duration(time.Minute)}
		var invalid *tenant.Invalid
		if err := Apply(&outbox.Entry{}, &l, o, input()); !errors.As(err, &invalid) || invalid.Field != "expires_in" {
			t.Errorf("%+v, which cannot start, is %v", o, err)
		}
	}
	e = apply(tenant.Policy{Debounce: &tenant.Debounce{Wait: 5}}, nil)
	if e.Debounce == "" || e.Delay != 5 || e.DebounceMax != 50 {
		t.Errorf("debounced: %+v", e)
	}
	e = apply(tenant.Policy{Batch: &tenant.Batch{Size: 9}}, nil)
	if e.BatchSize != 9 || e.BatchWindow != time.Second {
		t.Errorf("in a batch: %+v", e)
	}
	if e = apply(tenant.Policy{Batch: &tenant.Batch{Size: 9}}, &Options{Delay: 1}); e.BatchSize != 0 {
		t.Error("what is delayed waits for no batch")
	}
	if e = apply(tenant.Policy{RateKey: "{params.id}", Rate: &tenant.Rate{Limit: 1}}, nil); e.RateKey != "42" {
		t.Errorf("the rate's key is %q", e.RateKey)
	}
}

func TestOptionsValidate(t *testing.T) {
	t.Parallel()
	for field, o := range map[string]Options{
		"run_at":          {Delay: 1, RunAt: time.Now()},
		"concurrency_key": {OrderingKey: "a", ConcurrencyKey: "b"},
		"delay":           {Delay: -1},
		"max_attempts":    {MaxAttempts: 99},
		"rate_key":        {RateKey: strings.Repeat("x", tenant.MaxKey+1)},
	} {
		var invalid *tenant.Invalid
		if err := o.Validate(); !errors.As(err, &invalid) || invalid.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}
