package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/coretest"
)

// A draft runs with the app's modules, under the limits of its script, and leaves nothing behind.
func TestDraft(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	dir := t.TempDir()
	write := func(name, source string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	n.command("deploy", write("words.star", "hello = 'hello'\n"), "--module")
	draft := write("draft.star", `load("app/words", "hello")

def handle(ctx):
    ctx.log.info("greeting", ctx.request.param("name"))
    ctx.queue("mail").send({"to": ctx.request.text()})
    if ctx.request.text() == "fail":
        fail("as asked")
    if ctx.request.text() == "much":
        return "x" * 5000
    return hello + ", " + ctx.request.param("name")
`)
	code, out, errs := n.cli("test", draft, "--body", "bob", "--param", "name=Ada")
	var done api.Trial
	if err := json.Unmarshal([]byte(out), &done); code != 0 || err != nil {
		t.Fatalf("%d %q %q", code, out, errs)
	}
	if done.Status != http.StatusOK || done.Body != `"hello, Ada"` || len(done.Logs) != 1 || done.Logs[0].Message != "greeting" ||
		len(done.Calls) != 1 || done.Calls[0].Service != "queue.send" || !strings.Contains(string(done.Calls[0].Arguments), "bob") {
		t.Errorf("%+v", done)
	}
	code, out, errs = n.cli("test", draft, "--body", "fail")
	if code != 1 || !strings.Contains(out, "fail: as asked") || !strings.Contains(out, "draft.star:7") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	if code, _, errs = n.cli("test", write("bad.star", "def handle(ctx):\n    return nothing\n")); code != 1 || !strings.Contains(errs, "bad.star:2:12: undefined: nothing") {
		t.Errorf("%d %q", code, errs)
	}
	if out := n.command("scripts", "ls"); strings.Contains(out, "draft") {
		t.Errorf("the draft was stored: %s", out)
	}

	// The limits of the script that it is a draft of hold for it, and for the script itself.
	n.command("deploy", draft, "--route", "POST /draft/{name}")
	n.command("queues", "create", "mail", "--script", "draft")
	n.command("scripts", "limit", "draft", "--answer", "4000")
	code, out, errs = n.cli("test", draft, "--body", "much")
	if code != 1 || !strings.Contains(out, "more than 4000") {
		t.Errorf("%d %q", code, errs)
	}
	if r := n.must(http.MethodPost, "/draft/x", []byte("much")); r.status != http.StatusInsufficientStorage || !strings.Contains(string(r.body), "more than 4000") {
		t.Errorf("%s", r)
	}
	if code, _, errs = n.cli("scripts", "limit", "draft", "--memory", "1000000000"); code != 1 || !strings.Contains(errs, "469762048") {
		t.Errorf("%d %q", code, errs)
	}
}

// A draft finds nothing stored, what it writes is told, and what cannot be answered without being done is refused.
func TestDraftAsks(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	file := filepath.Join(t.TempDir(), "draft.star")
	if err := os.WriteFile(file, []byte(`
def handle(ctx):
    kv, docs, files = ctx.kv("c"), ctx.docs("c"), ctx.files("c")
    if ctx.request.text() == "http":
        return ctx.http.get("https://example.com")
    made = docs.create({"a": 1})
    file = files.create("n.txt", "text")
    return {
        "kv": [kv.get("k"), kv.has("k"), kv.set("k", 1), kv.increment("n", 3), kv.delete("k"), len(kv.list()["items"])],
        "docs": [made["data"]["a"], made["version"], docs.get(made["id"]), docs.find_one({"a": 1}), len(docs.find({"a": 1})["items"]), docs.delete(made["id"])],
        "files": [file["name"], files.get(file["id"]), files.delete(file["id"])],
        "rest": [ctx.secrets.get("K"), ctx.pubsub.publish("t", 1), ctx.secrets.list()],
    }
`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, out, errs := n.cli("test", file)
	var done api.Trial
	if err := json.Unmarshal([]byte(out), &done); err != nil {
		t.Fatalf("%q %q", out, errs)
	}
	want := `{"docs":[1,1,null,null,0,false],"files":["n.txt",null,false],"kv":[null,false,1,3,false,0],"rest":[null,0,[]]}`
	if done.Body != want || len(done.Calls) != 17 || done.Error != nil {
		t.Errorf("%d calls, %+v; %s, want %s", len(done.Calls), done.Error, done.Body, want)
	}
	if code, out, _ := n.cli("test", file, "--body", "http"); code != 1 || !strings.Contains(out, "http.get is not done in a run that is tried") {
		t.Errorf("%d %s", code, out)
	}
}
