package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/picloud/picloud/core/coretest"
)

// rows decodes what a command prints with --output json.
func rows[T any](t *testing.T, out string) []T {
	t.Helper()
	var page struct{ Items []T }
	if err := json.Unmarshal([]byte(out), &page); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return page.Items
}

// seen is what a test wants to know of an execution.
type seen struct {
	ID, Script, Outcome, Reason, Error string
	Depth                              int
}

// ended lists the executions of a script.
func (n *instance) executions(script string) []seen {
	return rows[seen](n.t, n.command("executions", "ls", "--script", script, "--limit", "0"))
}

// Two scripts that call each other come to an end: the one at the depth of the limit is told so.
func TestLoopEnds(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	call := func(other string) string {
		return fmt.Sprintf(`if _, err := ctx.Invoke(%q, "again"); err != nil {
		ctx.Log.Warn("not sent", picloud.Code(err), err.Error())
		return nil, picloud.Fatal(err)
	}
	return nil, nil`, other)
	}
	n.command("deploy", script(t, "ping", call("pong")), "--route", "POST /ping", "--async")
	n.command("deploy", script(t, "pong", call("ping")))
	if r := n.must(http.MethodPost, "/ping", nil); r.status != http.StatusAccepted {
		t.Fatal(r)
	}
	var letters []struct{ Script, Error, Reason string }
	await(t, "the loop ends", func() bool {
		letters = rows[struct{ Script, Error, Reason string }](t, n.command("dead-letters", "ls"))
		return len(letters) == 1
	})
	if l := letters[0]; l.Reason != "fatal" || !strings.Contains(l.Error, "loop_depth") || !strings.Contains(l.Error, "circle") {
		t.Errorf("the script was told %+v", l)
	}
	runs := append(n.executions("ping"), n.executions("pong")...)
	deepest := 0
	for _, r := range runs {
		deepest = max(deepest, r.Depth)
	}
	if len(runs) != 9 || deepest != 8 {
		t.Errorf("%d runs, the deepest at %d", len(runs), deepest)
	}
}

// A script that has much to do may send much: within the budget of its first cause, all of it arrives, once.
func TestManyMessages(t *testing.T) {
	t.Parallel()
	const total, each = 5000, 100
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	n.command("deploy", script(t, "work", `return nil, nil`))
	n.command("queues", "create", "jobs", "--script", "work")
	n.command("deploy", script(t, "produce", fmt.Sprintf(`for i := 0; i < %d; i++ {
		var messages []any
		for j := 0; j < %d; j++ {
			messages = append(messages, i*%d+j)
		}
		if _, err := ctx.Queue("jobs").SendAll(messages, &picloud.Delivery{IdempotencyKey: fmt.Sprint(ctx.ExecutionID, i)}); err != nil {
			return nil, err
		}
	}
	return nil, nil`, total/each, each, each), "fmt"), "--route", "POST /produce", "--async", "--timeout", "2m")
	id := field(n.must(http.MethodPost, "/produce", nil).body, "execution_id")
	await(t, "the script ends", func() bool { return field([]byte(n.command("entries", "show", id)), "state") == "succeeded" })
	await(t, "all messages are handled", func() bool {
		return len(rows[seen](t, n.command("entries", "ls", "--queue", "jobs", "--limit", "1"))) == 0
	})
	ids := map[string]bool{}
	for _, r := range n.executions("work") {
		if r.Outcome != "succeeded" || r.Depth != 1 {
			t.Fatalf("a message ended as %+v", r)
		}
		ids[r.ID] = true
	}
	if len(ids) != total {
		t.Errorf("%d messages were handled", len(ids))
	}
}

