package scripttest_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/picloud/picloud/sdk/picloud"
	"github.com/picloud/picloud/sdk/scripttest"
)

var identifier = regexp.MustCompile(`[A-Za-z_][A-Za-z_0-9]*`)

// name returns the word of a member that a script must use: the last before its arguments.
func name(member string) string {
	before, _, _ := strings.Cut(member, "(")
	before, _, _ = strings.Cut(before, "{")
	words := identifier.FindAllString(before, -1)
	if len(words) == 0 {
		return ""
	}
	return words[len(words)-1]
}

// Every member is used by a script of each language that has it, so that a case fails where an engine lacks it.
func TestSurfaceIsShown(t *testing.T) {
	t.Parallel()
	texts := map[string]string{}
	scripts := scripttest.Scripts()
	err := fs.WalkDir(scripts, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(scripts, file)
		texts[path.Ext(file)] += string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range scripttest.Surface() {
		for ext, member := range map[string]string{".go": m.Go, ".ts": m.JS, ".star": m.Starlark} {
			if word := name(member); word != "" && !regexp.MustCompile(`\b`+word+`\b`).MatchString(texts[ext]) {
				t.Errorf("no %s script uses %s of %q", ext, word, m.Of)
			}
		}
	}
}

// What scripts see has a version: whoever changes the contract raises picloud.Version, or, where that has not been released yet, puts
// the new hash into contract.txt.
func TestContractHasAVersion(t *testing.T) {
	t.Parallel()
	h := sha256.New()
	for _, m := range scripttest.Surface() {
		fmt.Fprintf(h, "%q\n", m)
	}
	for _, c := range scripttest.Cases() {
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		h.Write(text)
	}
	now := picloud.Version + " " + hex.EncodeToString(h.Sum(nil))
	known, err := os.ReadFile("contract.txt")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(strings.Split(string(known), "\n"), now) {
		t.Errorf("the contract is another than that of version %s: raise picloud.Version and add to contract.txt\n%s", picloud.Version, now)
	}
}

// Every script belongs to a case.
func TestScriptsAreUsed(t *testing.T) {
	t.Parallel()
	cases := map[string]bool{}
	for _, c := range scripttest.Cases() {
		if cases[c.Name] || c.Says == "" || c.Group == "" {
			t.Errorf("the case %q is there twice, or says nothing", c.Name)
		}
		cases[c.Name] = true
		for _, module := range c.Modules {
			cases[c.Name+"."+module] = true
		}
	}
	files, err := fs.ReadDir(scripttest.Scripts(), ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !cases[strings.TrimSuffix(f.Name(), path.Ext(f.Name()))] {
			t.Errorf("%s belongs to no case", f.Name())
		}
	}
}
