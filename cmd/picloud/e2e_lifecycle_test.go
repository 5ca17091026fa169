package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/picloud/picloud/core/coretest"
)

// Triggers of kind app are told what becomes of the app, once each, and not of their own failures.
func TestLifecycle(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	n.command("deploy", script(t, "tell", `ctx.Log.Info("told", ctx.Event.Type, string(ctx.Request.Body))
	return nil, nil`))
	n.command("deploy", script(t, "spoiled", `return nil, errors.New("this is not told")`, "errors"))
	for _, name := range []string{"bad", "other"} {
		n.command("deploy", script(t, name, `return nil, nil`))
	}
	n.command("triggers", "create", "deployed", "--kind", "app", "--script", "tell", "--event", "deployed", "--of", "bad,other")
	n.command("triggers", "create", "failed", "--kind", "app", "--script", "tell", "--event", "failed", "--when", "data.fault == 'script'")
	n.command("triggers", "create", "spoiled", "--kind", "app", "--script", "spoiled", "--event", "failed", "--attempts", "1")

	n.command("deploy", script(t, "bad", `return nil, errors.New("no milk")`, "errors"), "--route", "GET /bad")
	n.expectTold(t, []string{"app.deployed", `"scripts":[{"script":"bad","version":2}]`})
	n.problem("/bad", 502, "script_error")
	n.expectTold(t, []string{"app.deployed"}, []string{"app.failed", `"error":"no milk"`, `"script":"bad"`, `"outcome":"failed"`})
	n.command("deploy", script(t, "else", `return nil, nil`)) // is not asked for
	n.command("deploy", script(t, "other", `return 1, nil`))
	n.expectTold(t, []string{"app.deployed"}, []string{"app.failed"}, []string{"app.deployed", `"script":"other"`})
	await(t, "the spoiled one has failed", func() bool { return len(n.executions("spoiled")) >= 1 })
	for _, e := range n.executions("spoiled") {
		if e.Depth != 1 {
			t.Errorf("%+v", e)
		}
	}
}

// Deliveries that fail for good are told as well. Who sends what it is told of to the sink that does not take it comes to an end.
func TestFailedDeliveriesAreTold(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	n.command("sinks", "create", "nowhere", "--config", `{"url": "http://192.0.2.1/"}`, "--policy", `{"max_attempts": 1}`)
	n.command("deploy", script(t, "send", `return ctx.Sink("nowhere").Send("x")`), "--route", "POST /send")
	n.command("deploy", script(t, "tell", `ctx.Log.Info("told", ctx.Event.Type, ctx.Event.Subject, string(ctx.Request.Body))
	return nil, nil`))
	n.command("deploy", script(t, "again", `return ctx.Sink("nowhere").Send(string(ctx.Request.Body))`))
	n.command("triggers", "create", "failed", "--kind", "app", "--script", "tell", "--event", "failed", "--when", "data.sink == 'nowhere'")
	n.command("triggers", "create", "named", "--kind", "app", "--script", "again", "--event", "failed", "--of", "send")
	n.must(http.MethodPost, "/send", nil)
	n.expectTold(t, []string{"app.failed", `"script":""`, `"sink":"nowhere"`, `"kind":"sink"`, `"outcome":"dead_lettered"`, "cannot be reached"})
	if told := n.executions("again"); len(told) > 0 {
		t.Errorf("a trigger that asks for scripts is told of a sink: %+v", told)
	}
	n.command("triggers", "delete", "named")
	n.command("triggers", "create", "again", "--kind", "app", "--script", "again", "--event", "failed", "--attempts", "1")
	n.must(http.MethodPost, "/send", nil)
	await(t, "the last one may send no more", func() bool {
		return slices.ContainsFunc(n.executions("again"), func(e seen) bool { return e.Outcome == "dead_lettered" })
	})
	await(t, "the last delivery is settled", func() bool { return len(n.delivered("nowhere")) >= 5 })
	if told, failed := len(n.executions("again")), len(n.delivered("nowhere")); told != 4 || failed != 5 {
		t.Errorf("%d were told of %d deliveries", told, failed)
	}
}

// expectTold waits until tell has run as often as there are wants, and looks for the words of each in its logs.
func (n *instance) expectTold(t *testing.T, wants ...[]string) {
	t.Helper()
	await(t, "all is told", func() bool { return len(n.executions("tell")) == len(wants) })
	logged := strings.ReplaceAll(n.command("logs", "tell"), `\"`, `"`)
	for _, want := range wants {
		for _, words := range want {
			if !strings.Contains(logged, strings.ReplaceAll(words, `\"`, `"`)) {
				t.Errorf("logged no %s: %s", words, logged)
			}
		}
	}
}
