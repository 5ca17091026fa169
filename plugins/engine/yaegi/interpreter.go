package yaegi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/traefik/yaegi/interp"

	"github.com/picloud/picloud/plugins/engine/yaegi/symbols"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
	"github.com/picloud/picloud/sdk/script"
	"github.com/picloud/picloud/sdk/watch"
)

// The function that an interpreter waits in, and the program that calls it: a package of its own, so that nothing that
// the script declares can be in its way. No script can import it, as it is in no table.
const (
	parkPath    = "picloud.internal/park"
	parkProgram = "package parked\nimport \"" + parkPath + "\"\nfunc init() { park.Park() }"
)

// ownName is what the script is called where its Handle is looked up.
const ownName = "picown"

// handleFunc is the script's entry point.
type handleFunc = func(*picloud.Context) (any, error)

// interpreter is one loaded script, ready to serve one call at a time.
//
// It is stopped by ending life: the interpreter was loaded under it, and one evaluation is parked under it for as long
// as it lives. yaegi then ends every running frame and every channel operation of the script. After that its functions
// return zero values and no error, so it is never used again.
type interpreter struct {
	source   *source
	handle   handleFunc
	stop     context.CancelFunc
	out      *output
	ready    atomic.Bool // its initialisers have ended
	children children
	inHost   atomic.Int32 // calls of the host that the script waits for

	mu   sync.Mutex
	over *fault.Fault // why it was stopped, where that was not the end of the run's time
}

// Close ends it.
func (in *interpreter) Close() { in.stop() }

// Fail ends what the script does, for a reason that its author has to know. The first one counts.
func (in *interpreter) Fail(f *fault.Fault) {
	in.mu.Lock()
	if in.over == nil {
		in.over = f
	}
	in.mu.Unlock()
	in.stop()
}

func (in *interpreter) failed() *fault.Fault {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.over
}

// Waits reports whether the script waits for the host.
func (in *interpreter) Waits() bool { return in.inHost.Load() > 0 && in.children.left() == nil }

// build makes an interpreter and runs the script's initialisers. It ends when ctx does.
func (s *source) build(ctx context.Context) (*interpreter, error) {
	ended := s.watch.Ended()
	in, err := s.attempt(ctx)
	if f := (*fault.Fault)(nil); ended && errors.As(err, &f) && f.Kind == fault.Limit && ctx.Err() == nil {
		return s.attempt(ctx) // what was taken may have been that run's; the watch bears with it now
	}
	return in, err
}

func (s *source) attempt(ctx context.Context) (*interpreter, error) {
	life, stop := context.WithCancel(context.Background())
	in := &interpreter{source: s, stop: stop, out: &output{}}
	abort := context.AfterFunc(ctx, stop)
	s.enter(in)
	err := s.load(life, in)
	s.watch.Leave(in)
	in.ready.Store(true)
	if !abort() {
		err = context.Cause(ctx)
	}
	if f := in.failed(); f != nil {
		err = f
	}
	if err != nil {
		stop()
		return nil, err
	}
	return in, nil
}

func (s *source) enter(in *interpreter) {
	s.watch.Enter(in, watch.Limits{Memory: s.limits.Memory, CPU: s.limits.CPU})
}

