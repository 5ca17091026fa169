package js_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picloud/picloud/plugins/engine/js"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

func TestImports(t *testing.T) {
	t.Parallel()
	e := js.New()
	b := files("h", "src/main.ts", `
import type { Nothing } from "nowhere";
import { type Context, VERSION } from "picloud";
import { twice } from "../lib/twice.js";
import one, { nested } from "app/one";
import table from "./table.json";
import * as two from "app/two";
const late: number = await Promise.resolve(5);
enum Level { Low, High = 7 }
namespace N { export const x = 1 }
class Shape { constructor(private readonly side: number) {} get area() { return this.side ** 2 } }
export async function handle(ctx: Context): Promise<unknown> {
	const { dynamic } = await import("./dynamic");
	return [twice(2), one, nested(), table.a[1], two.name, late, Level.High, N.x, new Shape(3).area, dynamic satisfies string, VERSION === ctx.sdkVersion];
}
`, "lib/twice.ts", "export const twice = (n: number): number => n * 2;", "src/table.json", `{"a":[1,2]}`,
		"src/dynamic.mjs", `export const dynamic = "d";`)
	b.Modules = []engine.Module{
		{Name: "one", Files: []engine.File{
			{Name: "index.js", Data: []byte(`import { deep } from "./deep.js"; import "app/three"; export default 1; export const nested = () => deep`)},
			{Name: "deep.js", Data: []byte(`export const deep = "deep"`)},
		}},
		{Name: "two", Files: []engine.File{{Name: "two.js", Data: []byte(`export const name = "two"`)}}},
		{Name: "three", Files: []engine.File{{Name: "three.js", Data: []byte(`export {}`)}}},
		{Name: "unused", Files: []engine.File{{Name: "x.js", Data: []byte(`not even JavaScript`)}}},
	}
	for range 2 {
		loaded, err := e.Load(t.Context(), b)
		if err != nil || fmt.Sprint(loaded.Imports) != "[one two]" {
			t.Fatalf("%v %+v", err, loaded)
		}
	}
	defer e.Unload("h")
	a, err := invoke(t.Context(), e, "h", "")
	if want := `[4,1,"deep",2,"two",5,7,1,9,"d",true]`; err != nil || a.body.String() != want {
		t.Errorf("%s, %v", a.body.String(), err)
	}
}

func TestRefusedSources(t *testing.T) {
	t.Parallel()
	e := js.New()
	secret := filepath.Join(t.TempDir(), "secret.map")
	if err := os.WriteFile(secret, []byte("hunter2 is no source map"), 0o600); err != nil {
		t.Fatal(err)
	}
	handle := "export default function handle(ctx) {}\n"
	for name, c := range map[string]struct {
		src    string
		line   int
		column int
		says   string
	}{
		"empty":            {" \n", 1, 1, "the file is empty"},
		"syntax":           {"export default function handle(ctx) {\n\treturn (;\n}", 2, 10, `Unexpected ";"`},
		"after ü":          {"const ü = \"ü\"; )", 1, 18, `Unexpected ")"`},
		"TypeScript":       {"let x: number = 1;\ninterface { }\n" + handle, 2, 11, "Expected identifier"},
		"package":          {"import x from \"lodash\"; x();\n" + handle, 1, 15, `"lodash" cannot be imported: there are files of the script ("./name"), modules of the app ("app/name") and "picloud"`},
		"node's":           {"import fs from \"node:fs\"; fs();\n" + handle, 1, 16, "cannot be imported"},
		"absolute":         {"import fs from \"/etc/passwd\"; fs();\n" + handle, 1, 16, "cannot be imported"},
		"URL":              {"import fs from \"https://example.com/x.js\"; fs();\n" + handle, 1, 16, "cannot be imported"},
		"data":             {"import fs from \"data:text/javascript,1\"; fs();\n" + handle, 1, 16, "cannot be imported"},
		"dynamic":          {"await import(\"std\");\n" + handle, 1, 14, "cannot be imported"},
		"required":         {"const x = require(\"fs\");\n" + handle, 1, 19, "cannot be imported"},
		"no file":          {"import \"./nothing\";\n" + handle, 1, 8, "there is no file ./nothing; files that are deployed together: main.ts, notes.txt"},
		"outside":          {"import \"../../../etc/passwd\";\n" + handle, 1, 8, "there is no file"},
		"kind of file":     {"import \"./notes.txt\";\n" + handle, 1, 8, "notes.txt is none of: .js"},
		"no module":        {"import \"app/nothing\";\n" + handle, 1, 8, `there is no module "nothing"; there are: none`},
		"no such export":   {"import { Nothing } from \"picloud\";\nNothing();\n" + handle, 1, 10, `No matching export`},
		"many files":       {"const x = await import(\"./\" + Math.random());\n" + handle, 1, 24, "take the name of a file as one text"},
		"files elsewhere":  {"const x = await import(`../../../../../../../../etc/${1}`);\n" + handle, 1, 24, "take the name of a file as one text"},
		"a map of a file":  {"let x = ;\n//# sourceMappingURL=file://" + secret + "\n", 1, 9, `Unexpected ";"`},
		"no handle":        {"export const x = 1", 1, 1, "no export default function handle(ctx)"},
		"handle is no":     {"export const handle = 1", 1, 1, "no export default function handle(ctx)"},
		"throws":           {"const a = 1;\n\n  null.x;\n" + handle, 3, 3, "cannot read property 'x' of null"},
		"throws deeper":    {"const f = (n: number) => {\n  throw new Error(\"odd \" + n);\n};\nf(1);\n" + handle, 2, 13, "odd 1"},
		"rejects":          {"await Promise.reject(new RangeError(\"far\"));\n" + handle, 1, 26, "RangeError: far"},
		"waits for ever":   {"await new Promise(() => {});\n" + handle, 1, 1, "nothing will settle"},
		"pattern":          {"const x = 1;\n/(/.test(\"\");\n" + handle, 2, 1, "expecting ')'"},
		"recursion":        {"const f = () => f();\nf();\n" + handle, 1, 1, "nested too deeply"},
		"fills its memory": {"const a = []; for (;;) a.push(new ArrayBuffer(1e6));\n" + handle, 1, 1, "MB of memory"},
	} {
		loaded, err := e.Load(t.Context(), files(name, "main.ts", c.src, "notes.txt", "x"))
		if f := fault.From(err); f == nil || f.Kind != fault.Compile || !f.Fatal || len(loaded.Diagnostics) == 0 {
			t.Errorf("%s: %+v", name, err)
			continue
		}
		d := loaded.Diagnostics[0]
		if d.File != "main.ts" || d.Line != c.line || c.column > 0 && d.Column != c.column || !strings.Contains(d.Message, c.says) || d.Warning {
			t.Errorf("%s: %+v", name, d)
		}
		if strings.Contains(fmt.Sprint(loaded, err), "hunter2") {
			t.Errorf("%s: a file of the machine was read", name)
		}
	}
}

