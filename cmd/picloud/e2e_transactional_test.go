package main

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/coretest"
)

// A script is made transactional when it is deployed, and back; its grants are taken and given; and a trigger whose user is not active
// runs nothing.
func TestTransactionalAndGrants(t *testing.T) {
	t.Parallel()
	database := coretest.EmptyURL(t)
	n := start(t, setup{command: "dev", data: coretest.DataDir(t), database: database})
	source := script(t, "pay", `kv := ctx.KV("paid")
	if _, err := kv.Increment("total", 5, nil); err != nil {
		return nil, err
	}
	if _, err := ctx.Publish("paid", 5); err != nil {
		return nil, err
	}
	if ctx.Request.Method == "DELETE" {
		return nil, picloud.Fatal(errors.New("changed my mind"))
	}
	var total int
	_, err := kv.Get("total", &total)
	return total, err`, "errors")
	n.command("deploy", source, "--route", "/pay", "--transactional")
	n.command("deploy", script(t, "told", `return nil, nil`))
	n.command("triggers", "create", "told", "--kind", "pubsub", "--script", "told", "--topic", "*")
	for _, c := range []struct {
		method string
		status int
		body   string
	}{{"DELETE", 502, "changed my mind"}, {"POST", 200, "5"}, {"DELETE", 502, "changed my mind"}, {"POST", 200, "10"}} {
		if r := n.must(c.method, "/pay", nil); r.status != c.status || !strings.Contains(string(r.body), c.body) {
			t.Errorf("%s: %d %s", c.method, r.status, r.body)
		}
	}
	await(t, "both messages have come", func() bool { return len(n.executions("told")) == 2 })
	if shown := n.command("scripts", "show", "pay"); !strings.Contains(shown, "true") {
		t.Error(shown)
	}
	n.command("deploy", source, "--note", "again")
	n.command("scripts", "transactional", "pay", "--off")
	if r := n.must(http.MethodDelete, "/pay", nil); r.status != 502 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := n.must(http.MethodPost, "/pay", nil); strings.TrimSpace(string(r.body)) != "20" {
		t.Errorf("what a script that is not transactional does is undone: %s", r.body)
	}

	n.command("scripts", "grants", "pay", "--only", "kv")
	if r := n.must(http.MethodPost, "/pay", nil); r.status != 502 || !strings.Contains(string(r.body), `forbidden: the script \"pay\" has no grant \"pubsub\"`) {
		t.Errorf("%d %s", r.status, r.body)
	}
	n.command("scripts", "grants", "pay")
	if r := n.must(http.MethodPost, "/pay", nil); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if code, _, errs := n.cli("scripts", "grants", "pay", "--only", "users"); code == 0 || !strings.Contains(errs, "none of docs, email") {
		t.Errorf("%d %s", code, errs)
	}

	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(t.Context(), `UPDATE triggers SET registered_by = gen_random_uuid()`); err != nil {
		t.Fatal(err)
	}
	n.command("triggers", "disable", "told")
	n.command("triggers", "enable", "told")
	if r := n.must(http.MethodPost, "/pay", nil); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
	await(t, "it is a dead letter", func() bool { return strings.Contains(n.command("dead-letters", "ls"), "principal_inactive") })
}
