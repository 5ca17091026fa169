package embedded

import (
	"fmt"
	"os"
	"path/filepath"
)

// serves reports whether the process that the file names is alive and works in the data directory: a number alone may
// have been given to another process, or be a zombie's.
func (f pidFile) serves(data string) bool {
	folder, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", f.pid))
	if err != nil {
		return false
	}
	target, err := filepath.EvalSymlinks(data)
	return err == nil && folder == target
}
