// Package sourcetest checks sources against their contract: it runs the plugin's program as a process, as the platform does, and looks at
// what it emits.
package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	goplugin "github.com/hashicorp/go-plugin"

	"github.com/picloud/picloud/sdk/plugin/plugintest"
	"github.com/picloud/picloud/sdk/source"
)

// Mode is how a feed behaves.
type Mode int

// The modes.
const (
	Normal  Mode = iota
	Hang         // it says nothing, until the mode changes
	Garbage      // it says what nobody can read
)

// Feed is where a source has its events from, at an address of this machine.
type Feed interface {
	// Config is a configuration that follows the feed, as a JSON object.
	Config() []byte
	// Happen makes something happen for each text, each of which comes as one event whose data contain the text, in any order. What the
	// source does not take at once is given to it again. It does not wait for that.
	Happen(texts ...string)
	// Set changes how the feed behaves from now on.
	Set(Mode)
}

// Suite is what a source brings to Run.
type Suite struct {
	// Command runs the source as a plugin.
	Command []string
	// New makes a feed, which ends with the test.
	New func(tb testing.TB) Feed
	// Wrong are configurations that are to be refused.
	Wrong []string
	// Replays says that the source has cursors.
	Replays bool
	// Patience is how long something may take that should be quick, on a machine that is busy. Zero: two minutes.
	Patience time.Duration
}

// Run checks a source.
func Run(t *testing.T, s Suite) {
	for _, c := range Checks() {
		t.Run(c, func(t *testing.T) {
			t.Parallel()
			if err := s.Check(t, c); err != nil {
				t.Error(err)
			}
		})
	}
}

// checks are all, by name.
var checks = []struct {
	name string
	run  func(*bench) error
}{
	{"describes", (*bench).describes},
	{"configuration", (*bench).configuration},
	{"one", (*bench).one},
	{"many", (*bench).many},
	{"flood", (*bench).flood},
	{"credit", (*bench).credit},
	{"nack", (*bench).nack},
	{"resume", (*bench).resume},
	{"stop", (*bench).stop},
	{"two", (*bench).two},
	{"hang", (*bench).hang},
	{"garbage", (*bench).garbage},
	{"crash", (*bench).crash},
	{"end", (*bench).end},
}

// Checks are the names of all checks.
func Checks() (names []string) {
	for _, c := range checks {
		names = append(names, c.name)
	}
	return names
}

// Check runs one check and returns what is wrong.
func (s Suite) Check(tb testing.TB, name string) error {
	tb.Helper()
	for _, c := range checks {
		if c.name != name {
			continue
		}
		b := &bench{suite: s, tb: tb, feed: s.New(tb), limit: s.Patience, taken: map[string]string{}}
		if b.limit == 0 {
			b.limit = 2 * time.Minute // on a machine that is busy
		}
		if err := b.launch(); err != nil {
			return err
		}
		if err := b.start(); err != nil {
			return err
		}
		return c.run(b)
	}
	return fmt.Errorf("there is no check %q", name)
}

// bench is a process with one instance, and its feed.
type bench struct {
	suite    Suite
	tb       testing.TB
	feed     Feed
	process  *goplugin.Client
	client   *source.Client
	instance *source.Instance
	limit    time.Duration

	cursor string            // of the last batch that was taken in
	taken  map[string]string // data, by the ids of events
}

// short is a time in which a source would have done what it must not do.
const short = 200 * time.Millisecond

func (b *bench) launch() error {
	b.process = plugintest.Start(b.tb, b.suite.Command, source.Versions())
	protocol, err := b.process.Client()
	if err != nil {
		return fmt.Errorf("launch: %w", err)
	}
	raw, err := protocol.Dispense(source.PluginName)
	if err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	b.client = raw.(*source.Client)
	b.tb.Cleanup(b.client.Close)
	return nil
}

// start begins the instance where the last one was.
func (b *bench) start() (err error) {
	b.instance, err = b.client.Start(source.Setting{Config: b.feed.Config(), Cursor: b.cursor}, func(string, string) {})
	return err
}

// next waits for a batch.
func (b *bench) next(i *source.Instance) (*source.Incoming, error) {
	ctx, cancel := context.WithTimeoutCause(b.tb.Context(), b.limit, errors.New("nothing comes"))
	defer cancel()
	batch, err := i.Next(ctx)
	if err != nil {
		return nil, errors.Join(err, b.client.Err())
	}
	if (batch.Cursor != "") != b.suite.Replays {
		return nil, fmt.Errorf("the cursor %q", batch.Cursor)
	}
	return batch, nil
}

// take keeps what is in a batch. With cursors, nothing may come twice.
func (b *bench) take(batch *source.Incoming) error {
	for _, e := range batch.Events {
		if before, known := b.taken[e.ID]; known && b.suite.Replays {
			return fmt.Errorf("the event %q comes twice: %.100q, %.100q", e.ID, before, e.Data)
		}
		b.taken[e.ID] = string(e.Data)
	}
	b.cursor = batch.Cursor
	return nil
}

