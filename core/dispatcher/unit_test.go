package dispatcher_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/dispatcher"
	"github.com/picloud/picloud/core/execution"
	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

// Transfers that are in each other's way are tried again until each is done, once.
func TestTransfersAtOneTime(t *testing.T) {
	t.Parallel()
	b := startBank(t, "", uuid.New(), transfer)
	b.fund(t)
	const each = 4
	var all sync.WaitGroup
	for n := range 64 {
		random := rand.New(rand.NewPCG(1, uint64(n)))
		all.Go(func() {
			for range each {
				e := b.order(newTransfer(random))
				e.MaxAttempts = 5 // a conflict is no failure
				if err := b.Append(t.Context(), e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	coretest.Eventually(t, "all are done", func() bool {
		return b.count(t, `SELECT count(*) FROM outbox WHERE lane = $1`, b.script.ID)+b.count(t, `SELECT count(*) FROM dead_letters`) == 0
	})
	if n := audit(t, b.pool, b.app.ID); n != 64*each {
		t.Errorf("%d were done", n)
	}
	conflicts := b.count(t, `SELECT count(*) FROM executions WHERE outcome = 2 AND reason = 'conflict' AND fault = 'platform'`)
	if conflicts == 0 {
		t.Error("nothing was in the way of anything")
	}
	t.Logf("%d conflicts", conflicts)
}

// transfers is the child of TestTransfersKilled. Its arguments are the database, the app, and what Enable takes.
func transfers() error {
	ctx := context.Background()
	if err := failpoint.Enable(os.Args[3], 1); err != nil {
		return err
	}
	if _, _, err := openBank(ctx, os.Args[1], uuid.MustParse(os.Args[2]), transfer, hclog.NewNullLogger()); err != nil {
		return err
	}
	select {}
}

// A node that is killed around the commit of a transactional run, wherever that is, has each event do what it does, once.
func TestTransfersKilled(t *testing.T) {
	t.Parallel()
	url, app := coretest.URL(t), uuid.New()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("%d kills, seed %d", *kills, seed)
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url, MaxConns: 2}, coretest.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	b := &bank{pool: pool, app: &tenant.App{ID: app}, script: &tenant.Script{ID: uuid.NewSHA1(app, []byte("transfer"))}}
	b.fund(t)
	var owner int64
	if err := pool.QueryRow(t.Context(), `INSERT INTO nodes (name) VALUES ('teller') RETURNING epoch`).Scan(&owner); err != nil {
		t.Fatal(err)
	}
	sent := 0
	points := []string{
		failpoint.HostCallAfter, failpoint.RunReturned, failpoint.UnitChecked, failpoint.UnitApplied, failpoint.UnitSettled, failpoint.UnitCommitted,
	}
	for round := range *kills {
		const more = 24
		for range more {
			e := b.order(newTransfer(random))
			e.State = outbox.Ready
			if _, err := pool.Exec(t.Context(), `UPDATE nodes SET beat_at = clock_timestamp() WHERE epoch = $1`, owner); err != nil {
				t.Fatal(err)
			}
			if _, err := postgres.NewOutboxStore(pool).Insert(t.Context(), owner, []*outbox.Entry{e}, false); err != nil {
				if !errors.Is(err, outbox.ErrFenced) { // it was evicted meanwhile
					t.Fatal(err)
				}
				if err := pool.QueryRow(t.Context(), `INSERT INTO nodes (name) VALUES ('teller') RETURNING epoch`).Scan(&owner); err != nil {
					t.Fatal(err)
				}
				continue
			}
			sent++
		}
		spec := fmt.Sprintf("%s=kill@%d", points[round%len(points)], 1+random.IntN(12))
		cmd := coretest.Command(t, "transfers", url, app.String(), spec)
		said := &bytes.Buffer{}
		cmd.Stderr = said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("round %d, %s: %v %s", round, spec, err, said)
		}
		audit(t, pool, app)
	}
	rest := startBank(t, url, app, transfer)
	coretest.Eventually(t, "all are done", func() bool {
		return rest.count(t, `SELECT count(*) FROM outbox WHERE lane = $1`, rest.script.ID) == 0
	})
	// Those that were under way at ten of the kills are given up, as they are where their scripts are not transactional.
	if n, dead := audit(t, pool, app), rest.count(t, `SELECT count(*) FROM dead_letters WHERE reason = 'node_lost'`); n+dead != sent || n < sent/2 {
		t.Errorf("%d of %d were done, %d were lost with nodes", n, sent, dead)
	}
}

// does is a script that makes the calls that its event lists, and answers with what the last said.
func does(call func(string, any) (map[string]any, error), body []byte) (any, error) {
	var calls [][2]json.RawMessage
	if err := json.Unmarshal(body, &calls); err != nil {
		return nil, err
	}
	var last any
	for _, c := range calls {
		var what string
		if err := json.Unmarshal(c[0], &what); err != nil {
			return nil, err
		}
		answer, err := call(what, c[1])
		if err != nil {
			return nil, err
		}
		last = answer
	}
	return last, nil
}

// A run sees what it has staged, nothing of it is there before its end or after a failure, and its caller is answered after the commit.
func TestUnitIsAllOrNothing(t *testing.T) {
	t.Parallel()
	b := startBank(t, "", uuid.New(), does)
	written := func() int {
		t.Helper()
		return b.count(t, `SELECT (SELECT count(*) FROM kv_entries) + (SELECT count(*) FROM docs) + (SELECT count(*) FROM outbox WHERE state <> 2)`)
	}
	const staged = `["kv.set",{"collection":"watched","key":"a","value":1}],["kv.increment",{"collection":"watched","key":"a"}],
		["kv.increment",{"collection":"n","key":"fresh","by":5}],
		["docs.create",{"collection":"d","id":"0190d1a4-7c1e-7b7e-9d2b-3f6a1c0e5b11","data":{"n":1}}],
		["docs.update",{"collection":"d","id":"0190d1a4-7c1e-7b7e-9d2b-3f6a1c0e5b11","data":{"n":2}}],
		["queue.send",{"queue":"out","messages":[{"data":"1"},{"data":"2"}]}],["pubsub.publish",{"topic":"t","message":3}],
		["invoke.send",{"script":"later","data":"4"}]`
	if _, f := b.ask(t, `[`+staged+`,["kv.get",{"collection":"","key":""}]]`); f == nil || written() != 0 {
		t.Errorf("%v, %d are left of a run that failed", f, written())
	}
	answer, f := b.ask(t, `[`+staged+`,["kv.get",{"collection":"watched","key":"a"}]]`)
	if f != nil || !strings.Contains(answer, `"value":2`) || written() != 8 {
		t.Errorf("%v %s, %d are written", f, answer, written())
	}
	if n := b.count(t, `SELECT count(*) FROM docs WHERE data->>'n' = '2'`); n != 1 {
		t.Errorf("%d documents", n)
	}
	if n := b.count(t, `SELECT count(*) FROM outbox WHERE kind = 6 AND convert_from(payload, 'UTF8') LIKE '%"op":"create","value":2%' AND depth = 1`); n != 1 {
		t.Errorf("%d events of the change", n)
	}
	rows, err := b.pool.Query(t.Context(), `SELECT convert_from(payload, 'UTF8') FROM outbox WHERE kind <> 6 AND state <> 2 ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	order := ""
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		order += text
	}
	if order != "1234" {
		t.Errorf("sent as %s", order)
	}
	if _, f := b.ask(t, `[["kv.delete",{"collection":"n","key":"fresh"}],["kv.set",{"collection":"n","key":"fresh","value":7,"if_version":0}],["docs.delete",{"collection":"d","id":"0190d1a4-7c1e-7b7e-9d2b-3f6a1c0e5b11"}]]`); f != nil {
		t.Error(f)
	}
	if n := b.count(t, `SELECT count(*) FROM kv_entries WHERE value = '7'`) - b.count(t, `SELECT count(*) FROM docs`); n != 1 {
		t.Errorf("%d", n)
	}
}

// The answer of a run is not given before its commit.
func TestUnitAnswersAfterItsCommit(t *testing.T) {
	t.Parallel()
	b := startBank(t, "", uuid.New(), does)
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE kv_entries IN SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	e := b.order(`[["kv.set",{"collection":"c","key":"k","value":1}]]`)
	e.ReplyTo = uuid.New()
	w := b.inbox.Register(e.ReplyTo)
	defer w.Close()
	if err := b.Call(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	coretest.Eventually(t, "the commit waits", func() bool {
		return b.count(t, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
	})
	late := make(chan time.Time, 1)
	late <- time.Now()
	if part, err := w.Next(t.Context(), late); !errors.Is(err, inbox.ErrLate) {
		t.Errorf("%+v, %v", part, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	part, err := w.Next(t.Context(), nil)
	if err != nil || part.Fault != nil || b.count(t, `SELECT count(*) FROM kv_entries`) != 1 || b.count(t, `SELECT count(*) FROM executions WHERE outcome = 1`) != 1 {
		t.Errorf("%+v, %v", part, err)
	}
}

// What was read and has changed since, or has come or gone, is a conflict, which the caller is told and nobody is to blame for.
func TestUnitConflicts(t *testing.T) {
	t.Parallel()
	type change struct{ read, before, meanwhile string }
	for name, c := range map[string]change{
		"changed": {
			"kv.get", `INSERT INTO kv_entries (app, collection, key, value) VALUES ($1, 'c', 'k', '1')`,
			`UPDATE kv_entries SET value = '2', version = nextval('data_versions') WHERE app = $1`,
		},
		"created": {"kv.has", `SELECT $1::uuid`, `INSERT INTO kv_entries (app, collection, key, value) VALUES ($1, 'c', 'k', '1')`},
		"deleted": {"kv.get", `INSERT INTO kv_entries (app, collection, key, value) VALUES ($1, 'c', 'k', '1')`, `DELETE FROM kv_entries WHERE app = $1`},
		"expired": {
			"kv.get", `INSERT INTO kv_entries (app, collection, key, value) VALUES ($1, 'c', 'k', '1')`,
			`UPDATE kv_entries SET expires_at = now() - interval '1 second' WHERE app = $1`,
		},
		"document changed": {
			"docs.get", `INSERT INTO docs (app, collection, id, data) VALUES ($1, 'c', $1, '{}')`,
			`UPDATE docs SET data = '{"n": 1}', version = nextval('data_versions') WHERE app = $1`,
		},
		"document created": {"docs.get", `SELECT $1::uuid`, `INSERT INTO docs (app, collection, id, data) VALUES ($1, 'c', $1, '{}')`},
		"document deleted": {"docs.get", `INSERT INTO docs (app, collection, id, data) VALUES ($1, 'c', $1, '{}')`, `DELETE FROM docs WHERE app = $1`},
	} {
		conflicts := func(t *testing.T, ends error) { // with what comes of the run after it was overtaken
			read, goOn := make(chan struct{}), make(chan struct{})
			app := uuid.New()
			what := map[string]any{"collection": "c", "key": "k"}
			if strings.HasPrefix(c.read, "docs.") {
				what = map[string]any{"collection": "c", "id": app}
			}
			b := startBank(t, "", app, func(call func(string, any) (map[string]any, error), _ []byte) (any, error) {
				if _, err := call(c.read, what); err != nil {
					return nil, err
				}
				close(read)
				<-goOn
				if _, err := call("kv.set", map[string]any{"collection": "c", "key": "other", "value": 1}); err != nil {
					return nil, err
				}
				return nil, ends
			})
			if _, err := b.pool.Exec(t.Context(), c.before, b.app.ID); err != nil {
				t.Fatal(err)
			}
			go func() {
				defer close(goOn)
				<-read
				if _, err := b.pool.Exec(t.Context(), c.meanwhile, b.app.ID); err != nil {
					t.Error(err)
				}
			}()
			_, f := b.ask(t, `{}`)
			if f == nil || f.Kind != fault.Conflict || f.Origin != fault.Platform || execution.Status(f) != 409 {
				t.Errorf("%+v", f)
			}
			if n := b.count(t, `SELECT count(*) FROM kv_entries WHERE key = 'other'`); n != 0 {
				t.Error("something was done all the same")
			}
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conflicts(t, nil)
		})
		t.Run(name+", and it fails", func(t *testing.T) {
			t.Parallel()
			conflicts(t, fault.New(fault.ScriptError, fault.Script, "the sum is wrong"))
		})
	}
}

// A run that fails although nothing has overtaken it has failed.
func TestUnitFails(t *testing.T) {
	t.Parallel()
	b := startBank(t, "", uuid.New(), func(call func(string, any) (map[string]any, error), _ []byte) (any, error) {
		for what, args := range map[string]map[string]any{
			"kv.get": {"collection": "c", "key": "k"}, "docs.create": {"collection": "c", "data": map[string]any{}},
			"docs.get": {"collection": "c", "id": uuid.NewString()},
		} {
			if _, err := call(what, args); err != nil {
				return nil, err
			}
		}
		return nil, fault.New(fault.ScriptError, fault.Script, "the order is wrong")
	})
	if _, f := b.ask(t, `{}`); f == nil || f.Kind != fault.ScriptError || f.Message != "the order is wrong" {
		t.Errorf("%+v", f)
	}
}

// What a transactional run may not call is refused with the reason, and what it stages is bounded.
func TestUnitBounds(t *testing.T) {
	t.Parallel()
	b := startBank(t, "", uuid.New(), does)
	for what, why := range map[string]string{
		"files.create": "it would take effect", "http.get": "it would take effect", "secrets.set": "it would take effect",
		"pubsub.publish_ephemeral": "it would take effect", "queue.purge": "it would take effect", "docs.index": "it would take effect",
		"files.get": "files are no part", "files.head": "files are no part", "files.read": "files are no part", "files.list": "files are no part",
		"invoke.call": "the other script", "kv.list": "what it finds", "docs.find": "what it finds",
	} {
		if _, f := b.ask(t, `[["`+what+`",{}]]`); f == nil || !strings.Contains(f.Message, "a transactional script cannot call "+what+": "+why) {
			t.Errorf("%s: %+v", what, f)
		}
	}
	writes := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`["kv.set",{"collection":"c","key":"%d","value":1}]`, i))
		}
		return `[` + strings.Join(list, ",") + `]`
	}
	reads := func(n int) string {
		return strings.ReplaceAll(strings.ReplaceAll(writes(n), "kv.set", "kv.get"), `,"value":1`, "")
	}
	large := func(last int) string {
		var list []string
		for i := range 4 {
			size := 1<<20 - 1
			if i == 3 {
				size = last
			}
			list = append(list, fmt.Sprintf(`["kv.set",{"collection":"c","key":"%d","value":"%s"}]`, i, strings.Repeat("x", size-2)))
		}
		return `[` + strings.Join(list, ",") + `]`
	}
	for name, c := range map[string]struct{ at, over, says string }{
		"operations": {writes(1000), writes(1001), "more than 1000 things"},
		"reads":      {reads(1000), reads(1001), "more than 1000 values"},
		"bytes":      {large(1<<20 - 1), large(1 << 20), "more than 4194304 bytes"},
	} {
		if _, f := b.askOf(t, c.at); f != nil {
			t.Errorf("%s, at the bound: %v", name, f)
		}
		if _, f := b.askOf(t, c.over); f == nil || !strings.Contains(f.Message, c.says) {
			t.Errorf("%s, over the bound: %v", name, f)
		}
	}
}

// What triggers are shown of the values before is bounded; where none looks at the collection, those are not read.
func TestUnitReplaces(t *testing.T) {
	t.Parallel()
	b := startBank(t, "", uuid.New(), does)
	for _, c := range []struct {
		collection  string
		values, one int // how many of 1 MiB are there, and one of so many bytes
		says        string
	}{
		{"watched", 31, 1 << 20, ""},
		{"watched", 32, 1, "more than 33554432 bytes"},
		{"c", 32, 1, ""},
	} {
		if _, err := b.pool.Exec(t.Context(), `
INSERT INTO kv_entries (app, collection, key, value)
SELECT $1, $2, n::text, repeat('1', CASE n WHEN 0 THEN $4 ELSE 1048576 END) FROM generate_series(0, $3) AS n`,
			b.app.ID, c.collection, c.values, c.one); err != nil {
			t.Fatal(err)
		}
		var sets []string
		for n := range c.values + 1 {
			sets = append(sets, fmt.Sprintf(`["kv.set",{"collection":"%s","key":"%d","value":2}]`, c.collection, n))
		}
		_, f := b.askOf(t, `[`+strings.Join(sets, ",")+`]`)
		if c.says == "" && f != nil || c.says != "" && (f == nil || f.Origin != fault.Script || !strings.Contains(f.Message, c.says)) {
			t.Errorf("%+v: %v", c, f)
		}
		if _, err := b.pool.Exec(t.Context(), `DELETE FROM kv_entries`); err != nil {
			t.Fatal(err)
		}
	}
}

// askOf is ask for a script that may make as many calls as a test likes.
func (b *bank) askOf(t *testing.T, body string) (string, *fault.Fault) {
	t.Helper()
	b.script.Bounds = tenant.DefaultLimits()
	b.script.Bounds.Calls = 2000
	return b.ask(t, body)
}

// Of what is sent under an idempotency key once more nothing is written, its id is the one that is stored, and the rest is done.
func TestUnitSendsOnce(t *testing.T) {
	t.Parallel()
	b := startBank(t, "", uuid.New(), does)
	const publish, count = `["pubsub.publish",{"topic":"t","message":1,"idempotency_key":"k"}]`, `["kv.increment",{"collection":"c","key":"n"}]`
	send := func(data, key string) string {
		return fmt.Sprintf(`["queue.send",{"queue":"out","messages":[{"data":%q,"delivery":{"idempotency_key":%q}}]}]`, data, key)
	}
	for _, key := range []string{"k", "l"} {
		ids := map[string]bool{}
		for _, calls := range [][]string{{publish, count, send("a", key)}, {publish, count, send("a", key)}, {send("a", key), send("a", key)}} {
			answer, f := b.ask(t, `[`+strings.Join(calls, ",")+`]`)
			var sent struct{ Messages []struct{ ID string } }
			if err := json.Unmarshal([]byte(answer), &sent); f != nil || err != nil || len(sent.Messages) != 1 {
				t.Fatal(answer, f, err)
			}
			ids[sent.Messages[0].ID] = true
		}
		for id := range ids {
			if n := b.count(t, `SELECT count(*) FROM outbox WHERE id = $1`, id); n != 1 || len(ids) != 1 {
				t.Errorf("it was sent as %v", ids)
			}
		}
		for _, calls := range [][]string{{send("b", key)}, {send("a", key+"2"), send("b", key+"2")}} {
			if _, f := b.ask(t, `[`+strings.Join(calls, ",")+`]`); f == nil || !strings.Contains(f.Message, "idempotency_key: ") {
				t.Errorf("another message under the key: %+v", f)
			}
		}
	}
	if n := b.count(t, `SELECT count(*) FROM outbox WHERE state <> 2`); n != 3 {
		t.Errorf("%d were sent", n)
	}
	if n := b.count(t, `SELECT value::int FROM kv_entries`); n != 4 {
		t.Errorf("the counter is %d", n)
	}
}

// Where as much waits as may, runs that only write go on, or what waits would never get less. What a run sends counts, all of it.
func TestUnitBacklog(t *testing.T) {
	t.Parallel()
	b := startBank(t, "", uuid.New(), does, func(c *dispatcher.Config) { c.MaxBacklog = 20 })
	message := `{"data":"a"}`
	send := func(n int) string {
		return `[["queue.send",{"queue":"out","messages":[` + strings.TrimSuffix(strings.Repeat(message+",", n), ",") + `]}]]`
	}
	for _, n := range []int{19, 1} {
		if _, f := b.ask(t, send(n)); f != nil {
			t.Fatal(f)
		}
	}
	if _, f := b.ask(t, send(1)); f == nil || !strings.Contains(f.Message, "20 events") || f.RetryAfter == 0 {
		t.Errorf("one too many: %+v", f)
	}
	if _, f := b.ask(t, `[["kv.set",{"collection":"watched","key":"a","value":1}]]`); f == nil || !strings.Contains(f.Message, "20 events") {
		t.Errorf("a change that a trigger looks at: %+v", f)
	}
	if _, f := b.ask(t, `[["kv.get",{"collection":"c","key":"a"}],["kv.set",{"collection":"c","key":"a","value":1}]]`); f != nil {
		t.Errorf("a run that only writes: %+v", f)
	}
	if n := b.count(t, `SELECT count(*) FROM outbox WHERE state <> 2`); n != 20 {
		t.Errorf("%d wait", n)
	}
}

// What is handed to a transactional script takes effect at the end of its run, too, though there is nothing to settle.
func TestUnitOfWhatIsHanded(t *testing.T) {
	t.Parallel()
	b := startBank(t, "", uuid.New(), does)
	for range 2 {
		e := b.order(`[["kv.increment",{"collection":"c","key":"n"}],["queue.send",{"queue":"out","messages":[{"data":"a"}]}]]`)
		if taken, err := b.Hand(e); !taken || err != nil {
			t.Fatal("it was not taken", err)
		}
		coretest.Eventually(t, "its run is over", func() bool { return b.Stats().Async.Running == 0 })
	}
	if n := b.count(t, `SELECT coalesce(max(value::int), 0) FROM kv_entries`); n != 2 {
		t.Errorf("%d were added", n)
	}
	if n := b.count(t, `SELECT count(*) FROM outbox`); n != 2 {
		t.Errorf("%d were sent", n)
	}
}

// Large units wait for one another, so that the locks of the database are enough for all; a small one does not wait.
func TestLargeUnitsTakeTurns(t *testing.T) {
	t.Parallel()
	b := startBank(t, "", uuid.New(), func(call func(string, any) (map[string]any, error), body []byte) (any, error) {
		var n int
		if err := json.Unmarshal(body, &n); err != nil {
			return nil, err
		}
		for range n {
			if _, err := call("docs.create", map[string]any{"collection": "c", "data": map[string]any{}}); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	if _, err := tx.Exec(t.Context(), `LOCK TABLE docs IN SHARE MODE`); err != nil { // what is written waits, with all locks taken
		t.Fatal(err)
	}
	waiting := func(n int) func() bool {
		return func() bool {
			if _, err := tx.Exec(t.Context(), `SELECT`); err != nil { // it must not be idle, however long they take
				t.Fatal(err)
			}
			return b.count(t, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) >= n
		}
	}
	for range 4 {
		if err := b.Append(t.Context(), b.order("900")); err != nil {
			t.Fatal(err)
		}
	}
	coretest.Eventually(t, "large units are under way", waiting(2))
	if err := b.Append(t.Context(), b.order("60")); err != nil {
		t.Fatal(err)
	}
	coretest.Eventually(t, "the small one is, too", waiting(3))
	if n := b.count(t, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`); n > 2*data.MaxStaged {
		t.Errorf("they hold %d locks", n)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	coretest.Eventually(t, "all are done", func() bool { return b.count(t, `SELECT count(*) FROM docs`) == 4*900+60 })
}

// Who finds at the end that another has sent under the key meanwhile has told its script of an id that is not stored: it is overtaken.
func TestUnitKeyTaken(t *testing.T) {
	t.Parallel()
	sent, goOn := make(chan struct{}), make(chan struct{})
	b := startBank(t, "", uuid.New(), func(call func(string, any) (map[string]any, error), body []byte) (any, error) {
		_, err := call("queue.send", map[string]any{"queue": "out", "messages": []any{
			map[string]any{"data": "a", "delivery": map[string]any{"idempotency_key": "k"}},
		}})
		if string(body) == `"first"` {
			close(sent)
			<-goOn
		}
		return nil, err
	})
	go func() {
		defer close(goOn)
		<-sent
		if _, f := b.ask(t, `"second"`); f != nil {
			t.Error(f)
		}
	}()
	if _, f := b.ask(t, `"first"`); f == nil || f.Kind != fault.Conflict || f.Origin != fault.Platform {
		t.Errorf("%+v", f)
	}
	if n := b.count(t, `SELECT count(*) FROM outbox WHERE state <> 2`); n != 1 {
		t.Errorf("%d were sent", n)
	}
}
