package guard_test

import (
	"testing"

	"github.com/picloud/picloud/sdk/guard"
)

// Ports of public addresses are those that are named, or 80 and 443; addresses inside stay out of reach at all of them. What else the
// guard decides is tested in core/outbound, and in the sinks.
func TestPorts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ports   []uint16
		address string
		reached bool
	}{
		{nil, "1.1.1.1:80", true},
		{nil, "1.1.1.1:443", true},
		{nil, "1.1.1.1:25", false},
		{nil, "127.0.0.1:80", false},
		{[]uint16{25, 587}, "1.1.1.1:25", true},
		{[]uint16{25, 587}, "1.1.1.1:587", true},
		{[]uint16{25, 587}, "1.1.1.1:443", false},
		{[]uint16{25, 587}, "127.0.0.1:25", false},
		{[]uint16{25, 587}, "10.0.0.1:25", false},
		{[]uint16{25, 587}, "169.254.169.254:25", false},
	} {
		g := guard.New(guard.Config{Ports: c.ports})
		if err := g.Control("example.com:1")("tcp4", c.address, nil); (err == nil) != c.reached {
			t.Errorf("%v: %s: %v", c.ports, c.address, err)
		}
	}
}
