package engine

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

// How long what a version has done counts.
const (
	lossWindow    = 10 * time.Minute // in which losses add up, and for which a suspect has a process of its own
	quarantineMin = time.Minute      // the first pause; each doubles
	quarantineMax = time.Hour
	askAgain      = time.Minute // at the most, since another version may be active by then
)

// guard knows which versions of scripts end processes.
//
// What ran in a process that died is suspect, and has a process of its own from then on: the others of the app go on without
// it. Only the end of such a process proves anything. The first proof clears the others that were suspects for the same
// death; without one, a suspect is cleared after lossWindow. A version with too many proofs is quarantined: it is refused at
// once, until a pause is over and one run of it, alone in a process, survives.
//
// What the attempts of one event prove counts once: an event that no version survives becomes a dead letter, and is no
// reason to refuse all others.
//
// All this is known on this node only, and forgotten when it stops.
type guard struct {
	losses int // before the quarantine; zero: there is none
	now    func() time.Time
	log    hclog.Logger

	mu      sync.RWMutex
	records map[version]*record
	deaths  int // that had suspects, so far
}

// version names a version of scripts of an app: those with the same source are one.
type version struct {
	app  uuid.UUID
	hash string
}

// record is what is known of a version.
type record struct {
	script  *tenant.Script
	suspect time.Time // until when it has processes of its own
	death   int       // for which it is suspect; zero: it is more than that
	losses  []loss    // of processes of its own, not before lossWindow ago
	count   int       // losses since it was last well
	how     string    // the last one was

	since time.Time // zero: it is not in quarantine
	until time.Time // when a trial may begin
	trial bool      // is under way
	pause time.Duration
}

// loss is one process that a version ended.
type loss struct {
	at        time.Time
	execution string // that was alone in it; empty: there was more than one, or none
}

// Quarantine is a version of a script that this node does not run.
type Quarantine struct {
	App     uuid.UUID
	Script  uuid.UUID
	Name    string
	Version int
	Since   time.Time
	Until   time.Time // then one run of it is tried
	Losses  int       // how many processes it has ended
	How     string    // the last of them ended
}

// admission says where a run may take place.
type admission int

const (
	anywhere admission = iota
	apart              // in a process of the version's own
	onTrial            // in a process of the run's own; settle must follow
)

// verdict is how a trial ended that was not ended by lost.
type verdict int

const (
	undecided verdict = iota // it did not run to its end
	survived
)

