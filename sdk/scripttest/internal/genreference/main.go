// Command genreference writes what scripts see, as sdk/scripttest lists it, where people look for it: into sdk/README.md and the
// declarations for TypeScript.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"strings"

	"github.com/picloud/picloud/sdk/picloud"
	"github.com/picloud/picloud/sdk/scripttest"
	"github.com/picloud/picloud/sdk/service"
	"github.com/picloud/picloud/sdk/stdlib"
)

func main() {
	log.SetFlags(0)
	if err := errors.Join(writeReference("../README.md"), os.WriteFile("../picloud/typescript/picloud.d.ts", declarations(), 0o644)); err != nil {
		log.Fatal(err)
	}
}

// The generated part of the guide stands between these lines.
const (
	begin = "<!-- made from sdk/scripttest by make generate: begin -->\n"
	end   = "<!-- made from sdk/scripttest by make generate: end -->\n"
)

func writeReference(path string) error {
	guide, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := bytes.Cut(guide, []byte(begin))
	_, after, ended := bytes.Cut(rest, []byte(end))
	if !found || !ended {
		return fmt.Errorf("%s has no place for the reference", path)
	}
	var out bytes.Buffer
	out.Write(before)
	out.WriteString(begin)
	reference(&out)
	out.WriteString(end)
	out.Write(after)
	return os.WriteFile(path, out.Bytes(), 0o644)
}

func reference(out *bytes.Buffer) {
	fmt.Fprintf(out, "\nVersion %s.\n", picloud.Version)
	members := scripttest.Surface()
	for _, t := range scripttest.Types() {
		fmt.Fprintf(out, "\n### %s\n\n%s\n\n| Go, also as WebAssembly | JavaScript, TypeScript | Starlark | |\n|---|---|---|---|\n",
			heading(t.Name), t.Says)
		for _, m := range members {
			if m.Of == t.Name {
				fmt.Fprintf(out, "| %s | %s | %s | %s |\n", code(m.Go), code(m.JS), code(m.Starlark), m.Says)
			}
		}
	}
	limits(out)
	group := ""
	for _, c := range scripttest.Cases() {
		if c.Group != group {
			group = c.Group
			fmt.Fprintf(out, "\n### Promised: %s\n\n", strings.ToLower(group))
		}
		fmt.Fprintf(out, "- %s%s\n", c.Says, links(c.Name))
	}
	out.WriteByte('\n')
}

