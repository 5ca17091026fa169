// Package history keeps what is stored of runs, records and answers, within bounds: for each app so many bytes a day, by
// storing less and less of what went well as the day's share is used up, and never by removing rows. Runs are counted
// whether they are stored or not. It stands between core/dispatcher, which settles attempts, and core/postgres, which stores
// them.
package history

import (
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
)

// Usage is what is stored of an app's runs of one day.
type Usage struct {
	App     uuid.UUID
	Day     time.Time // its beginning, UTC
	Bytes   int64
	Records int64
	LeftOut int64 // runs without a record
}

// Runs are the attempts at the events of one script that ended alike on one day.
type Runs struct {
	App      uuid.UUID
	Script   uuid.UUID
	Day      time.Time // its beginning, UTC
	Outcome  outbox.Outcome
	Attempts int64
	Time     time.Duration // in the engine
}

// Tally is what came about since the last one.
type Tally struct {
	Usage []Usage
	Runs  []Runs
}

// Keeper decides what is stored of each attempt. Safe for concurrent use.
type Keeper struct {
	daily int64 // bytes of an app a day; zero: any
	now   func() time.Time

	mu   sync.Mutex
	days map[key]*day
}

type key struct {
	app uuid.UUID
	day int64 // since 1970, UTC
}

// day is an app's: stored is known of all nodes as of the last Learn, fresh what this node has added since.
type day struct {
	stored  int64
	fresh   Usage
	plain   int64 // successes since half of the share was used, of which some are stored
	runs    map[alike]*Runs
	touched bool
}

// alike are attempts that are counted together.
type alike struct {
	script  uuid.UUID
	outcome outbox.Outcome
}

// New makes a keeper that stores up to daily bytes a day for each app; zero: any number.
func New(daily int64) *Keeper {
	return &Keeper{daily: daily, now: time.Now, days: map[key]*day{}}
}

// What is stored of an attempt takes: the row of its record with its part of the indexes, measured at 100,000 of them, and
// what comes on top for a row of bodies and for one of an answer.
const (
	recordBytes = 360
	bodiesBytes = 160
	answerBytes = 240
)

// sampled is of how many successes one is stored while an app is beyond half of its day's share.
const sampled = 10

// safely is how long after its acceptance an entry is too old for an INSERT to be repeated: until then the record is what
// tells a repeat that the entry has ended. The last repeat begins within outbox.RepeatFor of the first try, and acceptance,
// which is when that reached the database, is no earlier. As much again is for the time that the last one takes, and for
// the clocks of database and nodes, which differ.
const safely = 2 * outbox.RepeatFor

// Judge decides what is stored of an attempt and counts it. Below half of the day's share: all of it. Up to the share: one
// success of ten, and every failure and answer. Up to a quarter more: failures without input, response and logs. Beyond:
// nothing.
func (k *Keeper) Judge(x *outbox.Settlement) {
	if x.Uncharged { // it leaves no record
		return
	}
	now := k.now()
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.of(x.Entry.App, now)
	d.count(x)
	used := d.stored + d.fresh.Bytes
	keep, whole := true, true
	switch success := x.Outcome == outbox.Succeeded; {
	case k.daily == 0 || used < k.daily/2:
	case success && used < k.daily:
		keep = d.plain%sampled == 0
		d.plain++
	case success:
		keep = false
	case used < k.daily:
	default:
		keep, whole = used < k.daily+k.daily/4, false
	}
	if !keep && needed(x, now) {
		keep, whole = true, false
	}
	if !whole || !keep {
		x.Logs, x.Response, x.KeepInput = nil, nil, false
	}
	if k.daily > 0 && used >= k.daily {
		x.Answer = nil // whoever asks is told that it is not kept
	}
	x.Unrecorded = !keep
	if keep {
		d.fresh.Records++
	} else {
		d.fresh.LeftOut++
	}
	d.fresh.Bytes += size(x)
}

// count adds an attempt to its day.
func (d *day) count(x *outbox.Settlement) {
	d.touched = true
	same := alike{x.Entry.Target, x.Outcome}
	r := d.runs[same]
	if r == nil {
		r = &Runs{App: d.fresh.App, Script: same.script, Day: d.fresh.Day, Outcome: same.outcome}
		d.runs[same] = r
	}
	r.Attempts++
	r.Time += x.Duration
}

// size is how many bytes are stored of an attempt.
func size(x *outbox.Settlement) (n int64) {
	if !x.Unrecorded {
		n += recordBytes + int64(len(x.Error))
	}
	if x.Logs != nil || x.Response != nil || x.KeepInput {
		n += bodiesBytes + int64(len(x.Logs)+len(x.Response))
		if x.KeepInput {
			n += int64(len(x.Entry.Envelope) + len(x.Entry.Payload))
		}
	}
	if a := x.Answer; a != nil {
		n += answerBytes + int64(len(a.Body)+len(a.Error))
		for _, h := range a.Headers {
			n += int64(len(h.Name) + len(h.Value))
		}
	}
	return n
}

// needed reports whether something depends on the record: how a run ended that has no answer, by which an idempotency key may
// be free again, a handler that is settled with it, an entry that is tried again or is a dead letter, or an INSERT that
// another node may still repeat.
func needed(x *outbox.Settlement, now time.Time) bool {
	e := x.Entry
	return e.KeepAnswer && x.Answer == nil || e.HandlerFor != uuid.Nil ||
		x.Outcome == outbox.Retried || x.Outcome == outbox.DeadLettered ||
		e.Claims > 0 && now.Sub(e.AcceptedAt) < safely
}

func (k *Keeper) of(app uuid.UUID, now time.Time) *day {
	begin := now.UTC().Truncate(24 * time.Hour)
	id := key{app, begin.Unix() / 86400}
	d := k.days[id]
	if d == nil {
		d = &day{fresh: Usage{App: app, Day: begin}, runs: map[alike]*Runs{}}
		k.days[id] = d
	}
	return d
}

// Take returns what was added since the last Take. Learn follows, or Undo.
func (k *Keeper) Take() (t Tally) {
	k.mu.Lock()
	defer k.mu.Unlock()
	today := k.now().UTC().Unix() / 86400
	for id, d := range k.days {
		if !d.touched {
			if id.day < today {
				delete(k.days, id)
			}
			continue
		}
		t.Usage = append(t.Usage, d.fresh)
		for _, r := range d.runs {
			t.Runs = append(t.Runs, *r)
		}
		d.stored += d.fresh.Bytes
		d.fresh = Usage{App: id.app, Day: d.fresh.Day}
		clear(d.runs)
		d.touched = false
	}
	return t
}

// Learn takes note of what all nodes have stored, as of the last Take.
func (k *Keeper) Learn(total []Usage) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, u := range total {
		if d := k.days[key{u.App, u.Day.UTC().Unix() / 86400}]; d != nil {
			d.stored = u.Bytes
		}
	}
}

// Undo gives back what Take returned and could not be written down.
func (k *Keeper) Undo(taken Tally) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, u := range taken.Usage {
		d := k.of(u.App, u.Day)
		d.stored -= u.Bytes
		d.fresh.Bytes += u.Bytes
		d.fresh.Records += u.Records
		d.fresh.LeftOut += u.LeftOut
		d.touched = true
	}
	for _, r := range taken.Runs {
		d := k.of(r.App, r.Day)
		same := alike{r.Script, r.Outcome}
		if now := d.runs[same]; now != nil {
			r.Attempts += now.Attempts
			r.Time += now.Time
		}
		d.runs[same] = &r
		d.touched = true
	}
}
