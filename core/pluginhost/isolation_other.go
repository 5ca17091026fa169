//go:build !linux

package pluginhost

// lacking says that only Linux has layers of isolation.
func (h *Host) lacking() map[string]string {
	lacks := map[string]string{}
	for _, l := range layers {
		lacks[l.Name] = "only Linux has it"
	}
	return lacks
}
