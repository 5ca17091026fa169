package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// module is what our own import paths begin with.
const module = "github.com/picloud/picloud"

// checkSource checks every hand-written Go file.
func checkSource(files map[string][]byte) ([]string, error) {
	set := token.NewFileSet()
	var findings []string
	for name, data := range files {
		if path.Ext(name) != ".go" {
			continue
		}
		file, err := parser.ParseFile(set, name, data, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		if ast.IsGenerated(file) {
			continue
		}
		report := func(at token.Pos, format string, args ...any) {
			findings = append(findings, fmt.Sprintf("%s: %s", set.Position(at), fmt.Sprintf(format, args...)))
		}
		checkImports(set, file, report)
		checkComments(file, report)
		if isTestCode(file) {
			checkTest(file, report)
		}
	}
	return findings, nil
}

type reportFunc func(at token.Pos, format string, args ...any)

// isTestCode reports whether a file belongs to tests: those themselves, and the kits they use.
func isTestCode(file *ast.File) bool {
	for _, spec := range file.Imports {
		if spec.Path.Value == `"testing"` {
			return true
		}
	}
	return false
}

// checkTest finds tests that do not run, and waits for time instead of for what is waited for.
func checkTest(file *ast.File, report reportFunc) {
	ast.Inspect(file, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok {
			return true
		}
		selector, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		switch name := selector.Sel.Name; name {
		case "Skip", "Skipf", "SkipNow":
			report(call.Pos(), "a skipped test tests nothing: %s", name)
		case "Sleep":
			if pkg, ok := selector.X.(*ast.Ident); ok && pkg.Name == "time" {
				report(call.Pos(), "a test waits for a signal or a condition, never for time: time.Sleep")
			}
		}
		return true
	})
}

// openEnd is a note to do something later. What is left to do belongs where somebody looks for it.
var openEnd = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)

func checkComments(file *ast.File, report reportFunc) {
	for _, group := range file.Comments {
		for _, comment := range group.List {
			if word := openEnd.FindString(comment.Text); word != "" {
				report(comment.Pos(), "an open end belongs in an issue: %s", word)
			}
		}
	}
}

// checkImports wants three groups: the standard library, third parties, ours.
func checkImports(set *token.FileSet, file *ast.File, report reportFunc) {
	const (
		standard = iota
		third
		ours
	)
	kind := func(spec *ast.ImportSpec) int {
		path, err := strconv.Unquote(spec.Path.Value)
		switch {
		case err == nil && (path == module || strings.HasPrefix(path, module+"/")):
			return ours
		case err == nil && !strings.Contains(strings.SplitN(path, "/", 2)[0], "."):
			return standard
		}
		return third
	}
	for i := 1; i < len(file.Imports); i++ {
		before, now := file.Imports[i-1], file.Imports[i]
		apart := set.Position(now.Pos()).Line-set.Position(before.End()).Line > 1
		switch {
		case kind(now) < kind(before):
			report(now.Pos(), "imports are the standard library, third parties, ours, in this order")
		case kind(now) != kind(before) && !apart && now.Doc == nil:
			report(now.Pos(), "a blank line goes between the groups of imports")
		}
	}
}
