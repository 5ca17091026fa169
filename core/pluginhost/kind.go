package pluginhost

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	goplugin "github.com/hashicorp/go-plugin"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/plugin"
	"github.com/picloud/picloud/sdk/sink"
	"github.com/picloud/picloud/sdk/source"
)

// kinds are all kinds of plugins, by the first half of their names. Whatever dispenses their clients calls them by it, too.
var kinds = map[string]kind{
	"engine": {versions: engine.Versions(), describe: describeEngine},
	"sink":   {versions: sink.Versions(), describe: describeSink, network: true},
	"source": {versions: source.Versions(), describe: describeSource, network: true},
}

// kind is what tells plugins of one kind from others.
type kind struct {
	versions map[int]goplugin.PluginSet
	describe func(client) Installed // what a process says of itself: all but the program
	// Its work is on the network, so its processes share that of the machine, and have its files: Landlock leaves them those that
	// names are looked up in.
	network bool
}

// client is what the host needs of the client of any kind.
type client interface {
	// Layers are those that the process says to have put on itself.
	Layers() []plugin.Layer
	// Lost is closed when the session has ended, and Stuck when only the end of the process stops something in it.
	Lost() <-chan struct{}
	Stuck() <-chan struct{}
	// Err is why the session ended; it wraps plugin.ErrProtocol where the plugin broke its contract.
	Err() error
	Close()
}

// never are the layers of isolation that processes of the kind do not have.
func (k *kind) never() []string {
	if k.network {
		return []string{layerRoot, layerNet}
	}
	return nil
}

// family is a kind on this machine.
type family struct {
	kind
	name      string
	lacks     map[string]string // layers that processes do not have from their start, and why
	isolation atomic.Pointer[[]Layer]
}

// family returns the kind of the plugin of a name. What its processes lack is found out when it is first asked for.
func (h *Host) family(plugin string) (*family, error) {
	name, _, _ := strings.Cut(plugin, "/")
	h.families.Lock()
	defer h.families.Unlock()
	f := h.known[name]
	if f == nil {
		k, ok := kinds[name]
		if !ok {
			return nil, fmt.Errorf("there is no such kind of plugin: a name begins with %s", strings.Join(kindNames(), "/ or ")+"/")
		}
		f = &family{kind: k, name: name}
		f.lacks = h.lacking(f)
		h.known[name] = f
	}
	return f, nil
}

func kindNames() []string {
	var names []string
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// holds says whether processes have a layer from their start, or may try to put it on.
func (f *family) holds(layer string) bool { return f.lacks[layer] == "" }

// own are the layers that a process is to put on itself, as it is told them.
func (f *family) own() string {
	var names []string
	for _, name := range plugin.OwnLayers {
		if f.holds(name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}
