package coretest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/postgres/embedded"
)

// template is the migrated database that every test gets a copy of.
const template = "migrated"

// server is the one Postgres of a test process, started by the first test that needs it.
type server struct {
	dir      dataDir
	postgres *embedded.Server
	admin    *pgxpool.Pool
	made     atomic.Int64 // databases so far
}

var shared struct {
	sync.Mutex
	server *server
	err    error
}

// DB returns a pool on a database of the test's own, with the newest schema and no rows but those of the migrations.
// Both are gone after the test.
func DB(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: URL(t)}, Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// URL returns the URL of a database as DB makes one.
func URL(t testing.TB) string {
	t.Helper()
	return clone(t, template)
}

// EmptyURL returns the URL of a database of the test's own without any schema.
func EmptyURL(t testing.TB) string {
	t.Helper()
	return clone(t, "template0")
}

func clone(t testing.TB, from string) string {
	t.Helper()
	s, err := theServer()
	if err != nil {
		t.Fatalf("test server: %v", err)
	}
	name := fmt.Sprintf("test_%d", s.made.Add(1))
	// The names are ours, so they need no quotes. Copying files takes half the time of copying through the log, where
	// nothing waits for the disk.
	if _, err := s.admin.Exec(t.Context(), "CREATE DATABASE "+name+" STRATEGY file_copy TEMPLATE "+from); err != nil {
		t.Fatalf("make test database: %v", err)
	}
	t.Cleanup(func() {
		if _, err := s.admin.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop test database: %v", err)
		}
	})
	return s.url(name)
}

func theServer() (*server, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = startServer()
	}
	return shared.server, shared.err
}

func startServer() (_ *server, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s := &server{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	if s.dir, err = makeDataDir(); err != nil {
		return nil, err
	}
	log := hclog.New(&hclog.LoggerOptions{Name: "coretest", Level: hclog.Warn})
	if s.postgres, err = embedded.Start(ctx, embedded.Config{Dir: s.dir.path, Conns: 100 + 2*postgres.NodeConns*runtime.GOMAXPROCS(0), NoSync: true, Log: log}); err != nil {
		return nil, err
	}
	if s.admin, err = postgres.Open(ctx, postgres.Config{URL: s.postgres.URL()}, log); err != nil {
		return nil, err
	}
	if _, err := s.admin.Exec(ctx, "CREATE DATABASE "+template); err != nil {
		return nil, fmt.Errorf("make template: %w", err)
	}
	if err := postgres.Migrate(ctx, s.url(template), log); err != nil {
		return nil, err
	}
	return s, nil
}

// url returns the server's URL with another database.
func (s *server) url(database string) string {
	u, err := url.Parse(s.postgres.URL())
	if err != nil {
		panic(err) // we made it
	}
	u.Path = "/" + database
	return u.String()
}

// stop takes what startServer has made, however far it came.
func (s *server) stop() error {
	if s.admin != nil {
		s.admin.Close()
	}
	var err error
	if s.postgres != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err = s.postgres.Stop(ctx)
	}
	if s.dir.open != nil {
		err = errors.Join(err, s.dir.remove())
	}
	return err
}

func stopServer() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		return nil
	}
	return shared.server.stop()
}
