package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/sdk/service"
)

// asked is a call of a service that names what one app has. Its arguments are those that are not options, in the order of the table
// of services; {doc} and {file} stand for ids.
type asked struct {
	service, method string
	args            []any
}

// matrix has a row for each method of the table of services that names something of the app. What the owner has of it is in fill.
var matrix = []asked{
	{"kv", "get", []any{"k"}},
	{"kv", "entry", []any{"k"}},
	{"kv", "has", []any{"k"}},
	{"kv", "list", []any{}},
	{"kv", "delete", []any{"k"}},
	{"docs", "get", []any{"{doc}"}},
	{"docs", "find", []any{object{"n": 1}}},
	{"docs", "find_one", []any{object{"n": 1}}},
	{"docs", "list", []any{}},
	{"docs", "update", []any{"{doc}", object{"n": 2}}},
	{"docs", "delete", []any{"{doc}"}},
	{"files", "get", []any{"{file}"}},
	{"files", "head", []any{"{file}"}},
	{"files", "read", []any{"{file}", 0}},
	{"files", "list", []any{}},
	{"files", "delete", []any{"{file}"}},
	{"secrets", "get", []any{"KEY"}},
	{"secrets", "list", []any{}},
	{"secrets", "delete", []any{"KEY"}},
	{"pubsub", "publish", []any{"topic", 1}},
	{"pubsub", "publish_ephemeral", []any{"topic", 1}},
	{"sink", "send", []any{1}},
	{"queue", "depth", []any{}},
	{"queue", "purge", []any{}},
	{"invoke", "call", []any{"here", "x"}},
}

// handles are what services are opened with.
var handles = map[string]string{"kv": "c", "docs": "c", "files": "c", "queue": "q", "sink": "s"}

// unnamed are the methods that name nothing which is there already: they make something, in the app whose run it is, or reach outside.
var unnamed = []string{
	"kv.set", "kv.increment", "docs.create", "docs.index", "files.create", "files.begin", "files.write", "files.finish", "secrets.set",
	"email.send",
	"http.get", "http.head", "http.delete", "http.post", "http.put", "http.patch", "http.request",
}

type object = map[string]any

// askers are scripts that do what a request says, in each language.
var askers = map[string]string{
	"ask.ts": `
export default async function handle(ctx: any) {
  const { service, handle, method, args } = ctx.request.json();
  const opened = service === "invoke" ? ctx : handle === "" ? ctx[service] : ctx[service](handle);
  return { answer: await opened[method](...args) };
}
`,
	"ask.star": `
def handle(ctx):
    asked = ctx.request.json()
    service = ctx
    if asked["service"] != "invoke":
        service = getattr(ctx, asked["service"])
    if asked["handle"]:
        service = service(asked["handle"])
    return {"answer": str(getattr(service, asked["name"])(*asked["args"]))}
`,
	"ask.go": `
package main

import (
	"errors"
	"io"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	var asked struct {
		Service string
		Name    string
		Args    []any
	}
	if err := ctx.Request.JSON(&asked); err != nil {
		return nil, err
	}
	text := func(i int) string { s, _ := asked.Args[i].(string); return s }
	kv, docs, files := ctx.KV("c"), ctx.Docs("c"), ctx.Files("c")
	switch asked.Service + "." + asked.Name {
	case "kv.get":
		var v any
		found, err := kv.Get(text(0), &v)
		return []any{found, v}, err
	case "kv.entry":
		e, err := kv.Entry(text(0))
		return e.Version > 0, err
	case "kv.has":
		has, err := kv.Has(text(0))
		return has, err
	case "kv.list":
		items, _, err := kv.List()
		return len(items), err
	case "kv.delete":
		was, err := kv.Delete(text(0))
		return was, err
	case "docs.get":
		var v any
		found, err := docs.Get(text(0), &v)
		return []any{found, v}, err
	case "docs.find":
		found, _, err := docs.Find(picloud.Filter{"n": 1})
		return len(found), err
	case "docs.find_one":
		_, found, err := docs.FindOne(picloud.Filter{"n": 1})
		return found, err
	case "docs.list":
		found, _, err := docs.Find(nil)
		return len(found), err
	case "docs.update":
		_, err := docs.Update(text(0), asked.Args[1])
		return "updated", err
	case "docs.delete":
		was, err := docs.Delete(text(0))
		return was, err
	case "files.get":
		data, err := files.Get(text(0))
		return string(data), err
	case "files.head":
		_, found, err := files.Head(text(0))
		return found, err
	case "files.read":
		data, err := io.ReadAll(files.Reader(text(0)))
		return string(data), err
	case "files.list":
		list, _, err := files.List()
		return len(list), err
	case "files.delete":
		was, err := files.Delete(text(0))
		return was, err
	case "secrets.get":
		v, err := ctx.Secrets.Text(text(0))
		return v, err
	case "secrets.list":
		names, err := ctx.Secrets.List()
		return len(names), err
	case "secrets.delete":
		was, err := ctx.Secrets.Delete(text(0))
		return was, err
	case "pubsub.publish":
		n, err := ctx.Publish(text(0), asked.Args[1])
		return n, err
	case "pubsub.publish_ephemeral":
		n, _, err := ctx.PublishEphemeral(text(0), asked.Args[1])
		return n, err
	case "sink.send":
		id, err := ctx.Sink("s").Send(asked.Args[0])
		return id, err
	case "queue.depth":
		depth, err := ctx.Queue("q").Depth()
		return depth.Waiting, err
	case "queue.purge":
		purged, _, err := ctx.Queue("q").Purge()
		return purged, err
	case "invoke.call":
		answer, err := ctx.Call(text(0), asked.Args[1])
		if err != nil {
			return nil, err
		}
		return answer.Status, nil
	}
	return nil, errors.New("there is no call " + asked.Service + "." + asked.Name)
}
`,
}

