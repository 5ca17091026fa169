package main

import (
	"slices"
	"testing"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/sink"
	"github.com/picloud/picloud/core/source"
	"github.com/picloud/picloud/plugins"
	"github.com/picloud/picloud/plugins/engine/js"
	"github.com/picloud/picloud/plugins/engine/starlark"
	"github.com/picloud/picloud/plugins/engine/wasm"
	"github.com/picloud/picloud/plugins/engine/yaegi"
	"github.com/picloud/picloud/sdk/engine"
)

// The core cannot ask the built-in plugins what they are, as it does not import them: what it says of them is what they say.
func TestBuiltinPlugins(t *testing.T) {
	t.Parallel()
	engines := map[string]engine.Info{}
	for _, e := range []engine.Engine{yaegi.New(), js.New(), starlark.New(), wasm.New()} {
		engines[e.Info().Name] = e.Info()
	}
	var names []string
	for _, e := range api.BuiltinEngines() {
		names = append(names, "engine/"+e.Name)
		if known, own := slices.Sorted(slices.Values(e.Extensions)), slices.Sorted(slices.Values(engines[e.Name].Extensions)); !slices.Equal(known, own) {
			t.Errorf("the engine %s runs %q, and says %q", e.Name, known, own)
		}
	}
	for _, kind := range sink.Builtin() {
		names = append(names, "sink/"+kind)
	}
	for _, kind := range source.Builtin() {
		names = append(names, "source/"+kind)
	}
	if slices.Sort(names); !slices.Equal(names, plugins.Names()) {
		t.Errorf("the core knows %q, built in are %q", names, plugins.Names())
	}
}
