package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/picloud/picloud/core/coretest/faultdb"
)

// torment carries the plan out and returns when every fault has ended.
func (w *World) torment(ctx context.Context) {
	began := time.Now()
	w.until = began.Add(w.options.Time)
	var running sync.WaitGroup
	defer running.Wait()
	for _, f := range w.options.Faults {
		if !pause(ctx, f.At-time.Since(began)) {
			return
		}
		do := func() {
			number := w.begin()
			defer w.end(number)
			w.t.Logf("%8s %s", time.Since(began).Round(time.Millisecond), f)
			err := w.inflict(ctx, f, number)
			if errors.Is(err, errTooLate) {
				return
			}
			if err != nil {
				w.breach("the bench", fmt.Sprintf("%s: %v", f, err))
				return
			}
			w.saw(f.Kind)
		}
		if w.options.Shape == single {
			do()
			continue
		}
		running.Go(do)
	}
}

func (f Fault) String() string {
	text := fmt.Sprintf("%s: node %d", f.Kind, f.Node)
	if f.Length > 0 {
		text += ", " + f.Length.String()
	}
	if f.Count > 0 {
		text += fmt.Sprintf(", %d", f.Count)
	}
	if f.Spec != "" {
		text += ", " + f.Spec
	}
	return text
}

// pause waits and reports false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// errTooLate says that a fault had to wait for others until its time was over.
var errTooLate = errors.New("the time is over")

func (w *World) inflict(ctx context.Context, f Fault, number int) error {
	n := w.nodes[f.Node]
	switch f.Kind {
	case backendKill:
		return w.hurtServer(ctx, number, func() error { return w.killBackend(ctx) })
	case postmasterKill:
		return w.hurtServer(ctx, number, func() error { return w.signalServer(syscall.SIGKILL) })
	case postgresRestart:
		return w.hurtServer(ctx, number, func() error { return w.signalServer(syscall.SIGINT) })
	case swizzle:
		return w.swizzle(ctx, f)
	case engineKill, engineFreeze:
		return w.hurtEngine(ctx, n, f, number)
	}
	n.fault.Lock()
	defer n.fault.Unlock()
	if time.Now().After(w.until) {
		return errTooLate
	}
	if n.now() == nil {
		return n.start(ctx, "")
	}
	switch f.Kind {
	case nodeKill:
		return w.killNode(ctx, n, f.Length, number)
	case nodeStop:
		took, err := n.stop()
		if err != nil {
			return err
		}
		if w.calm(time.Now().Add(-took), time.Now(), number) {
			w.figures.add(figureShutdown, took)
		}
		return n.start(ctx, "")
	case nodeFreezeShort:
		// With its session lock lost a moment ago, five seconds are enough to be taken over.
		takenOver := f.Length > 3*time.Second && (time.Since(n.well()) < 3*time.Second || w.serverDownSince(time.Now()))
		return w.freeze(ctx, n, f.Length, number, takenOver)
	case nodeFreezeLong:
		return w.freeze(ctx, n, f.Length, number, true)
	case failpointKill:
		return w.killAt(ctx, n, f, number)
	case failpointSleep:
		defer func() { _ = n.arm("") }()
		if err := n.arm(f.Spec); err != nil {
			return err
		}
		pause(ctx, f.Length)
		return nil
	}
	return w.hurtNetwork(ctx, n, f, number)
}

// hurtServer does something to the database server and measures how soon work goes on.
func (w *World) hurtServer(ctx context.Context, number int, hurt func() error) error {
	w.serverFault.Lock()
	defer w.serverFault.Unlock()
	if time.Now().After(w.until) {
		return errTooLate
	}
	if err := hurt(); err != nil {
		return err
	}
	w.noteServerDown()
	pause(ctx, 50*time.Millisecond) // until it no longer takes connections
	up, err := w.awaitServer(ctx)
	if err != nil {
		return err
	}
	w.noteServerDown()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	first := w.recorder.await(ctx, up, func(*Run) bool { return true })
	if first.Before(w.until) && w.calm(up, first, number) { // there are requests until then
		w.figures.add(figurePostgres, first.Sub(up))
	}
	return nil
}

// killNode ends a node and starts it again after some time.
func (w *World) killNode(ctx context.Context, n *Node, down time.Duration, number int) error {
	w.noteKilled(n, figureKilled, number)
	n.kill()
	pause(ctx, down)
	return w.restart(ctx, n, number)
}

// noteKilled remembers what runs on a node that is about to die, to see when it is run again.
func (w *World) noteKilled(n *Node, figure string, number int) {
	l := n.now()
	if l == nil {
		return
	}
	others := 0
	for _, other := range w.nodes {
		if other != n && !other.well().IsZero() {
			others++
		}
	}
	if others == 0 {
		return // nobody takes over
	}
	w.figures.follow(figure, number, time.Now(), w.recorder.runningOn(l.pid))
}

func (w *World) restart(ctx context.Context, n *Node, number int) error {
	began := time.Now()
	for tries := 1; ; tries++ { // a node that finds no database at its start ends, as its supervisor expects
		err := n.start(ctx, "")
		if err == nil {
			break
		}
		if tries == 5 || !pause(ctx, time.Second) {
			return err
		}
	}
	if w.calm(began, time.Now(), number) {
		w.figures.add(figureRestart, time.Since(began))
	}
	return nil
}

