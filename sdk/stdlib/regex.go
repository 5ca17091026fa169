package stdlib

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"unicode/utf8"
)

const (
	// MaxPattern is how long a regular expression may be, in bytes.
	MaxPattern = 1 << 10
	// MaxProgram is how many steps the program of a regular expression may have: x{1000} has a thousand of them. Each takes some 40
	// bytes, and a program is made and held by half a dozen times that.
	MaxProgram = 10_000
	// maxWork bounds the steps of a program times the bytes of the text that it looks at, each of which takes up to five nanoseconds
	// (BenchmarkPattern): nothing can interrupt a search, and a run that is over has a quarter of a second.
	maxWork = 50_000_000
	// maxMatches bounds what is found by one call.
	maxMatches = 100_000
)

// CheckPattern says whether a regular expression, of RE2's syntax, is one whose program takes little memory. It takes little itself.
func CheckPattern(pattern string) error {
	_, err := steps(pattern)
	return err
}

// steps is how many steps the program of a pattern has, about.
func steps(pattern string) (int, error) {
	if len(pattern) > MaxPattern {
		return 0, fmt.Errorf("the pattern has more than %d bytes", MaxPattern)
	}
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, err
	}
	n := cost(tree)
	if n > MaxProgram {
		return 0, fmt.Errorf("the pattern takes more than %d steps: repeat less in it", MaxProgram)
	}
	return n, nil
}

// cost is how many steps the program of a part has, before repetitions are written out. It does not overflow: the parser takes
// no repetition of more than a thousand, also where they are nested.
func cost(re *syntax.Regexp) int {
	n := 1
	for _, sub := range re.Sub {
		n += cost(sub)
	}
	switch re.Op {
	case syntax.OpLiteral:
		return max(1, len(re.Rune))
	case syntax.OpRepeat:
		return 1 + (n-1)*max(1, re.Min, re.Max)
	}
	return n
}

// compiled makes the program of a pattern that is to look at a text.
func compiled(pattern, text string) (*regexp.Regexp, error) {
	n, err := steps(pattern)
	if err != nil {
		return nil, err
	}
	if n*len(text) > maxWork {
		return nil, fmt.Errorf("the pattern has %d steps and the text %d bytes: that is too much work for one call", n, len(text))
	}
	return regexp.Compile(pattern)
}

func regexMatches(_ func() bool, args []any) (any, error) {
	re, err := compiled(args[0].(string), args[1].(string))
	if err != nil {
		return nil, err
	}
	return re.MatchString(args[1].(string)), nil
}

func regexFind(_ func() bool, args []any) (any, error) {
	re, err := compiled(args[0].(string), args[1].(string))
	if err != nil {
		return nil, err
	}
	at := re.FindStringSubmatchIndex(args[1].(string))
	if at == nil {
		return map[string]any(nil), nil
	}
	return match(re, args[1].(string), at), nil
}

func regexFindAll(stop func() bool, args []any) (any, error) {
	text := args[1].(string)
	re, found, err := findAll(stop, args[0].(string), text)
	if err != nil {
		return nil, err
	}
	list := make([]any, len(found))
	for i, at := range found {
		list[i] = match(re, text, at)
	}
	return list, nil
}

// findAll finds what does not overlap, as regexp.FindAllStringSubmatchIndex does. That cannot be interrupted, and may look through
// the rest of the text for each match: here stop is asked between two of them.
func findAll(stop func() bool, pattern, text string) (re *regexp.Regexp, found [][]int, err error) {
	if re, err = compiled(pattern, text); err != nil {
		return nil, nil, err
	}
	// The search goes on behind a position, with the character before it in sight for ^ and \b: that has to be passed first.
	behind, err := regexp.Compile(`\A(?s:.)(?s:.*?)((?:` + pattern + `))`)
	if err != nil {
		return nil, nil, err
	}
	most := maxMatches / (re.NumSubexp() + 1)
	last := -1
	for pos := 0; pos <= len(text); {
		if stop() {
			return nil, nil, errors.New("the run is over")
		}
		var at []int
		if pos == 0 {
			at = re.FindStringSubmatchIndex(text)
		} else {
			_, before := utf8.DecodeLastRuneInString(text[:pos])
			if at = behind.FindStringSubmatchIndex(text[pos-before:]); at != nil {
				at = at[2:]
			}
			for i := range at {
				if at[i] >= 0 {
					at[i] += pos - before
				}
			}
		}
		if at == nil {
			break
		}
		empty := at[0] == last && at[1] == last // nothing, right behind the match before
		if last = at[1]; at[1] == pos {
			_, next := utf8.DecodeRuneInString(text[pos:])
			pos += max(1, next)
		} else {
			pos = at[1]
		}
		if empty {
			continue
		}
		if found = append(found, at); len(found) > most {
			return nil, nil, fmt.Errorf("there are more than %d matches", most)
		}
	}
	return re, found, nil
}

// match is what was found: the text, where it begins and ends, and what the groups hold, those without a name by their numbers.
func match(re *regexp.Regexp, text string, at []int) map[string]any {
	groups := make([]any, re.NumSubexp())
	for i := range groups {
		if from := at[2*i+2]; from >= 0 {
			groups[i] = text[from:at[2*i+3]]
		}
	}
	named := map[string]any{}
	for i, name := range re.SubexpNames() {
		if name != "" {
			named[name] = groups[i-1]
		}
	}
	return map[string]any{"text": text[at[0]:at[1]], "start": int64(at[0]), "end": int64(at[1]), "groups": groups, "named": named}
}

func regexReplace(stop func() bool, args []any) (any, error) {
	text, with := args[1].(string), args[2].(string)
	re, found, err := findAll(stop, args[0].(string), text)
	if err != nil {
		return nil, err
	}
	var out []byte
	from := 0
	for _, at := range found {
		out = append(out, text[from:at[0]]...)
		if !fits(with, at, len(out)) {
			return nil, tooMuch()
		}
		out = re.ExpandString(out, with, text, at)
		from = at[1]
		if len(out) > MaxOutput {
			return nil, tooMuch()
		}
	}
	if out = append(out, text[from:]...); len(out) > MaxOutput {
		return nil, tooMuch()
	}
	return string(out), nil
}

// fits reports whether what a replacement may become, where each $ of it stands for the longest group, is not beyond all bounds.
func fits(with string, at []int, before int) bool {
	dollars := 0
	for i := range len(with) {
		if with[i] == '$' {
			dollars++
		}
	}
	return before+len(with)+dollars*(at[1]-at[0]) <= 2*MaxOutput
}

func regexSplit(stop func() bool, args []any) (any, error) {
	text := args[1].(string)
	_, found, err := findAll(stop, args[0].(string), text)
	if err != nil {
		return nil, err
	}
	list, from := make([]any, 0, len(found)+1), 0
	for _, at := range found {
		if at[1] == 0 || at[0] == at[1] && at[0] == len(text) {
			continue // nothing stands before, or behind
		}
		list = append(list, text[from:at[0]])
		from = at[1]
	}
	return append(list, text[from:]), nil
}

func regexQuote(_ func() bool, args []any) (any, error) {
	return regexp.QuoteMeta(args[0].(string)), nil
}
