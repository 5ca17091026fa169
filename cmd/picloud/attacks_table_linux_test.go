package main

import (
	"fmt"
	"strings"

	"github.com/picloud/picloud/sdk/fault"
)

// The languages of the table, by the names of their engines.
const (
	inGo   = "yaegi"
	inJS   = "js"
	inStar = "starlark"
	inWasm = "wasm"
)

var languages = []string{inGo, inJS, inStar, inWasm}

// answers is what a run ends with that fails in no way.
const answers fault.Kind = ""

// attack is something that no script gets away with, as it is written in each language.
type attack struct {
	name  string
	cells map[string]cell
	why   map[string]string // of the languages without a cell
}

// cell is an attack in one language, and what comes of it.
type cell struct {
	// body is the inside of the script's function. In WebAssembly it names a function of testdata/attacks.
	body string
	// rest stands outside of the function. A Go script's begins with what it imports, a word each line.
	rest string
	// ends is how each run ends. fault.Compile: it is refused when it is deployed.
	ends fault.Kind
	// says is a piece of what the author is told, or of the answer.
	says string
	// lost says that no engine can stop it: the host ends the process.
	lost bool
	// hurried says that the engine stops it only if its watch has the processor in time. Where the machine has no time for that, the
	// process may end first.
	hurried bool
}

const (
	noGoroutines = "there is one thread of control, and nothing in the language starts another"
	noCatch      = "the language has no way to catch an error"
	noProcess    = "there is no name for it: it is refused like any other unknown name, as with the files"
)

