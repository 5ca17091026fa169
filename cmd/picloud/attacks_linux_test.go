package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/picloud/picloud/core/execution"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

var (
	attackRounds = flag.Int("attacks.rounds", 40, "rounds of several attacks at one time that are drawn at random")
	attackSeed   = flag.Uint64("attacks.seed", 0, "what the rounds are drawn by; 0: the clock")
	attackFigure = flag.Bool("attacks.measure", false, "attack in one language after the other, and print the times")
)

// strike is a cell with its place in the table.
type strike struct {
	cell
	language string
	name     string
	row      int
}

// strikes are the cells of a language, in the order of the table.
func strikes(language string) (all []strike) {
	for row, a := range attacks {
		if c, ok := a.cells[language]; ok {
			all = append(all, strike{c, language, a.name, row})
		}
	}
	return all
}

func (s strike) String() string { return s.name + " in " + s.language }
func (s strike) script() string { return s.language + "-" + strconv.Itoa(s.row) }

// refused reports whether the script cannot be deployed.
func (s strike) refused() bool { return s.ends == fault.Compile }

func (s strike) timeout() time.Duration {
	if s.ends == fault.Deadline {
		return soon
	}
	return late
}

func (s strike) path() string {
	if s.language == inWasm {
		return modulePath(s.timeout()) + s.body
	}
	return "/" + s.language + "/" + strconv.Itoa(s.row)
}

// tick is what a deadline may be early: engines are told whole milliseconds.
const tick = 5 * time.Millisecond

// slack is what a machine that is busy with other things may add to any time.
const slack = 30 * time.Second

// do makes the attack once, and returns how long that took. What it ends with must be as the table says, or one of also.
func (s strike) do(t *testing.T, a *arena, also ...fault.Kind) time.Duration {
	begun := time.Now()
	if s.refused() {
		s.deploy(t, a, also)
		return time.Since(begun)
	}
	r, err := a.attack(s.path(), "stop")
	took := time.Since(begun)
	if err != nil {
		t.Errorf("%s: %v", s, err)
		return took
	}
	kind := fault.Kind(strings.TrimPrefix(field(r.body, "type"), "urn:picloud:problem:"))
	status, said := http.StatusOK, string(r.body)
	if kind != answers {
		status, said = execution.Status(&fault.Fault{Kind: kind}), field(r.body, "detail")
	}
	switch {
	case r.status != status, kind != s.ends && !slices.Contains(also, kind):
		t.Errorf("%s: %s, not %q", s, r, s.ends)
	case kind == s.ends && !strings.Contains(said, s.says):
		t.Errorf("%s: %s, not with %q", s, r, s.says)
	case kind == fault.Deadline && (took < soon-tick || took > soon+engine.Grace+slack):
		t.Errorf("%s: answered after %s", s, took)
	case took > late+slack:
		t.Errorf("%s: it took %s", s, took)
	}
	return took
}

// deploy is do of a script that is refused.
func (s strike) deploy(t *testing.T, a *arena, also []fault.Kind) {
	err := a.place(t.Context(), s)
	if err == nil {
		t.Errorf("%s was deployed", s)
		return
	}
	for _, kind := range append(also, s.ends) {
		if strings.Contains(fmt.Sprintf("%#v", err), string(kind)) && strings.Contains(fmt.Sprintf("%+v", err), s.says) {
			return
		}
	}
	t.Errorf("%s: %v, not %s with %q", s, err, s.ends, s.says)
}

// measured are the times of the runs of one cell.
type measured struct {
	strike
	over, free, beside []time.Duration
}

// Whatever a script does, in every language, in the processes in which scripts run: its caller has an answer that names what it was, in
// time; the next call works; neighbours notice nothing; and nothing is left of it.
func TestAttacks(t *testing.T) {
	if underRace { // the limits of memory are not made for a program that takes several times as much: make attacks runs this
		return
	}
	module := buildModule(t)
	for _, attack := range attacks {
		for _, language := range languages {
			_, there := attack.cells[language]
			switch why := attack.why[language]; {
			case there == (why != ""):
				t.Errorf("%s in %s: there must be a cell or a reason", attack.name, language)
			case why != "":
				t.Logf("no %s in %s: %s", attack.name, language, why)
			}
		}
	}
	t.Run("table", func(t *testing.T) {
		for _, language := range languages {
			t.Run(language, func(t *testing.T) {
				if !*attackFigure {
					t.Parallel()
				}
				// One slot for the attack and one for the neighbour: neither could go on if one were lost.
				a := newArena(t, module, []string{language}, "--slots", "2", "--engine-losses", "1000")
				base := a.idle(t, language)
				var all []measured
				for _, s := range strikes(language) {
					t.Run(s.name, func(t *testing.T) { all = append(all, s.thrice(t, a)) })
				}
				a.settled(t)
				if *attackFigure {
					report(t, all, base)
				}
			})
		}
	})
	t.Run("rounds", func(t *testing.T) { rounds(t, module) })
}

