package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// contract is the folder of the scripts that show what scripts see, one file a script; a module of a script's app stands beside
// it, with its own name before the ending.
const contract = "sdk/scripttest/testdata/"

// applications is the folder of the examples that are deployed, a folder each.
const applications = "cmd/picloud/examples/"

// isScript reports whether a file is a script that is there to be read and copied, in the language of the extension.
func isScript(name, extension string) bool {
	return (strings.HasPrefix(name, contract) || strings.HasPrefix(name, applications)) && path.Ext(name) == extension
}

// checkExamples type-checks the scripts that are there to be read and copied, as their authors' tools would: tsc --strict for
// TypeScript, go vet for Go.
func checkExamples(files map[string][]byte) ([]string, error) {
	dir, err := os.MkdirTemp("", "examples")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	typed, err := checkTypeScript(dir, files)
	if err != nil {
		return nil, err
	}
	vetted, err := checkGo(dir, files)
	return append(typed, vetted...), err
}

// checkTypeScript runs the compiler's checks, with the declarations that authors have.
func checkTypeScript(dir string, files map[string][]byte) ([]string, error) {
	top, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	config := map[string]any{
		"compilerOptions": map[string]any{
			"strict": true, "noEmit": true, "noUncheckedIndexedAccess": true, "noUnusedLocals": true, "target": "es2022",
			"module": "es2022", "moduleResolution": "bundler", "lib": []string{"es2023"}, "types": []string{},
			"paths": map[string][]string{"app/*": {filepath.Join(top, contract, "module.*.ts")}},
		},
		"files": []string{filepath.Join(top, "sdk/picloud/typescript/picloud.d.ts")},
	}
	var include []string
	for name := range files {
		if isScript(name, ".ts") {
			include = append(include, filepath.Join(top, name))
		}
	}
	config["include"] = include
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "tsconfig.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	return findings(exec.Command("go", "tool", "-modfile=.ci/tools.mod", "tsgo", "--pretty", "false", "--project", file))
}

// checkGo lays each script out as a program of its own, with the modules of its app as packages.
func checkGo(dir string, files map[string][]byte) ([]string, error) {
	top, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	put := func(data []byte, name ...string) error {
		file := filepath.Join(append([]string{dir}, name...)...)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		return os.WriteFile(file, data, 0o600)
	}
	mod := fmt.Sprintf("module app\n\ngo 1.22\n\nrequire %s v0.0.0\n\nreplace %s => %s\n", module, module, top)
	if err := put([]byte(mod), "go.mod"); err != nil {
		return nil, err
	}
	if err := put(files["go.sum"], "go.sum"); err != nil {
		return nil, err
	}
	for name, data := range files {
		if !isScript(name, ".go") {
			continue
		}
		script := strings.TrimSuffix(path.Base(name), ".go")
		if rest, found := strings.CutPrefix(name, applications); found {
			script = strings.ReplaceAll(strings.TrimSuffix(rest, ".go"), "/", "-")
		}
		if _, imported, isModule := strings.Cut(script, "."); isModule {
			err = put(data, imported, "module.go")
		} else {
			err = put(data, "scripts", script, "main.go")
		}
		if err != nil {
			return nil, err
		}
	}
	vet := exec.Command("go", "vet", "-mod=mod", "./...")
	vet.Dir = dir
	return findings(vet)
}

// findings runs a checker that prints what it finds and fails for it.
func findings(checker *exec.Cmd) (lines []string, err error) {
	out, err := checker.CombinedOutput()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		return nil, err
	}
	if err == nil {
		return nil, nil
	}
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines, nil
}
