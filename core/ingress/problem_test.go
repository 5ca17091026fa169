package ingress

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Callers act on the words of problems: each is in the table that they are given.
func TestProblemsAreDocumented(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../cmd/picloud/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(readme), "\n## What callers are told\n")
	table, _, _ = strings.Cut(table, "\n## ")
	known := map[string]bool{}
	collect := func(pattern, words string) {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") || name == "problem.go" {
				continue
			}
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range regexp.MustCompile(words).FindAllString(string(source), -1) {
				for _, w := range regexp.MustCompile(`"([a-z_]+)"`).FindAllStringSubmatch(line, -1) {
					known[w[1]] = true
				}
			}
		}
	}
	collect("*.go", `(?m)\bKind(:|, | =).*$`)
	collect("../../sdk/fault/fault.go", `(?m)^.* Kind = .*$`)
	if len(known) < 30 {
		t.Fatalf("found only %v", known)
	}
	for w := range known {
		if !strings.Contains(table, "`"+w+"`") {
			t.Errorf("%s is not told of", w)
		}
	}
}
