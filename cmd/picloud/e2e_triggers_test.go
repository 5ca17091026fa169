package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/picloud/picloud/core/coretest"
)

// Scripts meet over triggers: one publishes, writes, or does nothing at all, and others run.
func TestTriggersOfEvents(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	tell := func(name string) {
		t.Helper()
		n.command("deploy", script(t, name, `ctx.Log.Info("told", ctx.Event.Type, ctx.Event.Subject, string(ctx.Request.Body))
	return nil, nil`))
	}
	tell("mail")
	tell("audit")
	tell("clock")
	n.command("deploy", script(t, "shop", `var order map[string]any
	if err := ctx.Request.JSON(&order); err != nil {
		return nil, err
	}
	if _, err := ctx.KV("orders").Set("o1", order); err != nil {
		return nil, err
	}
	return ctx.Publish("order.paid", order)`), "--route", "POST /shop")
	n.command("triggers", "create", "mail", "--kind", "pubsub", "--script", "mail", "--topic", "order.*", "--when", "data.total > 100")
	n.command("triggers", "create", "audit", "--kind", "pubsub", "--script", "audit", "--topic", "*")
	n.command("triggers", "create", "stock", "--kind", "kv", "--script", "audit", "--collection", "ord*", "--op", "create")
	n.command("triggers", "create", "clock", "--kind", "cron", "--script", "clock", "--schedule", "* * * * * *")

	if r := n.must(http.MethodPost, "/shop", []byte(`{"total": 120}`)); r.status != 200 || strings.TrimSpace(string(r.body)) != "2" {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := n.must(http.MethodPost, "/shop", []byte(`{"total": 7}`)); r.status != 200 || strings.TrimSpace(string(r.body)) != "1" {
		t.Errorf("%d %s", r.status, r.body)
	}
	succeeded := func(name string) (count int) {
		for _, e := range n.executions(name) {
			if e.Outcome == "succeeded" {
				count++
			}
		}
		return count
	}
	await(t, "all were told", func() bool {
		return succeeded("mail") == 1 && succeeded("audit") == 3 && succeeded("clock") >= 2
	})
	for name, want := range map[string][]string{
		"mail":  {"pubsub.message", "order.paid", `{\"total\":120}`},
		"audit": {"kv.create", "orders/o1", `\"op\":\"create\"`, "order.paid", `{\"total\":7}`},
		"clock": {"cron.tick", "scheduled_at"},
	} {
		logged := n.command("logs", name)
		for _, words := range want {
			if !strings.Contains(logged, words) && !strings.Contains(logged, strings.ReplaceAll(words, `\"`, `"`)) {
				t.Errorf("%s logged no %s: %s", name, words, logged)
			}
		}
	}
	for _, e := range n.executions("mail") {
		if e.Depth != 1 {
			t.Errorf("the chain does not go on: %+v", e)
		}
	}

	// An expression that fails takes nothing, and whoever looks at the script is told so, once in a while.
	for range 2 {
		if r := n.must(http.MethodPost, "/shop", []byte(`{"total": "much"}`)); r.status != 200 || strings.TrimSpace(string(r.body)) != "1" {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
	stopped := func() (all []seen) {
		return slices.DeleteFunc(n.executions("mail"), func(e seen) bool { return e.Outcome != "stopped" })
	}
	await(t, "the failure is told", func() bool { return len(stopped()) > 0 })
	if all := stopped(); len(all) != 1 || all[0].Reason != "when" || !strings.Contains(all[0].Error, `the trigger "mail" fails: no such overload`) {
		t.Errorf("%+v", all)
	}

	// A trigger is tried with an event that did not happen.
	n.command("triggers", "disable", "clock")
	n.command("triggers", "fire", "mail", "--body", `{"total": 101}`)
	await(t, "the trigger is fired", func() bool { return succeeded("mail") == 2 })
	if code, _, errs := n.cli("triggers", "fire", "mail", "--body", `{"total": 100}`); code == 0 || !strings.Contains(errs, "data.total > 100") {
		t.Errorf("%d: %s", code, errs)
	}
	if times := rows[struct{ At time.Time }](t, n.command("triggers", "next", "clock", "--count", "3")); len(times) != 3 ||
		times[2].At.Sub(times[0].At) != 2*time.Second {
		t.Errorf("%+v", times)
	}
}
