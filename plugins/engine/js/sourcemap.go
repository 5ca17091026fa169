package js

import (
	"encoding/json"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// sourceMap leads from places of the bundled text to those of the author's files: version 3 of the format that ECMA-426
// describes, as far as esbuild writes it.
type sourceMap struct {
	sources []string
	lines   [][]segment // sorted by column
}

// segment says where the text from a column on comes from. All are counted from 0.
type segment struct {
	column             int
	source             int
	line, sourceColumn int
}

func parseSourceMap(text []byte) (*sourceMap, error) {
	var in struct {
		Sources  []string
		Mappings string
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, fmt.Errorf("read a source map: %w", err)
	}
	m := &sourceMap{sources: in.Sources}
	var at segment
	for line := range strings.SplitSeq(in.Mappings, ";") {
		at.column = 0
		var list []segment
		for part := range strings.SplitSeq(line, ",") {
			deltas := [5]int{}
			n := vlq(part, deltas[:])
			if at.column += deltas[0]; n < 4 {
				continue
			}
			at.source += deltas[1]
			at.line += deltas[2]
			at.sourceColumn += deltas[3]
			if at.source < 0 || at.source >= len(m.sources) {
				return nil, fmt.Errorf("read a source map: there is no source %d", at.source)
			}
			list = append(list, at)
		}
		m.lines = append(m.lines, list)
	}
	return m, nil
}

const base64Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

// vlq reads numbers of variable length, the lowest five bits first and the sign in the lowest of all, and returns how many
// there were.
func vlq(text string, out []int) (n int) {
	value, shift := 0, 0
	for _, c := range []byte(text) {
		digit := strings.IndexByte(base64Digits, c)
		value += digit & 31 << shift
		if shift += 5; digit&32 != 0 {
			continue
		}
		if n == len(out) {
			return n
		}
		if out[n] = value >> 1; value&1 != 0 {
			out[n] = -out[n]
		}
		n++
		value, shift = 0, 0
	}
	return n
}

// find returns the place, counted from 1, that a place of the bundled text comes from.
func (m *sourceMap) find(line, column int) (source string, l, c int, ok bool) {
	if line < 1 || line > len(m.lines) {
		return "", 0, 0, false
	}
	list := m.lines[line-1]
	i := sort.Search(len(list), func(i int) bool { return list[i].column > column-1 }) - 1
	if i < 0 {
		return "", 0, 0, false
	}
	s := list[i]
	return m.sources[s.source], s.line + 1, s.sourceColumn + 1, true
}

// frame is a line of a stack as the interpreter writes it.
var frame = regexp.MustCompile(`^\s*at (?:(.*) )?\(?<eval>:(\d+)(?::(\d+))?\)?$`)

// frames bounds how much of a stack is told.
const frames = 32

// trace makes a stack of the interpreter one of the author's files: what belongs to the platform is left out.
func (p *program) trace(stack string) (lines []string, top *place) {
	for line := range strings.SplitSeq(stack, "\n") {
		m := frame.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		l, _ := strconv.Atoi(m[2])
		c, _ := strconv.Atoi(m[3])
		at := p.locate(l, c)
		if at == nil {
			continue
		}
		if top == nil {
			top = at
		}
		if len(lines) == frames {
			return append(lines, "    …"), top
		}
		if m[1] == "" || strings.HasPrefix(m[1], "<") {
			lines = append(lines, fmt.Sprintf("    at %s:%d:%d", at.file, at.line, at.column))
		} else {
			lines = append(lines, fmt.Sprintf("    at %s (%s:%d:%d)", m[1], at.file, at.line, at.column))
		}
	}
	return lines, top
}

// place is one of the author's files, counted from 1.
type place struct {
	file         string
	line, column int
}

// locate finds the author's place of one in what the interpreter runs; nil if it has none.
func (p *program) locate(line, column int) *place {
	if p.places == nil {
		return nil
	}
	source, l, c, ok := p.places.find(line-before, column)
	if !ok {
		return nil
	}
	return &place{shownPath(source), l, c}
}
