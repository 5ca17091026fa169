package fault_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/picloud/picloud/sdk/fault"
)

func TestFrom(t *testing.T) {
	t.Parallel()
	if f := fault.From(nil); f != nil {
		t.Errorf("%+v", f)
	}
	f := fault.New(fault.Limit, fault.Script, "%d is too much", 7)
	if f.Error() != "7 is too much" || f.Kind != fault.Limit || f.Origin != fault.Script {
		t.Errorf("%+v", f)
	}
	if got := fault.From(fmt.Errorf("a: %w", errors.Join(errors.New("b"), f))); got != f {
		t.Errorf("%+v", got)
	}
	if got := fault.From(errors.New("plain")); *got != (fault.Fault{Kind: fault.Internal, Origin: fault.Platform, Message: "plain"}) {
		t.Errorf("%+v", got)
	}
}
