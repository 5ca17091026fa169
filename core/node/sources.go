package node

import (
	"context"
	"strings"

	"github.com/picloud/picloud/core/pluginhost"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/source"
)

// startSources makes what brings events in. It ends before the dispatcher does.
func (n *Node) startSources(host *pluginhost.Host, store *postgres.SourceStore) {
	kinds := source.Builtin()
	for _, p := range n.installed {
		if name, ok := strings.CutPrefix(p.Name, "source/"); ok {
			kinds = append(kinds, name)
		}
	}
	n.sources = source.New(source.Config{
		Launch: func(ctx context.Context, name string) (source.Process, error) { return host.Launch(ctx, name) },
		Store:  store, Outbox: n.dispatcher, Secrets: n.vault, Snapshot: n.snapshot.Load, Kinds: kinds, Unfit: n.notices.Unfit, Log: n.log,
	})
	n.background(n.sources.Run)
}
