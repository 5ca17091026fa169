package enginetest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// Suite is what an engine brings to Run. Bundle is a script which does what the request's body says and answers with
// status 200:
//
//	echo TEXT   answers TEXT         fail TEXT    fails in the script's way, with TEXT in the message
//	log TEXT    logs TEXT at info    panic TEXT   fails in the worst way a script has, with TEXT in the message
//	wait        never ends           flood N      answers N bytes
//	retry TEXT  fails like fail, and asks to be tried again after 90 s
//	fatal TEXT  fails like fail, and says that trying again cannot help
//	send TEXT   sends TEXT to the script "other" and answers the id that it is told; fails with what the platform says
//	batch       a batch of events: those whose data begins with "bad" fail, fatally, with their data as the error
//
// What is echoed may be any bytes.
type Suite struct {
	New    func() engine.Engine
	Bundle engine.Bundle
	// Broken is a script that does not compile, for a reason at Line and Column of its first file.
	Broken       engine.Bundle
	Line, Column int
	// Importer is like Bundle for echo. It imports the module "shared", which is its only one, itself, and needs it to answer.
	// An engine whose scripts cannot import has none. A module that is missing is a diagnostic at the import, which names those
	// that there are, see script.NoModule; what is wrong in a module is one in the module's file.
	Importer engine.Bundle
}

// Run checks an engine against the contract of engine.Engine, through a session like that of a plugin process.
func Run(t *testing.T, s Suite) {
	t.Run("Info", s.info)
	t.Run("Answers", s.answers)
	t.Run("Failures", s.failures)
	t.Run("Ends", s.ends)
	t.Run("Logs", s.logs)
	t.Run("Wishes", s.wishes)
	t.Run("Calls", s.calls)
	t.Run("Batch", s.batch)
	t.Run("Diagnostics", s.diagnostics)
	if s.Importer.Files != nil {
		t.Run("Modules", s.modules)
	}
	t.Run("Parallel", s.parallel)
	t.Run("LoadTwice", s.loadTwice)
	t.Run("Unload", s.unload)
}

