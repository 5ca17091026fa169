package history

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
)

// settled is an attempt of an entry that was born claimed.
func settled(app uuid.UUID, outcome outbox.Outcome) *outbox.Settlement {
	return &outbox.Settlement{
		Entry:   &outbox.Entry{App: app, AcceptedAt: time.Now(), Envelope: make([]byte, 100), Payload: make([]byte, 400)},
		Outcome: outcome, KeepInput: outcome != outbox.Succeeded,
	}
}

// claimed makes an attempt one of an entry that was accepted so long ago and did not run at once.
func claimed(ago time.Duration) func(*outbox.Settlement) {
	return func(x *outbox.Settlement) { x.Entry.Claims, x.Entry.AcceptedAt = 1, time.Now().Add(-ago) }
}

func TestBudget(t *testing.T) {
	t.Parallel()
	const daily = 10_000 * recordBytes
	k := New(daily)
	app, other := uuid.New(), uuid.New()
	stored, failures, whole := 0, 0, 0
	for i := range 200_000 {
		x := settled(app, outbox.Succeeded)
		if i%100 == 99 {
			x = settled(app, outbox.Failed)
		}
		k.Judge(x)
		switch {
		case x.Unrecorded:
		case x.Outcome == outbox.Failed:
			failures++
			if x.KeepInput {
				whole++
			}
		default:
			stored++
		}
	}
	if used := k.of(app, time.Now()).fresh.Bytes; used > daily*5/4+1000 || used < daily {
		t.Errorf("%d bytes are stored of %d a day", used, daily)
	}
	if stored < 5000 || stored > 10_000 || failures < 1000 || whole == 0 || whole == failures {
		t.Errorf("%d successes and %d failures are stored, %d of them whole", stored, failures, whole)
	}
	x := settled(other, outbox.Failed)
	if k.Judge(x); x.Unrecorded || !x.KeepInput {
		t.Error("another app's failure is not stored")
	}
	u := k.Take()
	if len(u) != 2 || u[0].LeftOut+u[1].LeftOut+u[0].Records+u[1].Records != 200_001 {
		t.Errorf("the counts are %+v", u)
	}
}

// What something depends on is stored however much there is.
func TestNeeded(t *testing.T) {
	t.Parallel()
	k := New(1)
	app := uuid.New()
	k.Judge(settled(app, outbox.Succeeded))
	for name, change := range map[string]func(*outbox.Settlement){
		"an answer":        func(x *outbox.Settlement) { x.Answer = &outbox.Answer{} },
		"a kept answer":    func(x *outbox.Settlement) { x.Entry.KeepAnswer, x.Outcome = true, outbox.Abandoned },
		"a handler":        func(x *outbox.Settlement) { x.Entry.HandlerFor = uuid.New() },
		"another attempt":  func(x *outbox.Settlement) { x.Outcome = outbox.Retried },
		"a dead letter":    func(x *outbox.Settlement) { x.Outcome = outbox.DeadLettered },
		"a recent claim":   func(x *outbox.Settlement) { x.Entry.Claims = 1 },
		"nothing":          func(*outbox.Settlement) {},
		"a last repeat":    claimed(outbox.RepeatFor * 3 / 2),
		"an earlier claim": claimed(outbox.RepeatFor * 5 / 2),
	} {
		x := settled(app, outbox.Succeeded)
		change(x)
		k.Judge(x)
		if wanted := name == "nothing" || name == "an earlier claim"; x.Unrecorded != wanted {
			t.Errorf("%s: left out is %v", name, x.Unrecorded)
		}
	}
}

// Nodes learn of each other's, and lose nothing when the database is away.
func TestLearn(t *testing.T) {
	t.Parallel()
	k := New(4 * recordBytes)
	app := uuid.New()
	k.Judge(settled(app, outbox.Succeeded))
	taken := k.Take()
	k.Undo(taken)
	if again := k.Take(); len(again) != 1 || again[0] != taken[0] {
		t.Errorf("after an undo it is %+v, not %+v", again, taken)
	}
	taken[0].Bytes = 100 * recordBytes
	k.Learn(taken)
	x := settled(app, outbox.Succeeded)
	if k.Judge(x); !x.Unrecorded {
		t.Error("what others have stored does not count")
	}
	k.now = func() time.Time { return time.Now().Add(24 * time.Hour) }
	x = settled(app, outbox.Succeeded)
	if k.Judge(x); x.Unrecorded {
		t.Error("the next day has no share of its own")
	}
	k.Take()
	if k.Take(); len(k.days) != 1 {
		t.Errorf("%d days are remembered", len(k.days))
	}
}
