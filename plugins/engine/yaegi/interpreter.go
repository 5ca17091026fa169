package yaegi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/traefik/yaegi/interp"

	"github.com/picloud/picloud/plugins/engine/yaegi/symbols"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
)

// parkPath is the package of the function that an interpreter waits in. No script can import it: it is in no table.
const parkPath = "picloud.internal/park"

// handleFunc is the script's entry point.
type handleFunc = func(*picloud.Context) (any, error)

// interpreter is one loaded script, ready to serve one call at a time.
//
// It is stopped by ending life: the interpreter was loaded under it, and one evaluation is parked under it for as long
// as it lives. yaegi then ends every running frame and every channel operation of the script. After that its functions
// return zero values and no error, so it is never used again.
type interpreter struct {
	handle handleFunc
	stop   context.CancelFunc
	out    *output
	used   time.Time
}

// build makes an interpreter and runs the script's initialisers. It ends when ctx does.
func (s *source) build(ctx context.Context) (*interpreter, error) {
	life, stop := context.WithCancel(context.Background())
	in := &interpreter{stop: stop, out: &output{}}
	abort := context.AfterFunc(ctx, stop)
	err := s.load(life, in)
	if !abort() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		stop()
		return nil, err
	}
	return in, nil
}

func (s *source) load(life context.Context, in *interpreter) (err error) {
	defer func() {
		if p := recover(); p != nil { // the compiler of yaegi panics on some wrong sources
			err = fmt.Errorf("%v", p)
		}
	}()
	i := interp.New(interp.Options{
		Stdin: bytes.NewReader(nil), Stdout: in.out, Stderr: &in.out.trace,
		SourcecodeFilesystem: noFiles{},
	})
	parked := make(chan struct{})
	exports := interp.Exports{
		parkPath + "/park": {"Park": reflect.ValueOf(func() { close(parked); <-life.Done() })},
	}
	for _, path := range s.imports {
		table := symbols.For(path)
		if path == "fmt" {
			table = in.out.virtualise(table)
		}
		exports[exportKey(path)] = table
	}
	if err := i.Use(exports); err != nil {
		return err
	}
	if _, err := i.EvalWithContext(life, s.text); err != nil {
		return err
	}
	handle, err := i.EvalWithContext(life, "main.Handle")
	if err != nil {
		return err
	}
	var ok bool
	if in.handle, ok = handle.Interface().(handleFunc); !ok {
		return fmt.Errorf("the script's Handle is a %s, not a %s", handle.Type(), reflect.TypeFor[handleFunc]())
	}
	if _, err := i.EvalWithContext(life, `import "`+parkPath+`"`); err != nil {
		return err
	}
	go func() { _, _ = i.EvalWithContext(life, "park.Park()") }() // it returns when life ends, with nothing to tell
	select {
	case <-parked:
		return nil
	case <-life.Done():
		return life.Err()
	}
}

// exportKey names a package for yaegi's Use. For fmt the path is spelt in a way that Use cleans but does not recognise
// as its trigger for compiling generic library sources, which costs every interpreter 2 ms and 0.8 MB.
func exportKey(path string) string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	if path == "fmt" {
		return "fmt//fmt"
	}
	return path + "/" + name
}

// noFiles is where a script's imports are looked for beyond the tables: nowhere.
type noFiles struct{}

func (noFiles) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// call runs Handle once. stopped says that ctx ended the run: then the interpreter is of no use any more and the other
// results mean nothing.
func (in *interpreter) call(ctx context.Context, inv *engine.Invocation) (a answer, err error, stopped bool) {
	watch := context.AfterFunc(ctx, in.stop)
	in.out.begin(inv)
	a, err = in.handled(ctx, inv)
	in.out.end()
	return a, err, !watch()
}

