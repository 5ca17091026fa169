package js

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/evanw/esbuild/pkg/api"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/script"
)

// findings bounds the diagnostics of a script.
const findings = 20

// loaders says how files are read, by their extension.
var loaders = map[string]api.Loader{
	".js": api.LoaderJS, ".mjs": api.LoaderJS, ".jsx": api.LoaderJSX, ".ts": api.LoaderTS, ".tsx": api.LoaderTSX,
	".json": api.LoaderJSON,
}

// Where a file belongs: to the script, or to nobody. Those of a module belong to what it is imported by, "app/name".
const (
	scriptSpace = "script"
	ownSpace    = "picloud"
)

// ownModule is what a script imports as "picloud"; entryModule is what is run.
const (
	ownModule   = `export const { Response, BatchResult, RetryAfter, Fatal, PicloudError, VERSION } = $picloud;`
	entryModule = "import * as script from \"script\";\n$loaded(script);"
	// A module is run by itself to see whether it can be; nothing of it will be called.
	checkModule = "import \"script\";\n$loaded({ default() {} });"
)

// manyFiles is what is told of an import whose name is made of parts.
const manyFiles = "import(…) and require(…) take the name of a file as one text"

// mapComment is where a source says that a file of the machine tells where it comes from. Nobody looks there.
var (
	mapComment = regexp.MustCompile(`([#@][ \t]*)sourceMappingURL=`)
	unmapped   = []byte("${1}sourceMappingOff=")
)

// bundler makes one text of a script's files.
type bundler struct {
	bundle  *engine.Bundle
	files   map[string]map[string]string // by space and name
	entries map[string]string            // the first file of a space
	imports map[string]bool              // names of modules that the script's own files import
}

func newBundler(b *engine.Bundle) *bundler {
	x := &bundler{
		bundle: b, files: map[string]map[string]string{}, entries: map[string]string{}, imports: map[string]bool{},
	}
	x.add(scriptSpace, b.Files)
	for _, m := range b.Modules {
		x.add(script.ModulePrefix+m.Name, m.Files)
	}
	return x
}

func (x *bundler) add(space string, files []engine.File) {
	x.files[space] = map[string]string{}
	for i, f := range files {
		name := path.Clean("/" + f.Name)[1:]
		x.files[space][name] = string(mapComment.ReplaceAll(f.Data, unmapped))
		if i == 0 {
			x.entries[space] = name
		}
	}
}

// run returns the text that is run, and where its parts come from. Either it is nil or the diagnostics hold errors.
func (x *bundler) run() (text []byte, places *sourceMap, found []engine.Diagnostic, err error) {
	if len(x.bundle.Files) == 0 {
		return nil, nil, []engine.Diagnostic{{Message: "a script has at least one file"}}, nil
	}
	result := api.Build(api.BuildOptions{
		EntryPoints: []string{"entry"},
		Bundle:      true, Write: false, Outfile: "out.js", Format: api.FormatESModule, Platform: api.PlatformNeutral, Target: api.ES2023,
		Sourcemap: api.SourceMapExternal, SourcesContent: api.SourcesContentExclude, Charset: api.CharsetASCII,
		LegalComments: api.LegalCommentsNone, LogLevel: api.LogLevelSilent, LogLimit: findings, TsconfigRaw: "{}",
		// An import of many files looks for them in the file system: not even whether there are any is told.
		LogOverride:   map[string]api.LogLevel{"empty-glob": api.LogLevelError},
		AbsWorkingDir: "/", Supported: map[string]bool{"import-meta": false}, Plugins: []api.Plugin{{Name: "files", Setup: x.setup}},
	})
	for _, m := range result.Errors {
		if m.ID == "empty-glob" {
			m.Text = manyFiles
		}
		if d := diagnostic(m, false); !slices.Contains(found, d) {
			found = append(found, d)
		}
	}
	for _, m := range result.Warnings {
		found = append(found, diagnostic(m, true))
	}
	if len(result.Errors) > 0 {
		return nil, nil, found, nil
	}
	var mapped []byte
	for _, f := range result.OutputFiles {
		if strings.HasSuffix(f.Path, ".map") {
			mapped = f.Contents
		} else {
			text = f.Contents
		}
	}
	places, err = parseSourceMap(mapped)
	return text, places, found, err
}

func diagnostic(m api.Message, warning bool) engine.Diagnostic {
	d := engine.Diagnostic{Message: m.Text, Warning: warning}
	if m.Location != nil {
		d.File, d.Line, d.Column = shownPath(m.Location.File), m.Location.Line, m.Location.Column+1
	}
	return d
}

