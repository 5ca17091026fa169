package js_test

import (
	"bytes"
	"context"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/picloud/picloud/plugins/engine/js"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/engine/enginetest"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/watch"
)

func TestMain(m *testing.M) {
	watch.Bound() // as the process of the engine
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		js.Shallow(500)
	}
	goleak.VerifyTestMain(m)
}

// files makes a bundle of names and texts.
func files(hash string, named ...string) engine.Bundle {
	b := engine.Bundle{Hash: hash, Script: hash}
	for i := 0; i < len(named); i += 2 {
		b.Files = append(b.Files, engine.File{Name: named[i], Data: []byte(named[i+1])})
	}
	return b
}

// load loads a script, and unloads it at the end of the test.
func load(t testing.TB, e engine.Engine, b engine.Bundle) {
	t.Helper()
	if loaded, err := e.Load(t.Context(), b); err != nil {
		t.Fatalf("%v %+v", err, loaded.Diagnostics)
	}
	t.Cleanup(func() { e.Unload(b.Hash) })
}

// handler is a script of one file whose handle has a body.
func handler(hash, body string) engine.Bundle {
	return files(hash, "main.js", "export default async function handle(ctx) {\n"+body+"\n}\n")
}

// answer is what a run was answered with.
type answer struct {
	engine.Head
	body bytes.Buffer
	mu   sync.Mutex
	logs []engine.Log
}

// sink keeps an answer.
type sink struct{ *answer }

func (s sink) Head(h engine.Head) error    { s.answer.Head = h; return nil }
func (s sink) Write(b []byte) (int, error) { return s.body.Write(b) }

func (a *answer) log(l engine.Log) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.logs = append(a.logs, l)
}

func invoke(ctx context.Context, e engine.Engine, hash, body string) (*answer, error) {
	return call(ctx, e, hash, body, nil)
}

type callFunc = func(ctx context.Context, service, method string, args []byte) ([]byte, error)

func call(ctx context.Context, e engine.Engine, hash, body string, host callFunc) (*answer, error) {
	a := &answer{}
	err := e.Invoke(ctx, &engine.Invocation{
		Bundle: hash, ExecutionID: "x1", Attempt: 2,
		Event: &event.Envelope{ID: "e1", Type: "http.request", Time: time.Unix(0, 0), HTTP: &event.HTTP{
			Method: "POST", Path: "/users/7", Query: "q=1&q=2",
			Headers: []event.Header{{Name: "Accept", Value: "a"}, {Name: "Accept", Value: "b"}},
			Params:  []event.Param{{Name: "id", Value: "7"}}, Rest: "r/s",
		}},
		Body: []byte(body), Log: a.log, Call: host,
	}, sink{a})
	return a, err
}

func TestConformance(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, enginetest.Suite{
		New: js.New,
		Bundle: files("good", "main.ts", `
import { Response, BatchResult, RetryAfter, Fatal, type Context } from "picloud";
export default async function handle(ctx: Context): Promise<unknown> {
	if (ctx.batch !== null) {
		return new BatchResult(ctx.batch.filter((m) => m.text().startsWith("bad")).map((m) => ({ id: m.id, error: m.text(), fatal: true })));
	}
	const body: Uint8Array = ctx.request.body;
	const space = body.indexOf(32) < 0 ? body.length : body.indexOf(32);
	const command = new TextDecoder().decode(body.subarray(0, space)), arg = body.subarray(space + 1);
	const text = new TextDecoder().decode(arg);
	switch (command) {
	case "echo": return new Response(arg);
	case "fail": throw new Error(text);
	case "panic": throw { not: "an error", text };
	case "retry": throw new RetryAfter(text, 90_000);
	case "fatal": throw new Fatal(text);
	case "send": return new Response(await ctx.invoke("other", text));
	case "log": ctx.log.info(text); return new Response();
	case "wait": for (;;) await ctx.sleep(1);
	case "flood": return new Response("x".repeat(Number(text)));
	}
	throw new Error("unknown command");
}
`),
		Broken: files("broken", "main.ts", "export default function handle(ctx) {\n\treturn (1 +;\n}\n"),
		Line:   2, Column: 13,
		Importer: engine.Bundle{
			Hash: "importer", Script: "importer",
			Files: []engine.File{{Name: "main.ts", Data: []byte("import { echo } from \"app/shared\";\n\nexport default echo;\n")}},
			Modules: []engine.Module{{Name: "shared", Files: []engine.File{{Name: "shared.ts", Data: []byte(
				"import { type Context, Response } from \"picloud\";\n\nexport const echo = (ctx: Context) => new Response(ctx.request.text().slice(5));\n")}}}},
		},
	})
}
