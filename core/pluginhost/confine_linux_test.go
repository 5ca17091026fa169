package pluginhost_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/picloud/picloud/core/pluginhost"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/engine/enginetest"
	"github.com/picloud/picloud/sdk/fault"
)

// scene is what there is to attack, and an engine that does.
type scene struct {
	t       *testing.T
	host    *pluginhost.Host
	process *pluginhost.Process
	plugin  string            // whose process that is
	targets map[string]string // by attack

	mounted, machine string
}

// newScene makes targets of all kinds; an engine that has all layers, or those that are named; and another app's engine.
func newScene(t *testing.T, layers ...string) *scene {
	t.Helper()
	dir, err := os.MkdirTemp("", "scene")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &scene{t: t, plugin: "engine/thief", mounted: filepath.Join(dir, "mounted")}
	must := func(errs ...error) {
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	file := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		must(os.WriteFile(path, []byte("secret"), mode), os.Chmod(path, mode))
		return path
	}
	listen := func(network, address string) string {
		l, err := net.Listen(network, address)
		must(err)
		t.Cleanup(func() { _ = l.Close() })
		return l.Addr().String()
	}
	must(os.Chmod(dir, 0o755), os.Mkdir(s.mounted, 0o755))
	s.machine, err = os.Hostname()
	must(err)
	open, err := unix.Open(file("open", 0o600), unix.O_RDONLY, 0) // as the host may have it from who started it
	must(err)
	t.Cleanup(func() { _ = unix.Close(open) })
	s.host = newHost(t, hclog.NewNullLogger(), layers...)
	s.process = launch(t, s.host, "engine/thief")
	neighbour := launch(t, s.host, "engine/puppet")
	secret, socket, tcp := file("secret", 0o600), filepath.Join(dir, "s"), listen("tcp", "127.0.0.1:0")
	listen("unix", socket)
	must(os.Chmod(socket, 0o777))
	shm, err := unix.SysvShmGet(unix.IPC_PRIVATE, 4096, unix.IPC_CREAT|0o666)
	must(err)
	t.Cleanup(func() { _, _ = unix.SysvShmCtl(shm, unix.IPC_RMID, nil) })
	self := strconv.Itoa(os.Getpid())
	s.targets = map[string]string{
		"read": secret, "write": secret, "fill": secret, "list": secret, "look": secret, "remove": file("removed", 0o600),
		"tcp": tcp, "udp": tcp, "unix": socket, "exec": file("program", 0o755), "shm": strconv.Itoa(shm),
		"kill": self, "signal": self, "trace": self, "environ": self, "memory-of": self, "mount": s.mounted, "hostname": s.machine + "-x",
		"inherit": strconv.Itoa(open),
	}
	abstract := listen("unix", "@picloud-"+filepath.Base(dir))
	s.targets["abstract"] = abstract
	for _, what := range []string{"kill", "trace", "environ", "memory-of"} {
		s.targets["neighbour-"+what] = strconv.Itoa(neighbour.Pid())
	}
	s.targets["neighbour-unix"] = neighbour.Socket()
	return s
}

// reaches says whether an attack reaches its target.
func (s *scene) reaches(attack string) bool {
	s.t.Helper()
	select {
	case <-s.process.Done(): // the last one was too much for it
		s.process = launch(s.t, s.host, s.plugin)
	default:
	}
	what := strings.TrimPrefix(attack, "neighbour-")
	if attack == "abstract" {
		what = "unix"
	}
	_, err := invoke(s.t.Context(), s.process, what+" "+s.targets[attack])
	switch attack {
	case "mount": // what counts is what the host sees
		return unix.Unmount(s.mounted, 0) == nil
	case "hostname":
		defer func() { _ = unix.Sethostname([]byte(s.machine)) }()
		name, err := os.Hostname()
		return err != nil || name != s.machine
	}
	switch {
	case err == nil:
		return true
	case kindOf(err) == fault.EngineLost:
		<-s.process.Done() // the next one needs another
	case kindOf(err) != fault.ScriptError:
		s.t.Errorf("%s: %v", attack, err)
	}
	return false
}

