package pluginhost_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// A plugin yields to the host with every thread, and goes before it when memory runs out.
func TestPluginsYield(t *testing.T) {
	t.Parallel()
	h := newHost(t, hclog.NewNullLogger())
	p := launch(t, h, "engine/puppet")
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Pid()))
	if err != nil || len(threads) == 0 {
		t.Fatal(threads, err)
	}
	for _, file := range threads {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		if nice := strings.Fields(rest)[16]; nice != "5" {
			t.Errorf("a thread of nice %s", nice)
		}
	}
	score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	if s := strings.TrimSpace(string(score)); s != "500" { // raising it is never forbidden
		t.Errorf("a score of %s", s)
	}
}
