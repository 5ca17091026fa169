package api

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/picloud"
)

// engines are what can run scripts, by the extension of the entry point.
var engines = []struct{ extension, name string }{
	{".go", "yaegi"}, {".star", "starlark"}, {".js", "js"}, {".mjs", "js"}, {".jsx", "js"}, {".ts", "js"}, {".tsx", "js"},
}

// maxSource bounds a version: far more than a person writes, and small enough to keep many in memory.
const maxSource = 2 << 20

// SourceFile is one file of a version.
type SourceFile struct {
	Name    string `json:"name" minLength:"1" maxLength:"200" example:"main.go" doc:"A relative path"`
	Content string `json:"content" example:"package main\n"`
}

func viewFiles(files []engine.File) []SourceFile {
	views := make([]SourceFile, len(files))
	for i, f := range files {
		views[i] = SourceFile{Name: f.Name, Content: string(f.Data)}
	}
	return views
}

func sources(views []SourceFile) ([]engine.File, error) {
	files := make([]engine.File, len(views))
	size := 0
	for i, v := range views {
		where := fmt.Sprintf("body.files[%d].name", i)
		if !fs.ValidPath(v.Name) || v.Name == "." || strings.Contains(v.Name, `\`) {
			return nil, wrong(where, fmt.Sprintf("%q is not a relative path with single slashes", v.Name))
		}
		if slices.ContainsFunc(files[:i], func(f engine.File) bool { return f.Name == v.Name }) {
			return nil, wrong(where, fmt.Sprintf("there are two files named %q", v.Name))
		}
		files[i] = engine.File{Name: v.Name, Data: []byte(v.Content)}
		size += len(v.Content)
	}
	if size > maxSource {
		return nil, kindNamed("too_large").problem(fmt.Sprintf("the files are over %d bytes together", maxSource))
	}
	return files, nil
}

// engineOf returns the engine that a request names, or the one for the entry point's extension.
func engineOf(named, entry string) (string, error) {
	var known []string
	for _, e := range engines {
		if named == e.name || named == "" && path.Ext(entry) == e.extension {
			return e.name, nil
		}
		known = append(known, fmt.Sprintf("%s (%s)", e.name, e.extension))
	}
	list := strings.Join(known, ", ")
	if named != "" {
		return "", wrong("body.engine", fmt.Sprintf("there is no engine %q; there are: %s", named, list))
	}
	return "", wrong("body.files[0].name", fmt.Sprintf("no engine runs files like %q; there are: %s", entry, list))
}

// newVersion makes a version of files, which are not checked yet.
func newVersion(views []SourceFile) (tenant.Version, error) {
	files, err := sources(views)
	if err != nil {
		return tenant.Version{}, err
	}
	return tenant.Version{
		Files: files, Hash: tenant.VersionHash(files, picloud.Version, engine.Limits{}), SDKVersion: picloud.Version,
	}, nil
}

// place is where a diagnostic points, in the form that editors understand.
func place(d engine.Diagnostic) string {
	s := d.File
	for _, n := range []int{d.Line, d.Column} {
		if n == 0 {
			break
		}
		s += fmt.Sprintf(":%d", n)
	}
	return s
}
