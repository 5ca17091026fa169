package service_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// setupKV is setup with a database, in which the run's node is alive.
func setupKV(t *testing.T) *bundle {
	t.Helper()
	pool := coretest.DB(t)
	if _, err := pool.Exec(t.Context(), `INSERT INTO nodes (epoch, name) VALUES (7, 'n')`); err != nil {
		t.Fatal(err)
	}
	b := setup(t)
	b.kv, b.pool = postgres.NewKVStore(pool), pool
	b.reload()
	return b
}

// Keys that are no Unicode are refused, in both forms that JSON has for them: all would be one key.
func TestKVKeysAreText(t *testing.T) {
	t.Parallel()
	b := setupKV(t)
	for _, key := range []string{`"\ud800"`, `"a\udc00\ud800"`, "\"\xff\"", "\"a\xc3\"", "7", "[]"} {
		b.refused(t, "kv.set", `{"collection":"c","key":`+key+`,"value":1}`, fault.Invalid, "key: ")
		b.refused(t, "kv.list", `{"collection":"c","prefix":`+key+`}`, fault.Invalid, "prefix: ")
		b.refused(t, "queue.send", `{"queue":"mail","messages":[{"delivery":{"idempotency_key":`+key+`}}]}`, fault.Invalid, "idempotency_key: ")
	}
	if _, err := b.ask(t, "kv.set", `{"collection":"c","key":"\ud83d\ude00\ufffd","value":1}`); err != nil {
		t.Error(err)
	}
	if got, err := b.ask(t, "kv.get", `{"collection":"c","key":"😀�"}`); err != nil || got["value"] != 1.0 {
		t.Error(got, err)
	}
}

// A value comes back as it was set, also a text that JavaScript has cut in the middle of a character.
func TestKVValuesStay(t *testing.T) {
	t.Parallel()
	b := setupKV(t)
	for _, value := range []string{`"a\ud800b"`, `{"\udc00":1,"a":1,"a":2}`, `"\u003c<\/\u0000"`, `1e400`, `-0.0`} {
		if _, err := b.ask(t, "kv.set", `{"collection":"c","key":"k","value":`+value+`}`); err != nil {
			t.Fatal(err)
		}
		got, err := b.host.Call(t.Context(), b.run, "kv", "get", []byte(`{"collection":"c","key":"k"}`))
		if err != nil || !strings.Contains(string(got), `"value":`+value+`,`) {
			t.Errorf("%s: %s, %v", value, got, err)
		}
	}
}

// What no argument can be is said in words of the script's language, not of the platform's.
func TestArgumentsOfNoType(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for args, words := range map[string]string{
		`"limit":1.5`: "limit: must be a whole number of at most 18 digits", `"limit":1e300`: "limit: must be a whole number",
		`"limit":100000000000000000000`: "limit: must be a whole number", `"limit":"1"`: "limit: must not be a text",
		`"cursor":[]`: "cursor: must not be a list", `"cursor":{}`: "cursor: must not be an object", `"cursor":7`: "cursor: must not be a number",
		`"cursor":true`: "cursor: must not be true", `"cursor":false`: "cursor: must not be false",
	} {
		b.refused(t, "kv.list", `{"collection":"c",`+args+`}`, fault.Invalid, words)
	}
}

// Every bound is kept at itself, and one past it is refused in words that name it.
func TestKVBounds(t *testing.T) {
	t.Parallel()
	b := setupKV(t)
	call := func(method string, fields map[string]any) (string, string) {
		args := map[string]any{"collection": "c", "key": "k"}
		if method == "set" {
			args["value"] = 1
		}
		if method == "list" {
			delete(args, "key")
		}
		for name, v := range fields {
			args[name] = v
		}
		text, err := json.Marshal(args)
		if err != nil {
			t.Fatal(err)
		}
		return "kv." + method, string(text)
	}
	text := func(n int) string { return strings.Repeat("x", n) }
	for name, c := range map[string]struct {
		method   string
		fields   map[string]any
		over     map[string]any
		mentions string
	}{
		"collection":       {"get", map[string]any{"collection": text(data.MaxName)}, map[string]any{"collection": text(data.MaxName + 1)}, "1 to 128"},
		"no collection":    {"get", nil, map[string]any{"collection": ""}, "1 to 128"},
		"key":              {"set", map[string]any{"key": text(data.MaxKey)}, map[string]any{"key": text(data.MaxKey + 1)}, "1 to 512"},
		"no key":           {"has", nil, map[string]any{"key": ""}, "1 to 512"},
		"zero byte":        {"set", map[string]any{"key": "a\x01b"}, map[string]any{"key": "a\x00b"}, "zero byte"},
		"value":            {"set", map[string]any{"value": text(data.MaxValue - 2)}, map[string]any{"value": text(data.MaxValue - 1)}, "more than 1048576"},
		"ttl":              {"set", map[string]any{"ttl_ms": 10 * 366 * 24 * 3600 * 1000}, map[string]any{"ttl_ms": 10*366*24*3600*1000 + 1}, "ten years"},
		"ttl below":        {"set", map[string]any{"ttl_ms": 0}, map[string]any{"ttl_ms": -1}, "ttl_ms"},
		"by":               {"increment", map[string]any{"key": "n", "by": 1_000_000_000_000_000}, map[string]any{"by": 1_000_000_000_000_001}, "by:"},
		"limit":            {"list", map[string]any{"limit": 1000}, map[string]any{"limit": 1001}, "1 to 1000"},
		"limit below":      {"list", map[string]any{"limit": 1}, map[string]any{"limit": 0}, "1 to 1000"},
		"prefix":           {"list", map[string]any{"prefix": text(data.MaxKey)}, map[string]any{"prefix": text(data.MaxKey + 1)}, "1 to 512"},
		"cursor":           {"list", map[string]any{"cursor": ""}, map[string]any{"cursor": "x"}, "cursor"},
		"an app":           {"get", nil, map[string]any{"app": uuid.NewString()}, `"app"`},
		"an owner":         {"set", nil, map[string]any{"owner": 7}, `"owner"`},
		"spelt otherwise":  {"set", nil, map[string]any{"ttlMs": 7}, `"ttlMs"`},
		"a number as text": {"set", nil, map[string]any{"ttl_ms": "7"}, "ttl_ms"},
	} {
		what, args := call(c.method, c.fields)
		if _, err := b.ask(t, what, args); err != nil {
			t.Errorf("%s, at its bound: %v", name, err)
		}
		what, args = call(c.method, c.over)
		b.refused(t, what, args, fault.Invalid, c.mentions)
	}
	for _, name := range []string{"a b", "a/b", "../x", "a\x00", "-a", "é", "ｕsers", "a\n", ".", "*", "a%"} {
		b.refused(t, "kv.get", fmt.Sprintf(`{"collection":%s,"key":"k"}`, quote(t, name)), fault.Invalid, "collection")
	}
}

