package tenant

import (
	"fmt"
	"slices"
	"strings"
)

// DefaultGrants are the services that runs may use that act for nobody, where their script does not say. Others exist for those only
// that act for somebody.
func DefaultGrants() []string {
	return []string{"docs", "email", "files", "http", "invoke", "kv", "pubsub", "queue", "secrets", "sink"}
}

// Granted reports whether a run of the script that acts for nobody may use a service.
func (s *Script) Granted(service string) bool {
	if s.Grants == nil {
		return slices.Contains(DefaultGrants(), service)
	}
	return slices.Contains(s.Grants, service)
}

// CheckGrants says what is wrong with grants, as an *Invalid.
func CheckGrants(grants []string) error {
	for _, g := range grants {
		if !slices.Contains(DefaultGrants(), g) {
			return &Invalid{Field: "grants", Message: fmt.Sprintf("%q is none of %s", g, strings.Join(DefaultGrants(), ", "))}
		}
	}
	return nil
}
