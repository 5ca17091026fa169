//go:build planted

package torture_test

import (
	"testing"

	"github.com/picloud/picloud/core/coretest/torture"
)

// The torture finds every defect that is planted.
func TestPlanted(t *testing.T) {
	for _, d := range torture.Defects {
		t.Run(d.Name, func(t *testing.T) {
			o := d.Options
			o.Seed, o.Rate, o.Shape, o.Defect = 1, 60, torture.Overlapping, &d
			found, err := torture.Find(t.Context(), torture.NewWorld(t, o))
			switch {
			case err != nil:
				t.Fatal(err)
			case found == "":
				t.Error("the defect was not found")
			default:
				t.Logf("found: %s", found)
			}
		})
	}
}
