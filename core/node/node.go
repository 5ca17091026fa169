// Package node wires every part of the platform into one process and owns the order in which they start and stop.
package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/config"
	"github.com/picloud/picloud/core/cron"
	"github.com/picloud/picloud/core/deadletter"
	"github.com/picloud/picloud/core/dispatcher"
	"github.com/picloud/picloud/core/engine"
	"github.com/picloud/picloud/core/execution"
	"github.com/picloud/picloud/core/files"
	"github.com/picloud/picloud/core/history"
	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/ingress"
	"github.com/picloud/picloud/core/lifecycle"
	"github.com/picloud/picloud/core/notice"
	"github.com/picloud/picloud/core/outbound"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/pluginhost"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/postgres/embedded"
	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/service"
	"github.com/picloud/picloud/core/sink"
	"github.com/picloud/picloud/core/source"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/guard"
)

// Node is one running platform process. Start once, Stop once.
type Node struct {
	// BeforeServing, if set, is called by Start once the addresses and the owner's key are known and before anybody is
	// served. Its error fails the start.
	BeforeServing func() error

	cfg config.Config
	log hclog.Logger

	closers    []func(ctx context.Context) error // in the order of starting
	snapshot   atomic.Pointer[tenant.Snapshot]
	snapshots  *postgres.SnapshotStore
	isolation  []api.Layer
	installed  []pluginhost.Installed // plugins beside those that are built in
	reloads    chan struct{}
	engines    *engine.Manager
	sinks      *sink.Manager
	sources    *source.Manager
	dispatcher *dispatcher.Dispatcher
	letters    *deadletter.Worker
	teller     *lifecycle.Teller
	cron       *cron.Scheduler
	records    *history.Keeper
	notices    *notice.Board
	public     net.Listener
	admin      net.Listener
	ownerToken string
	vault      *secret.Vault
	contents   *files.Store
	failed     chan struct{}
	err        atomic.Pointer[error]
}

// New makes a node.
func New(cfg config.Config, log hclog.Logger) *Node {
	return &Node{cfg: cfg, log: log, reloads: make(chan struct{}, 1), failed: make(chan struct{})}
}

// PublicAddr is where routes are served, once started.
func (n *Node) PublicAddr() string { return n.public.Addr().String() }

// AdminAddr is where the control API is served, once started.
func (n *Node) AdminAddr() string { return n.admin.Addr().String() }

// OwnerToken is the key of the owner, if this start created it; else empty. It cannot be read again.
func (n *Node) OwnerToken() string { return n.ownerToken }

// Done is closed when the node cannot go on; Err says why.
func (n *Node) Done() <-chan struct{} { return n.failed }

