package secret

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/picloud/picloud/sdk/fault"
)

// Limits of what one run may know.
const (
	maxKnownBytes = 256 << 10
	maxKnownParts = 1000
	// leastPart is the length from which on something is masked: what is shorter stands for itself in too many places.
	leastPart = 4
	leastLine = 8 // of a value with several lines, of which each is masked by itself
)

// Mask stands where a secret was.
const Mask = "[secret]"

// Veil knows the secrets that one run has read or set, and hides them in what it leaves. nil knows none. Its methods are
// safe for concurrent use.
type Veil struct {
	mu    sync.Mutex
	parts map[string]bool
	bytes int
	forms []string          // of all parts, the longest first; nil: not made yet
	cover *strings.Replacer // of forms
}

// Add has the veil hide a value, which is JSON: itself, and the texts and numbers in it. An error says that it is too much.
func (v *Veil) Add(value json.RawMessage) error {
	parts, err := partsOf(value)
	if err != nil {
		return err
	}
	if len(value) >= leastPart && (value[0] == '[' || value[0] == '{') {
		parts = append(parts, string(value))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range parts {
		if v.parts[p] {
			continue
		}
		if len(v.parts) >= maxKnownParts || v.bytes+len(p) > maxKnownBytes {
			return fault.New(fault.Limit, fault.Script, "the run knows more secrets than %d texts, lines of texts, and numbers, or %d bytes", maxKnownParts, maxKnownBytes)
		}
		if v.parts == nil {
			v.parts = map[string]bool{}
		}
		v.parts[p] = true
		v.bytes += len(p)
		v.cover, v.forms = nil, nil
	}
	return nil
}

// partsOf are the texts and numbers in a value, and lines of those, that are worth hiding.
func partsOf(value json.RawMessage) (parts []string, err error) {
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	add := func(s string) {
		if len(s) >= leastPart && !seen[s] {
			seen[s] = true
			parts = append(parts, s)
		}
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			add(v)
			if lines := strings.Split(v, "\n"); len(lines) > 1 {
				for _, l := range lines {
					if l = strings.TrimSpace(l); len(l) >= leastLine {
						add(l)
					}
				}
			}
		case json.Number:
			add(v.String())
		case []any:
			for _, x := range v {
				walk(x)
			}
		case map[string]any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(v)
	return parts, nil
}

// formsOf are the ways in which a part may be written.
func formsOf(p string) []string {
	query := url.QueryEscape(p)
	component := strings.NewReplacer("%21", "!", "%27", "'", "%28", "(", "%29", ")", "%2A", "*", "+", "%20").Replace(query)
	var forms []string
	for _, text := range []string{p, query, url.PathEscape(p), component} {
		once := quoted(text, false)
		forms = append(forms, text, once, quoted(text, true), quoted(once, false), quoted(once, true)) // also JSON in JSON
	}
	sum := hex.EncodeToString([]byte(p))
	forms = append(forms, sum, strings.ToUpper(sum))
	// As base64 a text looks in one of three ways within a longer one; of each, what does not hang on its neighbours.
	for before := range 3 {
		padded := append(make([]byte, before), p...)
		from, to := (before*8+5)/6, len(padded)*8/6
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			if text := encoding.EncodeToString(padded)[from:to]; len(text) >= leastPart {
				forms = append(forms, text)
			}
		}
	}
	return forms
}

// quoted is a text as it stands between quotes in JSON, of those who write angle brackets for browsers or not.
func quoted(text string, html bool) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(html)
	_ = e.Encode(text) // a text always encodes
	return b.String()[1 : b.Len()-2]
}

// make prepares what is known for hiding. v.mu is held.
func (v *Veil) make() {
	if v.cover != nil || len(v.parts) == 0 {
		return
	}
	for p := range v.parts {
		v.forms = append(v.forms, formsOf(p)...)
	}
	slices.SortFunc(v.forms, func(a, b string) int { return cmp.Or(len(b)-len(a), cmp.Compare(a, b)) })
	v.forms = slices.Compact(v.forms)
	pairs := make([]string, 0, 2*len(v.forms))
	for _, f := range v.forms {
		pairs = append(pairs, f, Mask)
	}
	v.cover = strings.NewReplacer(pairs...)
}

// cut stands behind what was cut off, as by fault.Cut: before it there may be the beginning of something.
const cut = "…"

// Text hides what is known in s, and where s says that it was cut also what is left of that.
func (v *Veil) Text(s string) string {
	if v == nil {
		return s
	}
	v.mu.Lock()
	v.make()
	cover := v.cover
	v.mu.Unlock()
	if cover == nil {
		return s
	}
	parts := strings.Split(cover.Replace(s), cut)
	for i := range parts[:len(parts)-1] {
		parts[i] = v.end(parts[i])
	}
	return strings.Join(parts, cut)
}

// end hides the beginning of what is known at the end of s, from leastPart bytes on.
func (v *Veil) end(s string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	most := 0
	for _, f := range v.forms {
		for n := min(len(f)-1, len(s)); n > most && n >= leastPart; n-- {
			if strings.HasSuffix(s, f[:n]) {
				most = n
			}
		}
	}
	if most == 0 {
		return s
	}
	return s[:len(s)-most] + Mask
}

// JSON hides what is known in JSON, which stays JSON.
func (v *Veil) JSON(data []byte) []byte {
	covered := v.Text(string(data))
	if covered == string(data) {
		return data
	}
	if json.Valid([]byte(covered)) {
		return []byte(covered)
	}
	text, _ := json.Marshal(covered) // a string always encodes
	return text
}

// Bytes hides what is known in a body; of one that was cut also what is left at its end.
func (v *Veil) Bytes(b []byte, cut bool) []byte {
	if v == nil || b == nil {
		return b
	}
	text := v.Text(string(b))
	if cut {
		text = v.end(text)
	}
	return []byte(text)
}

// Fault hides what is known in the words of f, which stays as it is.
func (v *Veil) Fault(f *fault.Fault) *fault.Fault {
	if f == nil || v == nil {
		return f
	}
	covered := *f
	covered.Message, covered.Detail = v.Text(f.Message), v.Text(f.Detail)
	if covered == *f {
		return f // who knows it by its identity still does
	}
	return &covered
}
