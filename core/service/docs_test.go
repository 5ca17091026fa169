package service_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

// setupDocs is setup with a database, in which the run's node is alive.
func setupDocs(t *testing.T) *bundle {
	t.Helper()
	pool := coretest.DB(t)
	if _, err := pool.Exec(t.Context(), `INSERT INTO nodes (epoch, name) VALUES (7, 'n')`); err != nil {
		t.Fatal(err)
	}
	b := setup(t)
	b.docs = postgres.NewDocStore(pool)
	b.reload()
	return b
}

// must makes a call that succeeds.
func (b *bundle) must(t *testing.T, what, args string) map[string]any {
	t.Helper()
	answer, err := b.ask(t, what, args)
	if err != nil {
		t.Fatalf("%s %s: %v", what, args, err)
	}
	return answer
}

func TestDocs(t *testing.T) {
	t.Parallel()
	b := setupDocs(t)
	made := b.must(t, "docs.create", `{"collection":"c","data":{"n":1,"big":9007199254740993}}`)
	id, version := made["id"].(string), int64(made["version"].(float64))
	if parsed, err := uuid.Parse(id); err != nil || parsed.Version() != 7 || made["created_at"] == "" || made["created_at"] != made["updated_at"] {
		t.Errorf("%v", made)
	}
	if got := b.must(t, "docs.get", `{"collection":"c","id":"`+id+`"}`)["doc"].(map[string]any); got["id"] != id || fmt.Sprint(got["data"].(map[string]any)["n"]) != "1" {
		t.Errorf("%v", got)
	}
	changed := b.must(t, "docs.update", fmt.Sprintf(`{"collection":"c","id":%q,"data":{"n":2},"if_version":%d}`, id, version))
	if changed["version"] == made["version"] || changed["created_at"] != made["created_at"] {
		t.Errorf("%v", changed)
	}
	b.refused(t, "docs.update", fmt.Sprintf(`{"collection":"c","id":%q,"data":{},"if_version":%d}`, id, version), fault.Conflict, "another version")
	b.refused(t, "docs.delete", fmt.Sprintf(`{"collection":"c","id":%q,"if_version":%d}`, id, version), fault.Conflict, "another version")
	b.refused(t, "docs.create", fmt.Sprintf(`{"collection":"c","id":%q,"data":{}}`, id), fault.Conflict, "already")
	b.refused(t, "docs.update", fmt.Sprintf(`{"collection":"c","id":%q,"data":{}}`, uuid.New()), fault.NotFound, "no document")
	own := uuid.NewString()
	if made := b.must(t, "docs.create", `{"collection":"c","id":"`+own+`","data":{"n":3}}`); made["id"] != own {
		t.Errorf("%v", made)
	}
	page := b.must(t, "docs.find", `{"collection":"c","filter":{"n":{"$gt":1}},"sort":"-n","limit":1}`)
	next := page["next_cursor"].(string)
	if items := page["items"].([]any); len(items) != 1 || items[0].(map[string]any)["id"] != own || next == "" {
		t.Errorf("%v", page)
	}
	page = b.must(t, "docs.find", `{"collection":"c","filter":{"n":{"$gt":1}},"sort":["-n"],"limit":1,"cursor":"`+next+`"}`)
	if items := page["items"].([]any); len(items) != 1 || items[0].(map[string]any)["id"] != id || page["next_cursor"] != "" {
		t.Errorf("%v", page)
	}
	b.refused(t, "docs.find", `{"collection":"c","filter":{"n":{"$gt":0}},"sort":["-n"],"cursor":"`+next+`"}`, fault.Invalid, "cursor")
	b.refused(t, "docs.find", `{"collection":"d","filter":{"n":{"$gt":1}},"sort":["-n"],"cursor":"`+next+`"}`, fault.Invalid, "cursor")
	if one := b.must(t, "docs.find_one", `{"collection":"c","filter":{},"sort":"n"}`)["doc"].(map[string]any); one["id"] != id {
		t.Errorf("%v", one)
	}
	if none := b.must(t, "docs.find_one", `{"collection":"c","filter":{"n":0}}`); none["doc"] != nil {
		t.Errorf("%v", none)
	}
	if list := b.must(t, "docs.list", `{"collection":"c"}`)["items"].([]any); len(list) != 2 {
		t.Errorf("%v", list)
	}
	if answer := b.must(t, "docs.index", `{"collection":"c","path":"n","type":"number"}`); answer["state"] != "ready" {
		t.Errorf("%v", answer)
	}
	b.refused(t, "docs.index", `{"collection":"c","path":"n","type":"text"}`, fault.Conflict, `type "number"`)
	for _, deleted := range []bool{true, false} {
		if answer := b.must(t, "docs.delete", `{"collection":"c","id":"`+id+`"}`); answer["deleted"] != deleted {
			t.Errorf("%v", answer)
		}
	}
	// Another app sees none of it, whatever it asks for.
	b.run.Entry.App = uuid.New()
	if none := b.must(t, "docs.get", `{"collection":"c","id":"`+own+`"}`); none["doc"] != nil {
		t.Errorf("%v", none)
	}
	if list := b.must(t, "docs.list", `{"collection":"c"}`)["items"].([]any); len(list) != 0 {
		t.Errorf("%v", list)
	}
	b.refused(t, "docs.update", `{"collection":"c","id":"`+own+`","data":{}}`, fault.NotFound, "no document")
	if answer := b.must(t, "docs.delete", `{"collection":"c","id":"`+own+`"}`); answer["deleted"] != false {
		t.Errorf("%v", answer)
	}
}

func TestDocsRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := uuid.NewString()
	for _, c := range []struct{ what, args, words string }{
		{"docs.create", `{"collection":"","data":{}}`, "collection"},
		{"docs.create", `{"collection":"a/b","data":{}}`, "collection"},
		{"docs.create", `{"collection":"c"}`, "must be an object"},
		{"docs.create", `{"collection":"c","data":[]}`, "must be an object"},
		{"docs.create", `{"collection":"c","data":null}`, "must be an object"},
		{"docs.create", `{"collection":"c","data":{"a":"\u0000"}}`, "U+0000"},
		{"docs.create", `{"collection":"c","data":{"a":1e999}}`, "exponent"},
		{"docs.create", `{"collection":"c","data":{"a":1,"a":2}}`, "duplicate"},
		{"docs.create", `{"collection":"c","data":{},"id":"1"}`, "UUID"},
		{"docs.create", `{"collection":"c","data":{},"id":"{` + id[:34] + `}"}`, "UUID"},
		{"docs.create", `{"collection":"c","data":{},"if_version":1}`, "if_version"},
		{"docs.create", `{"collection":"c","data":{"a":"` + strings.Repeat("x", 1<<20) + `"}}`, "more than 1048576"},
		{"docs.get", `{"collection":"c"}`, "UUID"},
		{"docs.get", `{"collection":"c","id":"` + id + `","app":"x"}`, `"app"`},
		{"docs.update", `{"collection":"c","id":"` + id + `"}`, "must be an object"},
		{"docs.delete", `{"collection":"c","id":"` + id[:35] + `'"}`, "UUID"},
		{"docs.find", `{"collection":"c'","filter":{}}`, "collection"},
		{"docs.find", `{"collection":"c","filter":{"a":{"$like":1}}}`, "there are $eq"},
		{"docs.find", `{"collection":"c","limit":201}`, "1 to 200"},
		{"docs.find", `{"collection":"c","sort":{"a":1}}`, "sort"},
		{"docs.list", `{"collection":"c","filter":{}}`, `"filter"`},
		{"docs.index", `{"collection":"c","path":"a","type":"json"}`, "type"},
		{"docs.index", `{"collection":"c","path":"a'b","type":"text"}`, "path"},
	} {
		b.refused(t, c.what, c.args, fault.Invalid, c.words)
	}
}

// A change of a document and the entries that triggers make of it commit together.
func TestDocsTrigger(t *testing.T) {
	t.Parallel()
	b := setupDocs(t)
	b.app.Triggers = []tenant.Trigger{{
		ID: uuid.New(), App: b.app.ID, Name: "on-order", Kind: tenant.TriggerDocs, Script: b.app.Scripts[1].ID, Enabled: true,
		Filter: tenant.TriggerFilter{Collection: "orders"},
	}}
	b.reload()
	made := b.must(t, "docs.create", `{"collection":"orders","data":{"n":1}}`)
	b.must(t, "docs.update", fmt.Sprintf(`{"collection":"orders","id":%q,"data":{"n":2}}`, made["id"]))
	b.must(t, "docs.delete", fmt.Sprintf(`{"collection":"orders","id":%q}`, made["id"]))
	b.must(t, "docs.create", `{"collection":"others","data":{"n":1}}`)
	var got []string
	for _, e := range b.entries {
		if e.Kind != outbox.KindDocs {
			t.Errorf("%+v", e)
		}
		got = append(got, string(e.Payload))
	}
	want := fmt.Sprintf(`[{"collection":"orders","id":%[1]q,"op":"create","value":{"n":1}} `+
		`{"collection":"orders","id":%[1]q,"op":"update","value":{"n":2},"previous":{"n":1}} `+
		`{"collection":"orders","id":%[1]q,"op":"delete","previous":{"n":2}}]`, made["id"])
	if fmt.Sprint(got) != want {
		t.Errorf("%s\nnot %s", got, want)
	}
}
