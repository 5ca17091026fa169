package yaegi

import (
	"strings"
	"testing"

	"github.com/picloud/picloud/sdk/engine"
)

// What is cut of a line says so: by that the platform hides parts of secrets.
func TestCutLines(t *testing.T) {
	t.Parallel()
	var logged []string
	var o output
	o.begin(&engine.Invocation{Log: func(l engine.Log) { logged = append(logged, l.Message) }})
	long := strings.Repeat("x", printedLine)
	for _, text := range []string{long, "\n", long, "sec", "ret", " end\nnext\n", "last"} {
		if n, err := o.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatal(n, err)
		}
	}
	o.end()
	if got := strings.Join(logged, "\n"); got != strings.Join([]string{long, long + "… end", "next", "last"}, "\n") {
		t.Errorf("%d lines: …%s", len(logged), got[len(got)-50:])
	}
}
