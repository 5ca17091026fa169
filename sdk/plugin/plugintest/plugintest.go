// Package plugintest runs plugins as processes for the kits that check them.
package plugintest

import (
	"bytes"
	"os/exec"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"

	"github.com/picloud/picloud/sdk/plugin"
)

// Start starts a program that serves one of versions, as the platform does. It ends with the test, which shows what it has printed if it
// fails.
func Start(tb testing.TB, command []string, versions map[int]goplugin.PluginSet) *goplugin.Client {
	tb.Helper()
	var said output
	tb.Cleanup(func() {
		if tb.Failed() && said.String() != "" {
			tb.Logf("the process printed on standard error:\n%s", said.String())
		}
	})
	process := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: plugin.Handshake, VersionedPlugins: versions, Cmd: exec.Command(command[0], command[1:]...),
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC}, GRPCDialOptions: plugin.DialOptions(), Logger: hclog.NewNullLogger(),
		SkipHostEnv: true, Stderr: &said,
	})
	tb.Cleanup(process.Kill)
	return process
}

// maxOutput bounds what is kept of what a process prints: the beginning says why it panics.
const maxOutput = 16 << 10

// output keeps what is written to it. Its methods are safe for concurrent use.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write keeps p as far as there is room, and never fails.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p[:min(len(p), maxOutput-o.text.Len())])
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
