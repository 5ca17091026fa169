package js

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"modernc.org/quickjs"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
)

// stackSlots bounds how deep calls are nested: as many functions of a script, or a third of that where they are called by what
// is built in, take 8 MB of stack. Tests lower it where the compiler makes frames that are many times as large.
var stackSlots uintptr = 5000

// machine is an interpreter that has loaded a script, ready to serve one call at a time. Nothing of it may be used by two
// goroutines at once, but for native.memory and the interrupt.
type machine struct {
	program *program
	vm      *quickjs.VM
	native  *native
	turn    quickjs.Value // the function of the prelude
	run     *run          // who is served
}

// build makes an interpreter and runs what stands outside of functions. It ends when ctx does. Errors are faults.
func (p *program) build(ctx context.Context) (*machine, error) {
	m := &machine{program: p}
	r := newRun(ctx, p, &noInvocation)
	err := r.guard(func() error {
		if err := m.start(); err != nil {
			return fmt.Errorf("start an interpreter: %w", err)
		}
		code, err := m.vm.EvalBytecodeValue(p.code)
		if err != nil {
			return err
		}
		defer code.Free()
		return r.serve(m, "load", picloud.Version, services(), code)
	})
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// start makes the interpreter with what every script finds.
func (m *machine) start() error {
	code, err := preludeCode()
	if err != nil {
		return err
	}
	if m.vm, err = quickjs.NewVM(); err != nil {
		return err
	}
	if m.native, err = newNative(m.vm); err != nil {
		return err
	}
	m.native.watchRejections()
	m.native.watchMemory()
	m.vm.SetMemoryLimit(uintptr(m.program.memory))
	m.vm.SetMaxStackSize(stackSlots)
	if err := m.vm.RegisterHostFunc("$host", m.host); err != nil {
		return err
	}
	m.turn, err = m.vm.EvalBytecodeValue(code)
	return err
}

// host is what the prelude calls.
func (m *machine) host(args []any) (any, error) {
	if m.run == nil || len(args) == 0 {
		return nil, errors.New("there is no run")
	}
	which, _ := args[0].(int)
	return m.run.asked(which, args[1:])
}

// memory is what the interpreter holds, in bytes.
func (m *machine) Holds() int { return m.native.memory() }

// close gives the interpreter up. One that panicked keeps what it holds: it may not be touched.
func (m *machine) Close() {
	defer func() {
		if recover() != nil {
			return // a defect of the interpreter; what it held is lost
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if m.vm == nil {
		return
	}
	vm := m.vm
	m.vm = nil
	if m.turn.VM() != nil {
		m.turn.Free()
	}
	if m.native != nil {
		m.native.release()
	}
	_ = vm.Close() // it has no error to tell
}

// exhausted is the fault of a script that hit a bound of the interpreter, nil for any other error.
func (m *machine) exhausted(name, message string) *fault.Fault {
	switch {
	case message == "stack overflow", message == "InternalError: stack overflow":
		return fault.New(fault.Limit, fault.Script, "the script's calls are nested too deeply")
	case strings.HasSuffix(message, "callback $host: InternalError: out of memory"), // for what the host returns
		message == "out of memory", message == "InternalError: out of memory", name == "" && (message == "" || message == "null") && m.native.lacked:
		return fault.New(fault.Limit, fault.Script, "the script takes more than %d MB of memory", m.program.memory>>20)
	}
	return nil
}
