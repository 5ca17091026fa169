package torture

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// The figures: how long it takes until all is well after a fault.
const (
	figureKilled   = "node killed: its runs are started elsewhere"
	figureFrozen   = "node frozen or split: its runs are started elsewhere"
	figureRestart  = "killed node serves again"
	figureEngine   = "engine killed: the next run of its node begins"
	figurePostgres = "Postgres takes connections: the next run begins"
	figureShutdown = "clean shutdown"
	figureHeal     = "all quiet after the last fault"
)

// goals are what is aimed for, and what fails a strict torture. A restart includes the program's own start here.
var goals = map[string]struct{ goal, limit time.Duration }{
	figureKilled:   {8 * time.Second, 10 * time.Second},
	figureFrozen:   {13 * time.Second, 15 * time.Second},
	figureRestart:  {2 * time.Second, 5 * time.Second},
	figureEngine:   {time.Second, 2 * time.Second},
	figurePostgres: {2 * time.Second, 5 * time.Second},
	figureShutdown: {2 * time.Second, 5 * time.Second},
	figureHeal:     {30 * time.Second, time.Minute},
}

// figures are what was measured. Safe for concurrent use.
type figures struct {
	mu       sync.Mutex
	samples  map[string][]time.Duration
	followed []followed
}

// followed are the runs that a fault cut short.
type followed struct {
	figure string
	fault  int
	at     time.Time
	runs   []*Run
}

func (f *figures) add(name string, d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.samples[name] = append(f.samples[name], d)
}

func (f *figures) follow(name string, fault int, at time.Time, runs []*Run) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.followed = append(f.followed, followed{name, fault, at, runs})
}

// settle turns what was followed into samples: when the same entry was started again, unless another fault came between.
func (f *figures) settle(r *Recorder, calm func(fault int, from, to time.Time) bool) {
	for _, one := range f.followed {
		for _, run := range one.runs {
			if run.Sync {
				continue
			}
			for _, next := range r.of(run.ID) {
				if next.Began.After(one.at) && next.Node != run.Node {
					if calm(one.fault, one.at, next.Began) {
						f.add(one.figure, next.Began.Sub(one.at))
					}
					break
				}
			}
		}
	}
	f.followed = nil
}

// table is the report. over are the names of those beyond their limit.
func (f *figures) table() (text string, over []string) {
	var b strings.Builder
	fmt.Fprintf(&b, "%-56s %5s %9s %9s %9s %9s\n", "figure", "n", "p50", "max", "goal", "fails at")
	names := make([]string, 0, len(goals))
	for name := range goals {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		s := slices.Clone(f.samples[name])
		slices.Sort(s)
		if len(s) == 0 {
			fmt.Fprintf(&b, "%-56s %5d %9s %9s %9s %9s\n", name, 0, "-", "-", goals[name].goal, goals[name].limit)
			continue
		}
		worst := s[len(s)-1]
		note := ""
		if worst > goals[name].limit {
			note = " !"
			over = append(over, name)
		}
		fmt.Fprintf(&b, "%-56s %5d %9s %9s %9s %9s%s\n", name, len(s), s[len(s)/2].Round(time.Millisecond),
			worst.Round(time.Millisecond), goals[name].goal, goals[name].limit, note)
	}
	return b.String(), over
}