// Err is why Done is closed.
func (n *Node) Err() error {
	if err := n.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (n *Node) fail(err error) {
	if n.err.CompareAndSwap(nil, &err) {
		close(n.failed)
	}
}

// gcPercent lets the heap of a node, which is small, grow before it is collected: at 64 connections a request then costs
// 74 µs of CPU instead of 98.
const gcPercent = 400

// Start brings everything up in order and returns when both listeners serve. On failure it leaves nothing running.
func (n *Node) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Stop(context.WithoutCancel(ctx)))
		}
	}()
	uuid.EnableRandPool() // one system call for many ids
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}

	// Ports first: a taken one is the likeliest mistake, and should cost nobody the start of a database.
	if n.public, err = net.Listen("tcp", n.cfg.Listen); err != nil {
		return fmt.Errorf("public listener: %w", err)
	}
	n.onStop(closing(n.public))
	if n.admin, err = net.Listen("tcp", n.cfg.AdminListen); err != nil {
		return fmt.Errorf("admin listener: %w", err)
	}
	n.onStop(closing(n.admin))

	url, err := n.startDatabase(ctx)
	if err != nil {
		return err
	}
	pools, err := postgres.OpenPools(ctx, url, n.log)
	if err != nil {
		return err
	}
	n.onStop(func(context.Context) error { pools.Close(); return nil })
	folder := n.cfg.FilesDir
	if folder == "" {
		folder = filepath.Join(n.cfg.DataDir, "files")
	}
	if n.contents, err = files.Open(folder); err != nil {
		return err
	}
	n.onStop(func(context.Context) error { return n.contents.Close() })
	users := postgres.NewUserStore(pools.General)
	if n.ownerToken, _, err = auth.Bootstrap(ctx, users); err != nil {
		return fmt.Errorf("create owner: %w", err)
	}
	if err := n.seed(ctx, pools.General); err != nil {
		return err
	}
	if err := n.openVault(ctx, pools.General); err != nil {
		return err
	}
	n.snapshots = postgres.NewSnapshotStore(pools.General, n.limits())
	if err := n.reload(ctx); err != nil {
		return err
	}

	host, err := n.startPlugins(ctx)
	if err != nil {
		return err
	}
	n.startSinks(host)
	launch := func(ctx context.Context, name string) (engine.Process, error) { return host.Launch(ctx, name) }
	n.engines = engine.New(engine.Config{
		Launch: launch, Bundles: postgres.NewVersionStore(pools.General), Log: n.log,
		Spares: n.cfg.EngineSpares, Idle: n.cfg.EngineIdle,
		Runs: n.cfg.EngineRuns, Memory: n.cfg.EngineMemory, Age: n.cfg.EngineAge, Losses: n.cfg.EngineLosses,
	})
	n.onStop(func(context.Context) error { n.engines.Close(); return nil })
	n.engines.Keep(n.snapshot.Load())

	executions := postgres.NewExecutionStore(pools.General)
	if err := executions.Extend(ctx); err != nil {
		return err
	}
	letters, results := postgres.NewDeadLetterStore(pools.General), postgres.NewResultStore(pools.General)
	upkeep := &upkeep{
		executions, postgres.NewHistoryStore(pools.General), letters, results, postgres.NewTableStore(pools.General), postgres.NewAppStore(pools.General),
		postgres.NewKVStore(pools.Data), postgres.NewFileStore(pools.Data),
	}
	n.records = history.New(n.cfg.MaxHistoryBytes / max(1, int64(n.cfg.KeepExecutions/(24*time.Hour))))
	n.onStop(func(ctx context.Context) error { // after the last run
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastNote)
		defer cancel()
		n.note(ctx, upkeep)
		return nil
	})
	n.notices = notice.New(executions, time.Now, n.log)
	n.background(n.notices.Run)
	in := &inbox.Inbox{}
	if err := n.startDispatcher(ctx, url, pools, in); err != nil {
		return err
	}
	n.startSources(host, postgres.NewSourceStore(pools.General))
	bus := postgres.NewBus(url, pools.General, n.log)
	n.background(func(ctx context.Context) { bus.Listen(ctx, n.requestReload) })
	n.background(n.reloadLoop)
	secret, err := results.Secret(ctx)
	if err != nil {
		return err
	}
	n.background(func(ctx context.Context) { n.maintain(ctx, upkeep) })

	if n.BeforeServing != nil {
		if err := n.BeforeServing(); err != nil {
			return err
		}
	}
	n.serve(n.public, n.publicServer(in, results, secret))
	n.serve(n.admin, n.adminServer(pools.General, users, bus, in))
	return nil
}

// Stop drains and ends everything in the reverse order of starting. What still runs when ctx ends is given back.
func (n *Node) Stop(ctx context.Context) error {
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i](ctx))
	}
	n.closers = nil
	return errors.Join(errs...)
}

func (n *Node) onStop(f func(ctx context.Context) error) { n.closers = append(n.closers, f) }

