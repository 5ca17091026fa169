package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/picloud/picloud/core/coretest"
)

// The database server dies without a word while requests come in: every caller has an answer, what was acknowledged
// runs, and the node goes on by itself.
func TestPostgresKilled(t *testing.T) {
	t.Parallel()
	seen := newRecorder(t)
	n := start(t, setup{command: "dev", data: coretest.DataDir(t), recorder: seen, args: []string{"--slots", "4"}})
	n.command("deploy", script(t, "now", `return "now", nil`), "--route", "GET /now", "--timeout", "5s")
	n.command("deploy", script(t, "later", `return nil, nil`), "--route", "POST /later", "--async", "--max-attempts", "25")

	var good atomic.Int64 // sync calls that were answered by the script
	var mu sync.Mutex
	var acknowledged []string
	stop := make(chan struct{})
	var callers sync.WaitGroup
	repeat := func(f func()) {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	for range 2 {
		repeat(func() {
			switch r, err := n.send(http.MethodGet, "/now", nil); {
			case err != nil:
				t.Errorf("a sync call has no answer: %v", err)
			case r.status == http.StatusOK:
				good.Add(1)
			case r.status != http.StatusServiceUnavailable && r.status != http.StatusGatewayTimeout:
				t.Errorf("a sync call: %s", r)
			}
		})
	}
	repeat(func() {
		switch r, err := n.send(http.MethodPost, "/later", nil); {
		case err != nil:
			t.Errorf("an async call has no answer: %v", err)
		case r.status == http.StatusAccepted:
			mu.Lock()
			acknowledged = append(acknowledged, field(r.body, "execution_id"))
			mu.Unlock()
		case r.status != http.StatusServiceUnavailable:
			t.Errorf("an async call: %s", r)
		}
	})
	soon := func(what string) {
		t.Helper()
		mu.Lock()
		accepted := len(acknowledged)
		mu.Unlock()
		goal := good.Load() + 20
		await(t, what, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return good.Load() >= goal && len(acknowledged) >= accepted+20
		})
	}
	soon("calls work")
	pid := postmaster(t, n.data)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "another server runs", func() bool {
		now, err := readPostmaster(n.data)
		return err == nil && now != pid
	})
	soon("calls work again")
	close(stop)
	callers.Wait()

	for _, id := range acknowledged {
		await(t, "what was acknowledged is run", func() bool { return len(seen.of(id)) > 0 })
	}
	seen.checkOnce(t)
	if !n.alive() {
		t.Error("the node ended with its database")
	}
}

// postmaster returns the process id of the database server of a data folder.
func postmaster(t *testing.T, data string) int {
	t.Helper()
	pid, err := readPostmaster(data)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func readPostmaster(data string) (int, error) {
	text, err := os.ReadFile(filepath.Join(data, "postgres", "data", "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strconv.Atoi(first)
}
