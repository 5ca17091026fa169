package yaegi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/traefik/yaegi/interp"

	"github.com/picloud/picloud/plugins/engine/yaegi/symbols"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
)

// The function that an interpreter waits in, and the program that calls it: a package of its own, so that nothing that
// the script declares can be in its way. No script can import it, as it is in no table.
const (
	parkPath    = "picloud.internal/park"
	parkProgram = "package parked\nimport \"" + parkPath + "\"\nfunc init() { park.Park() }"
)

// handleFunc is the script's entry point.
type handleFunc = func(*picloud.Context) (any, error)

// interpreter is one loaded script, ready to serve one call at a time.
//
// It is stopped by ending life: the interpreter was loaded under it, and one evaluation is parked under it for as long
// as it lives. yaegi then ends every running frame and every channel operation of the script. After that its functions
// return zero values and no error, so it is never used again.
type interpreter struct {
	source *source
	handle handleFunc
	stop   context.CancelFunc
	out    *output
	used   time.Time
}

// build makes an interpreter and runs the script's initialisers. It ends when ctx does.
func (s *source) build(ctx context.Context) (*interpreter, error) {
	life, stop := context.WithCancel(context.Background())
	in := &interpreter{source: s, stop: stop, out: &output{}}
	abort := context.AfterFunc(ctx, stop)
	err := s.load(life, in)
	if !abort() {
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
	exports := in.out.exports(s.imports)
	exports[parkPath+"/park"] = symbols.Table{"Park": reflect.ValueOf(func() { close(parked); <-life.Done() })}
	if err := i.Use(exports); err != nil {
		return err
	}
	if _, err := i.EvalWithContext(life, s.text); err != nil {
		if p := (interp.Panic{}); errors.As(err, &p) {
			place, _, _ := strings.Cut(in.out.trace.take(), " ")
			return fmt.Errorf("%s the script panicked when it was loaded: %s", place, describe(p))
		}
		return err
	}
	handle, err := i.EvalWithContext(life, "Handle") // main.Handle would be a field of func main, if there is one
	if err != nil {
		return err
	}
	var ok bool
	if in.handle, ok = handle.Interface().(handleFunc); !ok {
		return fmt.Errorf("the script's Handle is a %s, not a %s", handle.Type(), reflect.TypeFor[handleFunc]())
	}
	go func() { _, _ = i.EvalWithContext(life, parkProgram) }() // it returns when life ends, with nothing to tell
	select {
	case <-parked:
		return nil
	case <-life.Done():
		return life.Err()
	}
}

// noFiles is where a script's imports are looked for beyond the tables: nowhere.
type noFiles struct{}

func (noFiles) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// call runs Handle once. stopped says that ctx ended the run: then the interpreter is of no use any more and the other
// results mean nothing.
func (in *interpreter) call(ctx context.Context, inv *engine.Invocation) (a answer, err error, stopped bool) {
	if in.source.spawns {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx) // what Handle leaves behind must not sleep on
		defer cancel()
	}
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
		return answer{}, picloud.Failed(err)
	}
	return newAnswer(value, in.source.limit)
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
	v := plain(p)
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
	ctx context.Context
	inv *engine.Invocation
}

func (r *run) Done() <-chan struct{} { return r.ctx.Done() }

func (r *run) Call(service, method string, args []byte) ([]byte, error) {
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

var position = regexp.MustCompile(`(?s)^(?:[\w./-]*?:)?(\d+):(\d+): (.*)$`)

// diagnose finds the place in an error of the interpreter.
func (s *source) diagnose(err error) engine.Diagnostic {
	d := engine.Diagnostic{File: s.name, Message: err.Error()}
	if m := position.FindStringSubmatch(d.Message); m != nil {
		d.Line, _ = strconv.Atoi(m[1])
		d.Column, _ = strconv.Atoi(m[2])
		d.Message = m[3]
	}
	if errors.Is(err, context.DeadlineExceeded) {
		d.Message = "the script's initialisers did not end in time"
	}
	return d
}
