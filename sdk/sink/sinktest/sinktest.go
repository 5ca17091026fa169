// Package sinktest checks sinks against their contract: it runs the plugin's program as a process, as the platform does, and looks at
// what arrives.
package sinktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	goplugin "github.com/hashicorp/go-plugin"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/plugin/plugintest"
	"github.com/picloud/picloud/sdk/sink"
)

// Mode is how a receiver takes what comes.
type Mode int

// The modes.
const (
	Accept Mode = iota
	Refuse      // for good
	Busy        // it may be tried again
	Hang        // it takes the connection and says nothing, until the mode changes
)

// Receiver is the other end of a sink, at an address of this machine.
type Receiver interface {
	// Config is a configuration that delivers to it, as a JSON object.
	Config() []byte
	// Set changes how it takes what comes from now on. What hangs is let go.
	Set(Mode)
	// Received is what it has accepted: the ids of the events, in any order, and some of the data each.
	Received() []Received
}

// Received is an item that has arrived.
type Received struct {
	EventID string
	Data    []byte // or what contains it
}

// Suite is what a sink brings to Run.
type Suite struct {
	// Command runs the sink as a plugin.
	Command []string
	// New makes a receiver, which ends with the test.
	New func(tb testing.TB) Receiver
	// Data makes data of a size from a text, which it contains, as the sink takes it.
	Data func(text string, size int) []byte
	// ContentType is that of the data.
	ContentType string
	// Wrong are configurations that are to be refused.
	Wrong []string
	// Patience is how long a delivery may take that should be quick, on a machine that is busy. Zero: two minutes.
	Patience time.Duration
}

// Run checks a sink.
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
	{"large", (*bench).large},
	{"duplicate", (*bench).duplicate},
	{"refused", (*bench).refused},
	{"busy", (*bench).busy},
	{"hang", (*bench).hang},
	{"slow", (*bench).slow},
	{"cancel", (*bench).cancel},
	{"garbage", (*bench).garbage},
	{"flood", (*bench).flood},
	{"forget", (*bench).forget},
	{"drain", (*bench).drain},
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
		b := &bench{suite: s, tb: tb, receiver: s.New(tb), limit: s.Patience}
		if b.limit == 0 {
			b.limit = patience
		}
		if err := b.start(); err != nil {
			return err
		}
		return c.run(b)
	}
	return fmt.Errorf("there is no check %q", name)
}

// bench is a process with one instance, and a receiver.
type bench struct {
	suite    Suite
	tb       testing.TB
	receiver Receiver
	process  *goplugin.Client
	client   *sink.Client
	instance uint64
	limit    time.Duration
}

// patience is how long a delivery may take that should be quick, on a machine that is busy.
const patience = 2 * time.Minute

// short is the time of a delivery that does not end by itself.
const short = 200 * time.Millisecond

func (b *bench) start() error {
	b.process = plugintest.Start(b.tb, b.suite.Command, sink.Versions())
	protocol, err := b.process.Client()
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	raw, err := protocol.Dispense(sink.PluginName)
	if err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	b.client = raw.(*sink.Client)
	b.tb.Cleanup(b.client.Close)
	b.instance, err = b.client.Configure(b.tb.Context(), b.config(b.receiver.Config()))
	return err
}

// config lets an instance reach the receiver, which is on this machine.
func (b *bench) config(text []byte) sink.Config {
	return sink.Config{JSON: text, Reach: sink.Reach{Allow: "127.0.0.0/8"}}
}

func (b *bench) delivery(id, text string) *sink.Delivery {
	return &sink.Delivery{
		EventID: id, Attempt: 1, Type: "test.happened", Time: time.Now(), ContentType: b.suite.ContentType, Data: b.suite.Data(text, 0),
	}
}

// deliver sends one and waits.
func (b *bench) deliver(d *sink.Delivery, within time.Duration) sink.Answer {
	ctx, cancel := context.WithTimeout(b.tb.Context(), within)
	defer cancel()
	return b.client.Deliver(ctx, b.instance, d)
}

func done(a sink.Answer) error {
	if a.Fault != nil {
		return fmt.Errorf("the delivery failed: %s (%s, %s)", a.Fault.Message, a.Fault.Kind, a.Fault.Origin)
	}
	return nil
}

// forGood reports whether a fault says that trying again cannot help.
func forGood(f *fault.Fault) bool { return f.Fatal || f.Kind == fault.Invalid }

// again checks that an item is to be tried again.
func again(a sink.Answer) error {
	switch {
	case a.Fault == nil:
		return errors.New("it is said to be done")
	case forGood(a.Fault):
		return fmt.Errorf("it is given up, though trying again may help: %s", a.Fault.Message)
	}
	return nil
}

