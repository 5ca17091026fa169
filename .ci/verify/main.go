// Command verify checks what compilers and linters do not: that generated files are what their generators write today,
// that every test file is run, and the rules of this repository for tests, comments, imports and paths. It is run from
// the top folder, and prints one line a finding, in the form that editors understand.
package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("verify: ")
	findings, err := run()
	if err != nil {
		log.Fatal(err)
	}
	for _, finding := range findings {
		fmt.Println(finding)
	}
	if len(findings) > 0 {
		log.Fatalf("%d findings", len(findings))
	}
}

func run() ([]string, error) {
	files, err := tree()
	if err != nil {
		return nil, err
	}
	var findings []string
	for _, check := range []func(map[string][]byte) ([]string, error){
		checkSource, checkWords, checkTestsRun, checkExamples, checkGenerated,
	} {
		found, err := check(files)
		if err != nil {
			return nil, err
		}
		findings = append(findings, found...)
	}
	slices.Sort(findings)
	return findings, nil
}

// notOurs are folders that hold nothing of the repository.
var notOurs = []string{".git", ".picloud", "bin", "node_modules"}

// tree reads the repository. It asks the file system rather than git, which refuses to speak of clones that belong to
// somebody else.
func tree() (map[string][]byte, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains(notOurs, entry.Name()):
			return fs.SkipDir
		case !entry.Type().IsRegular():
			return nil
		}
		files[filepath.ToSlash(path)], err = os.ReadFile(path)
		return err
	})
	return files, err
}

// modules are the folders with a go.mod whose tests targets run: make race and make contract.
var modules = []string{".", "sdk/examples/stack"}

// checkTestsRun finds test files that go test leaves out: in folders that ./... does not reach, or behind build tags and
// file names for other systems.
func checkTestsRun(files map[string][]byte) ([]string, error) {
	tested := map[string]bool{}
	for _, folder := range modules {
		if err := addTests(tested, folder); err != nil {
			return nil, err
		}
	}
	var findings []string
	for path := range files {
		if strings.HasSuffix(path, "_test.go") && !tested[path] {
			findings = append(findings, path+": no target runs this test")
		}
	}
	return findings, nil
}

// addTests adds the test files that go test runs in the module of a folder, by their paths from here.
func addTests(tested map[string]bool, folder string) error {
	const format = `{{$dir := .Dir}}{{range .TestGoFiles}}{{$dir}}/{{.}}
{{end}}{{range .XTestGoFiles}}{{$dir}}/{{.}}
{{end}}`
	out, err := output("go", "-C", folder, "list", "-f", format, "./...")
	if err != nil {
		return err
	}
	top, err := os.Getwd()
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		path, err := filepath.Rel(top, strings.TrimSpace(line))
		if err != nil {
			return err
		}
		tested[filepath.ToSlash(path)] = true
	}
	return nil
}

// checkGenerated runs the generators and compares. What differs is left as the generators wrote it.
func checkGenerated(before map[string][]byte) ([]string, error) {
	if _, err := output("make", "generate"); err != nil {
		return nil, err
	}
	after, err := tree()
	if err != nil {
		return nil, err
	}
	var findings []string
	for path, data := range after {
		if old, known := before[path]; !known || !bytes.Equal(old, data) {
			findings = append(findings, path+": not what make generate writes; it is written now")
		}
	}
	for path := range before {
		if _, still := after[path]; !still {
			findings = append(findings, path+": removed by make generate")
		}
	}
	return findings, nil
}

func output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return string(out), nil
}
