package js

import (
	"fmt"
	"reflect"
	"sync"
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
	rejected     rejections
	lacked       bool // memory was asked for that there is not: what is thrown where there is none for an error is null
}

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
	return &native{tls: (*libc.TLS)(tls.UnsafePointer()), runtime: uintptr(address.Uint()), ctx: uintptr(ctx.Uint()), rejected: rejections{of: map[libquickjs.TJSValue]rejected{}}}, nil
}

// memory is what the interpreter holds, in bytes. It may be called from any goroutine until the interpreter is closed.
func (n *native) memory() int {
	return int(n.state().Fmalloc_ctx.Fmalloc_state.Fmalloc_size)
}

// starve has the interpreter get no more memory. It may be called like memory. An interrupt alone comes late: between two looks
// for one a script can take all that it may have.
func (n *native) starve() {
	n.state().Fmalloc_ctx.Fmalloc_state.Fmalloc_limit = 1
}

// watchMemory has the interpreter tell of memory that it does not get. What it holds tells less: much is free again when a script
// has unwound.
func (n *native) watchMemory() {
	f := &n.state().Fmalloc_ctx.Fmf
	original.once.Do(func() { original.malloc, original.realloc = f.Fjs_malloc, f.Fjs_realloc })
	malloc, realloc := any(allocate), any(reallocate)
	f.Fjs_malloc, f.Fjs_realloc = (*[2]uintptr)(unsafe.Pointer(&malloc))[1], (*[2]uintptr)(unsafe.Pointer(&realloc))[1]
}

func (n *native) state() *libquickjs.TJSRuntime {
	return (*libquickjs.TJSRuntime)(unsafe.Add(nil, n.runtime))
}

// original are the functions by which every interpreter takes memory.
var original struct {
	once            sync.Once
	malloc, realloc uintptr
}

func allocate(tls *libc.TLS, state uintptr, size libquickjs.Tsize_t) uintptr {
	p := (*(*func(*libc.TLS, uintptr, libquickjs.Tsize_t) uintptr)(unsafe.Pointer(&struct{ uintptr }{original.malloc})))(tls, state, size)
	if p == 0 {
		natives.lack(state)
	}
	return p
}

func reallocate(tls *libc.TLS, state, old uintptr, size libquickjs.Tsize_t) uintptr {
	p := (*(*func(*libc.TLS, uintptr, uintptr, libquickjs.Tsize_t) uintptr)(unsafe.Pointer(&struct{ uintptr }{original.realloc})))(tls, state, old, size)
	if p == 0 && size > 0 {
		natives.lack(state)
	}
	return p
}

// collect frees what is held in circles.
func (n *native) collect() { libquickjs.XJS_RunGC(n.tls, n.runtime) }

// rejections are the promises of an interpreter that are rejected and that nothing handles.
type rejections struct {
	seen int
	of   map[libquickjs.TJSValue]rejected // by promise
}

type rejected struct {
	order  int
	reason libquickjs.TJSValue
}

// watchRejections has the interpreter tell of promises that are rejected.
func (n *native) watchRejections() {
	natives.add(n)
	f := any(rejection)
	libquickjs.XJS_SetHostPromiseRejectionTracker(n.tls, n.runtime, (*[2]uintptr)(unsafe.Pointer(&f))[1], 0)
}

// rejection is called by the interpreter for promises that are rejected, and for those of them that are handled later. It runs
// nothing of the script: an interrupt would end that and not the script.
func rejection(tls *libc.TLS, ctx uintptr, promise, reason libquickjs.TJSValue, handled int32, _ uintptr) {
	n := natives.find(ctx)
	if n == nil {
		return
	}
	if handled == 0 {
		n.rejected.seen++
		n.rejected.of[libquickjs.XDupValue(tls, ctx, promise)] = rejected{n.rejected.seen, libquickjs.XDupValue(tls, ctx, reason)}
	} else if r, ok := n.rejected.of[promise]; ok {
		delete(n.rejected.of, promise)
		libquickjs.XFreeValue(tls, ctx, promise)
		libquickjs.XFreeValue(tls, ctx, r.reason)
	}
}

// unhandled defines the global of that name as the reason of the first promise that was rejected and that nothing handles. It
// returns whether there is one.
func (n *native) unhandled(name string) bool {
	var first rejected
	for _, r := range n.rejected.of {
		if first.order == 0 || r.order < first.order {
			first = r
		}
	}
	text, err := libc.CString(name)
	if first.order == 0 || err != nil {
		return first.order > 0
	}
	defer libc.Xfree(n.tls, text)
	global := libquickjs.XJS_GetGlobalObject(n.tls, n.ctx)
	libquickjs.XJS_DefinePropertyValueStr(n.tls, n.ctx, global, text, libquickjs.XDupValue(n.tls, n.ctx, first.reason), libquickjs.MJS_PROP_CONFIGURABLE)
	libquickjs.XFreeValue(n.tls, n.ctx, global)
	return true
}

// forget frees what is known of rejections.
func (n *native) forget() {
	for promise, r := range n.rejected.of {
		libquickjs.XFreeValue(n.tls, n.ctx, promise)
		libquickjs.XFreeValue(n.tls, n.ctx, r.reason)
	}
	clear(n.rejected.of)
}

// release gives up what the interpreter would otherwise not free.
func (n *native) release() {
	natives.remove(n)
	n.forget()
}

// natives finds what belongs to a context: a C function has no room for more.
var natives = &nativeTable{of: map[uintptr]*native{}}

// nativeTable is safe for concurrent use.
type nativeTable struct {
	mu sync.RWMutex
	of map[uintptr]*native
}

func (t *nativeTable) add(n *native) {
	t.mu.Lock()
	t.of[n.ctx] = n
	t.mu.Unlock()
}

func (t *nativeTable) find(ctx uintptr) *native {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.of[ctx]
}

// lack notes that the interpreter whose memory is counted there lacked some. It is in a call of its own goroutine.
func (t *nativeTable) lack(state uintptr) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, n := range t.of {
		if uintptr(unsafe.Pointer(&n.state().Fmalloc_ctx.Fmalloc_state)) == state {
			n.lacked = true
		}
	}
}

func (t *nativeTable) remove(n *native) {
	t.mu.Lock()
	delete(t.of, n.ctx)
	t.mu.Unlock()
}
