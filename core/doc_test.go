package core_test

import (
	"os"
	"strings"
	"testing"
)

// Whoever opens a folder of the core has been told in doc.go where it stands.
func TestEveryFolderIsToldOf(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := "[" + e.Name() + "]"; e.IsDir() && strings.Count(string(doc), name) < 2 {
			t.Errorf("core/%s is not in the text of doc.go, or has no link there", e.Name())
		}
	}
}
