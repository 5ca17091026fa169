package docquery

import (
	"slices"
	"strings"
)

// Match reports whether every part is met.
func (a All) Match(document []byte) bool {
	return !slices.ContainsFunc(a, func(e Expr) bool { return !e.Match(document) })
}

// Match reports whether one part is met.
func (a Any) Match(document []byte) bool {
	return slices.ContainsFunc(a, func(e Expr) bool { return e.Match(document) })
}

// Match reports whether the value at the path is as it should be.
func (c *Condition) Match(document []byte) bool {
	if c.Op == Regex {
		v := c.Path.find(document)
		if v.Kind() != '"' {
			return false
		}
		t := text(v)
		return c.spend(len(t)) && c.Regex.Match(t)
	}
	v := c.Path.In(document)
	switch c.Op {
	case Exists:
		return (v.Rank != Missing) == c.Exists
	case In:
		return slices.ContainsFunc(c.Values, func(w Value) bool { return equal(v, w) })
	case Eq:
		return equal(v, c.Values[0])
	case Ne:
		return !equal(v, c.Values[0])
	}
	order, comparable := compare(v, c.Values[0])
	if !comparable {
		return false
	}
	switch c.Op {
	case Gt:
		return order > 0
	case Gte:
		return order >= 0
	case Lt:
		return order < 0
	default:
		return order <= 0
	}
}

func equal(v, w Value) bool {
	order, comparable := compare(v, w)
	return comparable && order == 0
}

// compare compares a document's value with that of a query, whose type decides how: a text with every text, be it in the form of a time
// or not; a time with times.
func compare(v, w Value) (order int, comparable bool) {
	switch {
	case w.Rank == Text && (v.Rank == Text || v.Rank == Time):
		return strings.Compare(v.Text, w.Text), true
	case v.Rank != w.Rank || v.Rank == Missing || v.Rank == Other:
		return 0, false
	}
	return compareNumbers(v.Num, w.Num), true
}

// spend reports whether a pattern may look at a text.
func (c *Condition) spend(bytes int) bool {
	*c.effort += c.program * bytes
	return *c.effort <= MaxEffort
}
