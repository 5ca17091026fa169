package sourcetest_test

import (
	"net"
	"testing"

	"github.com/picloud/picloud/sdk/source/sourcetest"
)

// An address is another one each time, and who asks for it has it, again and again. Not parallel: a process that another test is about to
// start has what is open here until it is, also a listener that was closed meanwhile.
func TestAddress(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		address := sourcetest.Address(t)
		if seen[address] {
			t.Fatalf("%s is given twice", address)
		}
		seen[address] = true
		for range 2 {
			l, err := net.Listen("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			_ = l.Close()
		}
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			t.Errorf("somebody listens on %s", address)
		}
	}
}
