package deadletter

import "testing"

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
