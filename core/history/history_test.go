package history

import (
	"reflect"
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
	u := k.Take().Usage
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
		"no answer":        func(x *outbox.Settlement) { x.Entry.KeepAnswer, x.Outcome = true, outbox.Abandoned },
		"an answer":        func(x *outbox.Settlement) { x.Entry.KeepAnswer, x.Answer = true, &outbox.Answer{} },
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
		if wanted := name == "nothing" || name == "an answer" || name == "an earlier claim"; x.Unrecorded != wanted {
			t.Errorf("%s: left out is %v", name, x.Unrecorded)
		}
	}
}

// Answers are kept until the share is used up, whether there are records beside them or not.
func TestAnswers(t *testing.T) {
	t.Parallel()
	const daily = 1000 * answerBytes
	k := New(daily)
	app := uuid.New()
	kept := 0
	for range 5000 {
		x := settled(app, outbox.Succeeded)
		x.Entry.KeepAnswer, x.Answer = true, &outbox.Answer{Status: 200, Body: make([]byte, 100)}
		if k.Judge(x); x.Answer != nil {
			kept++
		}
	}
	if used := k.of(app, time.Now()).fresh.Bytes; used < daily || used > daily+1000 {
		t.Errorf("%d bytes are stored of %d a day", used, daily)
	}
	if kept < 400 || kept > 700 {
		t.Errorf("%d answers are stored", kept)
	}
}

// Every attempt is counted, with a record or without.
func TestRuns(t *testing.T) {
	t.Parallel()
	k := New(1)
	app, script := uuid.New(), uuid.New()
	for i := range 30 {
		x := settled(app, outbox.Succeeded)
		x.Entry.Target, x.Duration = script, time.Millisecond
		if i%10 == 0 {
			x.Outcome = outbox.Failed
		}
		k.Judge(x)
		if i == 20 {
			k.Undo(k.Take())
		}
	}
	got := map[outbox.Outcome]Runs{}
	for _, r := range k.Take().Runs {
		got[r.Outcome] = r
	}
	for outcome, attempts := range map[outbox.Outcome]int64{outbox.Succeeded: 27, outbox.Failed: 3} {
		r := got[outcome]
		if r.Attempts != attempts || r.Time != time.Duration(attempts)*time.Millisecond || r.App != app || r.Script != script {
			t.Errorf("%v: %+v", outcome, r)
		}
	}
	if again := k.Take(); again.Runs != nil {
		t.Errorf("they are counted again: %+v", again)
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
	if again := k.Take(); len(again.Usage) != 1 || !reflect.DeepEqual(again, taken) {
		t.Errorf("after an undo it is %+v, not %+v", again, taken)
	}
	taken.Usage[0].Bytes = 100 * recordBytes
	k.Learn(taken.Usage)
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
