package js

import (
	"fmt"
	"reflect"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libquickjs"
	"modernc.org/quickjs"
)

// native is what the interpreter has but does not show: how much memory it holds, and which promises are rejected. It stands on
// the layout of one version of the module, which newNative checks.
type native struct {
	tls          *libc.TLS
	runtime, ctx uintptr
	track        libquickjs.TJSValue // the function that is told of rejections
	argv         uintptr             // room for its arguments
}

const valueSize = unsafe.Sizeof(libquickjs.TJSValue{})

func newNative(vm *quickjs.VM) (*native, error) {
	v := reflect.ValueOf(vm).Elem()
	ctx, runtime := v.FieldByName("cContext"), v.FieldByName("runtime")
	if !ctx.IsValid() || ctx.Kind() != reflect.Uintptr || !runtime.IsValid() || runtime.Kind() != reflect.Pointer {
		return nil, fmt.Errorf("the interpreter has another layout than version %s", version)
	}
	address, tls := runtime.Elem().FieldByName("cRuntime"), runtime.Elem().FieldByName("tls")
	if !address.IsValid() || address.Kind() != reflect.Uintptr || !tls.IsValid() || tls.Type() != reflect.TypeFor[*libc.TLS]() {
		return nil, fmt.Errorf("the interpreter has another layout than version %s", version)
	}
	return &native{tls: (*libc.TLS)(tls.UnsafePointer()), runtime: uintptr(address.Uint()), ctx: uintptr(ctx.Uint())}, nil
}

// memory is what the interpreter holds, in bytes. It may be called from any goroutine until the interpreter is closed.
func (n *native) memory() int {
	rt := (*libquickjs.TJSRuntime)(unsafe.Add(nil, n.runtime))
	return int(rt.Fmalloc_ctx.Fmalloc_state.Fmalloc_size)
}

// collect frees what is held in circles.
func (n *native) collect() { libquickjs.XJS_RunGC(n.tls, n.runtime) }

// trackers finds the function of a context: a C function has no room for more.
var trackers = &trackerTable{of: map[uintptr]*native{}}

// watchRejections has the global function of that name, which it takes away, told of rejections: with the promise, the
// reason, and 1 if it is handled now.
func (n *native) watchRejections(name string) error {
	text, err := libc.CString(name)
	if err != nil {
		return err
	}
	defer libc.Xfree(n.tls, text)
	if n.argv = libc.Xcalloc(n.tls, 3, libc.Tsize_t(valueSize)); n.argv == 0 {
		return errNoMemory
	}
	global := libquickjs.XJS_GetGlobalObject(n.tls, n.ctx)
	n.track = libquickjs.XJS_GetPropertyStr(n.tls, n.ctx, global, text)
	atom := libquickjs.XJS_NewAtom(n.tls, n.ctx, text)
	libquickjs.XJS_DeleteProperty(n.tls, n.ctx, global, atom, 0)
	libquickjs.XJS_FreeAtom(n.tls, n.ctx, atom)
	libquickjs.XFreeValue(n.tls, n.ctx, global)
	trackers.add(n)
	f := any(rejection)
	libquickjs.XJS_SetHostPromiseRejectionTracker(n.tls, n.runtime, (*[2]uintptr)(unsafe.Pointer(&f))[1], 0)
	return nil
}

// rejection is called by the interpreter for promises that are rejected, and that are handled later.
func rejection(tls *libc.TLS, ctx uintptr, promise, reason libquickjs.TJSValue, handled int32, _ uintptr) {
	n := trackers.find(ctx)
	if n == nil {
		return
	}
	args := unsafe.Slice((*libquickjs.TJSValue)(unsafe.Add(nil, n.argv)), 3)
	args[0], args[1], args[2] = promise, reason, libquickjs.XNewInt32(tls, ctx, handled)
	libquickjs.XFreeValue(tls, ctx, libquickjs.XJS_Call(tls, ctx, n.track, n.track, 3, n.argv))
	if libquickjs.XJS_HasException(tls, ctx) != 0 { // no memory, or no time: the run ends for that
		libquickjs.XFreeValue(tls, ctx, libquickjs.XJS_GetException(tls, ctx))
	}
}

// release gives up what the interpreter would otherwise not free.
func (n *native) release() {
	trackers.remove(n)
	libquickjs.XFreeValue(n.tls, n.ctx, n.track)
	libc.Xfree(n.tls, n.argv)
}
