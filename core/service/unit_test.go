package service_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/picloud/picloud/core/service"
	"github.com/picloud/picloud/sdk/fault"
)

// A run that ends without waiting for its own calls changes nothing of what is being committed.
func TestCallsAfterTheEndOfAUnit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run.Unit = service.NewUnit()
	if _, err := b.ask(t, "docs.create", `{"collection":"c","data":{}}`); err != nil {
		t.Fatal(err)
	}
	work := b.run.Unit.Work()
	reads, writes, sends := maps.Clone(work.Reads), slices.Clone(work.Writes), len(work.Sends)
	for what, args := range map[string]string{
		"docs.create": `{"collection":"c","data":{}}`,
		"kv.set":      `{"collection":"c","key":"k","value":1}`,
		"invoke.send": `{"script":"other"}`,
	} {
		if _, err := b.ask(t, what, args); fault.From(err) == nil || fault.From(err).Kind != fault.Cancelled {
			t.Errorf("%s after the end: %v", what, err)
		}
	}
	if !maps.Equal(work.Reads, reads) || len(work.Writes) != len(writes) || len(work.Sends) != sends || len(b.entries) > 0 {
		t.Errorf("the work has become %+v", work)
	}
	again := b.run.Unit.Work()
	if len(again.Reads) != 1 || len(again.Writes) != 1 || len(again.Sends) != 0 {
		t.Errorf("the unit holds %+v", again)
	}
}

// A transactional run counts as far as any other.
func TestUnitIncrement(t *testing.T) {
	t.Parallel()
	b := setupKV(t)
	b.run.Unit = service.NewUnit()
	if _, err := b.ask(t, "kv.set", `{"collection":"c","key":"k","value":9007199254740990}`); err != nil {
		t.Fatal(err)
	}
	if got, err := b.ask(t, "kv.increment", `{"collection":"c","key":"k"}`); err != nil || got["value"] != 9007199254740991.0 {
		t.Errorf("%v, %v", got, err)
	}
	b.refused(t, "kv.increment", `{"collection":"c","key":"k"}`, fault.Invalid, "beyond 9007199254740991")
}