// layersAlone says for each layer which attacks it stops without any other, and some that it does not, so that it is known
// that they reach their target.
var layersAlone = []struct {
	layer, stops, lets string
}{
	{"root-folder", "read write fill list look remove environ memory-of unix start exec neighbour-unix neighbour-environ", "tcp udp kill signal abstract fork"},
	{
		"uid", "read write fill remove environ memory-of kill signal trace raw mount space become " +
			"neighbour-kill neighbour-trace neighbour-environ neighbour-memory-of neighbour-unix", "tcp unix look list start exec abstract shm",
	},
	{"network-namespace", "tcp udp abstract", "read unix kill start"},
	{"pid-namespace", "kill signal trace neighbour-kill neighbour-trace", "read tcp"},
	{"ipc-namespace", "shm", "read tcp"},
	{"mount-namespace", "mount", "read tcp"},
	{"uts-namespace", "hostname", "read tcp"},
	{"privileges", "raw mount space hostname", "read tcp kill start"},
	{"nproc", "threads", "tcp fork descriptors memory"},
	{"rlimits", "memory descriptors fill", "read tcp fork"},
	{"landlock", "read write fill list remove environ memory-of start exec kill signal trace abstract neighbour-kill neighbour-trace", "look tcp udp unix fork"},
	{"seccomp", "gulp tcp udp serve raw unix abstract start exec fork kill signal trace shm mount hostname space keys become", "read look list write"},
	{"seccomp-session", "read write fill list look remove environ memory-of tcp udp serve raw unix abstract", "fork kill signal descriptors threads"},
}

// Each layer alone stops what it is there for, and nothing else.
func TestLayersAlone(t *testing.T) {
	t.Parallel()
	var tested []string
	for _, c := range layersAlone {
		tested = append(tested, c.layer)
		t.Run(c.layer, func(t *testing.T) {
			t.Parallel()
			on := []string{c.layer}
			if c.layer == "nproc" && os.Geteuid() == 0 { // which does not count without
				on = append(on, "uid")
			}
			s := newScene(t, on...)
			for _, l := range s.process.Isolation() {
				switch {
				case l.Name == c.layer && !l.Holds:
					t.Logf("this machine or user does not have it: %s", l.Why)
					if l.Why == "" || pluginhost.Lacking([]pluginhost.Layer{l}) == nil {
						t.Errorf("nobody is told: %+v", l)
					}
					return
				case !slices.Contains(on, l.Name) && l.Holds:
					t.Errorf("it is not alone: there is %s", l.Name)
				}
			}
			for _, attack := range strings.Fields(c.stops) {
				if s.reaches(attack) {
					t.Errorf("it does not stop %s", attack)
				}
			}
			for _, attack := range strings.Fields(c.lets) {
				if !s.reaches(attack) {
					t.Errorf("%s does not reach its target without other layers: that it is stopped proves nothing", attack)
				}
			}
		})
	}
	if !slices.Equal(tested, pluginhost.Layers()) {
		t.Errorf("tested are %s, there are %s", tested, pluginhost.Layers())
	}
}

// Where nothing isolates, all attacks but those that take root reach their targets, or they would prove nothing.
func TestAttacksReach(t *testing.T) {
	t.Parallel()
	s := newScene(t, "")
	for attack := range attacks {
		switch attack {
		case "hostname", "inherit", "remove": // is not done to this machine; never does; comes last
			continue
		case "raw", "mount", "space", "become":
			if os.Geteuid() != 0 {
				continue
			}
		case "keys", "trace": // may not be permitted to anybody here
			t.Log(attack, s.reaches(attack))
			continue
		}
		if !s.reaches(attack) {
			t.Errorf("%s does not reach its target", attack)
		}
	}
	if !s.reaches("remove") {
		t.Error("nothing is removed")
	}
}

