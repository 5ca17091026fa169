// Package embedded runs a Postgres server for an instance that was not given one. It stands beside the line: node opens
// its pools on the URL and never knows who runs the server.
//
// The server is an ordinary one, found on this machine, with a data directory of its own. It listens on a Unix socket
// in a private folder, asks for a random password, and ends with the process that started it, however that ends.
//
// Several processes may share a data folder. The one that holds the lock on the owner file runs the server; the others
// adopt it, and one of them takes over when the owner is gone. Connections break at such a change, and whenever the
// server is restarted after a crash: users of the URL retry, as they must with any server.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Config says where and how to run a server.
type Config struct {
	// Dir is the data folder of the instance, made if it is missing. The server keeps to the folder postgres in it.
	Dir string

	// BinDir holds initdb and postgres. Empty: the newest that this machine has, or, for data that exists, the one that
	// wrote it.
	BinDir string

	// Conns is how many connections the server takes at once. 0: 100.
	Conns int

	// NoSync leaves writing to the disk to the system: what is committed outlives the server, but not the machine. Only
	// for tests.
	NoSync bool

	// Log takes the words of the supervisor and of the server. Nil: nobody hears them.
	Log hclog.Logger
}

// A server that fails at once is restarted after these delays, the last one again and again; one that has run for
// steadyAfter starts from the first.
var restartAfter = [...]time.Duration{
	50 * time.Millisecond, 200 * time.Millisecond, time.Second, 5 * time.Second,
}

const steadyAfter = time.Minute

// Server is a running local Postgres, run by this process or by another one. Its methods may be called concurrently.
type Server struct {
	cluster *cluster
	lock    *ownerLock
	log     hclog.Logger
	owner   atomic.Bool

	cancel  context.CancelFunc // ends supervise
	done    chan struct{}      // closed when supervise has ended
	process *process           // belongs to supervise until done is closed; nil: not ours, or down

	stop    sync.Once
	stopErr error
}

// Start returns when the server answers: one that it started, after making the database if there was none, or one that
// another process runs in the same folder. ctx bounds the start alone. Errors that a user can act on are *NotFoundError
// and *AccountError.
func Start(ctx context.Context, config Config) (*Server, error) {
	if config.Log == nil {
		config.Log = hclog.NewNullLogger()
	}
	config.Log = config.Log.Named("postgres")
	dir, err := filepath.Abs(config.Dir)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	config.Dir = dir

	cluster, err := openCluster(config)
	if err != nil {
		return nil, err
	}
	lock, err := openOwnerLock(filepath.Join(cluster.base, "owner.lock"))
	if err != nil {
		return nil, err
	}
	s := &Server{cluster: cluster, lock: lock, log: config.Log, done: make(chan struct{})}
	if err := s.startOrAdopt(ctx); err != nil {
		return nil, errors.Join(err, lock.close())
	}

	life, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go s.supervise(life)
	return s, nil
}

// URL is where the database is, for as long as the Server lives. It contains the password.
func (s *Server) URL() string { return s.cluster.url() }

// Owner reports whether this process runs the server, now.
func (s *Server) Owner() bool { return s.owner.Load() }

// Stop shuts the server down if this process runs it, and leaves it alone if another one does. Connections are cut and
// transactions rolled back; when ctx ends before the server has written everything down, it is stopped without, and
// recovers at its next start. Later calls return what the first did.
func (s *Server) Stop(ctx context.Context) error {
	s.stop.Do(func() {
		s.cancel()
		<-s.done
		if s.process != nil {
			s.stopErr = s.process.stop(ctx)
		}
		if s.Owner() {
			_ = os.Remove(s.cluster.socket) // it may be in a folder that others use
		}
		s.stopErr = errors.Join(s.stopErr, s.lock.close())
	})
	return s.stopErr
}

// startOrAdopt waits until this process has become the owner and started the server, or another owner's server answers.
func (s *Server) startOrAdopt(ctx context.Context) error {
	return poll(ctx, 20*time.Millisecond, func() (bool, error) {
		held, err := s.lock.try()
		if err != nil {
			return false, err
		}
		if held {
			s.owner.Store(true)
			if err := s.cluster.create(ctx); err != nil {
				return false, err
			}
			s.process, err = s.cluster.start(ctx)
			return true, err
		}
		return s.cluster.adopt(ctx)
	})
}

// supervise keeps the server running while this process owns it. An adopter first waits for the lock, for as long as
// the owner lives.
func (s *Server) supervise(life context.Context) {
	defer close(s.done)
	if !s.owner.Load() && !s.takeOver(life) {
		return
	}
	failures := 0
	for {
		began := time.Now()
		err := s.serve(life)
		if life.Err() != nil {
			return
		}
		s.log.Error("database server is down", "error", err)
		if time.Since(began) > steadyAfter {
			failures = 0
		}
		if !pause(life, restartAfter[min(failures, len(restartAfter)-1)]) {
			return
		}
		failures++
	}
}

// takeOver returns when this process has become the owner; false: it will not.
func (s *Server) takeOver(life context.Context) bool {
	// Asking is all that can be done: a blocking flock cannot be called off.
	if err := poll(life, 200*time.Millisecond, s.lock.try); err != nil {
		if life.Err() == nil {
			s.log.Error("database server is not watched", "error", err)
		}
		return false
	}
	s.owner.Store(true)
	s.log.Info("owner of the database server is gone, taking over")
	return true
}

// serve starts the server unless it runs, and returns when it has ended, with the reason, or when life has.
func (s *Server) serve(life context.Context) error {
	if s.process == nil {
		process, err := s.cluster.start(life)
		if err != nil {
			return err
		}
		s.process = process
		s.log.Info("database server is up again")
	}
	select {
	case <-life.Done():
		return nil
	case <-s.process.exited:
	}
	err := s.process.err
	s.process = nil
	return err
}

// pause waits, and reports false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// poll calls done now and then at every interval until it reports true or an error, or ctx ends.
func poll(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the database server: %w", context.Cause(ctx))
		case <-ticker.C:
		}
	}
}
