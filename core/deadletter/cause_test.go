package deadletter

import (
	"strings"
	"testing"
)

func TestCause(t *testing.T) {
	t.Parallel()
	base := Cause(3, "script_error", `order 17 of "ada": no such customer 01a20a09-81ae-7aed-b782-2cc936b6a4db`)
	for _, same := range []string{
		`order 9381 of "bob": no such customer 0192d1a4-7c1e-7b7e-9d2b-3f6a1c0e5b11`,
		"order 1 of \"\": no such customer 0192d1a4-7c1e-7b7e-9d2b-3f6a1c0e5b11\nat main.go:7",
		"  order  5 of \"x y\": no such customer 0192D1A4-7c1e-7b7e-9d2b-3f6a1c0e5b11",
	} {
		if Cause(3, "script_error", same) != base {
			t.Errorf("%q has another cause", same)
		}
	}
	for name, other := range map[string]string{
		"version": Cause(4, "script_error", `order 17 of "ada": no such customer 01a20a09-81ae-7aed-b782-2cc936b6a4db`),
		"kind":    Cause(3, "deadline", `order 17 of "ada": no such customer 01a20a09-81ae-7aed-b782-2cc936b6a4db`),
		"words":   Cause(3, "script_error", `order 17 of "ada": no such article`),
	} {
		if other == base {
			t.Errorf("another %s has the same cause", name)
		}
	}
}

// Errors that differ only in what no two runs have in common are one cause.
func TestNormalize(t *testing.T) {
	t.Parallel()
	for want, all := range map[string][]string{
		"dial tcp #: refused":       {"dial tcp 127.0.0.1:5432: refused", "dial tcp 10.0.0.7:80: refused"},
		"dial tcp [#]:#: refused":   {"dial tcp [fe80::a1]:80: refused", "dial tcp [2001:db8:0:0:1:2:3:4]:443: refused"},
		"no commit # in deadbeef":   {"no commit a1b2c3d4e5 in deadbeef", "no commit abcdef12 in deadbeef", "no commit 12345678 in deadbeef"},
		"panic at # in std::vector": {"panic at 0xc000123 in std::vector", "panic at 0x1 in std::vector"},
		"# rows took #ms":           {"5 rows took 1.25ms", "17,000 rows took 9ms"},
		"no customer # in #":        {`no customer "ada" in 'x'`, "no customer `b\"c` in \"\""},
	} {
		for _, s := range all {
			if got := normalize(s); got != want {
				t.Errorf("%q becomes %q, want %q", s, got, want)
			}
		}
	}
	long := func(n int) string {
		return strings.Repeat("x ", 200) + strings.Repeat("9", n) + strings.Repeat(" y", 200)
	}
	if normalize(long(1)) != normalize(long(300)) {
		t.Error("the length of a number is part of the cause")
	}
	if n := len(normalize(strings.Repeat("word ", 10_000))); n > causeText {
		t.Errorf("%d bytes name a cause", n)
	}
}

// Whatever an error says, normalising it twice changes nothing more.
func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"", `a "b`, "0x1f 12.5.7:9", "é\xff\x00'x'", "dial tcp 127.0.0.1:5432: refused"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once := normalize(s)
		if twice := normalize(once); twice != once {
			t.Errorf("%q, then %q", once, twice)
		}
	})
}
