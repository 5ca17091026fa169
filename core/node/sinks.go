package node

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/picloud/picloud/core/pluginhost"
	"github.com/picloud/picloud/core/sink"
	sdk "github.com/picloud/picloud/sdk/sink"
)

// startSinks makes what delivers outward. Its processes start when they are needed.
func (n *Node) startSinks(host *pluginhost.Host) {
	kinds := sink.Builtin()
	for _, p := range n.installed {
		if name, ok := strings.CutPrefix(p.Name, "sink/"); ok {
			kinds = append(kinds, name)
		}
	}
	n.sinks = sink.New(sink.Config{
		Launch:  func(ctx context.Context, name string) (sink.Process, error) { return host.Launch(ctx, name) },
		Secrets: n.vault, Log: n.log, Kinds: kinds, Idle: n.cfg.EngineIdle, Email: n.mailServer(),
		Reach: sdk.Reach{Allow: n.cfg.HTTPAllow, Own: []string{n.PublicAddr(), n.AdminAddr()}},
	})
	n.onStop(func(context.Context) error { n.sinks.Close(); return nil })
	n.sinks.Keep(n.snapshot.Load())
}

// mailServer is the configuration of the sink that takes e-mail of scripts, nil if there is none.
func (n *Node) mailServer() json.RawMessage {
	c := &n.cfg
	if c.SMTPHost == "" {
		return nil
	}
	config := map[string]any{"host": c.SMTPHost, "port": c.SMTPPort, "tls": c.SMTPTLS, "from": c.SMTPFrom}
	if c.SMTPUser != "" {
		config["user"], config["password"] = c.SMTPUser, c.SMTPPassword
	}
	b, _ := json.Marshal(config) // texts and numbers always encode
	return b
}
