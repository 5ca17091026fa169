package main

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/picloud/picloud/core/coretest"
)

// A batch is one run, in which each message has an end of its own: what the script says failed is tried again or given
// up, and the others are done.
func TestBatchOfAQueue(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	n.command("deploy", script(t, "take", `var result picloud.BatchResult
	ctx.Log.Info(fmt.Sprint("batch of ", len(ctx.Batch())))
	for _, m := range ctx.Batch() {
		switch text := string(m.Body); {
		case text == "never":
			result.Failures = append(result.Failures, picloud.Failure{ID: m.ID, Error: "cannot do " + text, Fatal: true})
		case text == "later" && m.Attempt == 1:
			result.Failures = append(result.Failures, picloud.Failure{ID: m.ID, Error: "not yet", RetryAfter: time.Millisecond})
		}
	}
	return result, nil`, "fmt", "time"))
	n.command("queues", "create", "mail", "--script", "take", "--policy", `{"batch":{"size":10,"window":"2s"}}`)
	n.command("deploy", script(t, "produce", `messages := []any{"never", "later"}
	for len(messages) < 20 {
		messages = append(messages, "fine")
	}
	ids, err := ctx.Queue("mail").SendAll(messages)
	return ids, err`), "--route", "POST /produce")
	if r := n.must(http.MethodPost, "/produce", nil); r.status != http.StatusOK || strings.Count(string(r.body), `"`) != 40 {
		t.Fatal(r)
	}
	ends := map[string]int{}
	await(t, "every message has an end", func() bool {
		clear(ends)
		for _, r := range n.executions("take") {
			ends[r.Outcome]++
		}
		return ends["succeeded"]+ends["dead_lettered"] == 20
	})
	if fmt.Sprint(ends) != "map[dead_lettered:1 retried:1 succeeded:19]" {
		t.Errorf("they ended as %v", ends)
	}
	letters := rows[struct{ Reason, Error string }](t, n.command("dead-letters", "ls"))
	if len(letters) != 1 || letters[0].Reason != "fatal" || !strings.Contains(letters[0].Error, "cannot do never") {
		t.Errorf("the dead letters are %+v", letters)
	}
	logged := n.command("logs", "take", "--limit", "30")
	sizes, all := regexp.MustCompile(`batch of (\d+)`).FindAllStringSubmatch(logged, -1), 0
	for _, s := range sizes {
		size, _ := strconv.Atoi(s[1])
		all += size
	}
	// How many are written together depends on how fast they come: a full batch lets all go that wait with it.
	if all != 21 || !strings.Contains(logged, "batch of 10") || !strings.Contains(logged, "ran in a batch") {
		t.Errorf("the batches are %q; the log is %s", sizes, logged)
	}
}
