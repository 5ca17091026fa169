package faultdb_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/coretest/faultdb"
)

func TestMain(m *testing.M) { coretest.Main(m) }

// bench is a database with a table, a proxy before it, and a connection through that.
type bench struct {
	t      *testing.T
	proxy  *faultdb.Proxy
	direct *pgx.Conn
	conn   *pgx.Conn
}

func newBench(t *testing.T) *bench {
	t.Helper()
	target := coretest.EmptyURL(t)
	proxy, err := faultdb.New(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	b := &bench{t: t, proxy: proxy, direct: connect(t, target)}
	if _, err := b.direct.Exec(t.Context(), "CREATE TABLE t (id int PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	b.conn = connect(t, proxy.URL())
	return b
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return conn
}

func (b *bench) insert(id int) error {
	_, err := b.conn.Exec(b.t.Context(), "INSERT INTO t VALUES ($1)", id)
	return err
}

// has asks the server itself.
func (b *bench) has(id int) bool {
	b.t.Helper()
	var has bool
	if err := b.direct.QueryRow(b.t.Context(), "SELECT EXISTS (SELECT 1 FROM t WHERE id = $1)", id).Scan(&has); err != nil {
		b.t.Fatal(err)
	}
	return has
}

func TestPass(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for id := range 3 {
		if err := b.insert(id); err != nil || !b.has(id) {
			t.Errorf("insert %d: %v, found %v", id, err, b.has(id))
		}
	}
}

func TestLoseAnswers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.insert(1); err != nil { // its statement is prepared
		t.Fatal(err)
	}
	b.proxy.LoseAnswers(1)
	var one int
	if err := b.conn.QueryRow(t.Context(), "SELECT 1").Scan(&one); err != nil {
		t.Fatalf("a read was cut: %v", err)
	}
	if err := b.insert(2); err == nil {
		t.Fatal("the answer was not lost")
	}
	if !b.has(2) {
		t.Error("nothing was committed")
	}
	if n := b.proxy.Stats().LostAnswers; n != 1 {
		t.Errorf("%d answers were lost, want 1", n)
	}
}

func TestLoseAnswerOfTransaction(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.proxy.LoseAnswers(1)
	tx, err := b.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "INSERT INTO t VALUES (7)"); err != nil {
		t.Fatalf("a statement before the commit was cut: %v", err)
	}
	if err := tx.Commit(t.Context()); err == nil {
		t.Fatal("the answer was not lost")
	}
	if !b.has(7) {
		t.Error("nothing was committed")
	}
}

func TestLoseRequests(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.insert(1); err != nil {
		t.Fatal(err)
	}
	b.proxy.LoseRequests(1)
	if err := b.insert(2); err == nil {
		t.Fatal("the request was not lost")
	}
	if b.has(2) {
		t.Error("it was committed")
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if n := b.proxy.Reset(); n != 1 {
		t.Errorf("%d connections were reset, want 1", n)
	}
	if err := b.insert(1); err == nil {
		t.Error("the connection lives")
	}
	b.conn = connect(t, b.proxy.URL())
	if err := b.insert(1); err != nil {
		t.Errorf("a new connection: %v", err)
	}
	b.proxy.Set(faultdb.Fault{Refuse: true})
	if conn, err := pgx.Connect(t.Context(), b.proxy.URL()); err == nil {
		_ = conn.Close(t.Context())
		t.Error("a connection was not refused")
	}
}

func TestCutAfter(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.proxy.CutAfter(1000)
	var text string
	if err := b.conn.QueryRow(t.Context(), "SELECT repeat('x', 5000)").Scan(&text); err == nil {
		t.Error("an answer of 5000 bytes came through")
	}
	if n := b.proxy.Stats().CutInMessages; n != 1 {
		t.Errorf("%d connections were cut, want 1", n)
	}
}

// A request that is held arrives after all, when the client has long given up: a lease must hold against it.
func TestHold(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]faultdb.Fault{
		"requests": {HoldRequests: true}, "answers": {HoldAnswers: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			if err := b.insert(1); err != nil {
				t.Fatal(err)
			}
			b.proxy.Set(faultdb.Fault{Only: "somebody else", HoldRequests: true, HoldAnswers: true})
			if err := b.insert(2); err != nil {
				t.Fatalf("the fault of another application: %v", err)
			}
			b.proxy.Set(fault)
			inserted := make(chan error, 1)
			go func() { inserted <- b.insert(3) }()
			if !fault.HoldRequests {
				coretest.Eventually(t, "the request arrives", func() bool { return b.has(3) })
			}
			select {
			case err := <-inserted:
				t.Fatalf("it was answered: %v", err)
			default:
			}
			if fault.HoldRequests && b.has(3) {
				t.Error("the request arrived")
			}
			b.proxy.Heal()
			if err := <-inserted; err != nil || !b.has(3) {
				t.Errorf("after the fault: %v", err)
			}
		})
	}
}

func TestRewrite(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.proxy.Rewrite(func(sql string) string { return strings.ReplaceAll(sql, "VALUES ($1)", "VALUES ($1 + 100)") })
	if err := b.insert(1); err != nil || !b.has(101) {
		t.Errorf("the statement was not rewritten: %v", err)
	}
}

func TestDelay(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const delay = 30 * time.Millisecond
	b.proxy.Set(faultdb.Fault{Delay: delay})
	began := time.Now()
	if err := b.insert(1); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < delay {
		t.Errorf("it took %s", took)
	}
}