// ready is an engine that has loaded the suite's bundle.
func (s Suite) ready(t *testing.T) *engine.Client {
	t.Parallel()
	c := Dial(t, s.New())
	s.load(t, c)
	t.Cleanup(func() { // ends what the engine keeps running for the bundle
		if err := c.Unload(context.Background(), s.Bundle.Hash); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (s Suite) load(t *testing.T, c *engine.Client) {
	t.Helper()
	if loaded, err := c.Load(t.Context(), s.Bundle); err != nil {
		t.Fatalf("load: %v %+v", err, loaded.Diagnostics)
	}
}

// works checks that the engine still answers.
func (s Suite) works(t *testing.T, c *engine.Client) {
	t.Helper()
	var a Answer
	if err := c.Invoke(t.Context(), Request(t, s.Bundle.Hash, "echo again"), &a); err != nil || a.Body() != "again" {
		t.Errorf("the next call: %q, %v", a.Body(), err)
	}
}

func (s Suite) info(t *testing.T) {
	t.Parallel()
	want := s.New().Info()
	got := Dial(t, s.New()).Info()
	if want.Name == "" || want.Version == "" || want.SDKVersion == "" {
		t.Errorf("it does not say what it is: %+v", want)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v, not %+v", got, want)
	}
}

func (s Suite) answers(t *testing.T) {
	c := s.ready(t)
	for _, text := range []string{"hello", "a b c", "ünïcode ✓", "\x00\xff\xfe", strings.Repeat("x", 300<<10)} {
		var a Answer
		if err := c.Invoke(t.Context(), Request(t, s.Bundle.Hash, "echo "+text), &a); err != nil {
			t.Fatal(err)
		}
		if h := a.Heads(); len(h) != 1 || h[0].Status != 200 || a.Body() != text {
			t.Errorf("%+v, %d bytes of %d", h, len(a.Body()), len(text))
		}
	}
	const large = 5 << 20 // five windows
	var a Answer
	if err := c.Invoke(t.Context(), Request(t, s.Bundle.Hash, fmt.Sprint("flood ", large)), &a); err != nil || len(a.Body()) != large {
		t.Errorf("%d bytes, %v", len(a.Body()), err)
	}
}

func (s Suite) failures(t *testing.T) {
	c := s.ready(t)
	for _, command := range []string{"fail", "panic"} {
		err := c.Invoke(t.Context(), Request(t, s.Bundle.Hash, command+" no-luck"), &Answer{})
		if f := fault.From(err); f == nil || f.Kind == fault.EngineLost || !strings.Contains(f.Message, "no-luck") {
			t.Errorf("%s: %+v", command, f)
		} else if command == "fail" && (f.Kind != fault.ScriptError || f.Origin != fault.Script) {
			t.Errorf("%s is not the script's: %+v", command, f)
		}
		s.works(t, c)
	}
}

// ends checks that a run which would never end does, at its deadline and when it is cancelled, and that nothing of it is
// left: the test hangs on an engine that goes on.
func (s Suite) ends(t *testing.T) {
	runs := make(chan *observed, 8)
	create := s.New
	s.New = func() engine.Engine { return observer{create(), runs} }
	c := s.ready(t)
	var f *fault.Fault
	for limit := 30 * time.Millisecond; len(runs) == 0; limit *= 2 { // it has not come as far as the engine
		soon, stop := context.WithTimeout(t.Context(), limit)
		f = fault.From(c.Invoke(soon, Request(t, s.Bundle.Hash, "wait"), &Answer{}))
		stop()
	}
	if f == nil || f.Kind != fault.Deadline || f.Origin != fault.Script {
		t.Errorf("at the deadline: %+v", f)
	}
	s.works(t, c)
	for range 2 {
		<-(<-runs).ended
	}

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Invoke(ctx, Request(t, s.Bundle.Hash, "wait"), &Answer{}) }()
	run := <-runs
	s.works(t, c) // meanwhile
	cancel()
	if f := fault.From(<-ended); f == nil || f.Kind != fault.Cancelled {
		t.Errorf("when cancelled: %+v", f)
	}
	<-run.ended
	s.works(t, c)
}

// observer tells of the runs of an engine.
type observer struct {
	engine.Engine
	runs chan<- *observed
}

type observed struct{ ended chan struct{} } // closed when Invoke has returned

func (o observer) Invoke(ctx context.Context, inv *engine.Invocation, out engine.Reply) error {
	run := &observed{ended: make(chan struct{})}
	defer close(run.ended)
	o.runs <- run
	return o.Engine.Invoke(ctx, inv, out)
}

func (s Suite) logs(t *testing.T) {
	c := s.ready(t)
	r := Request(t, s.Bundle.Hash, "log one two")
	var lines []engine.Log
	r.Log = func(l []engine.Log) { lines = append(lines, l...) }
	if err := c.Invoke(t.Context(), r, &Answer{}); err != nil {
		t.Fatal(err)
	}
	if len(lines) != 1 || lines[0].Message != "one two" || lines[0].Level != "info" || lines[0].Time.IsZero() {
		t.Errorf("%+v", lines)
	}
}

// wishes checks that a script has a say in what follows its failure.
func (s Suite) wishes(t *testing.T) {
	c := s.ready(t)
	for command, want := range map[string]fault.Fault{
		"retry": {RetryAfter: 90 * time.Second}, "fatal": {Fatal: true}, "fail": {},
	} {
		err := c.Invoke(t.Context(), Request(t, s.Bundle.Hash, command+" no-luck"), &Answer{})
		f := fault.From(err)
		if f == nil || f.Kind != fault.ScriptError || f.Origin != fault.Script || !strings.Contains(f.Message, "no-luck") ||
			f.RetryAfter != want.RetryAfter || f.Fatal != want.Fatal {
			t.Errorf("%s: %+v", command, f)
		}
	}
}

// calls checks that a script reaches the host's services, and learns what they refuse.
func (s Suite) calls(t *testing.T) {
	c := s.ready(t)
	r := Request(t, s.Bundle.Hash, "send some ünïcode")
	r.Call = func(_ context.Context, service, method string, args []byte) ([]byte, error) {
		var in struct{ Script, Data string }
		if err := json.Unmarshal(args, &in); err != nil {
			return nil, err
		}
		if service+"."+method != "invoke.send" || in.Script != "other" || in.Data != "some ünïcode" {
			t.Errorf("asked for %s.%s %s", service, method, args)
		}
		return []byte(`{"id":"e7"}`), nil
	}
	var a Answer
	if err := c.Invoke(t.Context(), r, &a); err != nil || a.Body() != "e7" {
		t.Errorf("%q, %v", a.Body(), err)
	}
	r = Request(t, s.Bundle.Hash, "send x")
	r.Call = func(context.Context, string, string, []byte) ([]byte, error) {
		return nil, fault.New(fault.LoopDepth, fault.Script, "in-a-circle")
	}
	err := c.Invoke(t.Context(), r, &Answer{})
	if f := fault.From(err); f == nil || f.Origin != fault.Script || !strings.Contains(f.Message, "in-a-circle") {
		t.Errorf("refused: %+v", f)
	}
	s.works(t, c)
}

// batch checks that a run for several events can fail for some of them.
func (s Suite) batch(t *testing.T) {
	c := s.ready(t)
	body := event.Batch{}
	for id, data := range []string{"good", "bad one", "bad \xff"} {
		body.Items = append(body.Items, event.NewBatchItem(fmt.Sprint(id), 1, &event.Envelope{ID: "e"}, []byte(data)))
	}
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r := Request(t, s.Bundle.Hash, string(data))
	if r.Envelope, err = (&event.Envelope{ID: "e1", Source: "queue", Type: event.BatchType}).Marshal(); err != nil {
		t.Fatal(err)
	}
	var a Answer
	if err := c.Invoke(t.Context(), r, &a); err != nil {
		t.Fatal(err)
	}
	kind := ""
	for _, h := range a.Heads()[0].Headers {
		if strings.EqualFold(h.Name, "Content-Type") {
			kind = h.Value
		}
	}
	result, err := event.ParseBatchResult([]byte(a.Body()))
	if err != nil || kind != event.BatchContentType || len(result.Failures) != 2 {
		t.Fatalf("%q %s, %v", kind, a.Body(), err)
	}
	for i, f := range result.Failures {
		if f.ID != fmt.Sprint(i+1) || !f.Fatal || !strings.HasPrefix(f.Error, "bad ") {
			t.Errorf("%+v", f)
		}
	}
}

func (s Suite) diagnostics(t *testing.T) {
	c := s.ready(t)
	loaded, err := c.Load(t.Context(), s.Broken)
	if f := fault.From(err); f == nil || f.Kind != fault.Compile || f.Origin != fault.Script || f.Message == "" {
		t.Errorf("%+v", f)
	}
	if len(loaded.Diagnostics) == 0 {
		t.Fatal("nothing says where")
	}
	d := loaded.Diagnostics[0]
	if d.File != s.Broken.Files[0].Name || d.Line != s.Line || d.Column != s.Column || d.Message == "" || d.Warning {
		t.Errorf("%+v", d)
	}
	if err := c.Invoke(t.Context(), Request(t, s.Broken.Hash, "echo"), &Answer{}); err == nil {
		t.Error("a script that does not compile ran")
	}
	s.works(t, c)
}

// modules checks that imports are found and reported, and that a module is a bundle, too, to be checked.
func (s Suite) modules(t *testing.T) {
	c := s.ready(t)
	const name = "shared"
	unused := engine.Module{Name: "unused", Files: s.Broken.Files}
	whole := s.Importer
	whole.Modules = append([]engine.Module{unused}, whole.Modules...)
	loaded, err := c.Load(t.Context(), whole)
	if err != nil || !slices.Equal(loaded.Imports, []string{name}) {
		t.Fatalf("%+v, %v", loaded, err)
	}
	var a Answer
	if err := c.Invoke(t.Context(), Request(t, whole.Hash, "echo hello"), &a); err != nil || a.Body() != "hello" {
		t.Errorf("%q, %v", a.Body(), err)
	}
	t.Cleanup(func() { _ = c.Unload(context.Background(), whole.Hash) })

	alone := engine.Bundle{Hash: "alone", Script: name, Module: true, Files: s.Importer.Modules[0].Files, Modules: whole.Modules}
	if loaded, err := c.Load(t.Context(), alone); err != nil || len(loaded.Imports) > 0 {
		t.Errorf("the module itself: %+v, %v", loaded, err)
	}
	if err := c.Unload(t.Context(), alone.Hash); err != nil {
		t.Error(err)
	}

	for what, modules := range map[string][]engine.Module{
		"missing": {unused}, "wrong": {{Name: name, Files: s.Broken.Files}},
	} {
		b := s.Importer
		b.Hash, b.Modules = what, modules
		loaded, err := c.Load(t.Context(), b)
		if f := fault.From(err); f == nil || f.Kind != fault.Compile || len(loaded.Diagnostics) == 0 {
			t.Errorf("with a module that is %s: %+v, %v", what, loaded, err)
			continue
		}
		d := loaded.Diagnostics[0]
		if !slices.Equal(loaded.Imports, []string{name}) || d.Line == 0 || d.Column == 0 {
			t.Errorf("with a module that is %s: %+v", what, loaded)
		}
		in := b.Files[0].Name // the place is that of the import, or in the module
		if what == "wrong" {
			in = name + "/" + s.Broken.Files[0].Name
		} else if !strings.Contains(d.Message, "unused") {
			t.Errorf("it does not say which modules there are: %q", d.Message)
		}
		if d.File != in {
			t.Errorf("with a module that is %s: in %q, not %q", what, d.File, in)
		}
	}
	s.works(t, c)
}

// parallel checks that runs do not see one another.
func (s Suite) parallel(t *testing.T) {
	c := s.ready(t)
	var all sync.WaitGroup
	for caller := range 8 {
		all.Go(func() {
			for i := range 16 {
				text := fmt.Sprint(caller, "/", i)
				var a Answer
				if i%4 == 3 {
					err := c.Invoke(t.Context(), Request(t, s.Bundle.Hash, "fail "+text), &a)
					if f := fault.From(err); f == nil || !strings.Contains(f.Message, text) {
						t.Errorf("%s: %v", text, err)
					}
					continue
				}
				if err := c.Invoke(t.Context(), Request(t, s.Bundle.Hash, "echo "+text), &a); err != nil || a.Body() != text {
					t.Errorf("%s: %q, %v", text, a.Body(), err)
				}
			}
		})
	}
	all.Wait()
}

func (s Suite) loadTwice(t *testing.T) {
	c := s.ready(t)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if loaded, err := c.Load(t.Context(), s.Bundle); err != nil || len(loaded.Diagnostics) > 0 {
				t.Errorf("%v %+v", err, loaded)
			}
		})
	}
	all.Wait()
	s.works(t, c)
}

func (s Suite) unload(t *testing.T) {
	c := s.ready(t)
	refused := func(hash string) {
		t.Helper()
		err := c.Invoke(t.Context(), Request(t, hash, "echo"), &Answer{})
		if f := fault.From(err); f == nil || f.Origin == fault.Script || f.Kind == fault.EngineLost {
			t.Errorf("an unknown bundle: %+v", f)
		}
	}
	refused("unknown")
	for _, hash := range []string{"unknown", s.Bundle.Hash, s.Bundle.Hash} {
		if err := c.Unload(t.Context(), hash); err != nil {
			t.Error(err)
		}
	}
	refused(s.Bundle.Hash)
	s.load(t, c)
	s.works(t, c)
}