func (s *source) load(life context.Context, in *interpreter) (err error) {
	defer func() {
		if p := recover(); p != nil { // the compiler of yaegi panics on some wrong sources
			err = fmt.Errorf("%v", p)
		}
	}()
	i := interp.New(interp.Options{
		Stdin: bytes.NewReader(nil), Stdout: in.out, Stderr: &in.out.trace,
		SourcecodeFilesystem: files(s.packages),
	})
	// Park waits for the evaluation around it to be given up. If it ended with life itself, the evaluation might be found at its
	// end instead, and nothing would be stopped.
	parked, released := make(chan struct{}), make(chan struct{})
	exports := in.out.exports(s.imports)
	exports[runPath+"/run"] = symbols.Table{
		"Go": reflect.ValueOf(in.spawn), "Size": reflect.ValueOf(size), "Grow": reflect.ValueOf(grow), "Add": reflect.ValueOf(add),
		"Alive": reflect.ValueOf(func() {
			if err := life.Err(); err != nil {
				panic(err)
			}
		}),
	}
	exports[parkPath+"/park"] = symbols.Table{"Park": reflect.ValueOf(func() { close(parked); <-released })}
	if err := i.Use(exports); err != nil {
		return err
	}
	own := s.packages[len(s.packages)-1]
	if _, err := i.EvalWithContext(life, "import "+ownName+" \""+own.path+"\""); err != nil {
		if p := (interp.Panic{}); errors.As(err, &p) {
			place, _, _ := strings.Cut(in.out.trace.take(), " ")
			return fmt.Errorf("%s the script panicked when it was loaded: %s", place, describe(p))
		}
		return err
	}
	if own.types.Name() != "main" {
		return nil // a module; nothing will be called
	}
	handle, err := i.EvalWithContext(life, ownName+".Handle")
	if err != nil {
		return err
	}
	var ok bool
	if in.handle, ok = handle.Interface().(handleFunc); !ok {
		return fmt.Errorf("the script's Handle is a %s, not a %s", handle.Type(), reflect.TypeFor[handleFunc]())
	}
	go func() {
		defer close(released)
		_, _ = i.EvalWithContext(life, parkProgram) // it returns when life ends, with nothing to tell
	}()
	select {
	case <-parked:
		return nil
	case <-life.Done():
		return life.Err()
	}
}

// call runs Handle once, and ends the goroutines that it leaves. stopped says that the interpreter is of no use any more:
// if that is for the end of ctx, which over says, then the other results mean nothing.
func (in *interpreter) call(ctx context.Context, inv *engine.Invocation) (a script.Answer, stopped, over bool, err error) {
	run, cancel := context.WithCancel(ctx) // what Handle leaves behind must not sleep on
	defer cancel()
	ended := context.AfterFunc(ctx, in.stop)
	in.source.enter(in)
	defer in.source.watch.Leave(in)
	in.out.begin(inv)
	a, err = in.handled(run, inv)
	if f := (*fault.Fault)(nil); errors.As(err, &f) && f.Kind == fault.Limit { // it asked for too much, in steps that were half of that
		in.source.watch.Spent()
	}
	if left := in.children.left(); left != nil {
		stopped = true
		in.stop()
		cancel()
		<-left
	}
	in.out.end()
	over = !ended()
	if f := in.failed(); f != nil && !over {
		return a, true, false, f
	}
	return a, stopped || over, over, err
}

// handled calls Handle and makes an answer of what it returns, both under recover: values of a script can run its code.
func (in *interpreter) handled(ctx context.Context, inv *engine.Invocation) (a script.Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = in.panicked(p, "the script panicked")
		}
	}()
	value, err := in.handle(picloud.NewContext(&run{ctx, inv, &in.inHost}, inv.ExecutionID, inv.Attempt, inv.Event, inv.Body))
	if err != nil {
		return script.Answer{}, picloud.Failed(err)
	}
	return script.NewAnswer(value, in.source.limits.BodyBytes, marshal)
}

// panicked is the fault of a panic. One that is a fault comes from us.
func (in *interpreter) panicked(p any, what string) *fault.Fault {
	var f *fault.Fault
	if err, ok := cause(p).(error); ok && errors.As(err, &f) {
		return f
	}
	f = fault.New(fault.ScriptPanic, fault.Script, "%s: %s", what, describe(p))
	f.Detail = in.source.locate(in.out.trace.take())
	return f
}

// cause is what a script panicked with; what comes from the interpreter may be wrapped.
func cause(p any) any {
	var ip interp.Panic
	if err, ok := p.(error); ok && errors.As(err, &ip) {
		p = ip.Value
	}
	if v, ok := p.(reflect.Value); ok && v.IsValid() && v.CanInterface() {
		p = v.Interface()
	}
	return p
}