// With all layers that there are, no attack reaches its target.
func TestConfined(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, l := range s.process.Isolation() {
		if !l.Holds {
			t.Logf("without %s: %s", l.Name, l.Why)
		}
	}
	for attack := range s.targets {
		if s.reaches(attack) {
			t.Errorf("%s reaches its target", attack)
		}
	}
	for attack := range attacks {
		if s.targets[attack] == "" && s.reaches(attack) {
			t.Errorf("%s reaches its target", attack)
		}
	}
}

// What the kernel says of a process is what the host says.
func TestKernelAgrees(t *testing.T) {
	t.Parallel()
	h := newHost(t, hclog.NewNullLogger())
	a, b := launch(t, h, "engine/puppet"), launch(t, h, "engine/puppet")
	status := func(p *pluginhost.Process) map[string]string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		fields := map[string]string{}
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(line, ":")
			fields[name] = strings.TrimSpace(value)
		}
		return fields
	}
	of := status(a)
	if of["NoNewPrivs"] != "1" || strings.Trim(of["CapPrm"]+of["CapEff"]+of["CapInh"]+of["CapAmb"], "0") != "" {
		t.Errorf("privileges: %v", of)
	}
	if holds(a, "seccomp") && holds(a, "seccomp-session") && of["Seccomp_filters"] != "2" {
		t.Errorf("filters: %v", of)
	}
	if holds(a, "pid-namespace") && !strings.HasSuffix(of["NSpid"], "\t1") {
		t.Errorf("it is not the first of its namespace: %s", of["NSpid"])
	}
	if !holds(a, "uid") {
		return
	}
	if strings.Trim(of["CapBnd"], "0") != "" {
		t.Errorf("privileges to gain: %s", of["CapBnd"])
	}
	other := status(b)["Uid"]
	for _, ids := range []string{of["Uid"], of["Gid"], other} {
		if id, err := strconv.Atoi(strings.Fields(ids)[0]); err != nil || id < 200_000 {
			t.Errorf("it runs as %s", ids)
		}
	}
	if of["Uid"] == other || of["Groups"] != "" {
		t.Errorf("they share a user or a group: %s and %s, %s", of["Uid"], other, of["Groups"])
	}
}

// All that holds for root holds for others, except for what they cannot have.
func TestAsOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("the other tests are run by one")
		return
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(nobody.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(nobody.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "nobody")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		t.Fatal(err)
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.Command(fmt.Sprintf("/proc/self/fd/%d", self.Fd()), "-test.v",
		"-test.run=^(TestLayersAlone|TestAttacksReach|TestConfined|TestKernelAgrees|TestPoorMachine|TestLaunchAndKill|TestNoPluginOutlivesItsHost)$")
	cmd.Dir, cmd.Env = "/", append(os.Environ(), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the signal comes when the thread ends that started it
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	if !strings.Contains(string(out), "only root can give processes users of their own") {
		t.Error("it does not say what an ordinary user lacks")
	}
}

// Who requires isolation has no process without.
func TestIsolationIsRequired(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "pic")
	if err != nil {
		t.Fatal(err)
	}
	h, err := pluginhost.New(pluginhost.Config{
		Dir: dir, Command: []string{program(), "child:plugin"}, Layers: []string{"rlimits", "seccomp"}, RequireIsolation: true,
		Log: hclog.NewNullLogger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.Probe(t.Context(), "engine/puppet"); err == nil || !strings.Contains(err.Error(), "lacks the layer root-folder") ||
		strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
}

// runPoorHost launches a plugin where the kernel refuses much, as in a container, and says what is lacking.
func runPoorHost(dir string) {
	refuse := seccomp.SyscallGroup{Action: seccomp.ActionErrno}
	for _, flag := range []uint64{
		unix.CLONE_NEWUSER, unix.CLONE_NEWNET, unix.CLONE_NEWPID, unix.CLONE_NEWIPC, unix.CLONE_NEWUTS, unix.CLONE_NEWNS,
	} {
		refuse.NamesWithCondtions = append(refuse.NamesWithCondtions, seccomp.NameWithConditions{
			Name: "clone", Conditions: []seccomp.Condition{{Argument: 0, Operation: seccomp.BitsSet, Value: flag}},
		})
	}
	err := seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: seccomp.Policy{
		DefaultAction: seccomp.ActionAllow,
		Syscalls: []seccomp.SyscallGroup{
			{Action: seccomp.ActionErrno, Names: []string{"unshare", "landlock_create_ruleset"}},
			{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: []string{"clone3"}},
			refuse,
		},
	}})
	if err != nil {
		panic(err)
	}
	h, err := pluginhost.New(pluginhost.Config{Dir: dir, Command: []string{program(), "child:plugin"}, Log: hclog.NewNullLogger()})
	if err != nil {
		panic(err)
	}
	defer h.Close()
	if err := h.Probe(context.Background(), "engine/puppet"); err != nil {
		panic(err)
	}
	for _, l := range h.Isolation() {
		fmt.Printf("%s: %s\n", l.Name, l.Why)
	}
}

