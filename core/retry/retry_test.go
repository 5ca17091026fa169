package retry

import (
	"encoding/json"
	"testing"
	"time"
)

func TestCeiling(t *testing.T) {
	t.Parallel()
	seconds := func(n ...int) []Duration {
		var out []Duration
		for _, s := range n {
			out = append(out, Duration(time.Duration(s)*time.Second))
		}
		return out
	}
	for name, c := range map[string]struct {
		policy Policy
		want   []time.Duration // of attempts 1, 2, 3, …
	}{
		"default": {Policy{}, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}},
		"linear": {
			Policy{Kind: Linear, Base: Duration(3 * time.Second)},
			[]time.Duration{3 * time.Second, 6 * time.Second, 9 * time.Second},
		},
		"constant": {Policy{Kind: Constant, Base: Duration(time.Minute)}, []time.Duration{time.Minute, time.Minute}},
		"table":    {Policy{Kind: Table, Delays: seconds(1, 5)}, []time.Duration{time.Second, 5 * time.Second, 5 * time.Second}},
		"capped": {
			Policy{Base: Duration(time.Second), Cap: Duration(3 * time.Second)},
			[]time.Duration{time.Second, 2 * time.Second, 3 * time.Second},
		},
	} {
		for i, want := range c.want {
			if got := c.policy.Ceiling(i + 1); got != want {
				t.Errorf("%s: attempt %d: ceiling is %s, want %s", name, i+1, got, want)
			}
		}
	}
}

func TestPolicyText(t *testing.T) {
	t.Parallel()
	in := `{"kind":"linear","base":"1.5s","cap":"1m0s"}`
	var p Policy
	if err := json.Unmarshal([]byte(in), &p); err != nil {
		t.Fatal(err)
	}
	if out, err := json.Marshal(p); err != nil || string(out) != in {
		t.Fatalf("%s became %s (%v)", in, out, err)
	}
	for _, bad := range []string{`{"base":1}`, `{"base":"soon"}`} {
		if json.Unmarshal([]byte(bad), &p) == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
	for _, bad := range []Policy{
		{Kind: "random"}, {Kind: Table}, {Base: -1}, {Factor: 0.5}, {Delays: []Duration{1}}, {Kind: Table, Delays: []Duration{-1}},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}
