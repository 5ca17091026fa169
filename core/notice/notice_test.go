package notice

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wall keeps what is written on it.
type wall struct {
	entries []*outbox.Entry
	texts   []string
	err     error
}

func (w *wall) Stopped(_ context.Context, e *outbox.Entry, reason, why string) error {
	if w.err != nil {
		return w.err
	}
	w.entries, w.texts = append(w.entries, e), append(w.texts, reason+" "+why)
	return nil
}

func failing() *tenant.Trigger {
	return &tenant.Trigger{ID: uuid.New(), App: uuid.New(), Name: "t", Script: uuid.New()}
}

// A trigger is told of once a minute, whatever happens to others.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, now := &wall{}, time.Unix(0, 0)
		b := New(w, func() time.Time { return now }, hclog.NewNullLogger())
		ctx, cancel := context.WithCancel(t.Context())
		go b.Run(ctx)
		defer cancel()
		one, two := failing(), failing()
		unfit := func(of *tenant.Trigger, want int) {
			t.Helper()
			b.Unfit(of, &trigger.Change{Kind: outbox.KindDocs}, errors.New("no such key: total"))
			synctest.Wait()
			if len(w.entries) != want {
				t.Errorf("%q, want %d", w.texts, want)
			}
		}
		unfit(one, 1)
		unfit(one, 1)
		unfit(two, 2)
		now = now.Add(pause - 1)
		unfit(one, 2)
		now = now.Add(1)
		unfit(one, 3)
		e := w.entries[0]
		if e.App != one.App || e.Trigger != one.ID || e.Target != one.Script || e.Kind != outbox.KindDocs || e.RootID != e.ID || e.EventID != e.ID {
			t.Errorf("%+v", e)
		}
		if !strings.HasPrefix(w.texts[0], `when no event: the expression of the trigger "t" fails: no such key: total`) {
			t.Error(w.texts[0])
		}
		now = now.Add(pause)
		unfit(two, 4)
		if len(b.last) != 1 {
			t.Errorf("%d triggers are kept", len(b.last))
		}
		w.err = errors.New("no wall")
		unfit(failing(), 4) // is lost, and nothing else
		w.err = nil
		unfit(failing(), 5)
	})
}

// More than there is room for does not hold anybody up.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wall{}
		b := New(w, time.Now, hclog.NewNullLogger())
		for range waiting + 1 {
			b.Unfit(failing(), &trigger.Change{Kind: outbox.KindKV}, errors.New("x"))
		}
		ctx, cancel := context.WithCancel(t.Context())
		go b.Run(ctx)
		synctest.Wait()
		cancel()
		if len(w.entries) != waiting {
			t.Errorf("%d notices", len(w.entries))
		}
	})
}
