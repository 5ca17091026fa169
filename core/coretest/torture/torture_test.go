package torture_test

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/coretest/torture"
)

var (
	length = flag.Duration("torture.time", 30*time.Second, "how long faults go on")
	seed   = flag.Uint64("torture.seed", 0, "decides all; 0: by the clock")
	strict = flag.Bool("torture.strict", false, "fail also when a figure is missed or a fault was not seen")
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == torture.EngineArg {
		torture.ServeEngine(os.Args[2])
		return
	}
	coretest.Main(m, coretest.Child(torture.NodeChild, torture.RunNode))
}

func TestTorture(t *testing.T) {
	from := *seed
	if from == 0 {
		from = uint64(time.Now().UnixNano()) % 1_000_000
	}
	o := torture.NewOptions(from, *length)
	t.Logf("again with: go test ./core/coretest/torture -run TestTorture -torture.seed=%d -torture.time=%s\n%s", from, *length, o)
	w := torture.NewWorld(t, o)
	if err := w.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, ok := w.Report(*strict)
	if t.Log(text); !ok {
		t.Error("a promise is broken, see above")
	}
}

// A node may die anywhere in the line.
func TestKillPoints(t *testing.T) {
	w := torture.NewWorld(t, torture.Options{Seed: 1, Nodes: 1, Slots: []int{8}, Rate: 150, Calm: true})
	if err := w.KillPoints(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	text, ok := w.Report(false)
	if t.Log(text); !ok {
		t.Error("a promise is broken, see above")
	}
}