// freeze stops a node for a while. long says that others take over.
func (w *World) freeze(ctx context.Context, n *Node, length time.Duration, number int, long bool) error {
	l := n.now()
	n.setWell(false)
	if long {
		w.recorder.excuse(l.pid, func(e *excuse) { e.until = time.Now().Add(length + time.Hour) })
		w.noteKilled(n, figureFrozen, number)
	}
	_ = l.cmd.Process.Signal(syscall.SIGSTOP)
	pause(ctx, length)
	_ = l.cmd.Process.Signal(syscall.SIGCONT)
	w.recorder.excuse(l.pid, func(e *excuse) {
		if e.asleep = time.Now().Add(patience); long {
			e.until = e.asleep
		}
	})
	n.setWell(true)
	return nil
}

// swizzle freezes all nodes one by one and wakes them in another order.
func (w *World) swizzle(ctx context.Context, f Fault) error {
	order := rand.New(rand.NewPCG(w.options.Seed, uint64(f.At))).Perm(len(w.nodes))
	step := f.Length / time.Duration(2*len(w.nodes))
	for _, n := range w.nodes { // always in this order
		n.fault.Lock()
		defer n.fault.Unlock()
	}
	if time.Now().After(w.until) {
		return errTooLate
	}
	var frozen []*life
	for _, n := range w.nodes {
		l := n.now()
		if l == nil {
			continue
		}
		n.setWell(false)
		w.recorder.excuse(l.pid, func(e *excuse) { e.until = time.Now().Add(time.Hour) })
		_ = l.cmd.Process.Signal(syscall.SIGSTOP)
		frozen = append(frozen, l)
		pause(ctx, step)
	}
	for _, i := range order {
		if i < len(frozen) {
			_ = frozen[i].cmd.Process.Signal(syscall.SIGCONT)
			w.recorder.excuse(frozen[i].pid, func(e *excuse) { e.until = time.Now().Add(patience) })
			pause(ctx, step)
		}
	}
	for _, n := range w.nodes {
		if n.now() != nil {
			n.setWell(true)
		}
	}
	return nil
}

func (w *World) hurtEngine(ctx context.Context, n *Node, f Fault, number int) error {
	l := n.now()
	if l == nil {
		return nil
	}
	pid := w.recorder.lastEngine(l.pid)
	if pid == 0 || !alive(pid) {
		return nil
	}
	if f.Kind == engineFreeze {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
		pause(ctx, f.Length)
		_ = syscall.Kill(pid, syscall.SIGCONT)
		return nil
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	killed := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	first := w.recorder.await(ctx, killed, func(r *Run) bool { return r.Node == l.pid && r.Engine != pid })
	if first.Before(w.until) && w.calm(killed, first, number) {
		w.figures.add(figureEngine, first.Sub(killed))
	}
	return nil
}

// killAt arms a failpoint that kills the node, and starts it again when it has.
func (w *World) killAt(ctx context.Context, n *Node, f Fault, number int) error {
	l := n.now()
	w.recorder.excuse(l.pid, func(e *excuse) { e.lost = true }) // from any moment on
	if err := n.arm(f.Spec); err != nil && alive(l.pid) {
		return err
	}
	limit := time.NewTimer(f.Length)
	defer limit.Stop()
	select {
	case <-l.ended:
		n.gone()
	case <-limit.C:
		n.kill()
	case <-ctx.Done():
		n.kill()
	}
	return w.restart(ctx, n, number)
}

func (w *World) hurtNetwork(ctx context.Context, n *Node, f Fault, number int) error {
	l := n.now()
	switch f.Kind {
	case dbReset:
		n.proxy.Reset()
		n.setWell(true) // from now on
		return nil
	case dbCut:
		n.proxy.CutAfter(int64(f.Count))
		return nil
	case dbLoseAnswers:
		n.proxy.LoseAnswers(f.Count)
		return nil
	case dbLoseRequests:
		n.proxy.LoseRequests(f.Count)
		return nil
	}
	var fault faultdb.Fault
	switch f.Kind {
	case dbDelay:
		fault.Delay = time.Duration(f.Count) * time.Millisecond
	case dbSplit:
		fault.HoldRequests, fault.HoldAnswers = true, true
		w.noteKilled(n, figureFrozen, number)
	case dbHoldAnswers:
		fault.HoldAnswers = true
	case dbHoldRequests:
		fault.HoldRequests = true
	}
	// A heartbeat may be on its way for two seconds, and its answer: what is held for six may cost the epoch.
	takesOver := f.Length > 5*time.Second && f.Kind != dbDelay
	n.setWell(false)
	if takesOver {
		w.recorder.excuse(l.pid, func(e *excuse) { e.until = time.Now().Add(time.Hour) })
	}
	n.proxy.Set(fault)
	pause(ctx, f.Length)
	n.proxy.Heal()
	if takesOver {
		w.recorder.excuse(l.pid, func(e *excuse) { e.until = time.Now().Add(patience) })
	}
	n.setWell(true)
	return nil
}
