package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestPrintable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, want string }{
		{"Grüße, 世界", "Grüße, 世界"},
		{"\x1b[2J\x00\n", `\u001b[2J\u0000\u000a`},
		{"a\u202eb", `a\u202eb`},
	} {
		if got := printable(test.in); got != test.want {
			t.Errorf("printable(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func TestTableOfAPipe(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	g := grid{head: []string{"NAME", "VERSION"}, rows: [][]string{{"a-long-name", "1"}, {"b", ""}}}
	if err := g.write(&out); err != nil {
		t.Fatal(err)
	}
	if want := "NAME         VERSION\na-long-name  1\nb            \n"; out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"[::]:8080": "localhost:8080", "0.0.0.0:80": "localhost:80", "127.0.0.1:8081": "127.0.0.1:8081",
		"10.0.0.7:1": "10.0.0.7:1", "[::1]:9": "[::1]:9",
	} {
		if got := reachable(in); got != want {
			t.Errorf("reachable(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestKeepCredentials(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "data", "credentials")
	if kept, err := keepCredentials(path, credentials{URL: "http://a"}); err != nil || kept.Token != "" {
		t.Errorf("without a key: %+v, %v", kept, err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("without a key a file was written")
	}
	for _, step := range []struct{ now, want credentials }{
		{credentials{"http://a", "one"}, credentials{"http://a", "one"}},
		{credentials{"http://b", ""}, credentials{"http://b", "one"}},
		{credentials{"http://b", "two"}, credentials{"http://b", "two"}},
	} {
		if _, err := keepCredentials(path, step.now); err != nil {
			t.Fatal(err)
		}
		if got, err := readCredentials(path); err != nil || got != step.want {
			t.Errorf("after %+v: %+v, %v, want %+v", step.now, got, err, step.want)
		}
	}
}