// attacks is the table.
var attacks = []attack{
	{name: "endless loop", cells: map[string]cell{
		inGo:   {body: `for {}`, ends: fault.Deadline},
		inJS:   {body: `for (;;);`, ends: fault.Deadline},
		inStar: {body: "while True:\n        pass", ends: fault.Deadline},
		inWasm: {body: "loop", ends: fault.Deadline},
	}},
	{name: "loop in a sort callback", cells: map[string]cell{
		inGo:   {body: `sort.Slice([]int{3, 2, 1}, func(i, j int) bool { for {} }); return 1, nil`, rest: "sort", ends: fault.Deadline},
		inJS:   {body: `[3, 2, 1].sort(() => { for (;;); })`, ends: fault.Deadline},
		inStar: {body: "def key(x):\n        while True:\n            pass\n    return sorted([2, 1], key = key)", ends: fault.Deadline},
		inWasm: {body: "sort", ends: fault.Deadline},
	}},
	{name: "recover and loop", cells: map[string]cell{
		inGo:   {body: `for { func() { defer func() { recover() }(); panic("again") }() }`, ends: fault.Deadline},
		inJS:   {body: `for (;;) { try { for (;;); } catch {} finally { ctx.log.debug("again") } }`, ends: fault.Deadline},
		inWasm: {body: "recover", ends: fault.Deadline},
	}, why: map[string]string{inStar: noCatch}},
	{name: "deep recursion", cells: map[string]cell{
		inGo:   {body: `return down(1), nil`, rest: "\nfunc down(n int) int { return down(n+1) + 1 }", ends: fault.Limit, hurried: true},
		inJS:   {body: `function f(n) { return f(n + 1) + 1 } return f(1)`, ends: fault.Limit},
		inStar: {body: "return down(1)", rest: "def down(n):\n    return down(n + 1) + 1\n", ends: fault.ScriptError, says: "recursively"},
		inWasm: {body: "recursion", ends: fault.Limit},
	}},
	{name: "recursion through a closure", cells: map[string]cell{
		inGo:   {body: `var f func(int) int; f = func(n int) int { return f(n+1) + 1 }; return f(1), nil`, ends: fault.Limit, hurried: true},
		inJS:   {body: `const f = (n) => [n].map(() => f(n + 1)); return f(1)`, ends: fault.Limit},
		inStar: {body: "def f(g):\n        return g(g)\n    return f(f)", ends: fault.ScriptError, says: "recursively"},
		inWasm: {body: "closure", ends: fault.Limit},
	}},
	{name: "recursion, caught", cells: map[string]cell{
		inGo: {body: `defer func() { recover() }(); return down(1), nil`, rest: "\nfunc down(n int) int { return down(n+1) + 1 }", ends: fault.Limit, hurried: true},
		inJS: {body: `const f = () => f(); for (;;) { try { f() } catch {} }`, ends: fault.Deadline},
	}, why: map[string]string{inStar: noCatch, inWasm: "a trap cannot be caught"}},
	{name: "goroutine bomb", cells: map[string]cell{
		inGo:   {body: `for { go func() { <-make(chan int) }() }`, ends: fault.Limit},
		inJS:   {body: `const p = []; for (;;) { p.push(new Promise(() => {})); setTimeout(() => {}, 1e6) }`, ends: fault.Limit},
		inWasm: {body: "goroutines", ends: fault.Limit},
	}, why: map[string]string{inStar: noGoroutines}},
	{name: "timer bomb", cells: map[string]cell{
		inJS: {body: `const f = () => { setTimeout(f); setTimeout(f); }; f(); await ctx.sleep(1e9)`, ends: fault.Limit},
		inGo: {body: `tree(); select {}`, rest: "\nfunc tree() { go tree(); go tree(); <-make(chan int) }", ends: fault.Limit},
	}, why: map[string]string{inStar: noGoroutines, inWasm: "timers of a module are its own: see the goroutines"}},
	{name: "panic beside", cells: map[string]cell{
		inGo:   {body: `go func() { panic("beside") }(); select {}`, ends: fault.ScriptPanic, says: "beside"},
		inJS:   {body: `Promise.reject(new Error("beside")); await ctx.sleep(1)`, ends: fault.ScriptError, says: "beside"},
		inWasm: {body: "beside", ends: fault.ScriptPanic, says: "beside"},
	}, why: map[string]string{inStar: noGoroutines}},
	{name: "map race", cells: map[string]cell{
		inGo: {body: `m := map[int]int{}; for i := 0; i < 4; i++ { go func() { for j := 0; ; j++ { m[j%8] = j } }() }; for j := 0; ; j++ { m[j%8]++ }`, ends: fault.Deadline},
	}, why: map[string]string{
		inJS: "one thread; workers do not exist", inStar: noGoroutines, inWasm: "a module has one thread, so Go in it sees no race",
	}},
	{name: "memory bomb", cells: map[string]cell{
		inGo:   {body: `var a [][]byte; for { a = append(a, make([]byte, 1<<20)) }`, ends: fault.Limit},
		inJS:   {body: `const a = []; for (;;) a.push(new Array(1000).fill(1))`, ends: fault.Limit},
		inStar: {body: "a = []\n    while True:\n        a.append('x' * 1000000)", ends: fault.Limit},
		inWasm: {body: "memory", ends: fault.Limit},
	}},
	{name: "16 GB at once", cells: map[string]cell{
		inGo:   {body: `n := 16; return len(make([]byte, n<<30)), nil`, ends: fault.Limit},
		inJS:   {body: `return new ArrayBuffer(16 * 2 ** 30).byteLength`, ends: fault.ScriptError},
		inStar: {body: `return len("x" * (16 << 30))`, ends: fault.ScriptError, says: "too large"},
		inWasm: {body: "gigabytes", ends: fault.ScriptPanic, says: "out of range"},
	}},
	{name: "blocked channel", cells: map[string]cell{
		inGo:   {body: `return <-make(chan int), nil`, ends: fault.Deadline},
		inJS:   {body: `await new Promise(() => {})`, ends: fault.ScriptError},
		inWasm: {body: "channel", ends: fault.ScriptPanic, says: "deadlock"},
	}, why: map[string]string{inStar: "nothing blocks but sleep"}},
	{name: "sleep", cells: map[string]cell{
		inGo:   {body: `ctx.Sleep(time.Hour); return 1, nil`, rest: "time", ends: fault.Deadline},
		inJS:   {body: `await ctx.sleep(3.6e6); return 1`, ends: fault.Deadline},
		inStar: {body: `ctx.sleep(3600)`, ends: fault.Deadline},
		inWasm: {body: "sleep", ends: fault.Deadline},
	}},
	{name: "select{}", cells: map[string]cell{
		inGo:   {body: `select {}`, ends: fault.Deadline},
		inJS:   {body: `Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)`, ends: fault.ScriptError},
		inWasm: {body: "select", ends: fault.ScriptPanic, says: "deadlock"},
	}, why: map[string]string{inStar: "nothing blocks but sleep"}},
	{name: "endless microtasks", cells: map[string]cell{
		inJS: {body: `const f = () => queueMicrotask(f); f(); return 1`, ends: fault.Deadline},
	}, why: map[string]string{inGo: "there are none", inStar: "there are none", inWasm: "there are none"}},
	{name: "catastrophic regexp", cells: map[string]cell{
		inJS: {body: `return /^(a+)+$/.test("a".repeat(40) + "b")`, ends: fault.Deadline},
	}, why: map[string]string{
		inGo: "regexp is linear (RE2)", inStar: "there are no patterns", inWasm: "patterns of a module are its own code: see the loop",
	}},
	{name: "native call without an end", cells: map[string]cell{
		inGo: {body: `return new(big.Int).Exp(big.NewInt(3), big.NewInt(1<<40), nil).BitLen(), nil`, rest: "math/big", ends: fault.Deadline, lost: true},
		inJS: {body: `return [].indexOf.call({length: 2 ** 53 - 1}, 1)`, ends: fault.Deadline, lost: true},
	}, why: map[string]string{
		inStar: "built-in functions take no longer than their input, which is bounded", inWasm: "the host's functions take no longer than their input",
	}},
	{name: "giant string", cells: map[string]cell{
		inGo:   {body: `s := "x"; for { s += s }`, ends: fault.Limit},
		inJS:   {body: `let s = "x"; const a = []; for (;;) a.push(s = (s + s).slice(0, 1e6) + a.length)`, ends: fault.Limit},
		inStar: {body: "s = 'x'\n    while True:\n        s = s + s", ends: fault.Limit},
		inWasm: {body: "string", ends: fault.Limit},
	}},
	{name: "giant number", cells: map[string]cell{
		inJS:   {body: `return 2n ** 10_000_000n`, ends: fault.ScriptError},
		inStar: {body: `return 1 << (1 << 30)`, ends: fault.ScriptError},
	}, why: map[string]string{inGo: "see the native call", inWasm: "see the memory"}},
	{name: "giant log", cells: map[string]cell{
		inGo:   {body: `ctx.Log.Info(strings.Repeat("x", 8<<20)); return 1, nil`, rest: "strings", ends: answers, says: "1"},
		inJS:   {body: `ctx.log.info("x".repeat(8 << 20)); return 1`, ends: answers, says: "1"},
		inStar: {body: "ctx.log.info('x' * (8 << 20))\n    return 1", ends: answers, says: "1"},
		inWasm: {body: "log", ends: answers, says: "1"},
	}},
	{name: "giant result", cells: map[string]cell{
		inGo:   {body: `return strings.Repeat("x", 8<<20), nil`, rest: "strings", ends: fault.Limit},
		inJS:   {body: `return "x".repeat(8 << 20)`, ends: fault.Limit},
		inStar: {body: `return "x" * (8 << 20)`, ends: fault.Limit},
		inWasm: {body: "result", ends: fault.Limit},
	}},
	{name: "exit", cells: map[string]cell{
		inGo:   {body: `os.Exit(3); return nil, nil`, rest: "os", ends: fault.Compile, says: `"os" is not available`},
		inJS:   {body: `process.exit(3)`, ends: fault.ScriptError, says: "process"},
		inStar: {body: `exit(3)`, ends: fault.Compile, says: "undefined: exit"},
		inWasm: {body: "exit", ends: fault.ScriptError, says: "code 3"},
	}},
	{name: "files and environment", cells: map[string]cell{
		inGo:   {body: `b, err := os.ReadFile("/proc/self/environ"); return string(b), err`, rest: "os", ends: fault.Compile, says: `"os" is not available`},
		inJS:   {body: `return fs.readFileSync("/proc/self/environ")`, rest: `import fs from "fs";`, ends: fault.Compile, says: "fs"},
		inStar: {body: `return open("/proc/self/environ").read()`, ends: fault.Compile, says: "undefined: open"},
		inWasm: {body: "files", ends: answers, says: "0"},
	}},
	{name: "files by import", cells: map[string]cell{
		inGo:   {body: `return passwd.X, nil`, rest: "../../../etc/passwd", ends: fault.Compile},
		inJS:   {body: `return (await import("/etc/passwd")).default`, ends: fault.Compile, says: "/etc/passwd"},
		inStar: {body: `return x`, rest: "load('../../etc/passwd', 'x')\n", ends: fault.Compile},
	}, why: map[string]string{inWasm: "a module is one file, and imports only functions of the host"}},
	{name: "sockets", cells: map[string]cell{
		inGo:   {body: `return net.Dial("tcp", "127.0.0.1:80")`, rest: "net", ends: fault.Compile, says: `"net" is not available`},
		inJS:   {body: `return await fetch("http://127.0.0.1/")`, ends: fault.ScriptError, says: "fetch"},
		inStar: {body: `return fetch("http://127.0.0.1/")`, ends: fault.Compile, says: "undefined: fetch"},
		inWasm: {body: "sockets", ends: fault.ScriptError},
	}},
	{name: "processes", cells: map[string]cell{
		inGo: {body: `return exec.Command("/bin/true").Output()`, rest: "os/exec", ends: fault.Compile, says: `"os/exec" is not available`},
		inJS: {body: `return await import("child_process")`, ends: fault.Compile, says: "child_process"},
		inStar: {
			body: `return exec("/bin/true")`, ends: fault.Compile, says: "undefined: exec",
		},
		inWasm: {body: "processes", ends: fault.ScriptError},
	}},
	{name: "print flood", cells: map[string]cell{
		inGo:   {body: `for { fmt.Println("flood"); println("flood") }`, rest: "fmt", ends: fault.Deadline},
		inJS:   {body: `for (;;) console.log("flood")`, ends: fault.Deadline},
		inStar: {body: "while True:\n        print('flood')", ends: fault.Deadline},
		inWasm: {body: "print", ends: fault.Deadline},
	}},
	{name: "other sockets", cells: map[string]cell{
		inGo:   {body: `fd, _ := syscall.Socket(1, 1, 0); return fd, syscall.Connect(fd, &syscall.SockaddrUnix{Name: ctx.Request.Header("X-Socket")})`, rest: "syscall", ends: fault.Compile, says: `"syscall" is not available`},
		inJS:   {body: `return globalThis["require"]("net").connect(ctx.request.header("X-Socket"))`, ends: fault.ScriptError},
		inWasm: {body: "unix", ends: fault.ScriptError},
	}, why: map[string]string{inStar: noProcess}},
	{name: "deeply nested source", cells: map[string]cell{
		inGo:   {body: `return ` + strings.Repeat("(", 50_000) + "1" + strings.Repeat(")", 50_000) + `, nil`, ends: fault.Compile},
		inJS:   {body: `return ` + strings.Repeat("(", 200_000) + "1" + strings.Repeat(")", 200_000), ends: fault.Compile, says: "stack overflow"},
		inStar: {body: `return ` + strings.Repeat("(", 200_000) + "1" + strings.Repeat(")", 200_000), ends: fault.Compile},
	}, why: map[string]string{inWasm: "see TestRefusedModules in plugins/engine/wasm"}},
	{name: "endless initialiser", cells: map[string]cell{
		inGo:   {body: `return x, nil`, rest: "\nvar x = down(1)\nfunc down(n int) int { return down(n+1) + 1 }", ends: fault.Compile},
		inJS:   {body: `return 1`, rest: `const a = []; for (;;) a.push(new Array(1000).fill(1));`, ends: fault.Compile},
		inStar: {body: `return 1`, rest: "a = []\nwhile True:\n    a.append('x' * 1000000)\n", ends: fault.Compile},
	}, why: map[string]string{inWasm: "see TestContained in plugins/engine/wasm"}},
}

