//go:build !linux

package pluginhost

import "os"

// lacking says that only Linux has layers of isolation.
func (h *Host) lacking(*family) map[string]string {
	lacks := map[string]string{}
	for _, l := range layers {
		lacks[l.Name] = "only Linux has it"
	}
	return lacks
}

// isolatable is for Linux: elsewhere there is nothing that a program could prevent.
func (*family) isolatable(*os.File) error { return nil }
