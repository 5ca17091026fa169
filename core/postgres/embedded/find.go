package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// oldest is the first major version with all that our statements use.
const oldest = 15

// places are where systems keep the programs of a server. Where several versions live side by side, their numbers have
// two digits, so they sort as text.
var places = []string{
	"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
	"/usr/pgsql-*/bin",          // Red Hat, with PostgreSQL's own packages
	"/usr/libexec/postgresql*",  // Alpine
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin", // Homebrew on Intel
	"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
	"/opt/local/lib/postgresql*/bin", // MacPorts
	"/Applications/Postgres.app/Contents/Versions/*/bin",
	"/run/current-system/sw/bin", // NixOS
	"/nix/var/nix/profiles/default/bin",
	"/usr/local/pgsql/bin", // built from source
	"/usr/local/bin",
	"/usr/bin",
}

// NotFoundError says that this machine has no Postgres that could run the database. Its text is written for a user, and
// fills a screen.
type NotFoundError struct {
	Major int    // the version that wrote the data; 0: any from 15 on would do
	Dir   string // the one folder that was looked into; empty: all the usual ones
}

func (e *NotFoundError) Error() string {
	var text strings.Builder
	switch {
	case e.Major != 0:
		fmt.Fprintf(&text, "PiCloud's database was made by PostgreSQL %d, which is not installed", e.Major)
	default:
		fmt.Fprintf(&text, "PiCloud keeps everything in PostgreSQL %d or later, which is not installed", oldest)
	}
	if e.Dir != "" {
		fmt.Fprintf(&text, " in %s", e.Dir)
	}
	text.WriteString(`.

Install it. PiCloud starts a server of its own, so it need not run as a service:

    Debian, Ubuntu    sudo apt-get install postgresql
    Fedora, Red Hat   sudo dnf install postgresql-server
    Arch              sudo pacman -S postgresql
    Alpine            sudo apk add postgresql
    macOS             brew install postgresql

Or use a server that you have:

    PICLOUD_DATABASE_URL=postgres://user:password@host:5432/database`)
	return text.String()
}

// Find returns the folder of the programs that Start would run, and their version, without changing anything. Its errors are
// those of Start.
func Find(ctx context.Context, config Config) (dir string, major int, err error) {
	base := filepath.Join(config.Dir, "postgres")
	c := &cluster{data: filepath.Join(base, "data"), binDir: config.BinDir}
	if c.account, err = accountFor(c.data); err != nil {
		return "", 0, err
	}
	if err := c.checkReach(base); err != nil {
		return "", 0, err
	}
	want, err := c.major()
	if err != nil {
		return "", 0, err
	}
	return c.search(ctx, want)
}

// binaries returns the folder of the programs that fit the data. What was found is remembered beside the data: looking
// again would cost half of a start.
func (c *cluster) binaries(ctx context.Context) (string, error) {
	want, err := c.major()
	if err != nil {
		return "", err
	}
	if c.binDir == "" {
		if dir, ok := c.recall(want); ok {
			return dir, nil
		}
	}
	dir, major, err := c.search(ctx, want)
	if err != nil {
		return "", err
	}
	return dir, c.remember(dir, major)
}

// search looks for programs of a version; 0 is any that will do.
func (c *cluster) search(ctx context.Context, want int) (dir string, major int, err error) {
	candidates := []string{c.binDir}
	if c.binDir == "" {
		candidates = usualDirs(ctx)
	}
	for _, dir := range candidates {
		major, err := majorOf(ctx, dir)
		if err == nil && major >= oldest && (want == 0 || major == want) {
			return dir, major, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return "", 0, err
	}
	return "", 0, &NotFoundError{Major: want, Dir: c.binDir}
}

// major is the version that wrote the data, 0 if there is none.
func (c *cluster) major() (int, error) {
	text, err := os.ReadFile(filepath.Join(c.data, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read database version: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("read database version: %w", err)
	}
	return major, nil
}

// usualDirs returns folders that may have the programs, those that the user prefers first. Links are followed, since
// initdb looks for its files beside the real program.
func usualDirs(ctx context.Context) []string {
	var found []string
	add := func(dir string) {
		program, err := filepath.EvalSymlinks(filepath.Join(dir, "initdb"))
		if err != nil {
			return
		}
		if dir = filepath.Dir(program); !slices.Contains(found, dir) {
			found = append(found, dir)
		}
	}
	if program, err := exec.LookPath("initdb"); err == nil {
		add(filepath.Dir(program))
	}
	if output, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		add(strings.TrimSpace(string(output)))
	}
	home, _ := os.UserHomeDir()
	for _, place := range append(places, filepath.Join(home, ".nix-profile/bin")) {
		dirs, _ := filepath.Glob(place)
		slices.Sort(dirs)
		for _, dir := range slices.Backward(dirs) {
			add(dir)
		}
	}
	return found
}

var versionText = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// majorOf asks the server program in a folder for its version.
func majorOf(ctx context.Context, dir string) (int, error) {
	output, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("ask postgres for its version: %w", err)
	}
	match := versionText.FindSubmatch(output)
	if match == nil {
		return 0, fmt.Errorf("unknown version: %q", output)
	}
	return strconv.Atoi(string(match[1]))
}

// remember notes a folder, its version, and the time of the program, by which a change in place shows.
func (c *cluster) remember(dir string, major int) error {
	note, err := binaryNote(dir, major)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.base, "binaries"), []byte(note), 0o600); err != nil {
		return fmt.Errorf("remember postgres: %w", err)
	}
	return nil
}

// recall returns the folder that remember noted if it is what it was and has the wanted version.
func (c *cluster) recall(want int) (string, bool) {
	text, err := os.ReadFile(filepath.Join(c.base, "binaries"))
	if err != nil {
		return "", false
	}
	fields := strings.SplitN(string(text), " ", 3)
	if len(fields) != 3 {
		return "", false
	}
	major, err := strconv.Atoi(fields[0])
	if err != nil || (want != 0 && major != want) {
		return "", false
	}
	dir := strings.TrimSuffix(fields[2], "\n")
	note, err := binaryNote(dir, major)
	return dir, err == nil && note == string(text)
}

func binaryNote(dir string, major int) (string, error) {
	info, err := os.Stat(filepath.Join(dir, "postgres"))
	if err != nil {
		return "", fmt.Errorf("look at postgres: %w", err)
	}
	return fmt.Sprintf("%d %d %s\n", major, info.ModTime().UnixNano(), dir), nil
}
