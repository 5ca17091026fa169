//go:build planted

package planted

import "os"

var name = os.Getenv(Env)

// Is reports whether a defect is planted.
func Is(defect string) bool { return name == defect }
