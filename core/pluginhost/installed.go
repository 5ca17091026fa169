package pluginhost

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/sink"
	"github.com/picloud/picloud/sdk/source"
)

// Installed is a plugin that somebody has put into the plugin folder: a folder of its own, named like the plugin, with its program
// and what Install found out about it.
type Installed struct {
	Name       string   `json:"name"` // "engine/stack"
	Version    string   `json:"version"`
	SDKVersion string   `json:"sdk_version"` // of an engine
	Extensions []string `json:"extensions"`  // of the files that an engine runs
	SHA256     string   `json:"sha256"`      // of the program: only that one is started
	Program    string   `json:"-"`           // its path
}

const (
	manifestFile = "plugin.json"
	programFile  = "plugin"
)

// ReadInstalled returns the plugins in a folder, sorted by their names. A folder that is not there has none.
func ReadInstalled(folder string) ([]Installed, error) {
	manifests, err := filepath.Glob(filepath.Join(folder, "*", "*", manifestFile))
	if err != nil {
		return nil, err
	}
	var all []Installed
	for _, file := range manifests {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read plugin: %w", err)
		}
		dir := filepath.Dir(file)
		p := Installed{Program: filepath.Join(dir, programFile)}
		if err := json.Unmarshal(text, &p); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if at, err := filepath.Rel(folder, dir); err != nil || filepath.ToSlash(at) != p.Name {
			return nil, fmt.Errorf("%s is the manifest of the plugin %q, which belongs into a folder of that name", file, p.Name)
		}
		all = append(all, p)
	}
	return all, nil
}

// pluginName is that of a plugin, as folders can have it.
var pluginName = regexp.MustCompile(`^[a-z]+/[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$`)

// Install copies a program into the plugin folder, in place of an earlier one of its name, and starts it to see what it is.
// cfg is that of a host; builtin are the plugins that need not be installed, and taken are all engines that there are, by the
// extensions of their files.
func Install(ctx context.Context, cfg Config, folder, file string, builtin []string, taken map[string]string) (p Installed, err error) {
	sum, err := hashOf(file)
	if err != nil {
		return p, err
	}
	for _, name := range kindNames() { // engines come first: they take it ill to be started as what reaches more
		cfg.Installed = append(cfg.Installed, Installed{Name: name + "/new", Program: file, SHA256: sum})
	}
	host, err := New(cfg)
	if err != nil {
		return p, err
	}
	defer host.Close()
	if p, err = host.ask(ctx, cfg.Installed); err != nil {
		return p, fmt.Errorf("%s is no plugin that can be used here: %w", file, err)
	}
	p.SHA256 = sum
	if err := p.check(builtin, taken); err != nil {
		return p, err
	}
	dir := filepath.Join(folder, filepath.FromSlash(p.Name))
	p.Program = filepath.Join(dir, programFile)
	return p, errors.Join(os.MkdirAll(dir, 0o755), p.write(dir, file))
}

// ask starts a program as a plugin of one kind after the other until it has the service of that kind, and returns what it says of
// itself.
func (h *Host) ask(ctx context.Context, as []Installed) (p Installed, err error) {
	for _, candidate := range as {
		var process *Process
		process, err = h.Launch(ctx, candidate.Name)
		if status.Code(err) == codes.Unimplemented {
			continue
		}
		if err != nil {
			return p, reason(err)
		}
		defer process.Kill()
		p = process.family.describe(process.client)
		p.Name = process.family.name + "/" + p.Name
		return p, nil
	}
	return p, reason(err)
}

// reason is why Launch failed, without the name and the path that only Install knows the program by.
func reason(err error) error {
	if run := (*fs.PathError)(nil); errors.As(err, &run) && run.Op == "fork/exec" {
		return fmt.Errorf("it cannot be run: %w", run.Err)
	}
	if why := errors.Unwrap(err); why != nil {
		return why
	}
	return err
}

func describeEngine(c client) Installed {
	info := c.(*engine.Client).Info()
	return Installed{Name: info.Name, Version: info.Version, SDKVersion: info.SDKVersion, Extensions: info.Extensions}
}