// works checks that the process still delivers.
func (b *bench) works() error {
	if err := done(b.deliver(b.delivery("works", "still here"), b.limit)); err != nil {
		return fmt.Errorf("the next one: %w", err)
	}
	return nil
}

func (b *bench) describes() error {
	if i := b.client.Info(); i.Name == "" || i.Version == "" {
		return fmt.Errorf("it does not say what it is: %+v", i)
	}
	return b.client.Health(b.tb.Context())
}

func (b *bench) configuration() error {
	ctx := b.tb.Context()
	if err := b.client.Check(ctx, b.config(b.receiver.Config())); err != nil {
		return fmt.Errorf("a right one: %w", err)
	}
	for _, wrong := range append([]string{``, `null`, `[]`, `{`, `{"no-such-field": 1}`}, b.suite.Wrong...) {
		for what, err := range map[string]error{
			"Check": b.client.Check(ctx, b.config([]byte(wrong))), "Configure": second(b.client.Configure(ctx, b.config([]byte(wrong)))),
		} {
			if f := fault.From(err); f == nil || f.Kind != fault.Invalid {
				return fmt.Errorf("%s takes %s: %+v", what, wrong, f)
			}
		}
	}
	return b.works()
}

func second(_ uint64, err error) error { return err }

func (b *bench) one() error {
	if err := done(b.deliver(b.delivery("e-1", "hello"), b.limit)); err != nil {
		return err
	}
	got := b.receiver.Received()
	if len(got) != 1 || got[0].EventID != "e-1" || !bytes.Contains(got[0].Data, []byte("hello")) {
		return fmt.Errorf("what arrived: %+v", got)
	}
	return nil
}

// all delivers many at one time, and checks that each has arrived.
func (b *bench) all(n int) error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			errs[i] = done(b.deliver(b.delivery(fmt.Sprint("e-", i), fmt.Sprint("text ", i, ".")), b.limit))
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	arrived := map[string]string{}
	for _, r := range b.receiver.Received() {
		arrived[r.EventID] = string(r.Data)
	}
	for i := range n {
		if !strings.Contains(arrived[fmt.Sprint("e-", i)], fmt.Sprint("text ", i, ".")) {
			return fmt.Errorf("item %d of %d is said to be done, and has arrived as %q", i, n, arrived[fmt.Sprint("e-", i)])
		}
	}
	return nil
}

func (b *bench) many() error { return b.all(sink.MaxBatch + 8) }

func (b *bench) flood() error { return b.all(600) } // more than a process takes at one time

func (b *bench) large() error {
	d := b.delivery("e-1", "")
	d.Data = b.suite.Data("the end", 1<<20)
	if err := done(b.deliver(d, b.limit)); err != nil {
		return err
	}
	if got := b.receiver.Received(); len(got) != 1 || len(got[0].Data) < 1<<20 {
		return fmt.Errorf("%d items arrived whole", len(got))
	}
	return nil
}

// duplicate sends what has arrived once more: the receiver decides whether it wants it.
func (b *bench) duplicate() error {
	for range 2 {
		if err := done(b.deliver(b.delivery("e-1", "hello"), b.limit)); err != nil {
			return err
		}
	}
	got := b.receiver.Received()
	if len(got) != 2 || got[0].EventID != "e-1" || got[1].EventID != "e-1" {
		return fmt.Errorf("what arrived of one event in two attempts: %+v", got)
	}
	return nil
}

func (b *bench) refused() error {
	b.receiver.Set(Refuse)
	a := b.deliver(b.delivery("e-1", "hello"), b.limit)
	if a.Fault == nil || !forGood(a.Fault) || a.Fault.Origin == fault.Plugin || a.Fault.Message == "" {
		return fmt.Errorf("what the receiver refuses for good: %+v", a.Fault)
	}
	b.receiver.Set(Accept)
	return b.works()
}

func (b *bench) busy() error {
	b.receiver.Set(Busy)
	if err := again(b.deliver(b.delivery("e-1", "hello"), b.limit)); err != nil {
		return fmt.Errorf("a busy receiver: %w", err)
	}
	b.receiver.Set(Accept)
	return b.works()
}

// hang has the receiver say nothing: the sink gives up in time.
func (b *bench) hang() error {
	b.receiver.Set(Hang)
	a := b.deliver(b.delivery("e-1", "hello"), short)
	if err := again(a); err != nil {
		return fmt.Errorf("a receiver that hangs: %w", err)
	}
	if a.Fault.Origin == fault.Plugin {
		return fmt.Errorf("the sink did not notice the end of its time: %s", a.Fault.Message)
	}
	b.receiver.Set(Accept)
	return b.works()
}

