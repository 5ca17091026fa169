package main

import (
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/picloud/picloud/core/coretest"
)

// A script that ends its process each time is refused with an answer that says all there is to know, while another of its
// app answers; a new version of it runs.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	seen := newRecorder(t)
	seen.barrier = 1 << 20 // runs wait to begin, so that their processes can be killed meanwhile
	n := start(t, setup{command: "dev", data: coretest.DataDir(t), recorder: seen})
	n.command("deploy", script(t, "fragile", `return 1, nil`), "--route", "GET /fragile")
	n.command("deploy", script(t, "steady", `return 0, nil`), "--route", "GET /steady")
	var refusal reply
	for !strings.Contains(string(refusal.body), "quarantine") {
		before := seen.started()
		answered := make(chan reply, 1)
		go func() {
			r, err := n.send(http.MethodGet, "/fragile", nil)
			if err != nil {
				t.Error(err)
			}
			answered <- r
		}()
		await(t, "the run is about to begin, or was refused", func() bool {
			return seen.started() > before || len(answered) > 0
		})
		if seen.started() > before {
			if err := syscall.Kill(seen.lastEngine(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		refusal = <-answered
		if refusal.status != http.StatusServiceUnavailable && field(refusal.body, "type") != "urn:picloud:problem:engine_lost" {
			t.Fatalf("a run whose process died: %s", refusal)
		}
	}
	detail := field(refusal.body, "detail")
	if n := seen.started(); n != 4 { // once in company, three times alone
		t.Errorf("it was started %d times", n)
	}
	for _, says := range []string{`version 1 of the script "fragile"`, "in quarantine", "3 times", "signal 9"} {
		if !strings.Contains(detail, says) {
			t.Errorf("%s does not say %q", refusal, says)
		}
	}
	if refusal.header.Get("Retry-After") == "" {
		t.Error("it does not say when to try again")
	}
	close(seen.full)
	n.expect("/steady", http.StatusOK, "0")
	n.command("deploy", script(t, "fragile", `return 2, nil`), "--route", "GET /fragile")
	n.expect("/fragile", http.StatusOK, "2")
}