func closing(l net.Listener) func(context.Context) error {
	return func(context.Context) error {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

// background runs f until Stop reaches it.
func (n *Node) background(f func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f(ctx) }()
	n.onStop(func(context.Context) error { cancel(); <-done; return nil })
}

// databaseStop bounds the end of a server of our own, which writes its checkpoint.
const databaseStop = 10 * time.Second

// startDatabase returns the URL of a migrated database: the user's, or that of a server of our own.
func (n *Node) startDatabase(ctx context.Context) (string, error) {
	url := n.cfg.DatabaseURL
	if url == "" {
		server, err := embedded.Start(ctx, embedded.Config{Dir: n.cfg.DataDir, BinDir: n.cfg.PostgresBin, Log: n.log})
		if err != nil {
			return "", err
		}
		n.onStop(func(ctx context.Context) error {
			// A drain that took all its time must not cost the database its clean end.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), databaseStop)
			defer cancel()
			return server.Stop(ctx)
		})
		url = server.URL()
	}
	if err := postgres.Migrate(ctx, url, n.log); err != nil {
		return "", fmt.Errorf("migrate: %w", err)
	}
	return url, nil
}

// longestRunDir is as long as a folder may be for the sockets in it to have a path that the system takes.
const longestRunDir = 60

// runDir is where plugin sockets live: in the data folder, or where its path is too long, in a folder of its own.
func runDir(data string) string {
	if dir := filepath.Join(data, "run"); len(dir) <= longestRunDir {
		return dir
	}
	sum := sha256.Sum256([]byte(data))
	return filepath.Join(os.TempDir(), "picloud-"+hex.EncodeToString(sum[:6]))
}

func (n *Node) startDispatcher(ctx context.Context, url string, p *postgres.Pools, in *inbox.Inbox) error {
	nodes, err := postgres.NewNodeStore(url)
	if err != nil {
		return err
	}
	var kinds []int16
	for _, k := range outbox.Kinds {
		kinds = append(kinds, int16(k))
	}
	n.letters = deadletter.NewWorker(postgres.NewDeadLetterStore(p.General), n.snapshot.Load,
		func() int64 { return n.dispatcher.Epoch() }, func() { n.dispatcher.Wake() },
		func(s *tenant.Snapshot, x *outbox.Settlement) ([]*outbox.Entry, error) { return n.teller.Failure(s, x) }, n.notices.Unfit, n.log)
	n.background(n.letters.Run)
	allow, err := guard.ParseAllowed(n.cfg.HTTPAllow)
	if err != nil {
		return fmt.Errorf("http_allow: %w", err)
	}
	web := outbound.New(guard.Config{Allow: allow, Own: []string{n.PublicAddr(), n.AdminAddr()}})
	n.onStop(func(context.Context) error { web.Close(); return nil })
	d := dispatcher.New(dispatcher.Config{
		Node:      dispatcher.Node{Name: n.cfg.NodeName, Address: n.PublicAddr(), Version: Version, Kinds: kinds},
		Nodes:     nodes,
		Claims:    postgres.NewOutboxStore(p.General),
		Durable:   postgres.NewOutboxStore(p.Durable),
		Fast:      postgres.NewOutboxStore(p.Fast),
		Keyed:     postgres.NewKeyedStore(p.Durable),
		FastKeyed: postgres.NewKeyedStore(p.Fast),
		Units:     postgres.NewUnitStore(p.Data),
		Runner:    n.runner(p, in, web),
		Inbox:     in,
		Lane:      func(id uuid.UUID) *tenant.Lane { return n.snapshot.Load().Lane(id) },
		Alone:     func() bool { return n.snapshot.Load().Alone() },
		Configured: func(version int64) {
			if version > n.snapshot.Load().Version {
				n.requestReload()
			}
		},
		DeadLettered: n.letters.Poke,
		Judge:        n.records.Judge,
		Failed:       func(x *outbox.Settlement) { n.teller.Failed(x) },
		MaxBacklog:   n.cfg.MaxBacklog, MaxBytes: n.cfg.MaxBacklogBytes,
		Slots: n.cfg.Slots, SyncWaiting: n.cfg.SyncWaiting, Log: n.log,
	})
	n.teller = lifecycle.New(lifecycle.Config{Store: postgres.NewReleaseStore(p.General), Outbox: d, Snapshot: n.snapshot.Load, Unfit: n.notices.Unfit, Log: n.log})
	n.dispatcher = d // before the first run, which may call services
	if err := d.Start(ctx); err != nil {
		return fmt.Errorf("start dispatcher: %w", err)
	}
	joined, conns, err := postgres.Room(ctx, p.General)
	if err != nil {
		return err
	}
	if need := joined * postgres.NodeConns; need > conns {
		n.log.Warn("nodes may want for connections to the database: raise max_connections of the server", "nodes", joined,
			"needed", need, "max_connections", conns)
	}
	n.onStop(func(ctx context.Context) error { d.Stop(ctx); return nil })
	n.cron = cron.New(cron.Config{
		Store: postgres.NewCronStore(p.General), Outbox: d, Snapshot: n.snapshot.Load, Now: time.Now, Log: n.log,
	})
	n.background(n.cron.Run)
	n.background(n.teller.Run)
	return nil
}

// runner makes what runs entries, with what their scripts call. It is made before the dispatcher that it serves.
func (n *Node) runner(p *postgres.Pools, in *inbox.Inbox, web *outbound.Client) *execution.Runner {
	services := service.New(service.Config{
		Outbox: late{n}, Callees: callees{n, in}, Snapshot: n.snapshot.Load, Entries: postgres.NewKeyedStore(p.Data),
		KV: postgres.NewKVStore(p.Data), Files: postgres.NewFileStore(p.Data), Contents: n.contents, Docs: postgres.NewDocStore(p.Data),
		Queues: postgres.NewQueueStore(p.Data), Units: postgres.NewUnitStore(p.Data), Web: web, Secrets: n.vault, Email: n.cfg.SMTPFrom, Unfit: n.notices.Unfit, Log: n.log,
	})
	commit := func(ctx context.Context, e *outbox.Entry, res *execution.Result, unit *service.Unit) *fault.Fault {
		return n.dispatcher.Commit(ctx, e, res, unit)
	}
	runner := execution.New(n.engines, current{n}, services, in, auth.NewActing(postgres.NewUserStore(p.General)), commit)
	runner.DeliverTo(n.sinks, func(app, id uuid.UUID) *tenant.Sink { return n.snapshot.Load().SinkOf(app, id) })
	return runner
}

// current finds scripts in the configuration as it is now.
type current struct{ n *Node }

func (c current) Script(id uuid.UUID) *tenant.Script { return c.n.snapshot.Load().Script(id) }

// late is the node's dispatcher for what is made before it: the services of the scripts that it runs.
type late struct{ n *Node }

func (l late) Append(ctx context.Context, e *outbox.Entry) error {
	return l.n.dispatcher.Append(ctx, e)
}

func (l late) AppendCaused(
	ctx context.Context, app uuid.UUID, size int, commit func(owner int64) ([]*outbox.Entry, error),
) error {
	return l.n.dispatcher.AppendCaused(ctx, app, size, commit)
}

func (l late) Hand(e *outbox.Entry) (bool, error) { return l.n.dispatcher.Hand(e) }

func (l late) Hold(ctx context.Context, epoch int64) error { return l.n.dispatcher.Hold(ctx, epoch) }

// callees runs what scripts call.
type callees struct {
	node  *Node
	inbox *inbox.Inbox
}

func (c callees) Call(ctx context.Context, e, from *outbox.Entry) (*service.Answer, error) {
	a, err := ingress.NewInvoker(caller{c.node.dispatcher, from}, c.inbox).Call(ctx, e)
	if err != nil {
		return nil, err
	}
	return &service.Answer{Status: a.Status, Headers: a.Headers, Body: a.Body}, nil
}

// caller takes entries in for the run that waits for them.
type caller struct {
	*dispatcher.Dispatcher
	from *outbox.Entry
}

func (c caller) Call(ctx context.Context, e *outbox.Entry) error { return c.CallFrom(ctx, e, c.from) }

func (n *Node) publicServer(in *inbox.Inbox, results *postgres.ResultStore, secret []byte) *http.Server {
	public := ingress.New(ingress.Config{
		Snapshot: n.snapshot.Load, Dispatcher: n.dispatcher, Inbox: in, Results: results, Secret: secret, Secrets: n.vault,
		MaxBody: n.cfg.MaxBody, Verbose: n.cfg.Dev, Unfit: n.notices.Unfit, Log: n.log,
	})
	server := &http.Server{
		Handler:           public,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          n.log.Named("public").StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	server.RegisterOnShutdown(public.Drain)
	return server
}

func (n *Node) adminServer(pool *pgxpool.Pool, users *postgres.UserStore, bus *postgres.Bus, in *inbox.Inbox) *http.Server {
	return &http.Server{
		Handler:           n.apiHandler(pool, users, bus, in),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          n.log.Named("admin").StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
}

// serve runs a server until Stop, which lets requests in progress end.
func (n *Node) serve(l net.Listener, s *http.Server) {
	go func() {
		if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			n.fail(fmt.Errorf("serve %s: %w", l.Addr(), err))
		}
	}()
	n.onStop(func(ctx context.Context) error {
		if err := s.Shutdown(ctx); err != nil {
			return errors.Join(s.Close(), err)
		}
		return nil
	})
}