// limits is the table of the bounds of services, and of the standard library, which has them in its own part.
func limits(out *bytes.Buffer) {
	out.WriteString(`
### Limits

What is beyond a limit is refused with an error of that code. Those of a run, such as its time and memory, are in
[the guide of the program](../cmd/picloud/README.md#limits).

| service | limit | where nobody says | most | error |
|---|---|---|---|---|
`)
	for _, l := range service.Limits() {
		otherwise := ""
		if l.Default > 0 {
			otherwise = l.Text(l.Default)
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s |\n", l.Of, l.What, otherwise, l.Text(l.Most), code(l.Code))
	}
	fmt.Fprintf(out, "| standard library | arguments of a call | | %d MiB | the script's |\n", stdlib.MaxInput>>20)
	fmt.Fprintf(out, "| standard library | a result | | %d MiB | the script's |\n", stdlib.MaxOutput>>20)
	fmt.Fprintf(out, "| standard library | a regular expression, also of Go scripts | | %d KiB, %d steps | the script's |\n", stdlib.MaxPattern>>10, stdlib.MaxProgram)
	fmt.Fprintf(out, "| standard library | random bytes of a call | | %d KiB | the script's |\n", picloud.MaxRandomBytes>>10)
}

func heading(name string) string {
	if name == "" {
		return "Functions"
	}
	return name
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

// links names the scripts that show a promise.
func links(name string) string {
	var list []string
	for _, language := range [][2]string{{".go", "Go"}, {".ts", "TypeScript"}, {".star", "Starlark"}} {
		if _, err := fs.Stat(scripttest.Scripts(), name+language[0]); err == nil {
			list = append(list, fmt.Sprintf("[%s](scripttest/testdata/%s%s)", language[1], name, language[0]))
		}
	}
	return " (" + strings.Join(list, ", ") + ")"
}

// declarations writes what scripts in TypeScript see.
func declarations() []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, `// Code generated from sdk/scripttest by make generate. DO NOT EDIT.
//
// What scripts of PiCloud see, version %s. A script exports a function, which is called once for each request or event:
//
//   import type { Context } from "picloud";
//
//   export default async function handle(ctx: Context) {
//     return { hello: ctx.request.param("name") };
//   }
//
// Nothing is an empty answer with status 204, a Response is sent as it is, and anything else as JSON with status 200. What is
// thrown fails the run: a caller has a 502, an event is tried again. "app/<name>" is a module of the same app.

declare module "picloud" {
`, picloud.Version)
	members := scripttest.Surface()
	for _, t := range scripttest.Types() {
		if t.TS != "" {
			fmt.Fprintf(&out, "  /** %s */\n  %s {\n", t.Says, t.TS)
		}
		for _, m := range members {
			switch {
			case m.Of != t.Name || m.TS == "":
			case t.TS == "":
				fmt.Fprintf(&out, "  /** %s */\n  %s\n\n", m.Says, m.TS)
			default:
				fmt.Fprintf(&out, "    /** %s */\n    %s;\n", m.Says, m.TS)
			}
		}
		if t.TS != "" {
			out.WriteString("  }\n\n")
		}
	}
	for _, s := range service.Services() {
		if s.Declares != "" {
			fmt.Fprintf(&out, "  %s\n\n", s.Declares)
		}
	}
	out.Truncate(out.Len() - 1)
	out.WriteString(`}

/** Lines of the run's log: what is printed joins its values by spaces. */
declare const console: {
  debug(...data: unknown[]): void;
  info(...data: unknown[]): void;
  log(...data: unknown[]): void;
  warn(...data: unknown[]): void;
  error(...data: unknown[]): void;
};

/** Timers end with the run. */
declare function setTimeout(f: () => void, ms?: number): number;
declare function clearTimeout(timer?: number): void;
declare function queueMicrotask(f: () => void): void;

declare function atob(text: string): string;
declare function btoa(text: string): string;
declare function structuredClone<T>(value: T): T;

declare class URL {
  constructor(text: string, base?: string | URL);
  static canParse(text: string, base?: string | URL): boolean;
  protocol: string;
  host: string;
  pathname: string;
  search: string;
  hash: string;
  readonly username: string;
  readonly password: string;
  readonly hostname: string;
  readonly port: string;
  readonly origin: string;
  readonly href: string;
  readonly searchParams: URLSearchParams;
  toString(): string;
  toJSON(): string;
}

declare class URLSearchParams {
  constructor(init?: string | Record<string, string> | Iterable<[string, string]>);
  readonly size: number;
  append(name: string, value: string): void;
  delete(name: string): void;
  get(name: string): string | null;
  getAll(name: string): string[];
  has(name: string): boolean;
  set(name: string, value: string): void;
  sort(): void;
  forEach(f: (value: string, name: string, all: URLSearchParams) => void): void;
  entries(): IterableIterator<[string, string]>;
  keys(): IterableIterator<string>;
  values(): IterableIterator<string>;
  [Symbol.iterator](): IterableIterator<[string, string]>;
  toString(): string;
}

declare class TextEncoder {
  encode(text?: string): Uint8Array;
}

declare class TextDecoder {
  constructor(label?: string, options?: { fatal?: boolean });
  decode(bytes?: Uint8Array): string;
}

declare const crypto: {
  randomUUID(): string;
  getRandomValues<T extends Uint8Array>(bytes: T): T;
};
`)
	return out.Bytes()
}