// What a source says about where it comes from is not looked at.
func TestSourceOfSources(t *testing.T) {
	t.Parallel()
	e := js.New()
	secret := filepath.Join(t.TempDir(), "secret.map")
	if err := os.WriteFile(secret, []byte(`{"version":3,"sources":["hunter2"],"mappings":"AAAA"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	load(t, e, files("h", "main.js", "export default () => { throw new Error('x') }\n//# sourceMappingURL=file://"+secret))
	_, err := invoke(t.Context(), e, "h", "")
	if f := fault.From(err); f == nil || !strings.Contains(f.Detail, "main.js:1:") {
		t.Errorf("%+v", f)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	e := js.New()
	loaded, err := e.Load(t.Context(), files("h", "main.js", "export default function handle(ctx) {\n\treturn typeof ctx === \"objekt\";\n}"))
	if err != nil || len(loaded.Diagnostics) != 1 || !loaded.Diagnostics[0].Warning || loaded.Diagnostics[0].Line != 2 {
		t.Errorf("%v %+v", err, loaded)
	}
	e.Unload("h")
}

// Stacks are told in places of the author's files.
func TestStacks(t *testing.T) {
	t.Parallel()
	e := js.New()
	b := files("h", "main.ts", `import { fail } from "./lib/fail";
import { outer } from "app/mod";

interface Order { n: number }

export default async function handle(ctx: any): Promise<void> {
	const o: Order = { n: 1 };
	await null;
	if (ctx.request.text() === "module") outer();
	fail(o.n);
}
`, "lib/fail.ts", `type Any = number | string;

export function fail(n: Any): never {
	throw new TypeError("odd " + n);
}
`)
	b.Modules = []engine.Module{{Name: "mod", Files: []engine.File{{Name: "mod.ts", Data: []byte("export const outer = (): void => {\n\n  JSON.parse(\"{\");\n};\n")}}}}
	load(t, e, b)
	for body, want := range map[string]string{
		"":       "    at fail (lib/fail.ts:4:\n    at handle (main.ts:10:",
		"module": "    at outer (mod/mod.ts:3:\n    at handle (main.ts:9:",
	} {
		_, err := invoke(t.Context(), e, "h", body)
		f := fault.From(err)
		if f == nil {
			t.Fatal("it did not fail")
		}
		got := strings.Split(f.Detail, "\n")
		for i, line := range strings.Split(want, "\n") {
			if i >= len(got) || !strings.HasPrefix(got[i], line) {
				t.Errorf("%s, not %s", f.Detail, want)
			}
		}
		if len(got) != 2 {
			t.Errorf("it tells what the message says, or of what is not the author's: %s", f.Detail)
		}
	}
}
