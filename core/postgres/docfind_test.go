package postgres_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/docquery"
	"github.com/picloud/picloud/core/tenant"
)

// values are what generated documents and filters hold: of every type, and at the edges between them.
var values = []string{
	`null`, `true`, `false`, `0`, `-0`, `1`, `1.0`, `10`, `9`, `-1`, `0.1`, `1e2`, `100`, `1e300`, `1e-300`, `9007199254740993`, `9007199254740992`,
	`""`, `"a"`, `"A"`, `"b"`, `"10"`, `"9"`, `"é"`, `"z"`, `"\ud83d\ude00"`, `"true"`, `"null"`, `"a'b\"c\\"`, `"%"`, `"a%"`, `"_"`,
	`"2026-01-01T00:00:00Z"`, `"2026-01-01T01:00:00+01:00"`, `"2026-01-01T00:00:00.5Z"`, `"2026-01-01T00:00:00.50Z"`, `"2025-12-31T23:59:59.999999999Z"`,
	`"2026-02-28T00:00:00Z"`, `"2026-02-30T00:00:00Z"`, `"2024-02-29T12:00:00-23:59"`, `"2026-01-01"`, `"2026"`, `"0000-01-01T00:00:00Z"`,
	`"0001-01-01T00:00:00Z"`, `"9999-12-31T23:59:59Z"`, `"1969-12-31T23:59:59.5Z"`, `"2026-01-01T24:00:00Z"`, `"2026-01-01t00:00:00z"`,
	`[]`, `[1,"a"]`, `{}`, `{"c": 1}`,
}

var long = []string{
	`"` + strings.Repeat("é", 256) + `"`, `"` + strings.Repeat("é", 256) + `a"`, `"` + strings.Repeat("é", 256) + `b"`, `"` + strings.Repeat("é", 255) + `f"`,
}

// cases makes documents and queries from a seed.
type cases struct{ *rand.Rand }

func (g cases) pick(from ...string) string { return from[g.IntN(len(from))] }

func (g cases) value() string {
	if g.IntN(20) == 0 {
		return g.pick(long...)
	}
	return g.pick(values...)
}

func (g cases) document(n int) string {
	s := fmt.Sprintf(`{"n": %d`, n)
	for _, name := range []string{"a", "b", "x-1"} {
		if g.IntN(5) > 0 {
			s += fmt.Sprintf(`, %q: %s`, name, g.value())
		}
	}
	switch g.IntN(4) {
	case 0:
		s += fmt.Sprintf(`, "in": {"c": %s, "0": %s}`, g.value(), g.value())
	case 1:
		s += fmt.Sprintf(`, "in": [%s, {"c": %s}]`, g.value(), g.value())
	case 2:
		s += `, "in": ` + g.value()
	}
	return s + "}"
}

func (g cases) path() string {
	return g.pick("a", "b", "x-1", "in", "in.c", "in.0", "in.1.c", "in.00", "none")
}

func (g cases) scalar() string {
	for {
		if v := g.value(); v[0] != '[' && v[0] != '{' {
			return v
		}
	}
}

func (g cases) condition() string {
	switch op := g.pick("", "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$exists", "$regex", "between"); op {
	case "":
		return g.scalar()
	case "$in":
		list := make([]string, g.IntN(4))
		for i := range list {
			list[i] = g.scalar()
		}
		return `{"$in": [` + strings.Join(list, ",") + `]}`
	case "$exists":
		return `{"$exists": ` + g.pick("true", "false") + `}`
	case "$regex":
		return `{"$regex": "` + g.pick("^a", "0", "^2026-0[12]", "", "é+$", "(?i)A") + `"}`
	case "$eq", "$ne":
		return fmt.Sprintf(`{%q: %s}`, op, g.scalar())
	case "between":
		return fmt.Sprintf(`{"$gte": %s, "$lt": %s}`, g.ordered(), g.ordered())
	default:
		return fmt.Sprintf(`{%q: %s}`, op, g.ordered())
	}
}

func (g cases) ordered() string {
	for {
		if v := g.scalar(); v != "null" && v != "true" && v != "false" {
			return v
		}
	}
}