func quote(t *testing.T, text string) string {
	t.Helper()
	b, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Two apps never see each other's values, whatever their collections and keys are called.
func TestKVOfAnotherApp(t *testing.T) {
	t.Parallel()
	b := setupKV(t)
	if _, err := b.ask(t, "kv.set", `{"collection":"c","key":"k","value":"ours"}`); err != nil {
		t.Fatal(err)
	}
	ours := *b.run.Entry
	theirs := ours
	theirs.App = uuid.New()
	b.run.Entry = &theirs
	for what, args := range map[string]string{
		"kv.get": `{"collection":"c","key":"k"}`, "kv.list": `{"collection":"c"}`, "kv.has": `{"collection":"c","key":"k"}`,
		"kv.delete": `{"collection":"c","key":"k"}`,
	} {
		got, err := b.ask(t, what, args)
		if err != nil || strings.Contains(fmt.Sprint(got), "ours") || got["found"] == true || got["deleted"] == true {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	b.run.Entry = &ours
	if got, err := b.ask(t, "kv.get", `{"collection":"c","key":"k"}`); err != nil || got["value"] != "ours" {
		t.Errorf("%v, %v", got, err)
	}
}

// A change of data makes the entries of the triggers that take it, as the consequence of the run, and none of others.
func TestKVTriggers(t *testing.T) {
	t.Parallel()
	b := setupKV(t)
	target := b.app.Scripts[1].ID
	b.app.Triggers = []tenant.Trigger{
		{ID: uuid.New(), App: b.app.ID, Name: "orders", Kind: tenant.TriggerKV, Script: target, Enabled: true, Filter: tenant.TriggerFilter{Collection: "order*", Ops: []string{tenant.OpUpdate}}},
		{ID: uuid.New(), App: b.app.ID, Name: "off", Kind: tenant.TriggerKV, Script: target, Filter: tenant.TriggerFilter{Collection: "*"}},
	}
	b.reload()
	set := func(collection, value string) {
		t.Helper()
		if _, err := b.ask(t, "kv.set", `{"collection":"`+collection+`","key":"k","value":`+value+`}`); err != nil {
			t.Fatal(err)
		}
	}
	set("orders", "1")
	set("users", "1")
	set("users", "2")
	if len(b.entries) != 0 {
		t.Fatalf("%d entries of what nobody takes", len(b.entries))
	}
	set("orders", `{"n":2}`)
	if len(b.entries) != 1 {
		t.Fatalf("%d entries", len(b.entries))
	}
	e := b.entries[0]
	env, err := event.Unmarshal(e.Envelope)
	if err != nil || env.Type != "kv.update" || env.Subject != "orders/k" || e.Kind != outbox.KindKV || e.Trigger != b.app.Triggers[0].ID ||
		e.App != b.app.ID || e.Depth != b.run.Entry.Depth+1 || e.RootID != b.run.Entry.RootID || e.Target != target {
		t.Errorf("%+v %+v, %v", env, e, err)
	}
	if want := `{"collection":"orders","key":"k","op":"update","value":{"n":2},"previous":1}`; string(e.Payload) != want {
		t.Errorf("%s", e.Payload)
	}
}

// At the end of its chain the change stands, and what it would lead to does not run.
func TestKVTriggersAtTheEnd(t *testing.T) {
	t.Parallel()
	b := setupKV(t)
	b.app.Triggers = []tenant.Trigger{{
		ID: uuid.New(), App: b.app.ID, Name: "all", Kind: tenant.TriggerKV, Script: b.app.Scripts[1].ID, Enabled: true,
		Filter: tenant.TriggerFilter{Collection: "*"},
	}}
	b.reload()
	b.run.Entry.Depth = outbox.MaxDepth
	if _, err := b.ask(t, "kv.set", `{"collection":"c","key":"k","value":1}`); err != nil || len(b.entries) != 0 {
		t.Errorf("%d entries, %v", len(b.entries), err)
	}
	if got, err := b.ask(t, "kv.get", `{"collection":"c","key":"k"}`); err != nil || got["value"] != 1.0 {
		t.Errorf("%v, %v", got, err)
	}
}
