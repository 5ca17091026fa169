package service

import (
	"strings"
	"testing"
)

// What scripts write by position stands before what they may leave out, and every name is one that languages can spell in their way.
func TestServices(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, s := range Services() {
		for _, m := range s.Methods {
			name := s.Name + "." + m.Name
			if seen[name] {
				t.Errorf("%s is listed twice", name)
			}
			seen[name] = true
			option := false
			for _, p := range m.Params {
				if option && !p.Option {
					t.Errorf("%s: %s has to stand before what may be left out", name, p.Field)
				}
				option = p.Option
				if (p.Kind == Duration) != strings.HasSuffix(p.Field, "_ms") {
					t.Errorf("%s: %s: durations, and nothing else, end in _ms", name, p.Field)
				}
				if p.Field != strings.ToLower(p.Field) || p.Field == s.Handle {
					t.Errorf("%s: %s is no name of a field of its own", name, p.Field)
				}
			}
		}
	}
}

func TestCamel(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"get": "get", "find_one": "findOne", "if_version": "ifVersion", "ttl_ms": "ttlMs"} {
		if got := Camel(name); got != want {
			t.Errorf("%s is %s", name, got)
		}
	}
}