// fill is what the owner has.
const fill = `
def handle(ctx):
    ctx.kv("c").set("k", "ours")
    ctx.secrets.set("KEY", "ours")
    return {"doc": ctx.docs("c").create({"n": 1})["id"], "file": ctx.files("c").create("n", "ours")["id"]}
`

// TestServicesMatrix asks every service in every language for what another app has, by its very names and ids. It must look as if
// nobody had it, and stay as it is. The rows are checked against the table of services: a new method without a row fails.
func TestServicesMatrix(t *testing.T) {
	t.Parallel()
	rows := map[string]bool{}
	for _, name := range unnamed {
		rows[name] = true
	}
	for _, row := range matrix {
		rows[row.service+"."+row.method] = true
	}
	for _, s := range service.Services() {
		for _, m := range s.Methods {
			if !rows[s.Name+"."+m.Name] {
				t.Errorf("%s.%s has no row", s.Name, m.Name)
			}
		}
	}

	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	dir := t.TempDir()
	for _, app := range []string{"owner", "thief"} {
		n.command("apps", "create", app)
		n.command("domains", "add", app+".example.com", "--app", app)
		for name, source := range askers {
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
				t.Fatal(err)
			}
			n.command("deploy", file, "--app", app, "--name", "ask-"+filepath.Ext(name)[1:], "--route", "POST /"+name)
		}
	}
	file := filepath.Join(dir, "fill.star")
	if err := os.WriteFile(file, []byte(fill), 0o600); err != nil {
		t.Fatal(err)
	}
	n.command("deploy", file, "--app", "owner", "--route", "POST /fill")
	n.command("deploy", script(t, "here", `return "here", nil`), "--app", "owner")
	n.command("queues", "create", "q", "--app", "owner", "--script", "here")
	n.command("sinks", "create", "s", "--app", "owner", "--url", "https://example.com/hook", "--attempts", "1", "--policy", `{"delay": "1h"}`)
	n.command("triggers", "create", "topic", "--app", "owner", "--kind", "pubsub", "--topic", "topic", "--script", "fill", "--policy", `{"delay": "1h"}`)

	for name := range askers {
		t.Run(name, func(t *testing.T) { // one after the other: each takes what the owner has away
			var ours map[string]string
			if err := json.Unmarshal(n.from("owner", "POST", "/fill", "{}").body, &ours); err != nil {
				t.Fatal(err)
			}
			nobody := map[string]string{"doc": "00000000-0000-7000-8000-000000000000", "file": "00000000-0000-7000-8000-000000000000"}
			for _, row := range matrix {
				theirs := n.ask(t, "thief", name, row, ours)
				if missing := n.ask(t, "thief", name, row, nobody); theirs != missing {
					t.Errorf("%s.%s of another app: %s; of nobody: %s", row.service, row.method, theirs, missing)
				}
				if got := n.ask(t, "owner", name, row, ours); got == theirs || !strings.HasPrefix(got, "200") {
					t.Errorf("%s.%s of its own: %s", row.service, row.method, got)
				}
			}
		})
	}
}

var anyID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`)

// ask has a script ask for what values name, and returns the answer, without the ids in it.
func (n *instance) ask(t *testing.T, app, script string, row asked, values map[string]string) string {
	t.Helper()
	args, err := json.Marshal(row.args)
	if err != nil {
		t.Fatal(err)
	}
	for name, id := range values {
		args = []byte(strings.ReplaceAll(string(args), "{"+name+"}", id))
	}
	r := n.from(app, http.MethodPost, "/"+script, fmt.Sprintf(`{"service":%q,"handle":%q,"method":%q,"name":%q,"args":%s}`,
		row.service, handles[row.service], service.Camel(row.method), row.method, args))
	return fmt.Sprint(r.status, " ", anyID.ReplaceAllString(string(r.body), "ID"))
}

// from sends a request to a host of an app.
func (n *instance) from(app, method, path, body string) reply {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), method, n.public+path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	req.Host = app + ".example.com"
	r, err := n.do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	return r
}
