package embedded

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The superuser and the database that a new cluster has. Nothing else logs in.
const (
	login    = "picloud"
	database = "picloud"
)

// defaultConns has room for three nodes of 25, for what is left of lost ones, and for somebody who looks.
const defaultConns = 100

// settings are given on the command line, so that an upgrade of ours reaches clusters that exist; what is not here can
// be set in the cluster's postgresql.conf.
var settings = []string{
	"listen_addresses=",
	"port=5432",
	"unix_socket_permissions=0700",
	"shared_buffers=64MB",
	"autovacuum_naptime=5s", // an outbox is born and dies in its table: dead rows must not wait a minute
	"logging_collector=off",
	"log_destination=stderr",
	"log_line_prefix=",
	"log_min_error_statement=panic", // statements carry what users sent
}

// cluster is the database on disk, and how to bring a server up on it. Only the holder of the owner lock calls its
// methods, adopt excepted.
type cluster struct {
	base    string // contains everything below, the owner file, and the folder of the binaries that were found
	data    string // the data directory of Postgres
	socket  string // the folder of the socket
	account account
	binDir  string // as configured
	noSync  bool
	conns   int // taken at most
	log     hclog.Logger

	password string // empty until start or adopt has read it
}

// openCluster makes the folders and checks that the server's account can reach them.
func openCluster(config Config) (*cluster, error) {
	base := filepath.Join(config.Dir, "postgres")
	c := &cluster{
		base:   base,
		data:   filepath.Join(base, "data"),
		binDir: config.BinDir,
		noSync: config.NoSync,
		conns:  cmp.Or(config.Conns, defaultConns),
		log:    config.Log,
	}
	var err error
	if c.account, err = accountFor(c.data); err != nil {
		return nil, err
	}
	mode := fs.FileMode(0o700)
	if c.account.credential() != nil {
		mode = 0o711 // the account passes through, and sees nothing
	}
	if err := makeDir(base, mode); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	if err := c.checkReach(base); err != nil {
		return nil, err
	}
	c.socket = socketDir(base, c.account)
	return c, nil
}

// checkReach checks that the server's account can enter a folder, as far as it exists.
func (c *cluster) checkReach(folder string) error {
	if blocked := c.account.blocked(folder); blocked != "" {
		return &AccountError{fmt.Sprintf("the database runs as the user %s, who cannot enter %s: choose another folder with --data", c.account.name, blocked)}
	}
	return nil
}

func (c *cluster) url() string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(login, c.password),
		Path:     "/" + database,
		RawQuery: url.Values{"host": {c.socket}, "port": {"5432"}}.Encode(),
	}
	return u.String()
}

// ping connects once.
func (c *cluster) ping(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.url())
	if err != nil {
		return fmt.Errorf("connect to own database: %w", err)
	}
	return conn.Close(ctx)
}

func (c *cluster) readPassword() error {
	if c.password != "" {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(c.base, "password"))
	if err != nil {
		return fmt.Errorf("read database password: %w", err)
	}
	c.password = strings.TrimSpace(string(text))
	return nil
}

// adopt reports whether another process' server answers.
func (c *cluster) adopt(ctx context.Context) (bool, error) {
	file, ok := readPIDFile(c.data)
	if !ok || !file.ready {
		return false, nil
	}
	if err := c.readPassword(); err != nil {
		return false, err
	}
	c.socket = file.socket
	err := c.ping(ctx)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && strings.HasPrefix(refused.Code, "28") { // who we are, not how the server is
		return false, err
	}
	return err == nil, nil
}

