package pluginhost

import "path/filepath"

// Socket is where the process listens, for who should not reach it.
func (p *Process) Socket() string {
	found, err := filepath.Glob(filepath.Join(p.child.dir, "plugin*"))
	if err != nil || len(found) != 1 {
		panic(found)
	}
	return found[0]
}