// shownPath is the name of a file in messages: those of modules begin with the module's name.
func shownPath(file string) string {
	space, name, ok := strings.Cut(file, ":")
	switch {
	case !ok:
		return file
	case space == scriptSpace:
		return name
	}
	return strings.TrimPrefix(space, script.ModulePrefix) + "/" + name
}

// setup has esbuild find files in the bundle, and nowhere else.
func (x *bundler) setup(build api.PluginBuild) {
	build.OnResolve(api.OnResolveOptions{Filter: ".*"}, func(a api.OnResolveArgs) (api.OnResolveResult, error) {
		switch {
		case a.Kind == api.ResolveEntryPoint:
			return api.OnResolveResult{Namespace: ownSpace, Path: "entry"}, nil
		case a.Namespace == ownSpace:
			return api.OnResolveResult{Namespace: scriptSpace, Path: x.entries[scriptSpace]}, nil
		}
		space, name, problem := x.resolve(a.Namespace, a.Importer, a.Path)
		if module, ok := strings.CutPrefix(a.Path, script.ModulePrefix); ok && a.Namespace == scriptSpace {
			x.imports[module] = true
		}
		if problem != "" {
			return api.OnResolveResult{Errors: []api.Message{{Text: problem}}}, nil
		}
		return api.OnResolveResult{Namespace: space, Path: name}, nil
	})
	build.OnLoad(api.OnLoadOptions{Filter: ".*"}, func(a api.OnLoadArgs) (api.OnLoadResult, error) {
		text, known := x.files[a.Namespace][a.Path]
		if a.Namespace == ownSpace {
			switch text = ownModule + exports(); {
			case a.Path == "entry" && x.bundle.Module:
				text = checkModule
			case a.Path == "entry":
				text = entryModule
			}
			return api.OnLoadResult{Contents: &text, Loader: api.LoaderJS}, nil
		}
		if !known {
			return api.OnLoadResult{Errors: []api.Message{{Text: manyFiles}}}, nil
		}
		loader, ok := loaders[path.Ext(a.Path)]
		if !ok {
			return api.OnLoadResult{Errors: []api.Message{{Text: a.Path + " is none of: " + extensions()}}}, nil
		}
		return api.OnLoadResult{Contents: &text, Loader: loader}, nil
	})
}

func extensions() string { return strings.Join(slices.Sorted(maps.Keys(loaders)), " ") }

// resolve finds what a file of a space imports.
func (x *bundler) resolve(space, importer, wanted string) (inSpace, name, problem string) {
	switch {
	case wanted == "picloud":
		return ownSpace, "picloud", ""
	case strings.HasPrefix(wanted, script.ModulePrefix):
		entry, ok := x.entries[wanted]
		if !ok {
			var there []string
			for _, m := range x.bundle.Modules {
				there = append(there, m.Name)
			}
			return "", "", script.NoModule(strings.TrimPrefix(wanted, script.ModulePrefix), there)
		}
		return wanted, entry, ""
	case strings.HasPrefix(wanted, "./"), strings.HasPrefix(wanted, "../"):
		found := x.find(space, path.Clean("/" + path.Dir("/"+importer) + "/" + wanted)[1:])
		if found == "" {
			return "", "", fmt.Sprintf("there is no file %s; files that are deployed together: %s", wanted,
				strings.Join(slices.Sorted(maps.Keys(x.files[space])), ", "))
		}
		return space, found, ""
	}
	return "", "", fmt.Sprintf("%q cannot be imported: there are files of the script (\"./name\"), modules of the app (\"app/name\") and \"picloud\"", wanted)
}

// find looks for a file as bundlers do: by its name, without its extension, or by the name that its compiled form would have.
func (x *bundler) find(space, name string) string {
	files := x.files[space]
	names := []string{name, name + ".ts", name + ".tsx", name + ".mjs", name + ".js", name + ".jsx", name + ".json"}
	if base, ok := strings.CutSuffix(name, ".js"); ok {
		names = append(names, base+".ts", base+".tsx")
	}
	i := slices.IndexFunc(names, func(n string) bool { _, ok := files[n]; return ok })
	if i < 0 {
		return ""
	}
	return names[i]
}

// sortedImports are the names of the modules that the script's own files import.
func (x *bundler) sortedImports() []string {
	return slices.SortedFunc(maps.Keys(x.imports), cmp.Compare[string])
}
