package script

import (
	"fmt"
	"strings"
)

// ModulePrefix begins the names by which scripts import modules of their app.
const ModulePrefix = "app/"

// NoModule says that there is no module of a name, and which ones there are.
func NoModule(name string, there []string) string {
	list := "none"
	if len(there) > 0 {
		list = strings.Join(there, ", ")
	}
	return fmt.Sprintf("there is no module %q; there are: %s", name, list)
}