// What fails for good goes to the script that asked for it, and comes back when it is put back.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	n.command("deploy", script(t, "order", `return nil, errors.New("no stock for order " + string(ctx.Request.Body))`, "errors"),
		"--route", "POST /order", "--async")
	n.command("scripts", "policy", "order", "--attempts", "1")
	n.command("deploy", script(t, "alarm", `var letter map[string]any
	if err := ctx.Request.JSON(&letter); err != nil {
		return nil, err
	}
	ctx.Log.Info("handles", letter["script"], letter["reason"], letter["payload"])
	if letter["payload"] == "3" {
		return nil, errors.New("not this one")
	}
	return nil, nil`, "errors"))
	n.command("triggers", "dead-letter", "alarm", "--script", "alarm", "--of", "order", "--reason", "exhausted")
	for i := range 4 {
		n.must(http.MethodPost, "/order", fmt.Append(nil, i))
	}
	type letter struct{ ID, Resolution, Cause string }
	list := func(flags ...string) []letter {
		return rows[letter](t, n.command(append([]string{"dead-letters", "ls"}, flags...)...))
	}
	await(t, "the handler has run for each", func() bool { return len(n.executions("alarm")) == 4 })
	open := list()
	if len(open) != 1 || open[0].Resolution != "handler_failed" {
		t.Errorf("open are %+v", open)
	}
	if all := list("--all"); len(all) != 4 {
		t.Errorf("%d letters in all: a handler that failed must not make one", len(all))
	}
	logged := n.command("logs", "alarm")
	for _, want := range []string{"handles", "order", "exhausted"} {
		if !strings.Contains(logged, want) {
			t.Errorf("the handler logged %s", logged)
		}
	}
	if groups := rows[struct{ Count int }](t, n.command("dead-letters", "groups", "--all")); len(groups) != 1 || groups[0].Count != 4 {
		t.Errorf("the groups are %+v", groups)
	}

	// A new version can do it: what is open is put back, and succeeds.
	n.command("deploy", script(t, "order", `return nil, nil`))
	var replayed struct {
		State            string
		Replayed, Failed int
	}
	if err := json.Unmarshal([]byte(n.command("dead-letters", "replay-all", "--script", "order")), &replayed); err != nil {
		t.Fatal(err)
	}
	if replayed.State != "done" || replayed.Replayed != 1 || replayed.Failed != 0 {
		t.Errorf("replayed %+v", replayed)
	}
	await(t, "the replay succeeds", func() bool {
		for _, r := range n.executions("order") {
			if r.Outcome == "succeeded" {
				return true
			}
		}
		return false
	})
	if left := list(); len(left) != 0 {
		t.Errorf("still open: %+v", left)
	}
}

// A queue keeps the order of a key, tells why the second waits, and lets it go when the first is cancelled.
func TestQueue(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	n.command("deploy", script(t, "slow", `if string(ctx.Request.Body) == "\"first\"" {
		return nil, ctx.Sleep(time.Minute)
	}
	return nil, nil`, "time"), "--timeout", "2m")
	n.command("queues", "create", "q", "--script", "slow", "--ordering-key", "k")
	send := func(body string) string {
		return field([]byte(n.command("queues", "send", "q", "--body", body)), "execution_id")
	}
	first, second := send(`"first"`), send(`"second"`)
	state := func(id string) string { return field([]byte(n.command("entries", "show", id)), "state") }
	await(t, "the first runs", func() bool { return state(first) == "running" })
	var why struct {
		State   string
		Reasons []struct {
			Code      string
			BlockedBy []string `json:"blocked_by"`
		}
	}
	if err := json.Unmarshal([]byte(n.command("entries", "explain", second)), &why); err != nil {
		t.Fatal(err)
	}
	if why.State != "blocked" || len(why.Reasons) != 1 || why.Reasons[0].Code != "gate" || why.Reasons[0].BlockedBy[0] != first {
		t.Errorf("the second waits since %+v", why)
	}
	n.command("entries", "cancel", first)
	await(t, "the first is cancelled", func() bool { return state(first) == "cancelled" })
	await(t, "the second runs", func() bool { return state(second) == "succeeded" })
}
