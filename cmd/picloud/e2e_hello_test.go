package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picloud/picloud/core/coretest"
)

// A new user's first hour: a fresh folder, one command, scripts good and bad.
func TestHello(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	if r := n.must(http.MethodGet, "/", nil); r.status != http.StatusOK {
		t.Errorf("GET /: %s", r)
	}

	n.command("deploy", script(t, "greet", `
	var order struct{ Items []string }
	if len(ctx.Request.Body) > 0 {
		if err := ctx.Request.JSON(&order); err != nil {
			return nil, err
		}
	}
	sort.Strings(order.Items)
	ctx.Log.Info("greeting", ctx.Request.Param("name"))
	return map[string]any{"hello": ctx.Request.Param("name"), "items": order.Items}, nil`, "sort"),
		"--route", "GET /greet/{name}", "--route", "POST /greet/{name}")
	n.expect("/greet/Ada", http.StatusOK, `{"hello":"Ada","items":null}`)
	if r := n.must(http.MethodPost, "/greet/Bob", []byte(`{"items":["b","a"]}`)); string(r.body) !=
		`{"hello":"Bob","items":["a","b"]}` {
		t.Errorf("POST: %s", r)
	}

	t.Run("bodies", func(t *testing.T) { bodies(t, n) })
	t.Run("async", func(t *testing.T) { async(t, n) })
	t.Run("failures", func(t *testing.T) { failures(t, n) })
	t.Run("refused", func(t *testing.T) { refusals(t, n) })
}

func bodies(t *testing.T, n *instance) {
	n.command("deploy", script(t, "length", `return len(ctx.Request.Body), nil`), "--route", "POST /length")
	body := bytes.Repeat([]byte("x"), 6<<20)
	if r := n.must(http.MethodPost, "/length", body); r.status != http.StatusOK || string(r.body) != "6291456" {
		t.Errorf("a body of 6 MiB: %s", r)
	}
	r, err := n.send(http.MethodPost, "/length", append(body, 'x'))
	if err != nil || r.status != http.StatusRequestEntityTooLarge || r.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("one byte more: %s, %v", r, err)
	}
	if r := n.must(http.MethodPost, "/length", []byte("four")); string(r.body) != "4" {
		t.Errorf("the next body: %s", r)
	}
}

func async(t *testing.T, n *instance) {
	n.command("deploy", script(t, "later", `ctx.Log.Info("done later"); return nil, nil`), "--route", "POST /later", "--async")
	r := n.must(http.MethodPost, "/later", nil)
	id := field(r.body, "execution_id")
	if r.status != http.StatusAccepted || id == "" {
		t.Fatalf("async: %s", r)
	}
	await(t, "the execution is found by its id", func() bool {
		code, out, _ := n.cli("executions", "show", id)
		return code == 0 && strings.Contains(out, `"succeeded"`)
	})
}

// failures checks that each way to fail has a definite answer and leaves the script usable.
func failures(t *testing.T, n *instance) {
	n.command("deploy", script(t, "bad", `
	switch ctx.Request.Param("how") {
	case "panic":
		panic("on purpose")
	case "error":
		return nil, errors.New("on purpose")
	case "channel":
		return make(chan int), nil
	}
	return "fine", nil`, "errors"), "--route", "GET /bad/{how}")
	n.command("deploy", script(t, "endless", `
	switch ctx.Request.Param("how") {
	case "loop":
		for {
		}
	case "block":
		<-make(chan int)
	}
	return "fine", nil`), "--route", "GET /endless/{how}", "--timeout", "300ms")
	for _, c := range []struct {
		path   string
		status int
		kind   string
	}{
		{"/bad/panic", http.StatusBadGateway, "script_panic"},
		{"/bad/error", http.StatusBadGateway, "script_error"},
		{"/bad/channel", http.StatusBadGateway, "invalid_response"},
		{"/endless/loop", http.StatusGatewayTimeout, "deadline"},
		{"/endless/block", http.StatusGatewayTimeout, "deadline"},
	} {
		n.problem(c.path, c.status, c.kind)
		n.expect("/bad/not", http.StatusOK, `"fine"`)
	}
	await(t, "the script that had no end has one", func() bool { // in 300 ms, which a busy machine may need for something else
		return n.must(http.MethodGet, "/endless/not", nil).status == http.StatusOK
	})
}

// refusals checks that a source that is wrong is refused with its place, and changes nothing.
func refusals(t *testing.T, n *instance) {
	n.command("deploy", script(t, "kept", `return 1, nil`), "--route", "GET /kept")
	for _, c := range []struct {
		source string
		place  string // after the path of the file
		word   string
	}{
		{script(t, "kept", "\tx := 1 +\n\treturn x, nil"), ":9:2: ", "expected"},
		{script(t, "kept", "\treturn absent, nil"), ":8:9: ", "absent"},
		{script(t, "kept", "\treturn exec.Command(\"true\").Run(), nil", "os/exec"), ":5:2: ", "os/exec"},
	} {
		code, out, errs := n.cli("deploy", c.source)
		if code != 1 || out != "" || !strings.HasPrefix(errs, c.source+c.place) || !strings.Contains(errs, c.word) {
			t.Errorf("deploy %s: exit status %d, %q, %q; want %s with %q", filepath.Base(c.source), code, out, errs, c.place, c.word)
		}
		n.expect("/kept", http.StatusOK, "1")
	}
	var versions struct{ Items []any }
	if err := json.Unmarshal([]byte(n.command("scripts", "versions", "kept")), &versions); err != nil || len(versions.Items) != 1 {
		t.Errorf("versions of kept: %v, %v", versions, err)
	}
}

