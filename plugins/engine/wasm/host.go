package wasm

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud/guest"
)

// hostModule is the name under which modules import the host's functions.
const hostModule = "picloud"

const (
	logMessage = 1 << 20 // bytes that are read of a log line; one as long is dropped, as too long
	nameBytes  = 1 << 10 // of a service and its method; there are none with longer names
)

var levels = []string{"trace", "debug", "info", "warn", "error"}

// runKey is where the context of a call carries its run.
type runKey struct{}

// hostFunctions builds the host's functions. See the doc comment of the package for what they do.
func hostFunctions(r wazero.Runtime) wazero.HostModuleBuilder {
	b := r.NewHostModuleBuilder(hostModule)
	for name, f := range map[string]struct {
		params  int
		results int
		call    func(*run, api.Memory, []uint64) uint32
	}{
		"input":  {2, 1, (*run).hostInput},
		"output": {2, 0, (*run).hostOutput},
		"log":    {5, 0, (*run).hostLog},
		"call":   {6, 1, (*run).hostCall},
		"result": {2, 1, (*run).hostResult},
		"sleep":  {1, 0, (*run).hostSleep},
	} {
		params, results := make([]api.ValueType, f.params), make([]api.ValueType, f.results)
		for i := range params {
			params[i] = api.ValueTypeI32
		}
		for i := range results {
			results[i] = api.ValueTypeI32
		}
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, m api.Module, stack []uint64) {
			x := ctx.Value(runKey{}).(*run)
			if x.in.memory.space == nil {
				panic(fault.New(fault.ScriptPanic, fault.Script, "%s.%s was called by a module that has no memory", hostModule, name))
			}
			x.alive()
			result := f.call(x, m.Memory(), stack)
			x.alive()
			if f.results > 0 {
				stack[0] = uint64(result)
			}
		}), params, results).Export(name)
	}
	return b
}

// alive ends the module's code if the run is over.
func (x *run) alive() {
	if x.ctx.Err() != nil {
		panic(context.Cause(x.ctx))
	}
}

// view returns a piece of the module's memory, which it may change later. A piece that is not there ends the run.
func view(m api.Memory, at, size uint64) []byte {
	b, ok := m.Read(uint32(at), uint32(size))
	if !ok {
		panic(fault.New(fault.ScriptPanic, fault.Script,
			"the host was given %d bytes at %#x, which are not in the module's memory of %d bytes", uint32(size), uint32(at), m.Size()))
	}
	return b
}

// give copies as much of b as there is room for, and returns the length of all of it.
func give(m api.Memory, at, size uint64, b []byte) uint32 {
	copy(view(m, at, size), b)
	return uint32(len(b))
}

func (x *run) hostInput(m api.Memory, p []uint64) uint32 { return give(m, p[0], p[1], x.input) }

func (x *run) hostOutput(m api.Memory, p []uint64) uint32 {
	if _, err := x.output.Write(view(m, p[0], p[1])); err != nil {
		panic(err)
	}
	return 0
}

func (x *run) hostLog(m api.Memory, p []uint64) uint32 {
	message, data := view(m, p[1], p[2]), view(m, p[3], p[4])
	level := uint32(p[0]) // as with all parameters, the upper half means nothing
	if level >= uint32(len(levels)) {
		panic(fault.New(fault.ScriptPanic, fault.Script, "there is no log level %d", level))
	}
	l := engine.Log{
		Time: time.Now(), Level: levels[level],
		Message: strings.ToValidUTF8(string(message[:min(len(message), logMessage)]), "\uFFFD"),
	}
	switch {
	case len(data) == 0:
	case len(data) <= logMessage && json.Valid(data):
		l.Data = append([]byte(nil), data...)
	default:
		l.Data = fmt.Appendf(nil, "%q", "not logged: the data is not JSON, or too long")
	}
	x.inv.Log(l)
	return 0
}

// hostCall calls a service. Its result is 0, or 1 if the service refuses.
func (x *run) hostCall(m api.Memory, p []uint64) uint32 {
	service, method, args := view(m, p[0], p[1]), view(m, p[2], p[3]), view(m, p[4], p[5])
	x.result = nil
	err := error(fault.New(fault.NotFound, fault.Script, "there is no such service"))
	if len(service)+len(method) <= nameBytes {
		x.inHost.Add(1)
		x.result, err = x.inv.Call(x.ctx, string(service), string(method), args)
		x.inHost.Add(-1)
	}
	if err == nil {
		return 0
	}
	x.alive()
	f := fault.From(err)
	x.result, err = json.Marshal(guest.Refusal{Code: string(f.Kind), Message: f.Message, RetryAfterMS: f.RetryAfter.Milliseconds()})
	if err != nil { // two texts and a number have a form
		panic(err)
	}
	return 1
}

func (x *run) hostResult(m api.Memory, p []uint64) uint32 { return give(m, p[0], p[1], x.result) }

func (x *run) hostSleep(_ api.Memory, p []uint64) uint32 {
	x.sleep(time.Duration(uint32(p[0])) * time.Millisecond)
	return 0
}

// sleep waits, at most until the run is over.
func (x *run) sleep(d time.Duration) {
	x.inHost.Add(1)
	defer x.inHost.Add(-1)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-x.ctx.Done():
	}
}