// create makes the data directory if there is none. It appears whole or not at all.
func (c *cluster) create(ctx context.Context) error {
	if _, err := os.Stat(c.data); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	bin, err := c.binaries(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	leftovers, _ := filepath.Glob(filepath.Join(c.base, "init-*"))
	for _, dir := range leftovers {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove half-made database: %w", err)
		}
	}
	dir, err := os.MkdirTemp(c.base, "init-")
	if err != nil {
		return fmt.Errorf("make database folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	password := hex.EncodeToString(secret)
	theirs := filepath.Join(dir, "password")
	if err := writeFile(theirs, password); err != nil {
		return fmt.Errorf("write database password: %w", err)
	}
	for _, path := range []string{theirs, dir} {
		if err := os.Lchown(path, int(c.account.uid), int(c.account.gid)); err != nil {
			return fmt.Errorf("give database folder away: %w", err)
		}
	}

	made := filepath.Join(dir, "data")
	initdb := []string{
		"-D", made, "--username=" + login, "--pwfile=" + theirs, "--auth=scram-sha-256",
		"--no-locale", "--encoding=UTF8", "--no-instructions",
	}
	single := []string{"--single", "-D", made, "-c", "exit_on_error=on"}
	if c.noSync {
		initdb = append(initdb, "--no-sync")
		single = append(single, "-c", "fsync=off")
	}
	if err := run(ctx, c.account, "", filepath.Join(bin, "initdb"), initdb...); err != nil {
		return fmt.Errorf("make database: %w", err)
	}
	statement := "CREATE DATABASE " + database + "\n"
	if err := run(ctx, c.account, statement, filepath.Join(bin, "postgres"), append(single, "postgres")...); err != nil {
		return fmt.Errorf("make database: %w", err)
	}

	if err := writeFile(filepath.Join(c.base, "password"), password); err != nil {
		return fmt.Errorf("write database password: %w", err)
	}
	if err := os.Rename(made, c.data); err != nil {
		return fmt.Errorf("put database in place: %w", err)
	}
	if err := syncDir(c.base); err != nil {
		return fmt.Errorf("put database in place: %w", err)
	}
	c.log.Info("made a database", "folder", c.base, "account", c.account.name, "took", time.Since(began))
	return nil
}

// errBusy says that children of a killed server have not noticed yet that they are alone.
var errBusy = errors.New("processes of an earlier server still run")

// start brings the server up and returns when it answers. A server that an earlier owner left behind is waited for, and
// ended if nobody has told it to: so the owner is always the parent, and hears at once when the server dies.
func (c *cluster) start(ctx context.Context) (*process, error) {
	if err := c.awaitGone(ctx); err != nil {
		return nil, err
	}
	bin, err := c.binaries(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.readPassword(); err != nil {
		return nil, err
	}
	if err := makePrivateDir(c.socket, c.account); err != nil {
		return nil, fmt.Errorf("make socket folder: %w", err)
	}
	args := []string{"-D", c.data, "-k", c.socket, "-c", "max_connections=" + strconv.Itoa(c.conns)}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	if c.noSync {
		args = append(args, "-c", "fsync=off", "-c", "full_page_writes=off")
	}
	for {
		p, err := startProcess(bin, args, c.account, c.log)
		if err != nil {
			return nil, err
		}
		if err = c.awaitReady(ctx, p); err == nil {
			return p, nil
		}
		if !errors.Is(err, errBusy) || !pause(ctx, 50*time.Millisecond) {
			return nil, err
		}
	}
}

// awaitReady waits until p answers. If it does not, p has ended on return.
func (c *cluster) awaitReady(ctx context.Context, p *process) error {
	err := poll(ctx, 5*time.Millisecond, func() (bool, error) {
		select {
		case <-p.exited:
			if strings.Contains(p.words, "pre-existing shared memory block") {
				return false, errBusy
			}
			return false, fmt.Errorf("database server did not start: %w\n%s", p.err, p.words)
		default:
		}
		file, ok := readPIDFile(c.data)
		return ok && file.ready && file.pid == p.cmd.Process.Pid, nil
	})
	if err == nil {
		err = c.ping(ctx)
	}
	if err == nil {
		return nil
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return errors.Join(err, p.stop(stopping))
}

// awaitGone returns when no server works in the data directory.
func (c *cluster) awaitGone(ctx context.Context) error {
	told := 0
	return poll(ctx, 20*time.Millisecond, func() (bool, error) {
		file, ok := readPIDFile(c.data)
		if !ok {
			return true, nil
		}
		if !file.serves(c.data) {
			// Postgres would refuse to start if that number belongs to another process of the account by now, as it
			// often does after a restart of a container. What is left of the server itself keeps its shared memory,
			// which Postgres checks on its own.
			return true, os.Remove(filepath.Join(c.data, "postmaster.pid"))
		}
		if told != file.pid {
			told = file.pid
			c.log.Info("ending the database server of an owner that is gone", "pid", file.pid)
			if err := syscall.Kill(file.pid, syscall.SIGINT); err != nil && !errors.Is(err, syscall.ESRCH) {
				return false, fmt.Errorf("end earlier database server: %w", err)
			}
		}
		return false, nil
	})
}

// writeFile writes a file that only we can read, through to the disk.
func writeFile(path, text string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text + "\n")
	return errors.Join(err, file.Sync(), file.Close())
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