// describe writes a panic's value.
func describe(p any) string {
	v := plain(cause(p))
	switch kind := reflect.ValueOf(v).Kind(); kind {
	case reflect.Map, reflect.Slice, reflect.Array, reflect.Struct, reflect.Pointer, reflect.Interface:
		if _, ok := v.(error); ok {
			break
		}
		text, err := json.Marshal(v) // fmt would follow a value that holds itself until the process has no stack left
		if err != nil {
			return fmt.Sprintf("a value of type %T", v)
		}
		return string(text)
	}
	return fmt.Sprintf("%v", v)
}

// run is the platform as a script sees it.
type run struct {
	ctx    context.Context
	inv    *engine.Invocation
	inHost *atomic.Int32
}

func (r *run) Done() <-chan struct{} { return r.ctx.Done() }

// Deadline is part of picloud.Limited.
func (r *run) Deadline() (time.Time, bool) { return r.ctx.Deadline() }

func (r *run) Call(service, method string, args []byte) ([]byte, error) {
	r.inHost.Add(1)
	defer r.inHost.Add(-1)
	return r.inv.Call(r.ctx, service, method, args)
}

func (r *run) JSON(v any) ([]byte, error) { return marshal(v) }

func (r *run) Log(level, message string, data []any) {
	l := engine.Log{Time: time.Now(), Level: level, Message: message}
	if len(data) > 0 {
		var value any = data
		if len(data) == 1 {
			value = data[0]
		}
		value = plain(value)
		var err error
		if l.Data, err = json.Marshal(value); err != nil {
			// fmt would follow a value that holds itself until the process has no stack left.
			l.Data, _ = json.Marshal("not logged: " + err.Error()) // text always encodes
		}
	}
	r.inv.Log(l)
}

// locate puts the names and places of the author's text into what the interpreter says, which are those of the text that it reads.
func (s *source) locate(text string) string {
	text = places.ReplaceAllStringFunc(text, func(at string) string {
		f, line, column := s.place(places.FindStringSubmatch(at))
		if f == nil {
			return at
		}
		return fmt.Sprintf("%s:%d:%d: ", f.name, line, column)
	})
	return names.ReplaceAllStringFunc(text, func(name string) string {
		n, _ := strconv.Atoi(names.FindStringSubmatch(name)[1])
		if n >= len(s.packages) {
			return name
		}
		return s.packages[n].types.Name() + "."
	})
}

var (
	// places are those of the interpreter: a package, a file, line and column. Some follow where the package is imported.
	places = regexp.MustCompile(`(?:\d+:\d+: import "[^"]*" error: )?[\w./-]*` + packagePrefix + `(\d+)/` + filePrefix + `(\d+)\.go:(\d+):(\d+): `)
	// names are those of packages before what they declare.
	names = regexp.MustCompile(`\b` + packagePrefix + `(\d+)\.`)
)

// place returns the file that a match of places is in, and where.
func (s *source) place(match []string) (f *file, line, column int) {
	var n [4]int
	for i := range n {
		n[i], _ = strconv.Atoi(match[i+1])
	}
	if n[0] >= len(s.packages) || n[1] >= len(s.packages[n[0]].files) {
		return nil, 0, 0
	}
	f = s.packages[n[0]].files[n[1]]
	line, column = f.place(n[2], n[3])
	return f, line, column
}

// diagnose finds the place in an error of the interpreter: the last that it names, as those before import it.
func (s *source) diagnose(err error) engine.Diagnostic {
	d := engine.Diagnostic{File: s.packages[len(s.packages)-1].files[0].name, Message: err.Error()}
	if all := places.FindAllStringSubmatchIndex(d.Message, -1); all != nil {
		last := all[len(all)-1]
		if f, line, column := s.place(places.FindStringSubmatch(d.Message[last[0]:])); f != nil {
			d.File, d.Line, d.Column = f.name, line, column
			d.Message = d.Message[last[1]:]
		}
	}
	d.Message = s.locate(d.Message)
	if errors.Is(err, context.DeadlineExceeded) {
		d.Message = "the script's initialisers did not end in time"
	}
	return d
}