// idle is what neighbours take when there is no attack.
func (a *arena) idle(t *testing.T, language string) []time.Duration {
	stop := a.hammer(t, language)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	<-ctx.Done()
	return stop()
}

// thrice makes the attack of a cell three times, and looks at what that does to the node.
func (s strike) thrice(t *testing.T, a *arena) measured {
	m := measured{strike: s}
	before := a.look(t).crashes
	var also []fault.Kind
	if s.hurried {
		also = append(also, fault.EngineLost)
	}
	for range 3 {
		stop := a.hammer(t, s.language)
		begun := time.Now()
		took := s.do(t, a, also...)
		m.beside = append(m.beside, stop()...)
		a.quiet(t)
		m.over = append(m.over, took-s.timeout())
		m.free = append(m.free, time.Since(begun)-s.timeout())
		switch {
		case s.lost:
			await(t, "the process is lost", func() bool { return a.look(t).crashes > before })
			before = a.look(t).crashes
			a.answersGo(t, s.path()) // after the back-off
		case !s.refused():
			a.answersGo(t, s.path())
		}
	}
	switch n := a.quiet(t).crashes - before; {
	case n > 0 && s.hurried:
		t.Logf("%s: the watch of the engine came too late, and %.0f processes ended", s, n)
	case n > 0:
		t.Errorf("%s: %.0f processes ended", s, n)
	}
	return m
}

// report prints the times of all cells of a language.
func report(t *testing.T, all []measured, base []time.Duration) {
	var b strings.Builder
	round := func(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
	baseline := quantile(base, 0.99)
	fmt.Fprintf(&b, "\nneighbour without attacks: median %s, p99 %s, worst %s\n", round(quantile(base, 0.5)), round(baseline), round(quantile(base, 1)))
	fmt.Fprintf(&b, "%-30s %-16s %12s %12s %12s %12s %12s\n", "attack", "ends", "answer", "worst", "slot free", "worst", "neighbour p99")
	for _, m := range all {
		over, free := m.over, m.free
		if m.ends != fault.Deadline {
			over, free = nil, nil
		}
		note := ""
		if p := quantile(m.beside, 0.99); p > max(2*baseline, baseline+10*time.Millisecond) {
			note = " slow"
		}
		if quantile(free, 1) > engine.Grace {
			note += " late"
		}
		fmt.Fprintf(&b, "%-30s %-16s %12s %12s %12s %12s %12s%s\n", m.name, m.ends, round(quantile(over, 0.5)), round(quantile(over, 1)),
			round(quantile(free, 0.5)), round(quantile(free, 1)), round(quantile(m.beside, 0.99)), note)
	}
	b.WriteString("answer and slot: after the deadline, where that is what ends the run; slow: p99 beyond twice that without attacks and 10 ms more; late: beyond the grace\n")
	t.Log(b.String())
}

// rounds makes several attacks at one time, of all languages, over and over.
func rounds(t *testing.T, module []byte) {
	seed := *attackSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-attacks.seed=%d", seed)
	draw := rand.New(rand.NewPCG(seed, 0))
	a := newArena(t, module, languages, "--slots", "16", "--engine-losses", "1000")
	var all []strike
	for _, language := range languages {
		all = append(all, strikes(language)...)
	}
	stop := a.hammer(t, languages...)
	deaths := 0
	for n := range *attackRounds {
		var these []strike
		for range 2 + draw.IntN(3) {
			s := all[draw.IntN(len(all))]
			these = append(these, s)
			if s.lost || s.hurried {
				deaths++
			}
		}
		if n%50 == 0 {
			t.Logf("round %d of %d", n, *attackRounds)
		}
		var together sync.WaitGroup
		for i, s := range these {
			also := s.besides(slices.Delete(slices.Clone(these), i, i+1))
			together.Go(func() { s.do(t, a, also...) })
		}
		together.Wait()
		if t.Failed() {
			t.Errorf("in round %d of seed %d: %v", n, seed, these)
			break
		}
	}
	took := stop()
	t.Logf("%d answers of neighbours: median %s, p99 %s, worst %s", len(took), quantile(took, 0.5), quantile(took, 0.99), quantile(took, 1))
	for _, s := range all {
		if !s.refused() {
			a.answersGo(t, s.path())
		}
	}
	if n := a.settled(t).crashes; n > float64(deaths) {
		t.Errorf("%.0f processes died, by %d attacks that can", n, deaths)
	}
}

// besides is what else an attack may end with, beside others: what runs in one process shares its memory, and its end.
func (s strike) besides(others []strike) (also []fault.Kind) {
	if s.lost || s.hurried { // and so may it have been moments ago
		also = append(also, fault.Unavailable, fault.EngineLost)
	}
	for _, o := range others {
		if o.language != s.language || o.refused() {
			continue
		}
		if o.lost || o.hurried {
			also = append(also, fault.EngineLost, fault.Unavailable)
		}
		also = append(also, fault.Limit)
	}
	return also
}
