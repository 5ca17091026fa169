package inbox

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func setup(t *testing.T) (*Waiter, *Reply) {
	t.Helper()
	var in Inbox
	id := uuid.New()
	w := in.Register(id)
	r, err := in.Reply(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w, r
}

func TestSmallAnswerIsOnePart(t *testing.T) {
	t.Parallel()
	w, r := setup(t)
	_ = r.Head(engine.Head{Status: 201})
	_, _ = r.Write([]byte("all"))
	if err := r.End(nil); err != nil {
		t.Fatal(err)
	}
	p, err := w.Next(t.Context(), nil)
	if err != nil || p.Head.Status != 201 || string(p.Data) != "all" || !p.End || p.Fault != nil {
		t.Fatalf("%+v %v", p, err)
	}
}

func TestFaultIsTheWholeAnswer(t *testing.T) {
	t.Parallel()
	w, r := setup(t)
	if err := r.End(fault.New(fault.Deadline, fault.Script, "late")); err != nil {
		t.Fatal(err)
	}
	if p, err := w.Next(t.Context(), nil); err != nil || p.Head != nil || !p.End || p.Fault.Kind != fault.Deadline {
		t.Fatalf("%+v %v", p, err)
	}
}

// A reply is given once, to whoever asks first, and only while somebody waits.
func TestReplyOnce(t *testing.T) {
	t.Parallel()
	var in Inbox
	id := uuid.New()
	if _, err := in.Reply(t.Context(), id); !errors.Is(err, ErrGone) {
		t.Fatal(err)
	}
	w := in.Register(id)
	if _, err := in.Reply(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Reply(t.Context(), id); !errors.Is(err, ErrGone) {
		t.Fatal(err)
	}
	w.Close()
	w = in.Register(id)
	w.Close()
	w.Close()
	if _, err := in.Reply(t.Context(), id); !errors.Is(err, ErrGone) {
		t.Fatal(err)
	}
}

// A writer is held while the caller is behind, and let go when the caller leaves or the writer's own time is over.
func TestWriteWaitsForTheCaller(t *testing.T) {
	t.Parallel()
	var in Inbox
	id := uuid.New()
	w := in.Register(id)
	ctx, cancel := context.WithCancelCause(t.Context())
	r, err := in.Reply(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	left := make(chan struct{})
	r.OnGone(func() { close(left) })
	_ = r.Head(engine.Head{Status: 200})
	for range 2 { // the head with the first chunk, and one more: the parts that may be in flight
		if _, err := r.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	over := errors.New("over")
	go cancel(over)
	if _, err := r.Write([]byte("y")); !errors.Is(err, over) {
		t.Fatal(err)
	}
	w.Close()
	<-left
	if _, err := r.Write([]byte("z")); !errors.Is(err, ErrGone) {
		t.Fatal(err)
	}
	again := false
	r.OnGone(func() { again = true })
	if !again {
		t.Fatal("a caller that left before is not reported")
	}
}

func TestNextEnds(t *testing.T) {
	t.Parallel()
	w, _ := setup(t)
	late := make(chan time.Time, 1)
	late <- time.Now()
	if _, err := w.Next(t.Context(), late); !errors.Is(err, ErrLate) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Next(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
