package tenant

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// The bounds of a pattern. They keep one request's matching on the stack.
const (
	maxPatternBytes = 1024
	maxParams       = 16
)

// ReservedPrefix is the one part of every app's path space that belongs to the platform.
const ReservedPrefix = "/.picloud"

// WebhooksPath is where triggers of kind webhook take requests, by name, on every host of their app.
const WebhooksPath = ReservedPrefix + "/webhooks/"

type segmentKind uint8

// In the order of precedence.
const (
	segmentLiteral segmentKind = iota
	segmentParam
	segmentRest
)

type segment struct {
	kind segmentKind
	text string // the literal, or the parameter's name
}

// Pattern is the parsed form of a route's path. Paths are compared decoded, segment by segment: a literal matches
// itself, {name} one segment that is not empty, {name...} the remaining segments, at least one. A trailing slash counts:
// /a and /a/ are two paths.
type Pattern struct {
	text     string
	segments []segment
}

// ParsePattern reads a pattern such as "/users/{id}" or "/files/{rest...}". Its errors are for the person who wrote it.
func ParsePattern(text string) (Pattern, error) {
	switch {
	case !strings.HasPrefix(text, "/"):
		return Pattern{}, fmt.Errorf("pattern %q must begin with a slash", text)
	case len(text) > maxPatternBytes:
		return Pattern{}, fmt.Errorf("pattern is longer than %d bytes", maxPatternBytes)
	case !utf8.ValidString(text):
		return Pattern{}, fmt.Errorf("pattern %q is not UTF-8", text)
	case reserved(text):
		return Pattern{}, fmt.Errorf("pattern %q is under %s/, which belongs to the platform", text, ReservedPrefix)
	}
	p := Pattern{text: text}
	names := make(map[string]bool)
	parts := strings.Split(text[1:], "/")
	for i, part := range parts {
		last := i == len(parts)-1
		s, err := parseSegment(part, last)
		if err != nil {
			return Pattern{}, fmt.Errorf("pattern %q: %w", text, err)
		}
		if s.kind != segmentLiteral {
			if names[s.text] {
				return Pattern{}, fmt.Errorf("pattern %q: the name %q is used twice", text, s.text)
			}
			names[s.text] = true
			if len(names) > maxParams {
				return Pattern{}, fmt.Errorf("pattern %q has more than %d parameters", text, maxParams)
			}
		}
		p.segments = append(p.segments, s)
	}
	return p, nil
}

func parseSegment(part string, last bool) (segment, error) {
	if inner, ok := strings.CutPrefix(part, "{"); ok && strings.HasSuffix(inner, "}") {
		inner = strings.TrimSuffix(inner, "}")
		name, rest := strings.CutSuffix(inner, "...")
		if !identifier(name) {
			return segment{}, fmt.Errorf("%q is not a parameter: a name is letters, digits and _, and does not begin with a digit", part)
		}
		if !rest {
			return segment{segmentParam, name}, nil
		}
		if !last {
			return segment{}, fmt.Errorf("%s takes all that follows, so it must be the last segment", part)
		}
		return segment{segmentRest, name}, nil
	}
	switch {
	case part == "" && !last:
		return segment{}, fmt.Errorf("it has an empty segment")
	case part == "." || part == "..":
		return segment{}, fmt.Errorf("clients resolve %q before they send a path, so it would never match", part)
	case strings.ContainsAny(part, "{}"):
		return segment{}, fmt.Errorf("in %q, a parameter must be a whole segment such as {id}", part)
	case strings.ContainsAny(part, "?#"):
		return segment{}, fmt.Errorf("%q holds a query or fragment; a pattern is a path only", part)
	case strings.Contains(part, "*"):
		return segment{}, fmt.Errorf("in %q, * has no meaning; {name...} takes all remaining segments", part)
	case escaped(part):
		return segment{}, fmt.Errorf("%q is percent-encoded; write the decoded text", part)
	}
	for _, r := range part {
		if r < ' ' || r == 0x7f {
			return segment{}, fmt.Errorf("%q holds a control character", part)
		}
	}
	return segment{segmentLiteral, part}, nil
}

func reserved(path string) bool {
	after, ok := strings.CutPrefix(path, ReservedPrefix)
	return ok && (after == "" || after[0] == '/')
}

func identifier(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func escaped(s string) bool {
	hex := func(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }
	for i := 0; i+2 < len(s); i++ {
		if s[i] == '%' && hex(s[i+1]) && hex(s[i+2]) {
			return true
		}
	}
	return false
}

// String is the pattern as it was written.
func (p Pattern) String() string { return p.text }

// Shape is the pattern without its names. Two patterns of one shape match the same paths with the same precedence.
func (p Pattern) Shape() string {
	var b strings.Builder
	for _, s := range p.segments {
		b.WriteByte('/')
		switch s.kind {
		case segmentLiteral:
			b.WriteString(s.text)
		case segmentParam:
			b.WriteString("{}")
		case segmentRest:
			b.WriteString("{...}")
		}
	}
	return b.String()
}

// names are the parameters from left to right, without the one of {rest...}.
func (p Pattern) names() []string {
	var names []string
	for _, s := range p.segments {
		if s.kind == segmentParam {
			names = append(names, s.text)
		}
	}
	return names
}
