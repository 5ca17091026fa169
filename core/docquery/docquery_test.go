package docquery

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return strings.Repeat(`{"a":`, n-1) + "{}" + strings.Repeat("}", n-1) }
	list := func(n int) string { return "[" + strings.Repeat("1,", n-3) + "1]" }
	size := func(n int) string { return `{"a":"` + strings.Repeat("x", n-8) + `"}` }
	for _, c := range []struct{ document, words string }{
		{`{}`, ""},
		{` {"a": [1, "é\u00e9", {"b": null}]} `, ""},
		{deep(64), ""},
		{deep(65), "64 levels"},
		{strings.Repeat("[", 1<<19), "64 levels"},
		{list(100_000), ""},
		{list(100_001), "100000 values"},
		{size(1 << 20), ""},
		{size(1<<20 + 1), "1048577 bytes"},
		{`{"a":` + strings.Repeat("1", 64) + `}`, ""},
		{`{"a":` + strings.Repeat("1", 65) + `}`, "/a: a number has 65 characters"},
		{`[1e308, -1E+308, 1e-308, 1e0000308]`, ""},
		{`[1e309]`, "exponent"},
		{`[1e-309]`, "exponent"},
		{`[` + strings.Repeat(`1e308,`, MaxDocument/308) + `1]`, ""},
		{`[` + strings.Repeat(`1e-308,`, MaxDocument/308) + `1,1E+308]`, "written out"},
		{`[1e99999999999999999999]`, "exponent"},
		{`{"a":"\u0000"}`, "/a: a text holds U+0000"},
		{`{"a\u0000":1}`, "U+0000"},
		{`{"a":1,"a":2}`, "duplicate"},
		{`{"a":1,"\u0061":2}`, "duplicate"},
		{`{"a":"` + "\xff" + `"}`, "UTF-8"},
		{`{"a":"\ud800"}`, "surrogate"},
		{`{} {}`, "follows"},
		{``, "cannot be read"},
		{`{"a":`, "cannot be read"},
		{`{"a":}`, "byte 5"},
		{`{"a":01}`, "cannot be read"},
		{`{"a":NaN}`, "cannot be read"},
	} {
		err := Check([]byte(c.document))
		if c.words == "" && err != nil || c.words != "" && (err == nil || !strings.Contains(err.Error(), c.words)) {
			t.Errorf("%.60s: %v, want %q", c.document, err, c.words)
		}
		if err != nil && (len(err.Error()) > 400 || strings.Contains(err.Error(), "jsontext")) {
			t.Errorf("%.60s: %v", c.document, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	conditions := func(n int) string {
		var parts []string
		for i := range n {
			parts = append(parts, fmt.Sprintf(`"p%d": 1`, i))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	nested := func(n int) string { return strings.Repeat(`{"$or":[`, n) + `{"a":1}` + strings.Repeat(`]}`, n) }
	name := strings.Repeat("n", 64)
	for _, c := range []struct{ filter, sort, words string }{
		{``, ``, ""},
		{`null`, `null`, ""},
		{`{}`, `""`, ""},
		{`{}`, `[]`, ""},
		{`{"a": {"$eq": null}, "b.c.d.e.f": {"$in": []}, "größe": 1}`, `["a", "-b", "c"]`, ""},
		{`[]`, ``, "must be an object"},
		{`1`, ``, "must be an object"},
		{`{"a": {"$like": "x"}}`, ``, `no operator "$like"; there are $eq $ne $gt $gte $lt $lte $in $exists $regex`},
		{`{"a": {"$Eq": 1}}`, ``, `no operator "$Eq"`},
		{`{"a": {"$not": {"$eq": 1}}}`, ``, `no operator "$not"`},
		{`{"$nor": []}`, ``, `no operator "$nor" around conditions`},
		{`{"$where": "1"}`, ``, `no operator "$where"`},
		{`{"a": {"city": "x"}}`, ``, `"a.city"`},
		{`{"a": {}}`, ``, "must hold operators"},
		{`{"a": []}`, ``, "compared by their parts"},
		{`{"a": {"$gt": true}}`, ``, "have an order"},
		{`{"a": {"$lte": null}}`, ``, "have an order"},
		{`{"a": {"$in": 1}}`, ``, "list of at most 200"},
		{`{"a": {"$in": [` + strings.Repeat("1,", 199) + `1]}}`, ``, ""},
		{`{"a": {"$in": [` + strings.Repeat("1,", 200) + `1]}}`, ``, "list of at most 200"},
		{`{"a": {"$in": [[]]}}`, ``, "$in"},
		{`{"a": {"$exists": 1}}`, ``, "true or false"},
		{`{"a": {"$regex": 1}}`, ``, "must be a text"},
		{`{"a": {"$regex": "` + strings.Repeat("x", 1024) + `"}}`, ``, ""},
		{`{"a": {"$regex": "` + strings.Repeat("x", 1025) + `"}}`, ``, "1024 bytes"},
		{`{"a": {"$regex": "(?=x)"}}`, ``, "RE2"},
		{`{"a": {"$regex": "(x{1000}){1000}"}}`, ``, "RE2"},
		{`{"$or": []}`, ``, "must be a list of filters"},
		{`{"$and": {"a": 1}}`, ``, "must be a list of filters"},
		{nested(8), ``, ""},
		{nested(9), ``, "deeper than 8"},
		{conditions(100), ``, ""},
		{conditions(101), ``, "more than 100 conditions"},
		{`{"": 1}`, ``, "1 to 64 bytes"},
		{`{"a..b": 1}`, ``, "1 to 64 bytes"},
		{`{"a.b.c.d.e.f": 1}`, ``, "more than 5 names"},
		{`{"` + name + `": 1}`, ``, ""},
		{`{"` + name + `n": 1}`, ``, "1 to 64 bytes"},
		{`{"` + strings.Repeat(name+".", 5) + `a": 1}`, ``, "at most 5 names"},
		{`{"-a": 1}`, ``, "letters, digits"},
		{`{"a b": 1}`, ``, "letters, digits"},
		{`{"a'": 1}`, ``, "letters, digits"},
		{`{"a": 1, "a": 2}`, ``, "duplicate"},
		{`{"a": "\u0000"}`, ``, "U+0000"},
		{`{"a": 1` + strings.Repeat("1", 64) + `}`, ``, "number"},
		{`{"a": "` + strings.Repeat("x", 64<<10) + `"}`, ``, "more than 65536"},
		{`{"a": 1} x`, ``, "cannot be read"},
		{``, `1`, "sort: must be a path"},
		{``, `{"a": 1}`, "sort: must be a path"},
		{``, `["a", "b", "c", "d"]`, "more than 3"},
		{``, `["a", "-a"]`, "twice"},
		{``, `"a b"`, "sort: the path"},
		{``, `"--a"`, "sort: the path"},
	} {
		_, err := Parse([]byte(c.filter), []byte(c.sort), 0, "")
		if c.words == "" && err != nil || c.words != "" && (err == nil || !strings.Contains(err.Error(), c.words)) {
			t.Errorf("%.80s %s: %v, want %q", c.filter, c.sort, err, c.words)
		}
	}
	for limit, want := range map[int]int{0: 100, 1: 1, 200: 200, 201: -1, -1: -1} {
		if q, err := Parse(nil, nil, limit, ""); (err != nil) != (want < 0) || err == nil && q.Limit != want {
			t.Errorf("limit %d: %+v, %v", limit, q, err)
		}
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	document := []byte(`{"n": 10, "s": "10", "b": true, "z": null, "at": "2026-01-01T01:00:00+01:00", "in": {"list": [{"x": 1.0}, "é"]}}`)
	for filter, want := range map[string]bool{
		`{}`:          true,
		`{"n": 10}`:   true,
		`{"n": 1e1}`:  true,
		`{"s": "10"}`: true,
		`{"n": "10"}`: false, `{"s": 10}`: false, `{"b": 1}`: false, `{"b": "true"}`: false, `{"z": null}`: true,
		`{"none": null}`: false, `{"none": {"$ne": null}}`: true, `{"none": {"$ne": 1}}`: true, `{"n": {"$ne": 10}}`: false,
		`{"n": {"$gt": 9}}`: true, `{"s": {"$gt": 9}}`: false, `{"s": {"$lt": "9"}}`: true, `{"n": {"$gt": "0"}}`: false,
		`{"b": {"$gt": 0}}`: false, `{"none": {"$lt": 1}}`: false, `{"n": {"$gte": 10, "$lte": 10}}`: true,
		`{"at": "2026-01-01T00:00:00Z"}`: true, `{"at": {"$lt": "2026-01-01T00:00:00.1Z"}}`: true, `{"at": {"$gte": "2026"}}`: true,
		`{"at": {"$lt": "2026-01-01"}}`: false, `{"s": {"$lt": "2026-01-01T00:00:00Z"}}`: false,
		`{"z": {"$exists": true}}`: true, `{"none": {"$exists": false}}`: true, `{"in.list.0.x": 1}`: true, `{"in.list.1": "é"}`: true,
		`{"in.list.2": {"$exists": true}}`: false, `{"n.x": {"$exists": true}}`: false, `{"s": {"$regex": "^1"}}`: true, `{"n": {"$regex": "1"}}`: false,
		`{"n": {"$in": ["10", 10]}}`: true, `{"n": {"$in": []}}`: false, `{"$or": [{"n": 1}, {"s": "10"}]}`: true, `{"$or": [{"n": 1}]}`: false,
		`{"$and": [{"n": 10}, {"s": "1"}]}`: false,
	} {
		q, err := Parse([]byte(filter), nil, 0, "")
		if err != nil {
			t.Fatalf("%s: %v", filter, err)
		}
		if got := q.Filter.Match(document); got != want {
			t.Errorf("%s: %v", filter, got)
		}
	}
}

// What is read is bounded, and whatever a condition takes is in the part of an index that it is looked for in.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"a": 1}`, `{"a": {"$gt": "x"}}`, `{"$or": [{"a.b": {"$in": [1, null, "2026-01-01T00:00:00Z"]}}]}`, `{"a": {"$regex": "a+"}, "b": {"$exists": false}}`,
		`{"a": {"$gte": "2026-01-01T00:00:00Z", "$lt": 5}}`,
	} {
		f.Add([]byte(s), []byte(`["a","-b"]`), []byte(`{"a": 1, "b": [{"c": "x"}]}`))
	}
	f.Fuzz(func(t *testing.T, filter, sort, document []byte) {
		q, err := Parse(filter, sort, 0, "")
		if err != nil {
			if len(err.Error()) > 4<<10 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		again, err := Parse(filter, sort, 0, "")
		if err != nil || again.Canonical != q.Canonical {
			t.Fatalf("read again: %v", err)
		}
		if Check(document) != nil || !q.Filter.Match(document) {
			return
		}
		for _, n := range Spans(q.Filter) {
			value, within := n.Path.In(document), false
			for _, s := range n.Spans {
				within = within || s.holds(value)
			}
			if !within {
				t.Errorf("%s takes %s, and %v of it is outside %+v", filter, document, value, n.Spans)
			}
		}
	})
}

func (s Span) holds(v Value) bool {
	text := Sorted(v.Text)
	return v.Rank >= s.From && v.Rank <= s.To &&
		(s.NumFrom == nil || compareNumbers(v.Num, *s.NumFrom) >= 0) && (s.NumTo == nil || compareNumbers(v.Num, *s.NumTo) <= 0) &&
		(s.TextFrom == nil || text >= *s.TextFrom) && (s.TextTo == nil || text <= *s.TextTo)
}

// Patterns that are short to write and long to run are refused before they run, or stopped.
func TestPatternsAreBounded(t *testing.T) {
	t.Parallel()
	for _, pattern := range hostilePatterns() {
		filter, _ := json.Marshal(map[string]any{"a": map[string]any{"$regex": pattern}})
		q, err := Parse(filter, nil, 0, "")
		if err != nil {
			continue
		}
		text := strings.Repeat("x", 20_000)
		for range 2 {
			q.Filter.Match([]byte(`{"a": "` + text + `"}`))
		}
		if q.effort < 2*len(text) {
			t.Errorf("%.40s: an effort of %d", pattern, q.effort)
		}
	}
	parse := func(pattern string) (*Query, error) {
		filter, _ := json.Marshal(map[string]any{"a": map[string]any{"$regex": pattern}})
		return Parse(filter, nil, 0, "")
	}
	if _, err := parse("x{1000}x{998}"); err != nil { // and two steps for its end
		t.Error(err)
	}
	if _, err := parse("x{1000}x{999}"); err == nil || !strings.Contains(err.Error(), "2001 steps") {
		t.Error(err)
	}
	q, err := parse("^y{98}z") // a hundred steps, or about
	if err != nil {
		t.Fatal(err)
	}
	steps := q.Filter[0].(*Condition).program
	q.Filter.Match([]byte(`{"a": "` + strings.Repeat("y", MaxEffort/steps) + `"}`))
	if q.Exhausted() {
		t.Error("exhausted by as much as may be")
	}
	if q.Filter.Match([]byte(`{"a": "`+strings.Repeat("y", 98)+"z"+strings.Repeat("y", steps)+`"}`)) || !q.Exhausted() {
		t.Error("not exhausted")
	}
}

func hostilePatterns() []string {
	many := func(s string, n int) string { return strings.Repeat(s, n) }
	return []string{
		many("x{1000}", 30), many("x{1000}", 146), "(x{100}){10}", "((x{10}){10}){10}", many("(x?)", 200) + many("x", 200), "(x+x+)+y", "(x*)*y",
		"(x|x)*y", "(.*)(.*)(.*)(.*)(.*)y", many("(", 300) + "x" + many(")", 300), "[^y]*y", "(?i)" + many("x", 900), `\pL{500}`, `(\pL|\pN){300}`,
		".{1000}", "(.{1,100}){1,10}", many("x|", 400) + "y", "x{0,1000}", "(x{0,30}){0,30}", `(?s).*` + many(".?", 300), "^(([a-z])+.)+[A-Z]([a-z])+$",
		many("a?", 500), "(a|aa)+$", `([a-zA-Z]+)*$`, `^(\d+|\w+)*$`, "(?m)" + many("^", 500), many("$", 900), `\b` + many(`\w*`, 200), "[" + many("a-z", 300) + "]+y",
		many("(x|y)", 200),
	}
}