// What a script needs of the machine it has in its process, which cannot open files.
func TestTimeZones(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	n.command("deploy", script(t, "zone", `
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		return nil, err
	}
	return time.Unix(0, 0).In(zone).Format("15:04"), nil`, "time"), "--route", "GET /zone")
	n.expect("/zone", http.StatusOK, `"01:00"`)
}

// Scripts in another language are found by their extension, and served like those in Go.
func TestStarlark(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	file := filepath.Join(t.TempDir(), "total.star")
	source := "def handle(ctx):\n    print(\"summing\")\n    return {\"total\": sum_of(ctx.request.json()[\"lines\"])}\n\n" +
		"def sum_of(lines):\n    total = 0\n    for l in lines:\n        total += l[\"count\"]\n    return total\n"
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	n.command("deploy", file, "--route", "POST /total")
	if r := n.must("POST", "/total", []byte(`{"lines":[{"count":2},{"count":3}]}`)); r.status != 200 || string(r.body) != `{"total":5}` {
		t.Errorf("%s", r)
	}
	if r := n.must("POST", "/total", []byte(`{"lines":[{}]}`)); r.status != 502 || !strings.Contains(string(r.body), "script_error") {
		t.Errorf("%s", r)
	}
	if err := os.WriteFile(file, []byte("def handle(ctx):\n    return nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := n.cli("deploy", file); code == 0 || !strings.Contains(errs, "total.star:2:12: undefined: nothing") {
		t.Errorf("%d %s", code, errs)
	}
}

// A script in TypeScript waits for the queue that it sends to, and reads nothing of the machine.
func TestTypeScript(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	n.command("deploy", script(t, "post", "return nil, nil"))
	n.command("queues", "create", "mail", "--script", "post")
	file := filepath.Join(t.TempDir(), "order.ts")
	source := `import { type Context, Response, PicloudError } from "picloud";

interface Order { items: string[] }

export default async function handle(ctx: Context): Promise<unknown> {
	const order = ctx.request.json<Order>();
	await ctx.sleep(1);
	const ids: string[] = await Promise.all(order.items.map((item) => ctx.queue("mail").send({ item })));
	const refused = await ctx.queue("nothing").send(1).catch((e: PicloudError) => e.code);
	return Response.json({ sent: new Set(ids).size, refused, id: crypto.randomUUID().length }, { status: 201 });
}
`
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	n.command("deploy", file, "--route", "POST /order")
	if r := n.must("POST", "/order", []byte(`{"items":["a","b"]}`)); r.status != 201 || string(r.body) != `{"sent":2,"refused":"not_found","id":36}` {
		t.Errorf("%s", r)
	}
	if r := n.must("POST", "/order", []byte(`{}`)); r.status != 502 || !strings.Contains(string(r.body), "script_error") {
		t.Errorf("%s", r)
	}
	if err := os.WriteFile(file, []byte("import fs from \"node:fs\";\nexport default () => fs.readFileSync(\"/etc/passwd\");\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := n.cli("deploy", file); code == 0 || !strings.Contains(errs, `order.ts:1:16: "node:fs" cannot be imported`) {
		t.Errorf("%d %s", code, errs)
	}
}

// Compiled scripts are deployed, stored and given back as they are.
func TestWebAssembly(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	// A function handle that calls picloud.output with the text at the end.
	module := []byte("\x00asm\x01\x00\x00\x00\x01\t\x02`\x02\x7f\x7f\x00`\x00\x00\x02\x12\x01\apicloud\x06output\x00\x00\x03\x02\x01\x01" +
		"\x05\x03\x01\x00\x01\a\x13\x02\x06handle\x00\x01\x06memory\x02\x00\n\f\x01\n\x01\x00\x7fA\x00A\x10\x10\x00\v\v\x16\x01\x00" +
		"A\x00\v\x10{\"text\":\"hello\"}")
	file := filepath.Join(t.TempDir(), "compiled.wasm")
	if err := os.WriteFile(file, module, 0o600); err != nil {
		t.Fatal(err)
	}
	n.command("deploy", file, "--route", "GET /compiled")
	n.expect("/compiled", http.StatusOK, "hello")
	if err := os.WriteFile(file, module[:len(module)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := n.cli("deploy", file); code == 0 || !strings.Contains(errs, "compiled.wasm: the module cannot be read") {
		t.Errorf("%d %s", code, errs)
	}
}
