package main

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/coretest"
)

// written are the ways in which the script of TestSecretsLeak writes a secret.
func written(secret string) []string {
	return []string{
		secret, url.QueryEscape(secret), url.PathEscape(secret), base64.StdEncoding.EncodeToString([]byte(secret)),
		base64.StdEncoding.EncodeToString([]byte("user:" + secret)), hex.EncodeToString([]byte(secret)),
	}
}

// A secret goes where its script sends it, and nowhere else: not into a log, a record, a dead letter, a problem, what the
// node prints, nor, in a form that anybody can read, the database.
func TestSecretsLeak(t *testing.T) {
	t.Parallel()
	const canary, made = `c4n4ry+that/nobody=finds&"`, `m4de+by/a=script&"`
	var mu sync.Mutex
	var sent []string
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		sent = append(sent, r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte(r.Header.Get("Authorization")))
	}))
	t.Cleanup(outside.Close)
	database := coretest.URL(t)
	n := start(t, setup{command: "dev", data: coretest.DataDir(t), database: database, args: []string{"--http-allow", strings.TrimPrefix(outside.URL, "http://")}})
	file := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(file, []byte(canary+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.command("secrets", "set", "KEY", "--file", file)
	if listed := n.command("secrets", "ls"); !strings.Contains(listed, `"KEY"`) || strings.Contains(listed, "c4n4ry") {
		t.Errorf("listed: %s", listed)
	}
	if info, err := os.Stat(filepath.Join(n.data, "secret.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", info, err)
	}
	body := strings.Replace(`	key, err := ctx.Secrets.Text("KEY")
	if err != nil {
		return nil, err
	}
	made := "m4" + "de+by/a=script&\"" // not as a whole, since the source is stored
	if err := ctx.Secrets.Set("MADE", map[string]string{"key": made}); err != nil {
		return nil, err
	}
	answer, err := ctx.HTTP.Do(&picloud.HTTPRequest{URL: "OUTSIDE", Headers: picloud.Headers{"Authorization": {key}}})
	if err != nil {
		return nil, err
	}
	if answer.Status != 418 || answer.Text() != key {
		return nil, errors.New("the answer is another")
	}
	var text string
	for _, s := range []string{key, made} {
		text += " " + s + " " + url.QueryEscape(s) + " " + url.PathEscape(s) + " " + base64.StdEncoding.EncodeToString([]byte(s)) + " " +
			base64.StdEncoding.EncodeToString([]byte("user:" + s)) + " " + hex.EncodeToString([]byte(s))
	}
	ctx.Log.Info(text, map[string]string{"text": text, key: made})
	fmt.Println(text)
	switch ctx.Request.Path {
	case "/good":
		return picloud.Response{Body: key}, nil
	case "/panic":
		panic(text)
	case "/invalid":
		return picloud.Response{Headers: picloud.Headers{"X-" + key: {text}}}, nil
	case "/service":
		_, err := ctx.HTTP.Get("http://" + url.PathEscape(key) + "/")
		_, again := ctx.Invoke(key, nil)
		return nil, errors.Join(err, again)
	}
	return nil, picloud.Fatal(errors.New("no luck with" + text))`, "OUTSIDE", outside.URL, 1)
	n.command("deploy", script(t, "leak", body, "errors", "encoding/base64", "encoding/hex", "fmt", "net/url"),
		"--route", "ANY /{what}")
	n.command("deploy", script(t, "later", body, "errors", "encoding/base64", "encoding/hex", "fmt", "net/url"),
		"--route", "POST /later", "--async")

	for name, source := range map[string]string{
		"leak.ts": `import { type Context, Fatal } from "picloud";
export default async function handle(ctx: Context) {
	const key = await ctx.secrets.get("KEY");
	const made = "m4" + "de+by/a=script&\"";
	await ctx.secrets.set("MADE", { key: made });
	const answer = await ctx.http.get("OUTSIDE", { headers: { Authorization: key }, timeoutMs: 5000 });
	if (answer.status !== 418 || answer.body !== key) throw new Error("the answer is another");
	for (const s of [key, made]) {
		const all = [s, encodeURIComponent(s!), btoa(s!), JSON.stringify({ s })].join(" ");
		ctx.log.info(all, { [s!]: all });
		console.log(all, [s]);
	}
	throw new Fatal("no luck with " + key + " " + btoa("user:" + made), { cause: new Error(key) });
}
`,
		"leak.star": `def handle(ctx):
    key = ctx.secrets.get("KEY")
    made = "m4" + "de+by/a=script&\""
    ctx.secrets.set("MADE", {"key": made})
    answer = ctx.http.get("OUTSIDE", headers = {"Authorization": [key]}, timeout = 5)
    if answer["status"] != 418 or answer["body"] != key:
        fail("the answer is another")
    for s in [key, made]:
        ctx.log.info(s, {s: json.encode([s])})
        print(s, [s])
    fail("no luck with", key, json.encode(made))
`,
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(strings.Replace(source, "OUTSIDE", outside.URL, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		of := strings.TrimPrefix(filepath.Ext(name), ".")
		n.command("deploy", path, "--name", of, "--route", "GET /"+of)
	}

	clean := func(what, text string) {
		t.Helper()
		for _, s := range []string{canary, made} {
			for i, form := range written(s) {
				if strings.Contains(text, form) || strings.Contains(text, hex.EncodeToString([]byte(form))) {
					t.Errorf("%s holds form %d of %q: %.300s", what, i, s, text)
				}
			}
		}
		for _, part := range []string{"c4n4ry", "m4de"} {
			if at := strings.Index(text, part); at >= 0 {
				t.Errorf("%s holds a part: %.100s", what, text[at:])
			}
		}
	}
	n.expect("/good", 200, canary) // what a script answers is its own to say
	for _, path := range []string{"/bad", "/panic", "/invalid", "/service", "/ts", "/star"} {
		r := n.must("GET", path, nil)
		if r.status != 502 {
			t.Errorf("%s: %s", path, r)
		}
		if strings.Contains(string(r.body), "the answer is another") {
			t.Errorf("%s: %s", path, r)
		}
		clean("the answer to "+path, fmt.Sprint(r.header)+string(r.body))
	}
	n.must("POST", "/later", nil)
	type letter struct{ ID string }
	var letters []letter
	await(t, "a dead letter", func() bool {
		letters = rows[letter](t, n.command("dead-letters", "ls"))
		return len(letters) == 1
	})
	clean("the dead letter", n.command("dead-letters", "ls")+n.command("dead-letters", "show", letters[0].ID)+n.command("dead-letters", "groups"))
	for _, name := range []string{"leak", "later", "ts", "star"} {
		logs := n.command("logs", name)
		if !strings.Contains(logs, "[secret]") {
			t.Errorf("nothing was logged: %s", logs)
		}
		clean("the log of "+name, logs)
	}
	for _, e := range n.executions("later") {
		clean("the record", n.command("executions", "show", e.ID))
	}
	n.command("secrets", "rotate")
	n.expect("/good", 200, canary)
	clean("the output of the node", n.output())
	dump(t, database, clean)
	mu.Lock()
	defer mu.Unlock()
	for _, s := range sent {
		if s != canary {
			t.Errorf("sent %q", s)
		}
	}
	n.command("secrets", "rm", "KEY")
	n.problem("/good", 502, "script_error")
}

// dump hands every row of a database to check.
func dump(t *testing.T, database string, check func(what, text string)) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	rows, _ := conn.Query(t.Context(), `SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'`)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 10 {
		t.Fatalf("%v, %v", tables, err)
	}
	for _, table := range tables {
		rows, _ := conn.Query(t.Context(), `SELECT x::text FROM `+pgx.Identifier{table}.Sanitize()+` x`)
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range all {
			check("the table "+table, row)
		}
	}
}
