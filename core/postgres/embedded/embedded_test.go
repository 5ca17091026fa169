package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/postgres/embedded"
)

func TestMain(m *testing.M) {
	coretest.Main(m, coretest.Child("server", serve))
}

// serve runs a server in the folder of its argument, says on one line where it is, and stays until it is killed.
func serve() error {
	s, err := embedded.Start(context.Background(), embedded.Config{Dir: os.Args[1], NoSync: true})
	if err != nil {
		return err
	}
	fmt.Println(s.URL())
	select {}
}

// startChild runs serve in a process of its own and returns the URL.
func startChild(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	cmd.Stderr = t.Output()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("child said %q: %v", line, err)
	}
	return strings.TrimSpace(line)
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, dir string) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, NoSync: true, Log: coretest.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *embedded.Server) {
	t.Helper()
	if err := s.Stop(context.Background()); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// query runs one statement on a connection of its own. Its result, if it has one, is one text.
func query(ctx context.Context, url, statement string) (result string, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	err = conn.QueryRow(ctx, statement).Scan(&result)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return result, err
}

func mustQuery(t *testing.T, url, statement string) string {
	t.Helper()
	result, err := query(t.Context(), url, statement)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return result
}

// remember leaves something in the database that hasMemory finds.
func remember(t *testing.T, url string) {
	t.Helper()
	mustQuery(t, url, "CREATE TABLE memory AS SELECT 'kept' AS what")
}

func hasMemory(t *testing.T, url string) bool {
	t.Helper()
	what, err := query(t.Context(), url, "SELECT what FROM memory")
	return err == nil && what == "kept"
}

// postmaster returns the process id of the server in a data folder, 0 if none has said that it runs.
func postmaster(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, _ := strconv.Atoi(first)
	return pid
}

func TestStartsAgainWithTheSameData(t *testing.T) {
	t.Parallel()
	dir := coretest.DataDir(t)
	first := start(t, dir)
	if !first.Owner() {
		t.Error("the only process is not the owner")
	}
	remember(t, first.URL())
	stop(t, first)
	stop(t, first)
	if postmaster(t, dir) != 0 {
		t.Error("the server has not shut down cleanly")
	}
	if _, err := query(t.Context(), first.URL(), "SELECT ''"); err == nil {
		t.Error("the server answers after Stop")
	}

	second := start(t, dir)
	if second.URL() != first.URL() {
		t.Errorf("URL = %s, was %s", second.URL(), first.URL())
	}
	if !hasMemory(t, second.URL()) {
		t.Error("data is gone")
	}
}

func TestLetsNobodyElseIn(t *testing.T) {
	t.Parallel()
	dir := coretest.DataDir(t)
	s := start(t, dir)
	if got := mustQuery(t, s.URL(), "SHOW listen_addresses"); got != "" {
		t.Errorf("server listens on %q", got)
	}
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(u.User.Username(), "guess")
	_, err = query(t.Context(), u.String(), "SELECT ''")
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "28P01" {
		t.Errorf("wrong password: %v", err)
	}
	for path, mode := range map[string]os.FileMode{"password": 0o600, "socket": 0o700, "data": 0o700} {
		info, err := os.Stat(filepath.Join(dir, "postgres", path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("mode of %s = %v, want %v", path, info.Mode().Perm(), mode)
		}
	}
}

func TestOneOfManyStartersOwns(t *testing.T) {
	t.Parallel()
	dir := coretest.DataDir(t)
	var servers [3]*embedded.Server
	var starters sync.WaitGroup
	for i := range servers {
		starters.Go(func() {
			s, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, NoSync: true, Log: coretest.Logger(t)})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { stop(t, s) })
			servers[i] = s
		})
	}
	starters.Wait()
	if t.Failed() {
		t.FailNow()
	}
	owner := func() (owner *embedded.Server, owners int) {
		for _, s := range servers {
			if s.Owner() {
				owner = s
				owners++
			}
		}
		return owner, owners
	}
	first, owners := owner()
	if owners != 1 {
		t.Fatalf("%d of %d processes own the server", owners, len(servers))
	}
	remember(t, first.URL())
	before := postmaster(t, dir)
	stop(t, first)
	coretest.Eventually(t, "an adopter runs the server after a clean stop of the owner", func() bool {
		return postmaster(t, dir) != before && hasMemory(t, first.URL())
	})
}

func TestAdopterTakesOverFromKilledOwner(t *testing.T) {
	t.Parallel()
	dir := coretest.DataDir(t)
	owner := coretest.Command(t, "server", dir)
	theirs := startChild(t, owner)
	s := start(t, dir)
	if s.Owner() || s.URL() != theirs {
		t.Fatalf("not adopted: owner %v, URL %s, want %s", s.Owner(), s.URL(), theirs)
	}
	remember(t, s.URL())
	before := postmaster(t, dir)
	kill(t, owner)
	coretest.Eventually(t, "the adopter runs a server of its own", func() bool {
		return s.Owner() && postmaster(t, dir) != before && hasMemory(t, s.URL())
	})
}

