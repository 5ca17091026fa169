package torture_test

import (
	"flag"
	"testing"

	"github.com/picloud/picloud/core/coretest/torture"
)

// Some defects are in the program only when it is built with the tag planted, see make planted.
var all = flag.Bool("torture.planted", false, "plant every defect, not just one that is found soon")

// The torture finds what is planted.
func TestPlanted(t *testing.T) {
	for _, d := range torture.Defects {
		if !*all && d.Name != "dead letter in two transactions" {
			continue
		}
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