// handled calls Handle and makes an answer of what it returns, both under recover: values of a script can run its code.
func (in *interpreter) handled(ctx context.Context, inv *engine.Invocation) (a answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			f := fault.New(fault.ScriptPanic, fault.Script, "the script panicked: %s", describe(p))
			f.Detail = in.out.trace.take()
			err = f
		}
	}()
	value, err := in.handle(picloud.NewContext(&run{ctx, inv}, inv.ExecutionID, inv.Attempt, inv.Event, inv.Body))
	if err != nil {
		return answer{}, fault.New(fault.ScriptError, fault.Script, "%s", err.Error())
	}
	return newAnswer(value)
}

// describe writes a panic's value; one from the interpreter may be a reflect.Value.
func describe(p any) string {
	var ip interp.Panic
	if err, ok := p.(error); ok && errors.As(err, &ip) {
		p = ip.Value
	}
	if v, ok := p.(reflect.Value); ok && v.IsValid() && v.CanInterface() {
		p = v.Interface()
	}
	return fmt.Sprintf("%v", p)
}

// run is the platform as a script sees it.
type run struct {
	ctx context.Context
	inv *engine.Invocation
}

func (r *run) Done() <-chan struct{} { return r.ctx.Done() }

func (r *run) Log(level, message string, data []byte) {
	r.inv.Log(engine.Log{Time: time.Now(), Level: level, Message: message, Data: data})
}

var position = regexp.MustCompile(`(?s)^(?:[\w./-]*?:)?(\d+):(\d+): (.*)$`)

// diagnose finds the place in an error of the interpreter.
func (s *source) diagnose(err error) engine.Diagnostic {
	d := engine.Diagnostic{File: s.name, Message: err.Error()}
	if m := position.FindStringSubmatch(d.Message); m != nil {
		d.Line, _ = strconv.Atoi(m[1])
		d.Column, _ = strconv.Atoi(m[2])
		d.Message = m[3]
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		d.Message = "the script's initialisers did not end in time"
	}
	return d
}

// output is what a script prints: lines go to its log, what the interpreter says of a panic is kept for the fault.
type output struct {
	mu    sync.Mutex
	inv   *engine.Invocation
	trace trace
	rest  []byte
}

func (o *output) begin(inv *engine.Invocation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.inv = inv
}

// end writes a last line without an end.
func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.rest) > 0 {
		o.line(o.rest)
		o.rest = nil
	}
	o.inv = nil
	o.trace.take()
}

func (o *output) line(b []byte) {
	if o.inv != nil {
		o.inv.Log(engine.Log{Time: time.Now(), Level: "info", Message: string(b)})
	}
}

// printedLine bounds a line that a script prints without ending it.
const printedLine = 10_000

// Write takes what a script prints.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(p)
	for {
		line, rest, found := bytes.Cut(p, []byte("\n"))
		if !found {
			o.rest = append(o.rest, p[:min(len(p), max(0, printedLine-len(o.rest)))]...)
			return n, nil
		}
		o.line(append(o.rest, line...))
		o.rest, p = nil, rest
	}
}

// virtualise replaces the functions of fmt that print.
func (o *output) virtualise(table symbols.Table) symbols.Table {
	own := make(symbols.Table, len(table))
	for name, v := range table {
		own[name] = v
	}
	own["Print"] = reflect.ValueOf(func(a ...any) (int, error) { return fmt.Fprint(o, a...) })
	own["Printf"] = reflect.ValueOf(func(f string, a ...any) (int, error) { return fmt.Fprintf(o, f, a...) })
	own["Println"] = reflect.ValueOf(func(a ...any) (int, error) { return fmt.Fprintln(o, a...) })
	return own
}

// trace keeps the first words that the interpreter says of a panic: where in the script it was.
type trace struct {
	mu   sync.Mutex
	text []byte
}

const traceBytes = 2000

func (t *trace) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p[:min(len(p), traceBytes-len(t.text))]...)
	return len(p), nil
}

func (t *trace) take() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(string(t.text))
	t.text = t.text[:0]
	return text
}