// write is a cell's script, and the name of its file. Given "go" as its body it answers 1 at once.
func (c *cell) write(language string) (file, text string) {
	switch language {
	case inGo:
		imports, rest, _ := strings.Cut(c.rest, "\n")
		var b strings.Builder
		b.WriteString("package main\n\nimport \"github.com/picloud/picloud/sdk/picloud\"\n")
		for _, path := range strings.Fields(imports) {
			fmt.Fprintf(&b, "import %q\n", path)
		}
		fmt.Fprintf(&b, "func Handle(ctx *picloud.Context) (any, error) {\nif string(ctx.Request.Body) == \"go\" { return 1, nil }\n%s\n}\n%s\n", c.body, rest)
		return "main.go", b.String()
	case inJS:
		return "main.js", c.rest + "\nexport default async function (ctx) {\nif (ctx.request.text() === \"go\") return 1;\n" + c.body + "\n}\n"
	case inStar:
		return "main.star", c.rest + "def handle(ctx):\n    if ctx.request.text() == 'go':\n        return 1\n    " + c.body + "\n"
	}
	panic("modules are built, not written")
}

// neighbours are scripts that add up the numbers from 0 to that in their body.
var neighbours = map[string]string{
	inGo: "package main\n\nimport \"strconv\"\nimport \"github.com/picloud/picloud/sdk/picloud\"\n" +
		"func Handle(ctx *picloud.Context) (any, error) {\nn, err := strconv.Atoi(string(ctx.Request.Body)); s := 0\n" +
		"for i := 0; i <= n; i++ { s += i }\nreturn s, err\n}\n",
	inJS:   "export default function (ctx) {\nlet s = 0; for (let i = 0; i <= Number(ctx.request.text()); i++) s += i; return s }\n",
	inStar: "def handle(ctx):\n    s = 0\n    for i in range(int(ctx.request.text()) + 1):\n        s += i\n    return s\n",
}