// admit says where the active version of script may run. The error is a fault that says why it may not.
func (g *guard) admit(script *tenant.Script) (admission, error) {
	g.mu.RLock()
	r := g.records[version{script.App, script.Hash}]
	g.mu.RUnlock()
	if r == nil {
		return anywhere, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	switch {
	case r.since.IsZero() && now.Before(r.suspect):
		return apart, nil
	case r.since.IsZero():
		return anywhere, nil
	case now.Before(r.until) || r.trial:
		return 0, r.refuse(script, now)
	}
	r.trial = true
	g.log.Info("a quarantined script version is tried", r.fields()...)
	return onTrial, nil
}

// refuse is what a caller is told.
func (r *record) refuse(script *tenant.Script, now time.Time) *fault.Fault {
	f := fault.New(fault.Unavailable, fault.Script,
		"version %d of the script %q is in quarantine on this node until %s: it has ended its engine process %d times (the last time %s); "+
			"deploy a version that does not, or wait until it is tried again",
		script.Version, script.Name, r.until.UTC().Format(time.TimeOnly+" MST"), r.count, r.how)
	f.RetryAfter = max(min(r.until.Sub(now), askAgain), time.Second)
	return f
}

func (r *record) fields(more ...any) []any {
	return append([]any{"app", r.script.App, "script", r.script.Name, "version", r.script.Version}, more...)
}

// of returns the record of a version, new where there is none. It is called with mu held.
func (g *guard) of(script *tenant.Script) *record {
	v := version{script.App, script.Hash}
	if g.records[v] == nil {
		g.records[v] = &record{}
	}
	g.records[v].script = script
	return g.records[v]
}

// suspects notes what ran in a process, which others shared, when it died.
func (g *guard) suspects(scripts []*tenant.Script, how string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deaths++
	for _, script := range scripts {
		r, now := g.of(script), g.now()
		if !now.Before(r.suspect) {
			r.death = g.deaths
			g.log.Warn("a script runs in a process of its own: it was in one that died", r.fields("how", how)...)
		}
		r.suspect = now.Add(lossWindow)
	}
}

// lost notes that script ended a process that ran nothing else; execution names the run, if it was alone in it.
func (g *guard) lost(script *tenant.Script, execution, how string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r, now := g.of(script), g.now()
	if r.death != 0 {
		g.clear(r.death, r)
	}
	r.death, r.how, r.suspect = 0, how, now.Add(lossWindow)
	r.count++
	r.losses = append(slices.DeleteFunc(r.losses, func(l loss) bool {
		return now.Sub(l.at) > lossWindow || l.execution == execution && execution != ""
	}), loss{now, execution})
	failed := r.trial
	switch r.trial = false; {
	case g.losses == 0 || now.Before(r.until) || !failed && len(r.losses) < g.losses:
		return // one more of those that were under way changes nothing
	case r.since.IsZero():
		r.since = now
	}
	r.pause = min(max(2*r.pause, quarantineMin), quarantineMax)
	r.until, r.losses = now.Add(r.pause), nil
	g.log.Warn("a script version is quarantined: it keeps ending its process", r.fields("losses", r.count, "how", how, "until", r.until)...)
}

// clear forgets the suspicion against all but one for a death. It is called with mu held.
func (g *guard) clear(death int, guilty *record) {
	for v, r := range g.records {
		if r != guilty && r.death == death {
			delete(g.records, v)
		}
	}
}

// settle ends a trial. One that the version survived ends the quarantine; it stays a suspect, and the next quarantine
// within quarantineMax is longer than this one was.
func (g *guard) settle(script *tenant.Script, v verdict) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.records[version{script.App, script.Hash}]
	if r == nil || !r.trial {
		return
	}
	if r.trial = false; v == survived {
		r.since, r.until, r.count, r.suspect = time.Time{}, time.Time{}, 0, g.now().Add(lossWindow)
		g.log.Info("a script version is out of quarantine: its trial went well", r.fields()...)
	}
}

// keep forgets versions that are not active, by app and hash: to deploy another version ends a quarantine.
func (g *guard) keep(active map[uuid.UUID]map[string]bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for v, r := range g.records {
		if !active[v.app][v.hash] {
			delete(g.records, v)
			if !r.since.IsZero() {
				g.log.Info("a script version is out of quarantine: it is not active any more", r.fields()...)
			}
		}
	}
}

// prune forgets what does not count any more.
func (g *guard) prune() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	for v, r := range g.records {
		left := r.suspect
		if r.pause > 0 {
			left = left.Add(quarantineMax)
		}
		if r.since.IsZero() && !now.Before(left) {
			delete(g.records, v)
		}
	}
}

// quarantined lists what is refused now, by app and name.
func (g *guard) quarantined() []Quarantine {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var list []Quarantine
	for r := range maps.Values(g.records) {
		if !r.since.IsZero() {
			list = append(list, Quarantine{
				App: r.script.App, Script: r.script.ID, Name: r.script.Name, Version: r.script.Version,
				Since: r.since, Until: r.until, Losses: r.count, How: r.how,
			})
		}
	}
	slices.SortFunc(list, func(a, b Quarantine) int {
		return strings.Compare(a.App.String()+a.Name, b.App.String()+b.Name)
	})
	return list
}

// Quarantined lists the versions of scripts that this node refuses to run, by app and name.
func (m *Manager) Quarantined() []Quarantine { return m.guard.quarantined() }

// died counts the end of a process and says how it came. A process that was ended by its manager is nobody's fault.
func (m *Manager) died(p Process) (how string, crashed bool) {
	if p.Err() == nil || m.life.Err() != nil {
		return "", false
	}
	m.count.crashed()
	return p.Fate(), true
}