// slow has one instance hang: another one goes on.
func (b *bench) slow() error {
	b.receiver.Set(Hang)
	other := b.suite.New(b.tb)
	instance, err := b.client.Configure(b.tb.Context(), b.config(other.Config()))
	if err != nil {
		return err
	}
	hanging := make(chan sink.Answer, 1)
	ctx, cancel := context.WithTimeout(b.tb.Context(), b.limit)
	defer cancel()
	go func() { hanging <- b.client.Deliver(ctx, b.instance, b.delivery("e-1", "hello")) }()
	for range 30 { // the other has begun by then
		if err := done(b.client.Deliver(ctx, instance, b.delivery("e-2", "hello"))); err != nil {
			return fmt.Errorf("an instance beside one that hangs: %w", err)
		}
	}
	b.receiver.Set(Accept)
	<-hanging // however it went
	return nil
}

// cancel gives up what hangs.
func (b *bench) cancel() error {
	b.receiver.Set(Hang)
	ctx, cancel := context.WithTimeout(b.tb.Context(), b.limit)
	time.AfterFunc(short, cancel)
	if a := b.client.Deliver(ctx, b.instance, b.delivery("e-1", "hello")); again(a) != nil || a.Fault.Origin == fault.Plugin && a.Fault.Kind == fault.Deadline {
		return fmt.Errorf("what was cancelled goes on: %+v", a.Fault)
	}
	b.receiver.Set(Accept)
	return b.works()
}

// garbage sends what nobody can read, and to instances that there are not.
func (b *bench) garbage() error {
	for _, data := range []string{"", "\x00\xff\xfe", "{", "null", strings.Repeat("[", 1<<16)} {
		d := b.delivery("e-\r\nX: 1", "")
		d.Data, d.ContentType, d.Type = []byte(data), "text/\r\nX: y", "a\nb"
		b.deliver(d, b.limit) // it may take it or not
	}
	ctx, cancel := context.WithTimeout(b.tb.Context(), b.limit)
	defer cancel()
	if a := b.client.Deliver(ctx, 1<<40, b.delivery("e-1", "hello")); again(a) != nil {
		return fmt.Errorf("an instance that there is not: %+v", a.Fault)
	}
	return b.works()
}

func (b *bench) forget() error {
	for range 2 {
		if err := b.client.Forget(b.tb.Context(), b.instance); err != nil {
			return err
		}
	}
	if a := b.deliver(b.delivery("e-1", "hello"), b.limit); again(a) != nil {
		return fmt.Errorf("an instance that was forgotten: %+v", a.Fault)
	}
	var err error
	if b.instance, err = b.client.Configure(b.tb.Context(), b.config(b.receiver.Config())); err != nil {
		return err
	}
	return b.works()
}

func (b *bench) drain() error {
	if err := b.works(); err != nil {
		return err
	}
	if err := b.client.Drain(b.tb.Context()); err != nil {
		return err
	}
	if a := b.deliver(b.delivery("e-1", "hello"), b.limit); a.Fault == nil || a.Fault.Kind != fault.Unavailable {
		return fmt.Errorf("it takes items after it was drained: %+v", a.Fault)
	}
	return nil
}

// crash kills the process under a delivery. The next process delivers it.
func (b *bench) crash() error {
	b.receiver.Set(Hang)
	answered := make(chan sink.Answer, 1)
	go func() { answered <- b.deliver(b.delivery("e-1", "hello"), b.limit) }()
	time.AfterFunc(short, b.process.Kill) // in the delivery, most likely
	if a := <-answered; again(a) != nil {
		return fmt.Errorf("the process ended: %+v", a.Fault)
	}
	<-b.client.Lost()
	b.receiver.Set(Accept)
	if err := b.start(); err != nil {
		return err
	}
	return b.works()
}

// end closes the session: the process exits by itself, whatever is under way.
func (b *bench) end() error {
	b.receiver.Set(Hang)
	answered := make(chan sink.Answer, 1)
	go func() { answered <- b.deliver(b.delivery("e-1", "hello"), b.limit) }()
	time.AfterFunc(short, b.client.Close)
	<-answered
	b.receiver.Set(Accept)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(b.limit); time.Now().Before(end); <-tick.C {
		if b.process.Exited() {
			return nil
		}
	}
	return errors.New("the process goes on after its session has ended")
}
