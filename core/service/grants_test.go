package service_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/cron"
	"github.com/picloud/picloud/core/files"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/service"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
	"github.com/picloud/picloud/sdk/fault"
	table "github.com/picloud/picloud/sdk/service"
)

// A run that acts for nobody may use what its script has grants for at the time of each call; one that acts for somebody is not asked.
func TestGrants(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run.Entry.Principal = uuid.Nil
	send := func(kind fault.Kind) {
		t.Helper()
		_, err := b.ask(t, "invoke.send", `{"script":"other"}`)
		if f := fault.From(err); f != nil && f.Kind != kind || f == nil && kind != "" {
			t.Errorf("%+v, not %s", f, kind)
		}
	}
	send("")
	b.app.Scripts[0].Grants = []string{"kv"}
	b.reload()
	send(fault.Forbidden) // taken away while the run goes on
	b.entries = nil
	b.run.Entry.Principal = uuid.New()
	send("")
	b.run.Entry.Principal, b.app.Scripts[0].Grants = uuid.Nil, []string{"docs"}
	b.app.Scripts = b.app.Scripts[1:] // while the run goes on
	b.reload()
	send(fault.Forbidden)
}

// Every method has a grant of its service, without which it does nothing: the services of this bundle cannot even be called.
func TestGrantOfEachMethod(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run.Entry.Principal = uuid.Nil
	listed := []string{"invoke.send", "queue.send"} // engines have them by themselves
	for _, s := range table.Services() {
		for _, m := range s.Methods {
			listed = append(listed, s.Name+"."+m.Wire())
		}
	}
	slices.Sort(listed)
	if listed = slices.Compact(listed); !slices.Equal(listed, service.Methods()) {
		t.Errorf("the table of services has %v, the host %v", listed, service.Methods())
	}
	grants := map[string]bool{}
	for _, what := range service.Methods() {
		name, _, _ := strings.Cut(what, ".")
		grants[name] = true
		b.app.Scripts[0].Grants = slices.DeleteFunc(tenant.DefaultGrants(), func(g string) bool { return g == name })
		b.reload()
		for _, b.run.Unit = range []*service.Unit{nil, service.NewUnit()} {
			b.refused(t, what, `{}`, fault.Forbidden, `has no grant "`+name+`"`)
		}
		if b.run.Unit.Used() {
			t.Errorf("%s is staged", what)
		}
	}
	if all := slices.Sorted(maps.Keys(grants)); !slices.Equal(all, tenant.DefaultGrants()) {
		t.Errorf("services have the grants %v, scripts %v", all, tenant.DefaultGrants())
	}
	for _, g := range tenant.DefaultGrants() {
		if err := tenant.CheckGrants([]string{g}); err != nil {
			t.Error(err)
		}
	}
	if err := tenant.CheckGrants([]string{"dead_letters"}); err == nil {
		t.Error("what needs somebody to act for can be granted")
	}
}

// Whatever a run causes belongs to its chain: one event deeper, under the same first cause; and at the end of the chain nothing is.
func TestEverythingCausedBelongsToItsChain(t *testing.T) {
	t.Parallel()
	b := setupKV(t)
	b.docs = docsOf(b)
	contents, err := files.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = contents.Close() }() // goes with its folder
	b.files, b.contents = postgres.NewFileStore(b.pool), contents
	of := func(kind string, f tenant.TriggerFilter) tenant.Trigger {
		return tenant.Trigger{ID: uuid.New(), App: b.app.ID, Name: kind, Kind: kind, Script: b.app.Scripts[1].ID, Enabled: true, Filter: f}
	}
	b.app.Triggers = []tenant.Trigger{
		of(tenant.TriggerKV, tenant.TriggerFilter{Collection: "*"}), of(tenant.TriggerDocs, tenant.TriggerFilter{Collection: "*"}),
		of(tenant.TriggerFiles, tenant.TriggerFilter{Collection: "*"}), of(tenant.TriggerPubSub, tenant.TriggerFilter{Topic: "*"}),
	}
	b.callees = &callees{}
	for _, c := range []struct {
		what, args string
		stands     bool // at the end of the chain: what it does, without the event
	}{
		{"kv.set", `{"collection":"c","key":"k","value":1}`, true},
		{"docs.create", `{"collection":"c","data":{}}`, true},
		{"files.create", `{"collection":"c","name":"f","data":"x"}`, true},
		{"pubsub.publish", `{"topic":"t","message":1}`, false},
		{"pubsub.publish_ephemeral", `{"topic":"t","message":1}`, false},
		{"queue.send", `{"queue":"mail","messages":[{}]}`, false},
		{"invoke.send", `{"script":"other"}`, false},
		{"invoke.call", `{"script":"other","body":1}`, false},
	} {
		b.reload()
		b.entries, b.room, b.run.Entry.Depth, b.callees.entries = nil, 1, 7, nil
		if _, err := b.ask(t, c.what, c.args); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		caused := append(b.entries, b.callees.entries...)
		if len(caused) != 1 || caused[0].Depth != outbox.MaxDepth || caused[0].RootID != b.run.Entry.RootID || caused[0].App != b.app.ID {
			t.Errorf("%s: %+v", c.what, caused)
		}
		b.entries, b.run.Entry.Depth, b.callees.entries = nil, outbox.MaxDepth, nil
		_, err := b.ask(t, c.what, c.args)
		if f := fault.From(err); c.stands != (err == nil) || f != nil && f.Kind != fault.LoopDepth {
			t.Errorf("%s at the end of the chain: %v", c.what, err)
		}
		if len(b.entries)+len(b.callees.entries) > 0 {
			t.Errorf("%s at the end of the chain causes %+v", c.what, b.entries)
		}
	}
	var stopped int
	if err := b.pool.QueryRow(t.Context(), `SELECT count(*) FROM executions WHERE outcome = 6 AND reason = 'loop_depth'`).Scan(&stopped); err != nil || stopped != 3 {
		t.Errorf("%d are recorded as stopped, %v", stopped, err)
	}

	// A time that comes is the first cause of what its run does.
	hourly := of(tenant.TriggerCron, tenant.TriggerFilter{Schedule: "0 * * * *"})
	b.app.Triggers = append(b.app.Triggers, hourly)
	b.reload()
	tick, err := trigger.Caused(tenant.NewSnapshot(1, []*tenant.App{b.app}).Triggers(b.app.ID, tenant.TriggerCron)[0], cron.Tick(time.Unix(0, 0)), nil)
	if err != nil || tick.Depth != 0 || tick.RootID != tick.ID {
		t.Fatalf("%+v, %v", tick, err)
	}
	tick.Owner = b.run.Entry.Owner
	b.run.Entry = tick
	for _, c := range []struct{ what, args string }{
		{"files.create", `{"collection":"c","name":"g","data":"x"}`}, {"queue.send", `{"queue":"mail","messages":[{}]}`},
	} {
		b.entries = nil
		if _, err := b.ask(t, c.what, c.args); err != nil || len(b.entries) != 1 || b.entries[0].RootID != tick.ID || b.entries[0].Depth != 1 {
			t.Errorf("%s: %+v, %v", c.what, b.entries, err)
		}
	}
}
