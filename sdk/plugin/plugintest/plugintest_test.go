package plugintest_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/picloud/picloud/sdk/plugin/plugintest"
	"github.com/picloud/picloud/sdk/sink"
)

// The test binary is also a plugin, which ends before it is one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "child:plugin" {
		panic("no luck")
	}
	goleak.VerifyTestMain(m)
}

// spy is a test that has failed, and keeps what is to be done at its end and what it shows.
type spy struct {
	testing.TB
	ends  []func()
	shown strings.Builder
}

func (s *spy) Failed() bool                    { return true }
func (s *spy) Cleanup(f func())                { s.ends = append(s.ends, f) }
func (s *spy) Logf(format string, args ...any) { fmt.Fprintf(&s.shown, format, args...) }

// A test that fails shows why its process has ended.
func TestOutputIsShown(t *testing.T) {
	t.Parallel()
	s := &spy{TB: t}
	process := plugintest.Start(s, []string{os.Args[0], "child:plugin"}, sink.Versions())
	if _, err := process.Client(); err == nil {
		t.Error("it is a plugin")
	}
	for _, end := range slices.Backward(s.ends) {
		end()
	}
	if !strings.Contains(s.shown.String(), "panic: no luck") {
		t.Errorf("it shows %q", s.shown.String())
	}
}