func describeSink(c client) Installed {
	info := c.(*sink.Client).Info()
	return Installed{Name: info.Name, Version: info.Version}
}

func describeSource(c client) Installed {
	info := c.(*source.Client).Info()
	return Installed{Name: info.Name, Version: info.Version}
}

// check says why a plugin cannot be installed.
func (p *Installed) check(builtin []string, taken map[string]string) error {
	kind, name, _ := strings.Cut(p.Name, "/")
	if !pluginName.MatchString(p.Name) {
		return fmt.Errorf("the plugin calls itself %q: its name has lower-case letters, digits, dashes and underscores", name)
	}
	if slices.Contains(builtin, p.Name) {
		return fmt.Errorf("the %s %q is built in", kind, name)
	}
	if kind == "engine" {
		return p.checkEngine(name, taken)
	}
	return nil
}

func (p *Installed) checkEngine(name string, taken map[string]string) error {
	if len(p.Extensions) == 0 {
		return fmt.Errorf("the engine %q says of no file that it runs it", name)
	}
	for _, extension := range p.Extensions {
		owner, known := taken[extension]
		switch {
		case !strings.HasPrefix(extension, ".") || strings.ContainsAny(extension, "/\\ ") || len(extension) < 2:
			return fmt.Errorf("%q is no extension of a file, such as .lua", extension)
		case known && owner != name:
			return fmt.Errorf("files like *%s are run by the engine %q already", extension, owner)
		}
	}
	return nil
}

// write puts the program and the manifest into dir. The manifest comes last: without it there is no plugin.
func (p *Installed) write(dir, file string) error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	from, err := os.Open(file)
	if err != nil {
		return err
	}
	defer from.Close() // read-only
	next := p.Program + ".new"
	to, err := os.OpenFile(next, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Sync(), to.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(next, p.Program), os.WriteFile(filepath.Join(dir, manifestFile), append(text, '\n'), 0o644))
}

// Uninstall removes a plugin from the plugin folder; fs.ErrNotExist says that it is not there.
func Uninstall(folder, name string) error {
	if !pluginName.MatchString(name) {
		return fs.ErrNotExist
	}
	dir := filepath.Join(folder, filepath.FromSlash(name))
	if _, err := os.Stat(filepath.Join(dir, manifestFile)); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

func hashOf(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close() // read-only
	return hash(f)
}

func hash(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// program is what a plugin's processes run: held open, so that what is launched is what was found at the start, whatever the path
// says later.
type program struct {
	file *os.File
	args []string // the first is the name under which it is listed
	err  error    // why it cannot be started
}

// openInstalled opens the programs of installed plugins. One that is not what was installed, or cannot be isolated as the others
// are, is not started.
func (h *Host) openInstalled() {
	for _, p := range h.cfg.Installed {
		x := &program{args: []string{p.Program}}
		h.installed[p.Name] = x
		if x.file, x.err = os.Open(p.Program); x.err != nil {
			continue
		}
		sum, err := hash(x.file)
		switch {
		case err != nil:
			x.err = err
		case sum != p.SHA256:
			x.err = fmt.Errorf("%s is not the program that was installed: install it again", p.Program)
		default:
			var f *family
			if f, x.err = h.family(p.Name); x.err == nil {
				x.err = f.isolatable(x.file)
			}
		}
		if x.err != nil {
			h.log.Error("a plugin cannot be used", "plugin", p.Name, "error", x.err)
		}
	}
}

// program returns what the processes of a plugin run.
func (h *Host) program(name string) (*program, error) {
	if p := h.installed[name]; p != nil {
		return p, p.err
	}
	return &program{file: h.builtin, args: append(h.cfg.Command[:len(h.cfg.Command):len(h.cfg.Command)], name)}, nil
}

// closePrograms closes what New opened.
func (h *Host) closePrograms() {
	_ = h.builtin.Close() // read-only, like the others
	for _, p := range h.installed {
		if p.file != nil {
			_ = p.file.Close()
		}
	}
}
