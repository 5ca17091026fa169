// Package plugins lists the plugins that are part of the program. Each runs as a process of its own all the same: the
// program starts itself with the plugin's name.
package plugins

import (
	"fmt"
	"slices"
	"strings"

	"github.com/picloud/picloud/plugins/engine/js"
	"github.com/picloud/picloud/plugins/engine/starlark"
	"github.com/picloud/picloud/plugins/engine/wasm"
	"github.com/picloud/picloud/plugins/engine/yaegi"
	"github.com/picloud/picloud/plugins/sink/http"
	"github.com/picloud/picloud/plugins/sink/smtp"
	smtpsource "github.com/picloud/picloud/plugins/source/smtp"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/sink"
	"github.com/picloud/picloud/sdk/source"
	"github.com/picloud/picloud/sdk/watch"
)

// builtin maps a plugin's name to what serves it until the host ends the process.
var builtin = map[string]func(){
	"engine/yaegi": func() {
		watch.Bound()
		engine.Serve(yaegi.New())
	},
	"engine/js": func() {
		watch.Bound()
		engine.Serve(js.New())
	},
	"engine/starlark": func() {
		watch.Bound()
		engine.Serve(starlark.New())
	},
	"engine/wasm": func() {
		wasm.Bound()
		engine.Serve(wasm.New())
	},
	"sink/http":   func() { sink.Serve(http.New()) },
	"sink/smtp":   func() { sink.Serve(smtp.New()) },
	"source/smtp": func() { source.Serve(smtpsource.New()) },
}

// Names returns the names of all built-in plugins, sorted.
func Names() []string {
	var names []string
	for name := range builtin {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Run serves a built-in plugin and returns when the host ends it.
func Run(name string) error {
	serve := builtin[name]
	if serve == nil {
		return fmt.Errorf("there is no plugin %q; there are: %s", name, strings.Join(Names(), ", "))
	}
	serve()
	return nil
}
