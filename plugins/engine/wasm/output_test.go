package wasm

import (
	"strings"
	"testing"

	"github.com/picloud/picloud/sdk/engine"
)

// What is cut of a line says so, and the end of what was written begins with a line: by that the platform hides parts of secrets.
func TestCutLines(t *testing.T) {
	t.Parallel()
	var logged []string
	c := &console{run: &run{ctx: t.Context(), inv: &engine.Invocation{Log: func(l engine.Log) { logged = append(logged, l.Message) }}}}
	long := strings.Repeat("x", lineBytes)
	for _, text := range []string{long + "\n", long, "", "sec", "ret\nsecret\n\n", long[:tailBytes-5] + "\nlast"} {
		if n, err := c.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatal(n, err)
		}
	}
	c.flush()
	want := []string{long, long + "…", "secret", long[:tailBytes-5], "last"}
	if strings.Join(logged, "\n") != strings.Join(want, "\n") {
		t.Errorf("%d lines, %.20q", len(logged), logged)
	}
	if line, tail := c.said(); line != "last" || tail != "secret\n"+long[:tailLine]+"…\nlast" {
		t.Errorf("%q of %d bytes: %.20q", line, len(tail), tail)
	}
}
