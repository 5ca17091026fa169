package pluginhost

import (
	"context"
	"fmt"
	"slices"

	"github.com/picloud/picloud/sdk/plugin"
)

// Layer is one layer of isolation of plugin processes, and whether it holds.
type Layer struct {
	Name  string
	Stops string // what it keeps scripts from, for people
	Needs string // what it takes to have it
	Holds bool
	Why   string // why it does not hold
}

// Names of the layers that a process has from its start; the others are those of sdk/plugin.
const (
	layerRoot  = "root-folder"
	layerUID   = "uid"
	layerNet   = "network-namespace"
	layerPID   = "pid-namespace"
	layerIPC   = "ipc-namespace"
	layerMount = "mount-namespace"
	layerUTS   = "uts-namespace"
	layerCaps  = "privileges"
)

const (
	needsNamespaces = "run as root (in a container: with CAP_SYS_ADMIN), or permit ordinary users to make user namespaces"
	needsSeccomp    = "Linux with seccomp, which containers must not forbid"
)

// layers are all that there are, in the order in which a process gets them, as they stand for engines. A kind whose work is on the
// network has not all of them, and more sockets and files.
var layers = []Layer{
	{
		Name: layerRoot, Stops: "every file and every socket that has a path",
		Needs: "a program that is linked statically (CGO_ENABLED=0), and to " + needsNamespaces,
	},
	{
		Name: layerUID, Stops: "files and processes of the host's user, and those of other engine processes: each has a user of its own",
		Needs: "run as root (in a container: with CAP_SETUID, CAP_SETGID, CAP_CHOWN and CAP_DAC_OVERRIDE)",
	},
	{Name: layerNet, Stops: "every network, this machine's own addresses included", Needs: needsNamespaces},
	{Name: layerPID, Stops: "signals to other processes; and nothing that it starts outlives it", Needs: needsNamespaces},
	{Name: layerIPC, Stops: "shared memory and message queues of others", Needs: needsNamespaces},
	{Name: layerMount, Stops: "mounts that others see", Needs: needsNamespaces},
	{Name: layerUTS, Stops: "changes of the machine's name", Needs: needsNamespaces},
	{Name: layerCaps, Stops: "everything that takes a privilege of root, and programs that would give one", Needs: "Linux"},
	{Name: plugin.LayerThreads, Stops: "floods of threads and processes", Needs: "the layer uid, or user namespaces"},
	{Name: plugin.LayerLimits, Stops: "taking all memory or open files, writing files, core dumps", Needs: "Linux"},
	{
		Name: plugin.LayerLandlock, Stops: "files outside of its folder; signals and abstract sockets of others",
		Needs: "Linux 6.12 or later with Landlock enabled (CONFIG_SECURITY_LANDLOCK, lsm=landlock,...)",
	},
	{Name: plugin.LayerFilter, Stops: "starting and touching processes, sockets but its own, mounts, namespaces", Needs: needsSeccomp},
	{Name: plugin.LayerSession, Stops: "opening any file or socket at all, before the first line of a script runs", Needs: needsSeccomp},
}

// asked says whether processes are to have a layer.
func (c *Config) asked(layer string) bool { return c.Layers == nil || slices.Contains(c.Layers, layer) }

// isolationOf says how all layers stand for a process, which says so of those that it has put on itself.
func (f *family) isolationOf(own []plugin.Layer) []Layer {
	never := f.never()
	all := slices.DeleteFunc(slices.Clone(layers), func(l Layer) bool { return slices.Contains(never, l.Name) })
	for i := range all {
		l := &all[i]
		l.Why = f.lacks[l.Name]
		if l.Why == "" && slices.Contains(plugin.OwnLayers, l.Name) {
			l.Why = "the plugin does not have it"
			if at := slices.IndexFunc(own, func(o plugin.Layer) bool { return o.Name == l.Name }); at >= 0 {
				l.Why = own[at].Missing
			}
		}
		l.Holds = l.Why == ""
	}
	return all
}

// Lacking is the first layer that does not hold, as an error that says why and what it takes; nil if all hold.
func Lacking(isolation []Layer) error {
	for _, l := range isolation {
		if !l.Holds {
			return fmt.Errorf("isolation lacks the layer %s (%s): %s", l.Name, l.Why, l.Needs)
		}
	}
	return nil
}

// Probe launches a plugin only to see which layers of isolation hold; Isolation then tells.
func (h *Host) Probe(ctx context.Context, name string) error {
	p, err := h.Launch(ctx, name)
	if err != nil {
		return err
	}
	defer p.Kill()
	p.family.isolation.Store(&p.isolation)
	return nil
}

// Isolation is how the layers stand on this machine for engines, in the order in which processes get them, as the last Probe of
// one found. It is nil before.
func (h *Host) Isolation() []Layer {
	f, err := h.family("engine")
	if err != nil {
		return nil
	}
	return f.found()
}

// found is what the last Probe of the kind found.
func (f *family) found() []Layer {
	if found := f.isolation.Load(); found != nil {
		return slices.Clone(*found)
	}
	return nil
}