func TestServerEndsWithKilledOwner(t *testing.T) {
	t.Parallel()
	dir := coretest.DataDir(t)
	first := coretest.Command(t, "server", dir)
	remember(t, startChild(t, first))
	kill(t, first)

	// Nobody waits for the first server to be gone: it may be running, ending, or dead now.
	second := coretest.Command(t, "server", dir)
	if !hasMemory(t, startChild(t, second)) {
		t.Error("data is gone")
	}
	kill(t, second)
	coretest.Eventually(t, "the server shuts down cleanly", func() bool { return postmaster(t, dir) == 0 })
}

func TestKilledServerIsRestarted(t *testing.T) {
	t.Parallel()
	dir := coretest.DataDir(t)
	s := start(t, dir)
	remember(t, s.URL())
	for range 2 {
		before := postmaster(t, dir)
		if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		coretest.Eventually(t, "another server answers", func() bool {
			return postmaster(t, dir) != before && hasMemory(t, s.URL())
		})
	}
}

func TestStaleProcessIDIsNoServer(t *testing.T) {
	t.Parallel()
	dir := coretest.DataDir(t)
	first := start(t, dir)
	remember(t, first.URL())
	stop(t, first)

	// As after a restart of the machine, when the number belongs to another process.
	file := fmt.Sprintf("%d\n%s\n1\n5432\n%s\n\n1 1\nready   \n", os.Getpid(), dir, dir)
	if err := os.WriteFile(filepath.Join(dir, "postgres", "data", "postmaster.pid"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	if second := start(t, dir); !hasMemory(t, second.URL()) {
		t.Error("data is gone")
	}
}

// As an ordinary user, in a folder whose path is too long for a socket.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	dir := coretest.DataDir(t)
	long := filepath.Join(dir, strings.Repeat("deep", 25))
	cmd := coretest.Command(t, "server", long)
	if os.Geteuid() == 0 {
		becomeNobody(t, cmd, dir)
	}
	at := startChild(t, cmd)
	remember(t, at)
	info, err := os.Stat(filepath.Join(long, "postgres", "data"))
	if err != nil {
		t.Fatal(err)
	}
	want := os.Geteuid()
	if cmd.SysProcAttr != nil {
		want = int(cmd.SysProcAttr.Credential.Uid)
	}
	if uid := int(info.Sys().(*syscall.Stat_t).Uid); uid != want {
		t.Errorf("data belongs to user %d, want %d", uid, want)
	}

	// Root may adopt what an ordinary user runs, and keeps to that user when it takes over.
	s := start(t, long)
	if s.Owner() {
		t.Error("not adopted")
	}
	kill(t, cmd)
	coretest.Eventually(t, "the adopter takes over", func() bool { return s.Owner() && hasMemory(t, s.URL()) })
}

// becomeNobody makes cmd run as nobody, who cannot reach the folder of the test binary: an open file needs no path.
func becomeNobody(t *testing.T, cmd *exec.Cmd, dir string) {
	t.Helper()
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	binary, err := os.Open(cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = binary.Close() })
	cmd.ExtraFiles = []*os.File{binary}
	cmd.Path = "/proc/self/fd/3"
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

func TestErrorsForUsers(t *testing.T) {
	t.Parallel()
	t.Run("no binaries", func(t *testing.T) {
		t.Parallel()
		_, err := embedded.Start(t.Context(), embedded.Config{Dir: coretest.DataDir(t), BinDir: t.TempDir()})
		var missing *embedded.NotFoundError
		if !errors.As(err, &missing) || missing.Major != 0 {
			t.Fatalf("error = %v", err)
		}
		for _, help := range []string{"apt-get install postgresql", "PICLOUD_DATABASE_URL"} {
			if !strings.Contains(err.Error(), help) {
				t.Errorf("no word of %q in: %v", help, err)
			}
		}
	})
	t.Run("data of another version", func(t *testing.T) {
		t.Parallel()
		dir := coretest.DataDir(t)
		data := filepath.Join(dir, "postgres", "data")
		if err := os.MkdirAll(data, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("7\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := embedded.Start(t.Context(), embedded.Config{Dir: dir})
		var missing *embedded.NotFoundError
		if !errors.As(err, &missing) || missing.Major != 7 {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("folder out of reach", func(t *testing.T) {
		t.Parallel()
		closed := filepath.Join(coretest.DataDir(t), "closed")
		if err := os.Mkdir(closed, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := embedded.Start(t.Context(), embedded.Config{Dir: filepath.Join(closed, "data")})
		if err == nil || !strings.Contains(err.Error(), closed) {
			t.Errorf("error = %v, want one about %s", err, closed)
		}
	})
}

func TestDefaultDir(t *testing.T) {
	t.Parallel()
	open, closed := coretest.DataDir(t), coretest.DataDir(t)
	if err := os.Chmod(closed, 0o500); err != nil {
		t.Fatal(err)
	}
	here, err := embedded.DefaultDir(open)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(open, ".picloud"); here != want {
		t.Errorf("default in an open folder = %s, want %s", here, want)
	}
	elsewhere, err := embedded.DefaultDir(closed)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(elsewhere, closed) {
		t.Errorf("default in a closed folder = %s", elsewhere)
	}
}
