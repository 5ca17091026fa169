package main

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
)

// Two nodes on one database are one platform: both serve what either was given, and one finishes what the other cannot.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	seen := newRecorder(t)
	database := coretest.URL(t)
	nodes := map[string]*instance{}
	for _, name := range []string{"a", "b"} {
		nodes[name] = start(t, setup{
			command: "serve", data: coretest.DataDir(t), database: database, recorder: seen,
			args: []string{"--node-name", name, "--slots", "4"},
		})
	}
	a, b := nodes["a"], nodes["b"]

	for _, answer := range []string{`"one"`, `"two"`} {
		a.command("deploy", script(t, "shared", `return `+answer+`, nil`), "--route", "GET /shared")
		await(t, "the other node serves "+answer, func() bool {
			return string(b.must(http.MethodGet, "/shared", nil).body) == answer
		})
	}

	a.command("deploy", script(t, "work", `return nil, ctx.Sleep(50 * time.Millisecond)`, "time"),
		"--route", "POST /work", "--async", "--max-attempts", "25")
	var to atomic.Pointer[instance]
	to.Store(a)
	before := seen.started()
	ids := post(t.Context(), &to, "/work", 40)
	await(t, "entries are started", func() bool { return seen.started() >= before+4 })
	a.kill()

	db := connect(t, database)
	await(t, "the outbox is empty", func() bool {
		b.expect("/shared", http.StatusOK, `"two"`)
		return count(t, db, `SELECT count(*) FROM outbox WHERE reply_to IS NULL`) == 0
	})
	ends := finals(t, db)
	for _, id := range ids {
		if end := ends[id]; end.outcome != outbox.Succeeded || end.records != 1 || len(seen.of(id)) == 0 {
			t.Errorf("%s was started as attempts %v and ended as %+v", id, seen.of(id), end)
		}
	}
	seen.checkOnce(t)
	if n := count(t, db, `SELECT count(*) FROM executions WHERE attempt > 1`); n == 0 {
		t.Error("nothing was taken over")
	}
}

// A server that joins too many others for the database to serve them all says so.
func TestTooManyNodes(t *testing.T) {
	t.Parallel()
	database := coretest.URL(t)
	db := connect(t, database)
	others := count(t, db, `SELECT current_setting('max_connections')::int`)/postgres.NodeConns + 1
	if _, err := db.Exec(t.Context(), `INSERT INTO nodes (name) SELECT 'other' || n FROM generate_series(1, $1) n`, others); err != nil {
		t.Fatal(err)
	}
	node := start(t, setup{command: "serve", data: coretest.DataDir(t), database: database, recorder: newRecorder(t)})
	if !strings.Contains(node.output(), "raise max_connections of the server") {
		t.Errorf("%d others, and it says %s", others, node.output())
	}
}
