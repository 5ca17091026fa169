package tenant

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

var (
	slugForm   = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9])*$`)
	nameForm   = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$`)
	labelForm  = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)
	methodForm = regexp.MustCompile(`^[A-Z][A-Z0-9-]{0,31}$`)
)

const maxName = 63

// MethodAny is the method of a route that answers every method for which no other route of its shape does.
const MethodAny = "ANY"

// CheckSlug tells whether s can name an app. A slug never looks like an id, since either may stand in a path.
func CheckSlug(s string) error {
	switch {
	case len(s) > maxName || !slugForm.MatchString(s):
		return fmt.Errorf("slug %q must be 1 to %d lower-case letters, digits and single dashes between them", s, maxName)
	case uuid.Validate(s) == nil:
		return fmt.Errorf("slug %q looks like an id", s)
	}
	return nil
}

// CheckName tells whether s can name a script. A name never looks like an id.
func CheckName(s string) error {
	switch {
	case len(s) > maxName || !nameForm.MatchString(s):
		return fmt.Errorf("name %q must be 1 to %d lower-case letters, digits, dashes and underscores, beginning and ending with a letter or digit", s, maxName)
	case uuid.Validate(s) == nil:
		return fmt.Errorf("name %q looks like an id", s)
	}
	return nil
}

// ParseMethod returns a route's method in upper case; empty means MethodAny.
func ParseMethod(s string) (string, error) {
	if s == "" {
		return MethodAny, nil
	}
	m := strings.ToUpper(s)
	if !methodForm.MatchString(m) {
		return "", fmt.Errorf("method %q is not an HTTP method", s)
	}
	return m, nil
}

// ParseHost returns the stored form of a host that an app claims or a route names: lower case, without port, brackets
// or a final dot. It accepts a name, "*.suffix", an IP address, and "*".
func ParseHost(s string) (string, error) {
	if s == "*" {
		return s, nil
	}
	suffix, wildcard := strings.CutPrefix(s, "*.")
	if inner, ok := bracketed(s); ok {
		addr, err := netip.ParseAddr(inner)
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", fmt.Errorf("host %q is not an IPv6 address", s)
		}
		return addr.String(), nil
	}
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		return addr.String(), nil
	}
	if err := checkDomain(lower(strings.TrimSuffix(suffix, "."))); err != nil {
		return "", fmt.Errorf("host %q: %w", s, err)
	}
	if wildcard {
		return "*." + NormalizeHost(suffix), nil
	}
	return NormalizeHost(s), nil
}

func bracketed(s string) (string, bool) {
	inner, ok := strings.CutPrefix(s, "[")
	return strings.TrimSuffix(inner, "]"), ok && strings.HasSuffix(inner, "]")
}

func checkDomain(s string) error {
	if s == "" || len(s) > 253 {
		return errors.New("a name is 1 to 253 bytes long")
	}
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if !labelForm.MatchString(label) {
			return fmt.Errorf("%q is not part of a host name; give the name without scheme, port and path", label)
		}
	}
	if _, err := strconv.Atoi(labels[len(labels)-1]); err == nil {
		return errors.New("it ends in a number but is not an IP address")
	}
	return nil
}

// NormalizeHost brings the Host of a request to the form in which hosts are stored. It does not validate: what is not a
// host comes back as something that no app can claim. A host that needs no change costs no allocation.
func NormalizeHost(s string) string {
	if end := strings.IndexByte(s, ']'); end > 0 && s[0] == '[' {
		s = s[1:end]
	} else if i := strings.IndexByte(s, ':'); i >= 0 && i == strings.LastIndexByte(s, ':') {
		s = s[:i]
	}
	if strings.IndexByte(s, ':') >= 0 {
		if addr, err := netip.ParseAddr(s); err == nil {
			return addr.String()
		}
	}
	return lower(strings.TrimSuffix(s, "."))
}

// lower brings the letters of ASCII to lower case. Others stay what they are, and no host: by Unicode the lower case of some, such as the
// sign of Kelvin, is one of ASCII.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r - 'A' + 'a'
		}
		return r
	}, s)
}
