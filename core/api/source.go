package api

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/picloud"
)

// Engine is what can run scripts, and the extensions of the files that are entry points of its scripts.
type Engine struct {
	Name       string
	Extensions []string
}

// BuiltinEngines are those that need not be installed.
func BuiltinEngines() []Engine {
	return []Engine{
		{"yaegi", []string{".go"}},
		{"js", []string{".ts", ".js", ".mjs", ".tsx", ".jsx"}},
		{"starlark", []string{".star"}},
		{"wasm", []string{".wasm"}},
	}
}

// What bounds the files of a version together. Text: far more than a person writes, and small enough to keep many in memory. With files that are
// compiled: what fits into the message by which an engine loads them.
const (
	maxSource   = 2 << 20
	maxCompiled = 12 << 20
)

// SourceFile is one file of a version.
type SourceFile struct {
	Name          string  `json:"name" minLength:"1" maxLength:"200" example:"main.go" doc:"A relative path"`
	Content       *string `json:"content,omitempty" example:"package main\n" doc:"Of a file that is text, in UTF-8"`
	ContentBase64 []byte  `json:"content_base64,omitempty" doc:"Of any other file, in place of content"`
}

// NewSourceFile makes the form in which a file with any content is sent.
func NewSourceFile(name string, content []byte) SourceFile {
	if text := string(content); utf8.ValidString(text) && !strings.Contains(text, "\x00") {
		return SourceFile{Name: name, Content: &text}
	}
	return SourceFile{Name: name, ContentBase64: content}
}

func viewFiles(files []engine.File) []SourceFile {
	views := make([]SourceFile, len(files))
	for i, f := range files {
		views[i] = NewSourceFile(f.Name, f.Data)
	}
	return views
}

func sources(views []SourceFile) ([]engine.File, error) {
	files := make([]engine.File, len(views))
	size, limit := 0, maxSource
	for i, v := range views {
		where := fmt.Sprintf("body.files[%d].name", i)
		if !fs.ValidPath(v.Name) || v.Name == "." || strings.Contains(v.Name, `\`) {
			return nil, wrong(where, fmt.Sprintf("%q is not a relative path with single slashes", v.Name))
		}
		if slices.ContainsFunc(files[:i], func(f engine.File) bool { return f.Name == v.Name }) {
			return nil, wrong(where, fmt.Sprintf("there are two files named %q", v.Name))
		}
		switch {
		case v.Content != nil && v.ContentBase64 != nil, v.Content == nil && v.ContentBase64 == nil:
			return nil, wrong(fmt.Sprintf("body.files[%d]", i), "a file has either content or content_base64")
		case v.Content != nil:
			files[i] = engine.File{Name: v.Name, Data: []byte(*v.Content)}
		default:
			files[i], limit = engine.File{Name: v.Name, Data: v.ContentBase64}, maxCompiled
		}
		size += len(files[i].Data)
	}
	if size > limit {
		return nil, kindNamed("too_large").problem(fmt.Sprintf("the files are over %d bytes together", limit))
	}
	return files, nil
}

// engineOf returns the engine that a request names, or the one for the entry point's extension.
func (a *api) engineOf(named, entry string) (string, error) {
	var known []string
	for _, e := range append(BuiltinEngines(), a.Engines...) {
		if named == e.Name || named == "" && slices.Contains(e.Extensions, path.Ext(entry)) {
			return e.Name, nil
		}
		known = append(known, fmt.Sprintf("%s (%s)", e.Name, strings.Join(e.Extensions, " ")))
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