// Where a layer is refused, processes start without it, and each that is missing says why.
func TestPoorMachine(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "pic")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program(), "child:plugin", "poor", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range pluginhost.Layers() {
		_, why, said := strings.Cut(string(out), name+": ")
		why, _, _ = strings.Cut(why, "\n")
		switch name {
		case "root-folder", "network-namespace", "pid-namespace", "ipc-namespace", "mount-namespace", "uts-namespace", "landlock":
			said = said && why != ""
		case "uid", "nproc":
			said = said && (why == "") == (os.Geteuid() == 0)
		default:
			said = said && why == ""
		}
		if !said {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// A folder that other users cannot enter takes nothing from a process whose root it is.
func TestFolderOfItsOwn(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "pic") // with mode 0700
	if err != nil {
		t.Fatal(err)
	}
	for _, layers := range [][]string{{"uid"}, {"uid", "root-folder"}} {
		h, err := pluginhost.New(pluginhost.Config{
			Dir: filepath.Join(dir, "x"), Command: []string{program(), "child:plugin"}, Layers: layers, Log: hclog.NewNullLogger(),
		})
		if err != nil {
			t.Fatal(err)
		}
		p := launch(t, h, "engine/puppet")
		if want := os.Geteuid() == 0 && len(layers) == 2 && holds(p, "root-folder"); holds(p, "uid") != want {
			t.Errorf("%v: %v", layers, p.Isolation())
		}
		h.Close()
	}
	_ = os.Remove(dir)
}

// A program is what it was when the host began, whatever is at its path since.
func TestProgramIsPinned(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "pic")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "plugin")
	binary, err := os.ReadFile(program())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	h, err := pluginhost.New(pluginhost.Config{Dir: dir, Command: []string{path, "child:plugin"}, Log: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := errors.Join(os.Remove(path), os.Symlink("/bin/false", path)); err != nil {
		t.Fatal(err)
	}
	launch(t, h, "engine/puppet")
}

// A process that takes all memory is ended by its limit, long before the machine has none left.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	p := launch(t, newHost(t, hclog.NewNullLogger()), "engine/hog")
	_, err := invoke(t.Context(), p, "")
	if f := fault.From(err); f == nil || f.Kind != fault.EngineLost {
		t.Errorf("%v", err)
	}
	<-p.Done()
	if err := p.Err(); !errors.Is(err, pluginhost.ErrDied) {
		t.Errorf("%v", err)
	}
}

// hog is an engine that takes memory without end.
type hog struct{ enginetest.Puppet }

func (hog) Invoke(context.Context, *engine.Invocation, engine.Reply) error {
	for text := []byte("x"); ; {
		text = append(text, text...)
	}
}
