package execution

import (
	"context"
	"testing"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/service"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

type answering struct{}

func (answering) Call(context.Context, service.Run, string, string, []byte) ([]byte, error) {
	return []byte("{}"), nil
}

// bounded is a runner for a script with limits of its own.
func bounded(l tenant.Limits, do engineFunc) (*Runner, *outbox.Entry) {
	r, e, _ := setup(do)
	r.scripts.(scripts)[e.Target].Bounds = l
	r.services = answering{}
	return r, e
}

// An engine that does not keep the limits of a run is not believed.
func TestLimitsAreKeptHere(t *testing.T) {
	t.Parallel()
	r, e := bounded(tenant.Limits{AnswerBytes: 10}, func(_ context.Context, _ bool, _ *engine.Request, out engine.Reply) error {
		_ = out.Head(engine.Head{Status: 200})
		if _, err := out.Write(make([]byte, 10)); err != nil {
			t.Error(err)
		}
		_, err := out.Write([]byte("x"))
		return err
	})
	if res := r.Run(t.Context(), e); res.Fault == nil || res.Fault.Kind != fault.Limit || res.Fault.Message != "the answer has more than 10 bytes" {
		t.Errorf("%+v", res.Fault)
	}
	r, e = bounded(tenant.Limits{Calls: 2}, func(ctx context.Context, _ bool, r *engine.Request, _ engine.Reply) error {
		for range 2 {
			if _, err := r.Call(ctx, "queue", "send", nil); err != nil {
				t.Error(err)
			}
		}
		_, err := r.Call(ctx, "queue", "send", nil)
		return err
	})
	if res := r.Run(t.Context(), e); res.Fault == nil || res.Fault.Kind != fault.Limit || res.Fault.Message != "the run makes more than 2 calls of services" {
		t.Errorf("%+v", res.Fault)
	}
}