func (g cases) filter(depth int) string {
	var parts []string
	used := map[string]bool{}
	for range 1 + g.IntN(2) {
		name := g.path()
		what := ""
		if depth < 2 && g.IntN(4) == 0 {
			name = g.pick("$and", "$or")
			list := make([]string, 1+g.IntN(3))
			for i := range list {
				list[i] = g.filter(depth + 1)
			}
			what = "[" + strings.Join(list, ",") + "]"
		} else {
			what = g.condition()
		}
		if !used[name] {
			parts = append(parts, fmt.Sprintf(`%q: %s`, name, what))
		}
		used[name] = true
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func (g cases) sort() string {
	var keys []string
	for range g.IntN(3) {
		if p := g.path(); !slices.ContainsFunc(keys, func(k string) bool { return strings.Trim(k, `-"`) == p }) {
			keys = append(keys, `"`+g.pick("", "-")+p+`"`)
		}
	}
	return "[" + strings.Join(keys, ",") + "]"
}

// What the database finds is what the same query matches in plain Go, in the same order, whatever indexes there are and however small
// the pages.
func TestFindIsWhatMatches(t *testing.T) {
	t.Parallel()
	c := newCabinet(t)
	g := cases{rand.New(rand.NewPCG(15, uint64(len(values))))}
	type kept struct {
		id  uuid.UUID
		doc []byte
		n   string
	}
	var docs []kept
	for n := range 250 {
		document := g.document(n)
		k := kept{uuid.New(), []byte(document), fmt.Sprint(n)}
		if err := docquery.Check([]byte(document)); err != nil {
			t.Fatalf("%s: %v", document, err)
		}
		for _, collection := range []string{"bare", "some", "all"} {
			p := data.DocPlace{App: c.app, Collection: collection, ID: k.id}
			if _, _, err := c.Create(t.Context(), c.owner, p, []byte(document), nil); err != nil {
				t.Fatalf("%s: %v", document, err)
			}
		}
		docs = append(docs, k)
		if n == 100 { // both what is there and what comes
			for _, path := range []string{"a", "b", "x-1", "in", "in.c", "in.0", "in.1.c", "in.00", "none"} {
				c.index("all", path, "text")
				if path == "a" || path == "in.c" {
					c.index("some", path, "text")
				}
			}
		}
	}
	for range 300 {
		filter, sort, limit := g.filter(0), g.sort(), 1+g.IntN(60)
		q, err := docquery.Parse([]byte(filter), []byte(sort), limit, "")
		if err != nil {
			t.Fatalf("%s %s: %v", filter, sort, err)
		}
		var want []kept
		for _, k := range docs {
			if q.Filter.Match(k.doc) {
				want = append(want, k)
			}
		}
		slices.SortFunc(want, func(x, y kept) int {
			for _, key := range q.Sort {
				order := docquery.Compare(key.Path.In(x.doc), key.Path.In(y.doc))
				if key.Desc {
					order = -order
				}
				if order != 0 {
					return order
				}
			}
			if order := slices.Compare(x.id[:], y.id[:]); len(q.Sort) == 0 || !q.Sort[len(q.Sort)-1].Desc {
				return order
			}
			return slices.Compare(y.id[:], x.id[:])
		})
		var expected []string
		for _, k := range want {
			expected = append(expected, k.n)
		}
		for _, collection := range []string{"bare", "some", "all"} {
			got, err := c.find(collection, filter, sort, limit)
			if err != nil {
				t.Errorf("%s: find %s sort %s: %v", collection, filter, sort, err)
				continue
			}
			if len(q.Sort) == 0 {
				slices.Sort(got)
				sorted := slices.Clone(expected)
				slices.Sort(sorted)
				if !slices.Equal(got, sorted) {
					t.Errorf("%s: find %s limit %d: %v, not %v", collection, filter, limit, got, sorted)
				}
				continue
			}
			if !slices.Equal(got, expected) {
				t.Errorf("%s: find %s sort %s limit %d:\n%v, not\n%v", collection, filter, sort, limit, got, expected)
			}
		}
		if t.Failed() {
			return
		}
	}
}

// attacks are texts that would do something if a statement were made of them.
var attacks = []string{
	`'`, `''`, `"`, `\`, `\'`, `;`, `--`, `/*`, `$1`, `$$`, `$1::text`, `{}`, `{a,b}`, `{"a"}`, `%`, `_`, `' OR '1'='1`, `'; DROP TABLE docs; --`,
	`1) OR (1=1`, `a' || pg_sleep(9) || '`, `\u0027`, `data#>'{n}'`, `d.n`, `NULL`, `:=`, `?`, `?|`, `@>`, `E'\\'`, "\n", "\t", "\u202e", `COLLATE "C"`,
	`$.a ? (@ == 1)`, `0x27`, `'::jsonb`, strings.Repeat(`'`, 250),
}

func TestFindIsNotInjected(t *testing.T) {
	t.Parallel()
	c := newCabinet(t)
	ctx := t.Context()
	c.create("c", `{"n": 0, "secret": "s"}`)
	other := uuid.New()
	for i, text := range attacks {
		quoted, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		c.create("c", fmt.Sprintf(`{"n": %d, "a": %s}`, i+1, quoted))
	}
	check := func() {
		for i, text := range attacks {
			quoted, _ := json.Marshal(text)
			want := fmt.Sprint([]string{fmt.Sprint(i + 1)})
			for _, filter := range []string{`{"a": %s}`, `{"a": {"$in": [%s]}}`, `{"a": {"$gte": %[1]s, "$lte": %[1]s}}`, `{"$or": [{"a": %s}]}`} {
				if got, err := c.find("c", fmt.Sprintf(filter, quoted), `"a"`, 10); err != nil || fmt.Sprint(got) != want {
					t.Errorf("%s: %v, %v, not %s", text, got, err, want)
				}
			}
			// As the name of a field and a path it is refused, unless it is one.
			for _, filter := range []string{`{%s: 1}`, `{"a": {%s: 1}}`, `{"$or": [{%s: 1}]}`} {
				if got, err := c.find("c", fmt.Sprintf(filter, quoted), ``, 10); err == nil && len(got) > 0 {
					t.Errorf("%s as a name: %v", text, got)
				}
			}
			if all, err := c.find("c", `{}`, string(quoted), 10); err == nil && len(all) != len(attacks)+1 {
				t.Errorf("%s as an order: %v", text, all)
			}
			if got, err := c.find(text, `{}`, ``, 10); err != nil || len(got) > 0 { // the service would refuse it
				t.Errorf("%s as a collection: %v, %v", text, got, err)
			}
			if err := c.Index(ctx, other, text, text, "text"); err != nil {
				t.Errorf("%s as an index: %v", text, err)
			}
			q, err := docquery.Parse(nil, nil, 1, text)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.Find(ctx, c.app, "c", q); !errors.Is(err, tenant.ErrCursor) {
				t.Errorf("%s as a cursor: %v", text, err)
			}
		}
		if all, err := c.find("c", ``, ``, 100); err != nil || len(all) != len(attacks)+1 {
			t.Errorf("%d documents, %v", len(all), err)
		}
	}
	check()
	c.index("c", "a", "text")
	check()
}
