// Package history keeps the records of runs within bounds: for each app so many bytes a day, by storing less and less
// of what went well as the day's share is used up, and never by removing rows. What is left out is counted. It stands
// between core/dispatcher, which settles attempts, and core/postgres, which stores them.
package history

import (
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
)

// Usage is what an app's records of one day came to.
type Usage struct {
	App     uuid.UUID
	Day     time.Time // its beginning, UTC
	Bytes   int64
	Records int64
	LeftOut int64
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
	touched bool
}

// New makes a keeper that stores up to daily bytes a day for each app; zero: any number.
func New(daily int64) *Keeper {
	return &Keeper{daily: daily, now: time.Now, days: map[key]*day{}}
}

// What the records of an attempt take: its row with its part of the indexes, measured at 100,000 of them, and what comes
// on top for a row of bodies.
const (
	recordBytes = 360
	bodiesBytes = 160
)

// sampled is of how many successes one is stored while an app is beyond half of its day's share.
const sampled = 10

// safely is how long after its acceptance an entry is too old for an INSERT to be repeated: until then the record is what
// tells a repeat that the entry has ended. The last repeat begins within outbox.RepeatFor of the first try, and acceptance,
// which is when that reached the database, is no earlier. As much again is for the time that the last one takes, and for
// the clocks of database and nodes, which differ.
const safely = 2 * outbox.RepeatFor

// Judge decides what is stored of an attempt and counts it: all of it below half of the day's share; one success of ten,
// and every failure, up to the share; failures without input, answer and logs up to a quarter more; nothing beyond.
func (k *Keeper) Judge(x *outbox.Settlement) {
	if x.Uncharged { // it leaves no record
		return
	}
	size := recordBytes + int64(len(x.Error))
	bodies := int64(0)
	if x.Logs != nil || x.Response != nil || x.KeepInput {
		bodies = bodiesBytes + int64(len(x.Logs)+len(x.Response))
		if x.KeepInput {
			bodies += int64(len(x.Entry.Envelope) + len(x.Entry.Payload))
		}
	}
	now := k.now()
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.of(x.Entry.App, now)
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
		bodies = 0
	}
	d.touched = true
	if !keep {
		x.Unrecorded = true
		d.fresh.LeftOut++
		return
	}
	d.fresh.Records++
	d.fresh.Bytes += size + bodies
}

// needed reports whether something depends on the record: an answer or a handler that is settled with it, an idempotency key
// that is free again where the record says so, an entry that is tried again, or an INSERT that another node may still repeat.
func needed(x *outbox.Settlement, now time.Time) bool {
	e := x.Entry
	return x.Answer != nil || e.KeepAnswer || e.HandlerFor != uuid.Nil || x.Outcome == outbox.Retried || x.Outcome == outbox.DeadLettered ||
		e.Claims > 0 && now.Sub(e.AcceptedAt) < safely
}

func (k *Keeper) of(app uuid.UUID, now time.Time) *day {
	begin := now.UTC().Truncate(24 * time.Hour)
	id := key{app, begin.Unix() / 86400}
	d := k.days[id]
	if d == nil {
		d = &day{fresh: Usage{App: app, Day: begin}}
		k.days[id] = d
	}
	return d
}

// Take returns what was added since the last Take. Learn follows, or Undo.
func (k *Keeper) Take() []Usage {
	k.mu.Lock()
	defer k.mu.Unlock()
	today := k.now().UTC().Unix() / 86400
	var out []Usage
	for id, d := range k.days {
		if !d.touched {
			if id.day < today {
				delete(k.days, id)
			}
			continue
		}
		out = append(out, d.fresh)
		d.stored += d.fresh.Bytes
		d.fresh = Usage{App: id.app, Day: d.fresh.Day}
		d.touched = false
	}
	return out
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
func (k *Keeper) Undo(taken []Usage) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, u := range taken {
		d := k.of(u.App, u.Day)
		d.stored -= u.Bytes
		d.fresh.Bytes += u.Bytes
		d.fresh.Records += u.Records
		d.fresh.LeftOut += u.LeftOut
		d.touched = true
	}
}
