package plugin

import (
	"os"
	"strings"
)

// Reach is what a plugin's work takes of the machine. Its process keeps everything else from itself.
type Reach int

// What the kinds of plugins reach.
const (
	// Nothing: neither files nor sockets. Its process runs code that others wrote.
	Nothing Reach = iota
	// Network: sockets of the Internet, and the files in which a name is looked up, and who signs for a server.
	Network
)

// Layers of isolation that a process puts on itself. Those that it has from its start are the host's.
const (
	LayerLimits   = "rlimits"         // bounds on memory, open files, files' sizes; no core dumps
	LayerLandlock = "landlock"        // no files but its socket's folder, and what Network reads; no signals nor abstract sockets of others
	LayerFilter   = "seccomp"         // a filter of system calls: no other processes, no sockets but its own and those of Network
	LayerSession  = "seccomp-session" // a second one, from the opening of the session on: of files and sockets only those of Network
	// LayerThreads bounds the threads of the process. Its user's are counted, so only a host that has given it one of its own
	// can ask for it.
	LayerThreads = "nproc"
)

// OwnLayers are the names of those layers, in the order in which they are put on.
var OwnLayers = []string{LayerThreads, LayerLimits, LayerLandlock, LayerFilter, LayerSession}

// Layer says whether a layer of isolation holds.
type Layer struct {
	Name    string
	Missing string // why it does not hold; empty: it does
}

// LayersEnv is the variable by which a host says which layers a process puts on itself: their names, with commas. Without
// it, the process puts on all but LayerThreads.
const LayersEnv = "PICLOUD_PLUGIN_LAYERS"

// confine puts on the layers that begin with the process, and returns how all of them stand. What cannot be had is left out.
func confine(reach Reach) []Layer {
	wanted, chosen := os.LookupEnv(LayersEnv)
	asked := map[string]bool{}
	for name := range strings.SplitSeq(wanted, ",") {
		asked[name] = true
	}
	var layers []Layer
	for _, name := range OwnLayers {
		l := Layer{Name: name}
		if !asked[name] && (chosen || name == LayerThreads) {
			l.Missing = "it was not asked for"
		} else if err := putOn(name, reach); err != nil {
			l.Missing = err.Error()
		}
		layers = append(layers, l)
	}
	return layers
}

// confineSession puts on the layer that begins with the session, if that one can be had.
func confineSession(layers []Layer, reach Reach) error {
	for _, l := range layers {
		if l.Name == LayerSession && l.Missing == "" {
			return filterSession(reach)
		}
	}
	return nil
}
