package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/picloud/picloud/core/coretest"
)

func signed(key string, parts ...string) string {
	mac := hmac.New(sha256.New, []byte(key))
	for _, part := range parts {
		mac.Write([]byte(part))
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// Requests of other services run scripts, if they are signed as the trigger says.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	secret := func(name, value string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
		n.command("secrets", "set", name, "--file", file)
	}
	secret("GITHUB", "gh")
	secret("SLACK", "sl")
	n.command("deploy", script(t, "build", `ctx.Log.Info("told", ctx.Event.Type, ctx.Request.Header("X-Github-Event"), string(ctx.Request.Body))
	return nil, nil`))
	n.command("triggers", "create", "pushes", "--kind", "webhook", "--script", "build", "--signature", "github", "--secret", "GITHUB",
		"--when", `event.topic == "push" && data.ref == "main"`)
	n.command("triggers", "create", "slack", "--kind", "webhook", "--script", "build", "--signature", "slack", "--secret", "SLACK")
	n.command("triggers", "create", "lost", "--kind", "webhook", "--script", "build", "--signature", "hmac", "--secret", "NOBODY")
	if shown := n.command("triggers", "show", "pushes"); !strings.Contains(shown, "/.picloud/webhooks/pushes") {
		t.Error(shown)
	}

	push := func(body, id, signature string) reply {
		t.Helper()
		return n.with("POST", "/.picloud/webhooks/pushes", body, "X-GitHub-Event", "push", "X-GitHub-Delivery", id, "X-Hub-Signature-256", "sha256="+signature)
	}
	want := func(r reply, status int, words string) {
		t.Helper()
		if r.status != status || !strings.Contains(string(r.body), words) {
			t.Errorf("%d %s, want %d %s", r.status, r.body, status, words)
		}
	}
	body := `{"ref": "main"}`
	first := push(body, "d1", signed("gh", body))
	want(first, 202, `"accepted":true`)
	want(push(body, "d1", signed("gh", body)), 202, strings.TrimSpace(string(first.body))) // sent again, it is the same
	want(push(body, "d2", signed("other", body)), 401, "bad_signature")
	want(push(body+" ", "d3", signed("gh", body)), 401, "bad_signature")
	want(push(`{"ref": "x"}`, "d4", signed("gh", `{"ref": "x"}`)), 200, `"accepted":false`)
	want(push("no json", "d5", signed("gh", "no json")), 200, `"accepted":false`)
	want(n.with("POST", "/.picloud/webhooks/nobody", body), 404, "no_webhook")
	want(n.with("POST", "/.picloud/webhooks/lost", body), 503, "unavailable")
	want(n.with("GET", "/.picloud/webhooks/pushes", ""), 405, "POST")

	now := strconv.FormatInt(time.Now().Unix(), 10)
	ask := `{"type":"url_verification","challenge":"c4"}`
	want(n.with("POST", "/.picloud/webhooks/slack", ask, "X-Slack-Request-Timestamp", now, "X-Slack-Signature",
		"v0="+signed("sl", "v0:", now, ":", ask)), 200, `"challenge":"c4"`)

	n.command("triggers", "create", "post", "--kind", "email", "--script", "build", "--to", "*@example.com", "--signature", "hmac", "--secret", "GITHUB")
	mail := func(body string) reply {
		t.Helper()
		return n.with("POST", "/.picloud/webhooks/post", body, "X-Signature", signed("gh", body))
	}
	letter := `{"from": "ada@example.org", "to": ["post@example.com"], "subject": "s", "text": "dear post", "message_id": "<1@example.org>"}`
	sent := mail(letter)
	want(sent, 202, `"accepted":true`)
	want(mail(letter), 202, strings.TrimSpace(string(sent.body)))
	want(mail(strings.Replace(letter, "example.com", "example.net", 1)), 200, `"accepted":false`)
	want(mail(`{"to": 7}`), 422, "the body is no message of e-mail")
	want(n.with("POST", "/.picloud/webhooks/post", letter), 401, "bad_signature")

	n.command("triggers", "fire", "pushes", "--topic", "push", "--body", `{"ref": "main", "n": 2}`)
	ended := func(outcome string) int {
		return len(slices.DeleteFunc(n.executions("build"), func(e seen) bool { return e.Outcome != outcome }))
	}
	await(t, "all are told, and that a body was no JSON", func() bool { return ended("succeeded") == 3 && ended("stopped") == 1 })
	logged := n.command("logs", "build")
	for words, times := range map[string]int{"webhook.push": 2, "main": 2, "email.received": 1, "dear post": 1} {
		if strings.Count(logged, words) < times {
			t.Errorf("logged no %s: %s", words, logged)
		}
	}

	n.command("triggers", "disable", "pushes")
	want(push(body, "d9", signed("gh", body)), 404, "no_webhook")
}

// A handler of dead letters takes those of which its expression is true.
func TestDeadLettersWhen(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	n.command("deploy", script(t, "bad", `return nil, picloud.Fatal(errors.New("not " + string(ctx.Request.Body)))`, "errors"))
	n.command("deploy", script(t, "note", `ctx.Log.Info(string(ctx.Request.Body))
	return nil, nil`))
	n.command("triggers", "dead-letter", "some", "--script", "note", "--when", `data.error.contains("milk")`)
	for _, what := range []string{"bread", "milk"} {
		n.command("invoke", "bad", "--async", "--body", what)
	}
	await(t, "the handler is called", func() bool { return len(n.executions("note")) == 1 })
	if logged := n.command("logs", "note"); !strings.Contains(logged, "milk") || strings.Contains(logged, "bread") {
		t.Error(logged)
	}
	if code, _, errs := n.cli("triggers", "dead-letter", "x", "--script", "note", "--when", "data.("); code == 0 || !strings.Contains(errs, "when") {
		t.Errorf("%d %s", code, errs)
	}
}
