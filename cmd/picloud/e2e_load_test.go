package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/outbox"
)

// A request that holds what databases and texts cannot is nobody else's trouble.
func TestBadBesideGood(t *testing.T) {
	t.Parallel()
	seen := newRecorder(t)
	how := setup{command: "serve", data: coretest.DataDir(t), database: coretest.URL(t), recorder: seen}
	n := start(t, how)
	n.command("deploy", script(t, "work", `return nil, nil`), "--route", "POST /job/{name}", "--async")
	db := connect(t, how.database)

	for _, c := range []struct{ name, head string }{
		{"NUL in the path", "POST /job/%00 HTTP/1.1\r\nHost: 127.0.0.1\r\n"},
		{"bad UTF-8 in the path", "POST /job/%ff%fe HTTP/1.1\r\nHost: 127.0.0.1\r\n"},
		{"NUL in the query", "POST /job/x?a=%00 HTTP/1.1\r\nHost: 127.0.0.1\r\n"},
		{"bad UTF-8 in the query", "POST /job/x?a=\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n"},
		{"NUL in a header", "POST /job/x HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Odd: a\x00b\r\n"},
		{"bad UTF-8 in a header", "POST /job/x HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Odd: \xff\xfe\r\nTraceparent: \xff\r\n"},
		{"bad UTF-8 in the content type", "POST /job/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: \xff\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ids := make([]string, 64)
			together(len(ids), func(i int) {
				var r reply
				var err error
				if i == 0 {
					r, err = raw(n, c.head+"Content-Length: 0\r\nConnection: close\r\n\r\n")
				} else {
					r, err = n.send(http.MethodPost, fmt.Sprint("/job/", i), nil)
				}
				ids[i] = field(r.body, "execution_id")
				switch {
				case err != nil:
					t.Errorf("request %d: %v", i, err)
				case i == 0 && r.status == http.StatusBadRequest:
					ids[i] = "" // refused
				case r.status != http.StatusAccepted:
					t.Errorf("request %d: %s", i, r)
				}
			})
			for _, id := range ids {
				if id != "" {
					await(t, "an accepted request is run", func() bool { return len(seen.of(id)) == 1 })
				}
			}
		})
	}
	await(t, "the outbox is empty", func() bool { return count(t, db, `SELECT count(*) FROM outbox`) == 0 })
	if bad := count(t, db, `SELECT count(*) FROM executions WHERE outcome <> $1`, outbox.Succeeded); bad > 0 {
		t.Errorf("%d runs did not succeed", bad)
	}
}

// An app that is deleted while its requests are under way takes nothing of others with it.
func TestAppDeleted(t *testing.T) {
	t.Parallel()
	how := setup{
		command: "serve", data: coretest.DataDir(t), database: coretest.URL(t), recorder: newRecorder(t),
		args: []string{"--slots", "4"},
	}
	n := start(t, how)
	n.command("deploy", script(t, "work", `return nil, nil`), "--route", "POST /work", "--async")
	n.command("apps", "create", "doomed")
	n.command("domains", "add", "doomed.test", "--app", "doomed")
	n.command("deploy", script(t, "slow", `return nil, ctx.Sleep(time.Second)`, "time"), "--app", "doomed", "--route", "POST /work", "--async")

	const each = 200
	var mu sync.Mutex
	accepted := map[string]string{} // id → host
	var accepts atomic.Int64
	enough := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() {
		together(2*each, func(i int) {
			host := []string{"127.0.0.1", "doomed.test"}[i%2]
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.public+"/work", nil)
			if err != nil {
				t.Error(err)
				return
			}
			req.Host = host
			r, err := n.do(req)
			switch {
			case err != nil:
				t.Errorf("%s: %v", host, err)
			case r.status == http.StatusAccepted:
				mu.Lock()
				accepted[field(r.body, "execution_id")] = host
				mu.Unlock()
				if accepts.Add(1) == each/4 {
					close(enough)
				}
			case host == "127.0.0.1" || r.status != http.StatusNotFound:
				t.Errorf("%s: %s", host, r)
			}
		})
	})
	<-enough
	n.command("apps", "delete", "doomed", "--yes")
	sending.Wait()

	db := connect(t, how.database)
	await(t, "the outbox is empty", func() bool { return count(t, db, `SELECT count(*) FROM outbox`) == 0 })
	ends := finals(t, db)
	cut := 0
	for id, host := range accepted {
		end := ends[id]
		switch {
		case end.records != 1:
			t.Errorf("%s of %s has %d final records, want 1", id, host, end.records)
		case end.outcome == outbox.Succeeded:
		case host == "127.0.0.1" || end.outcome != outbox.Cancelled && end.outcome != outbox.DeadLettered:
			t.Errorf("%s of %s ended as %d", id, host, end.outcome)
		default:
			cut++
		}
	}
	if cut == 0 {
		t.Error("every request had ended before the app was deleted")
	}
}

// A caller who does not read what it asked for holds up nobody, and has all of it when it does.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	n := start(t, setup{
		command: "serve", data: coretest.DataDir(t), database: coretest.URL(t), args: []string{"--slots", "4"},
	})
	const size = 5 << 20
	n.command("deploy", script(t, "large", fmt.Sprintf(`return picloud.Response{Body: strings.Repeat("x", %d)}, nil`, size), "strings"),
		"--route", "GET /large", "--timeout", "2m")
	n.command("deploy", script(t, "small", `return 1, nil`), "--route", "GET /small")

	conn, err := net.Dial("tcp", strings.TrimPrefix(n.public, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.(*net.TCPConn).SetReadBuffer(256 << 10); err != nil { // the kernel must not take all of it in
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	together(4, func(int) {
		for range 50 {
			if r, err := n.send(http.MethodGet, "/small", nil); err != nil || r.status != http.StatusOK {
				t.Errorf("beside a slow reader: %s, %v", r, err)
			}
		}
	})
	if got, err := io.Copy(io.Discard, res.Body); err != nil || got != size {
		t.Errorf("the slow reader has %d bytes, want %d: %v", got, size, err)
	}
}

// As many runs are in progress at a time as there are slots, and never one more.
func TestParallel(t *testing.T) {
	t.Parallel()
	const slots = 32
	seen := newRecorder(t)
	seen.barrier = slots // the first run does not begin before the last of them is there
	n := start(t, setup{
		command: "serve", data: coretest.DataDir(t), database: coretest.URL(t), recorder: seen,
		args: []string{"--slots", fmt.Sprint(slots)},
	})
	n.command("deploy", script(t, "wait", `return "done", ctx.Sleep(100 * time.Millisecond)`, "time"), "--route", "GET /wait")
	together(2*slots, func(int) {
		if r, err := n.send(http.MethodGet, "/wait", nil); err != nil || r.status != http.StatusOK {
			t.Errorf("one of many: %s, %v", r, err)
		}
	})
	if got := seen.mostAtOnce(); got != slots {
		t.Errorf("%d runs were in progress at a time, want %d", got, slots)
	}
}

// together calls f so often at the same time and returns when all have ended.
func together(many int, f func(i int)) {
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() { f(i) })
	}
	all.Wait()
}

// raw sends bytes as they are to the public listener and reads the answer.
func raw(n *instance, request string) (reply, error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(n.public, "http://"))
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, request); err != nil {
		return reply{}, err
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header, body}, err
}