// texts are n texts that are different from all others.
func texts(prefix string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("%s-%d.", prefix, i))
	}
	return all
}

// missing is one of the texts that no event has, or nothing.
func (b *bench) missing(all []string) string {
	for _, text := range all {
		found := 0
		for _, data := range b.taken {
			if bytes.Contains([]byte(data), []byte(text)) {
				found++
			}
		}
		if found == 0 {
			return text
		}
	}
	return ""
}

// arrive takes batches in until there are as many events as texts, and checks that it is these.
func (b *bench) arrive(all []string) error {
	want := len(b.taken) + len(all)
	for len(b.taken) < want {
		batch, err := b.next(b.instance)
		if err != nil {
			return fmt.Errorf("after %d of %d events: %w", len(b.taken), want, err)
		}
		if err := b.take(batch); err != nil {
			return err
		}
		batch.Ack()
	}
	return b.complete(all)
}

func (b *bench) complete(all []string) error {
	if text := b.missing(all); text != "" {
		return fmt.Errorf("%q is lost", text)
	}
	return nil
}

// works checks that events still come.
func (b *bench) works() error {
	text := fmt.Sprintf("still-here-%d.", len(b.taken))
	b.feed.Happen(text)
	if err := b.arrive([]string{text}); err != nil {
		return fmt.Errorf("the next one: %w", err)
	}
	return nil
}

func (b *bench) describes() error {
	if i := b.client.Info(); i.Name == "" || i.Version == "" {
		return fmt.Errorf("it does not say what it is: %+v", i)
	}
	return nil
}

func (b *bench) configuration() error {
	ctx := b.tb.Context()
	if problems, err := b.client.Check(ctx, b.feed.Config()); err != nil || len(problems) > 0 {
		return fmt.Errorf("a right one: %+v, %w", problems, err)
	}
	for _, wrong := range append([]string{``, `null`, `[]`, `{`, `{"no-such-field": 1}`}, b.suite.Wrong...) {
		problems, err := b.client.Check(ctx, []byte(wrong))
		if err != nil || len(problems) == 0 || problems[0].Message == "" {
			return fmt.Errorf("Check takes %s: %+v, %w", wrong, problems, err)
		}
		i, err := b.client.Start(source.Setting{Config: []byte(wrong)}, func(string, string) {})
		if err != nil {
			return err
		}
		if _, err := b.next(i); err == nil || b.client.Err() != nil {
			return fmt.Errorf("%s is run: %w", wrong, b.client.Err())
		}
	}
	return b.works()
}

func (b *bench) one() error {
	b.feed.Happen("hello.")
	return b.arrive([]string{"hello."})
}

func (b *bench) many() error { return b.happen("many", 100) }

func (b *bench) flood() error { return b.happen("flood", 1000) }

func (b *bench) happen(what string, n int) error {
	all := texts(what, n)
	b.feed.Happen(all...)
	return b.arrive(all)
}

// credit gives no answers: no more comes than there is credit for, and all of it once there is more.
func (b *bench) credit() error {
	all := texts("credit", 100)
	b.feed.Happen(all...)
	var held []*source.Incoming
	for {
		ctx, cancel := context.WithTimeout(b.tb.Context(), b.limit)
		if len(held) > 0 {
			cancel()
			ctx, cancel = context.WithTimeout(b.tb.Context(), short)
		}
		batch, err := b.instance.Next(ctx)
		cancel()
		if err != nil {
			break
		}
		held = append(held, batch)
	}
	if err := b.client.Err(); err != nil || len(held) == 0 {
		return fmt.Errorf("without answers, after %d batches: %w", len(held), err)
	}
	want := len(b.taken) + len(all)
	for _, batch := range held {
		if err := b.take(batch); err != nil {
			return err
		}
		batch.Ack()
	}
	for len(b.taken) < want {
		batch, err := b.next(b.instance)
		if err != nil {
			return fmt.Errorf("after %d of %d events: %w", len(b.taken), want, err)
		}
		if err := b.take(batch); err != nil {
			return err
		}
		batch.Ack()
	}
	return b.complete(all)
}

// nack refuses what comes at first: it comes again, under the same ids.
func (b *bench) nack() error {
	b.feed.Happen("again.")
	var ids []string
	for range 3 {
		batch, err := b.next(b.instance)
		if err != nil {
			return err
		}
		var these []string
		for _, e := range batch.Events {
			these = append(these, e.ID)
		}
		if ids == nil {
			ids = these
		}
		if !slices.Equal(ids, these) {
			return fmt.Errorf("what was refused as %q comes again as %q", ids, these)
		}
		batch.Nack(10*time.Millisecond, "not now")
	}
	return b.arrive([]string{"again."})
}

