package pluginhost_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"

	"github.com/picloud/picloud/core/pluginhost"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/plugin"
)

func init() {
	more["net/thief"] = func() {
		p := plugin.Start(plugin.Network)
		p.Serve(map[int]goplugin.PluginSet{1: {"net": &pluginhost.NetPlugin{Engine: &netThief{opened: p.Opened}}}})
	}
}

// netThief is a thief whose work is on the network.
type netThief struct {
	thief
	once   sync.Once
	opened func()
}

func (n *netThief) Invoke(ctx context.Context, inv *engine.Invocation, out engine.Reply) error {
	n.once.Do(n.opened)
	return n.thief.Invoke(ctx, inv, out)
}

// A plugin whose work is on the network reaches that, and how names are looked up there; but nothing else of the machine that an
// engine would not.
func TestNetworkIsAllThatIsReached(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.plugin = "net/thief"
	s.process = launch(t, s.host, s.plugin)
	landlocked := slices.ContainsFunc(launch(t, s.host, "engine/puppet").Isolation(), func(l pluginhost.Layer) bool {
		return l.Name == plugin.LayerLandlock && l.Holds
	})
	stopped := "read write fill remove exec start fork kill signal trace environ memory-of shm unix abstract raw mount hostname space keys " +
		"become gulp inherit neighbour-kill neighbour-trace neighbour-environ neighbour-memory-of neighbour-unix"
	s.targets["serve"] = ""
	if landlocked { // which a program that is built with cgo is not
		stopped += " list"
	}
	for _, attack := range strings.Fields(stopped) {
		if s.reaches(attack) {
			t.Errorf("nothing stops %s", attack)
		}
	}
	for _, attack := range []string{"tcp", "udp", "serve"} {
		if !s.reaches(attack) {
			t.Errorf("the network is out of reach: %s", attack)
		}
	}
	for _, file := range []string{"/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"} {
		s.targets["read"] = file
		if _, err := os.Stat(file); err == nil && !s.reaches("read") {
			t.Errorf("%s cannot be read", file)
		}
	}
	s.targets["read"] = "/etc/passwd"
	if landlocked && s.reaches("read") {
		t.Error("/etc/passwd can be read")
	}
	for _, l := range s.process.Isolation() {
		if l.Name == "root-folder" || l.Name == "network-namespace" {
			t.Errorf("it cannot have %s", l.Name)
		}
		if l.Name == "uid" && !l.Holds && os.Geteuid() == 0 {
			t.Errorf("it has no user of its own: %s", l.Why)
		}
	}
}

// Where others cannot follow the path to its folder, such a plugin has a user of its own all the same.
func TestNetworkUserFindsItsFolder(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return // only root gives a plugin a user of its own
	}
	dir, err := os.MkdirTemp("", "pic")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir) // of which nothing is left
	h, err := pluginhost.New(pluginhost.Config{
		Dir: dir + "/run", Command: []string{program(), "child:plugin"}, Log: hclog.NewNullLogger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	p := launch(t, h, "net/thief")
	at := slices.IndexFunc(p.Isolation(), func(l pluginhost.Layer) bool { return l.Name == "uid" })
	if l := p.Isolation()[at]; !l.Holds {
		t.Error(l.Why)
	}
	if _, err := invoke(t.Context(), p, "serve"); err != nil {
		t.Error(err)
	}
}

// A kind of plugin that nobody knows is named as such, and starts nothing.
func TestUnknownKind(t *testing.T) {
	t.Parallel()
	h := newHost(t, hclog.NewNullLogger())
	for _, name := range []string{"motor/puppet", "engines/puppet", "", "/puppet"} {
		if _, err := h.Launch(t.Context(), name); err == nil || !strings.Contains(err.Error(), "engine/") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
