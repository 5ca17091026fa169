package docquery

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Span is a part of an index: all values of ranks From to To, and where they are given, with a Num and a Text between bounds, which
// belong to it. It may hold values that a condition does not take, never the other way round.
type Span struct {
	From, To         Rank
	NumFrom, NumTo   *string
	TextFrom, TextTo *string
}

// Narrowed is what the conditions at one path allow.
type Narrowed struct {
	Path  Path
	Spans []Span // in order
	Type  string // of the index that would serve
	Score int    // the higher the fewer documents there may be
}

// Spans returns the paths whose conditions every result must meet, with what of an index they leave: one for each path.
func Spans(filter All) (all []Narrowed) {
	at := map[string]int{}
	var visit func(All)
	visit = func(parts All) {
		for _, part := range parts {
			switch e := part.(type) {
			case All:
				visit(e)
			case *Condition:
				n, serves := narrowed(e)
				if !serves {
					continue
				}
				i, known := at[e.Path.String()]
				if !known {
					at[e.Path.String()] = len(all)
					all = append(all, n)
				} else {
					all[i] = both(all[i], n)
				}
			}
		}
	}
	visit(filter)
	return all
}

// both joins two bounds of one rank; else the better one is kept, and the other left to the filter.
func both(a, b Narrowed) Narrowed {
	if a.Score == scoreRange && b.Score == scoreRange && len(a.Spans) == len(b.Spans) && a.Type == b.Type {
		spans := make([]Span, len(a.Spans))
		for i, x := range a.Spans {
			y := b.Spans[i]
			spans[i] = Span{
				x.From, x.To, pick(x.NumFrom, y.NumFrom), pick(x.NumTo, y.NumTo), pick(x.TextFrom, y.TextFrom), pick(x.TextTo, y.TextTo),
			}
		}
		a.Spans = spans
		return a
	}
	if b.Score > a.Score {
		return b
	}
	return a
}

// pick takes the bound that is there; of two the first, since the filter looks at both.
func pick(a, b *string) *string {
	if a != nil {
		return a
	}
	return b
}

const (
	scoreExists = 1
	scoreRange  = 3
	scoreIn     = 5
	scoreEq     = 7
)

func narrowed(c *Condition) (n Narrowed, serves bool) {
	n = Narrowed{Path: c.Path, Type: Text.Type()}
	switch c.Op {
	case Eq, In:
		n.Score = scoreIn
		if c.Op == Eq {
			n.Score = scoreEq
		}
		for i, v := range c.Values {
			if i == 0 {
				n.Type = v.Rank.Type()
			}
			// Values that have one place in the index are looked for once.
			if !slices.ContainsFunc(c.Values[:i], func(w Value) bool { return samePlace(v, w) }) {
				n.Spans = append(n.Spans, point(v))
			}
		}
		return n, len(n.Spans) > 0
	case Gt, Gte, Lt, Lte:
		v := c.Values[0]
		n.Score, n.Type = scoreRange, v.Rank.Type()
		up := c.Op == Gt || c.Op == Gte
		if v.Rank == Text {
			// Times are texts too, but in an order of their own.
			span := Span{From: Text, To: Text}
			bound := Sorted(v.Text)
			if up {
				span.TextFrom = &bound
			} else {
				span.TextTo = &bound
			}
			times := span
			times.From, times.To = Time, Time
			zero := "0"
			span.NumFrom, span.NumTo = &zero, &zero
			n.Spans = []Span{times, span}
			return n, true
		}
		span := Span{From: v.Rank, To: v.Rank}
		if up {
			span.NumFrom = &v.Num
		} else {
			span.NumTo = &v.Num
		}
		n.Spans = []Span{span}
		return n, true
	case Exists:
		n.Score = scoreExists
		n.Spans = []Span{{From: Null, To: Other}}
		if !c.Exists {
			n.Spans = []Span{{From: Missing, To: Missing}}
		}
		return n, true
	}
	return n, false
}

// point is where the values are that equal one.
func point(v Value) Span {
	span := Span{From: v.Rank, To: v.Rank, NumFrom: &v.Num, NumTo: &v.Num}
	if v.Rank != Time { // one moment has many texts
		text := Sorted(v.Text)
		span.TextFrom, span.TextTo = &text, &text
	}
	return span
}

func samePlace(v, w Value) bool {
	return v.Rank == w.Rank && compareNumbers(v.Num, w.Num) == 0 && (v.Rank == Time || Sorted(v.Text) == Sorted(w.Text))
}

// number is what the database has for one.
var number = regexp.MustCompile(`^-?[0-9]{1,700}(\.[0-9]{1,700})?$`)

// Storable reports whether the database can take a value for one of an index.
func (v Value) Storable() bool {
	return v.Rank >= Missing && v.Rank <= Other && number.MatchString(v.Num) && utf8.ValidString(v.Text) &&
		len(v.Text) <= sortedText*utf8.UTFMax && strings.IndexByte(v.Text, 0) < 0
}