// resume stops and starts in the middle of things, with a batch that has no answer.
func (b *bench) resume() error {
	if !b.suite.Replays {
		return nil
	}
	all := texts("resume", 100)
	b.feed.Happen(all...)
	for round := range 2 * len(all) { // also of one that emits its events one by one
		for range round % 3 {
			batch, err := b.next(b.instance)
			if err != nil {
				return err
			}
			if err := b.take(batch); err != nil {
				return err
			}
			batch.Ack()
			if len(b.taken) == len(all) {
				return b.complete(all)
			}
		}
		if _, err := b.next(b.instance); err != nil {
			return err
		}
		if err := b.stopped(); err != nil {
			return err
		}
		if err := b.start(); err != nil {
			return err
		}
	}
	return fmt.Errorf("%d of %d after twice as many starts", len(b.taken), len(all))
}

// stopped stops the instance and waits for its end.
func (b *bench) stopped() error {
	b.instance.Stop()
	late := time.NewTimer(b.limit)
	defer late.Stop()
	select {
	case <-b.instance.Ended():
	case <-late.C:
		return errors.New("an instance that was stopped goes on")
	}
	for {
		if _, err := b.instance.Next(b.tb.Context()); errors.Is(err, source.ErrStopped) {
			return nil
		} else if err != nil {
			return fmt.Errorf("an instance that was stopped says: %w", err)
		}
	}
}

// stop ends an instance that waits for something to happen, and one that waits for an answer.
func (b *bench) stop() error {
	if err := b.works(); err != nil {
		return err
	}
	if err := b.stopped(); err != nil {
		return err
	}
	if err := b.start(); err != nil {
		return err
	}
	b.feed.Happen("held.")
	if _, err := b.next(b.instance); err != nil {
		return err
	}
	if err := b.stopped(); err != nil {
		return err
	}
	if err := b.start(); err != nil {
		return err
	}
	return b.arrive([]string{"held."})
}

// two has one instance wait for an answer: another goes on.
func (b *bench) two() error {
	b.feed.Happen("held.")
	if _, err := b.next(b.instance); err != nil {
		return err
	}
	first := b.instance
	other := &bench{suite: b.suite, tb: b.tb, feed: b.suite.New(b.tb), limit: b.limit, taken: map[string]string{}, client: b.client}
	if err := other.start(); err != nil {
		return err
	}
	if err := other.happen("other", 20); err != nil {
		return fmt.Errorf("an instance beside one that waits: %w", err)
	}
	first.Stop()
	<-first.Ended()
	return other.works()
}

// trouble has the feed misbehave for a while. The instance may end by that, and is started again, as the host does.
func (b *bench) trouble(m Mode) error {
	if err := b.works(); err != nil {
		return err
	}
	b.feed.Set(m)
	b.feed.Happen("in-trouble.")
	rest := time.NewTimer(short)
	defer rest.Stop()
	select {
	case <-b.instance.Ended():
	case <-rest.C:
	}
	b.feed.Set(Normal)
	for range 100 {
		err := b.arrive([]string{"in-trouble."})
		if err == nil {
			return b.works()
		}
		if b.client.Err() != nil {
			return err
		}
		select {
		case <-b.instance.Ended():
		default:
			return err
		}
		if err := b.start(); err != nil {
			return err
		}
	}
	return errors.New("the instance does not come back")
}

func (b *bench) hang() error { return b.trouble(Hang) }

func (b *bench) garbage() error { return b.trouble(Garbage) }

// crash kills the process in the middle of things. The next one goes on where the last batch was that was taken in.
func (b *bench) crash() error {
	all := texts("crash", 50)
	b.feed.Happen(all...)
	for taken := 0; taken < 2 && len(b.taken) < len(all); taken++ { // some emit all of them at once
		batch, err := b.next(b.instance)
		if err != nil {
			return err
		}
		if err := b.take(batch); err != nil {
			return err
		}
		batch.Ack()
	}
	b.process.Kill()
	<-b.client.Lost()
	if err := b.launch(); err != nil {
		return err
	}
	if err := b.start(); err != nil {
		return err
	}
	for len(b.taken) < len(all) || b.missing(all) != "" {
		batch, err := b.next(b.instance)
		if err != nil {
			return fmt.Errorf("after %d of %d events: %w", len(b.taken), len(all), err)
		}
		if err := b.take(batch); err != nil {
			return err
		}
		batch.Ack()
	}
	return nil
}

// end closes the session: the process exits by itself, whatever is under way.
func (b *bench) end() error {
	b.feed.Happen("held.")
	if _, err := b.next(b.instance); err != nil {
		return err
	}
	b.client.Close()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(b.limit); time.Now().Before(end); <-tick.C {
		if b.process.Exited() {
			return nil
		}
	}
	return errors.New("the process goes on after its session has ended")
}
