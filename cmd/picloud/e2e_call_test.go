package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/picloud/picloud/core/coretest"
)

// Scripts of several languages call one another and themselves, on a node that runs one thing at a time.
func TestScriptsCallScripts(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t), args: []string{"--slots", "1"}})
	n.command("deploy", script(t, "down", `var left int
	if err := ctx.Request.JSON(&left); err != nil {
		return nil, err
	}
	if left == 0 {
		return picloud.Response{Status: 201, Headers: picloud.Headers{"X-End": {"here"}}, Body: []byte{0, 255}}, nil
	}
	answer, err := ctx.Call("down", left-1)
	if err != nil {
		return nil, err
	}
	return picloud.Response{Status: answer.Status, Headers: picloud.Headers{"X-End": answer.Headers["X-End"]}, Body: answer.Body}, nil`),
		"--route", "POST /down")
	n.command("deploy", script(t, "fails", `return nil, picloud.Fatal(errors.New("no luck"))`, "errors"))
	n.command("deploy", script(t, "sleeps", `return nil, ctx.Sleep(time.Minute)`, "time"))
	file := filepath.Join(t.TempDir(), "many.ts")
	if err := os.WriteFile(file, []byte(`import { type Context } from "picloud";
export default async function handle(ctx: Context) {
  const told = async (name: string, body: unknown, options = {}) => {
    try {
      return (await ctx.call(name, body, options)).status;
    } catch (e) {
      return e.code + ": " + e.message;
    }
  };
  const all = await Promise.all(Array.from({ length: 8 }, () => told("down", 1)));
  return [all.join(), await told("fails", 1), await told("sleeps", 1, { timeoutMs: 100 }), await told("nobody", 1), await told("down", 8)];
}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	n.command("deploy", file, "--route", "POST /many")

	for range 2 { // callers that hold the slot do not keep their callees out, nor each other
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				r := n.must(http.MethodPost, "/down", []byte("8"))
				for r.status == http.StatusServiceUnavailable { // the others had the slot for a second, on a busy machine
					r = n.must(http.MethodPost, "/down", []byte("8"))
				}
				if r.status != 201 || string(r.body) != "\x00\xff" {
					t.Errorf("%d %q", r.status, r.body)
				}
			})
		}
		all.Wait()
	}
	r := n.must(http.MethodPost, "/down", []byte("9"))
	if r.status != 502 || !strings.Contains(string(r.body), "loop_depth") {
		t.Errorf("%d %s", r.status, r.body)
	}
	r = n.must(http.MethodPost, "/many", nil)
	for _, words := range []string{
		`"201,201,201,201,201,201,201,201"`, `script_error: the script \"fails\" failed in execution `, `: no luck"`,
		`deadline: the script \"sleeps\" failed`, `not_found: there is no script \"nobody\"`, `script_error: the script \"down\" failed`,
	} {
		if !strings.Contains(string(r.body), words) {
			t.Errorf("no %s in %s", words, r.body)
		}
	}
	await(t, "the run that failed is recorded", func() bool { return len(n.executions("fails")) >= 1 })
	for _, e := range n.executions("fails") {
		if e.Outcome != "failed" || e.Depth != 1 {
			t.Errorf("%+v", e)
		}
	}
	if got := len(n.executions("fails")); got != 1 {
		t.Error(fmt.Sprint(got), "runs of what a caller waits for")
	}
}
