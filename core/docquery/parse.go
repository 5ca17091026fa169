package docquery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// operators are all that a filter may hold, in the order in which errors list them.
const operators = "$eq $ne $gt $gte $lt $lte $in $exists $regex, and around conditions $and $or"

// Op is what a condition asks of a value.
type Op string

// The operators of conditions.
const (
	Eq     Op = "$eq"
	Ne     Op = "$ne"
	Gt     Op = "$gt"
	Gte    Op = "$gte"
	Lt     Op = "$lt"
	Lte    Op = "$lte"
	In     Op = "$in"
	Exists Op = "$exists"
	Regex  Op = "$regex"
)

// Expr is a part of a filter: *Condition, All or Any.
type Expr interface {
	// Match reports whether a document that Check has passed meets the expression.
	Match(document []byte) bool
}

// All is met when all its parts are; the empty one is met by every document.
type All []Expr

// Any is met when one of its parts is.
type Any []Expr

// Condition is about the value at one path.
type Condition struct {
	Path   Path
	Op     Op
	Values []Value // one; any number for $in, none for $exists and $regex
	Exists bool    // what $exists asks for
	Regex  *regexp.Regexp

	program int  // how many steps Regex has
	effort  *int // of all patterns of the query
}

// Key is one part of an order.
type Key struct {
	Path Path
	Desc bool
}

func (k Key) String() string {
	if k.Desc {
		return "-" + k.Path.String()
	}
	return k.Path.String()
}

// Query is a question for documents of a collection.
type Query struct {
	Filter All
	Sort   []Key // empty: any order
	Limit  int
	Cursor string // that of the page before

	// Canonical is the same for queries that mean the same: cursors belong to it.
	Canonical string
	effort    int // what patterns have looked at

	// Regex says that the filter holds a $regex, which Match must decide. Of such a query Match is not safe for concurrent use.
	Regex bool
}

// Parse reads a query. filter may be empty; sort is a path, or a list of them, with "-" before those that go down; limit 0 means
// DefaultLimit. Errors say what is wrong and what there is instead.
func Parse(filter, sort json.RawMessage, limit int, cursor string) (*Query, error) {
	q := &Query{Limit: limit, Cursor: cursor}
	switch {
	case limit == 0:
		q.Limit = DefaultLimit
	case limit < 0 || limit > MaxLimit:
		return nil, fmt.Errorf("limit: must be from 1 to %d", MaxLimit)
	}
	p := &parser{effort: &q.effort}
	canonical := "{}"
	if !absent(filter) {
		if len(filter) > MaxFilter {
			return nil, fmt.Errorf("filter: takes %d bytes, more than %d", len(filter), MaxFilter)
		}
		if err := Check(filter); err != nil {
			return nil, fmt.Errorf("filter: %w", err)
		}
		v, err := decode(filter)
		if err != nil {
			return nil, fmt.Errorf("filter: %w", err)
		}
		if q.Filter, err = p.object(v, 0); err != nil {
			return nil, fmt.Errorf("filter: %w", err)
		}
		b, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("filter: %w", err)
		}
		canonical = string(b)
	}
	var err error
	if q.Sort, err = parseSort(sort); err != nil {
		return nil, fmt.Errorf("sort: %w", err)
	}
	q.Regex = p.regex
	q.Canonical = fmt.Sprintf("%s %v", canonical, q.Sort)
	return q, nil
}

func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(bytes.TrimSpace(raw)) == "null" }

func parseSort(raw json.RawMessage) (keys []Key, err error) {
	if absent(raw) {
		return nil, nil
	}
	var names []string
	var name string
	switch {
	case json.Unmarshal(raw, &name) == nil:
		if name == "" {
			return nil, nil
		}
		names = []string{name}
	case json.Unmarshal(raw, &names) != nil:
		return nil, fmt.Errorf(`must be a path such as "total", "-total" to go down, or a list of them`)
	}
	if len(names) > MaxSort {
		return nil, fmt.Errorf("has more than %d paths", MaxSort)
	}
	for _, name := range names {
		k, err := ParseKey(name)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(keys, func(o Key) bool { return slices.Equal(o.Path, k.Path) }) {
			return nil, fmt.Errorf("has the path %q twice", name)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// ParseKey reads a path of an order, with "-" before one that goes down.
func ParseKey(s string) (k Key, err error) {
	s, k.Desc = strings.CutPrefix(s, "-")
	k.Path, err = ParsePath(s)
	return k, err
}

type parser struct {
	conditions int
	regex      bool
	effort     *int
}

// Exhausted reports whether patterns would have had to look at more than MaxEffort: what Match has said since then is not so.
func (q *Query) Exhausted() bool { return q.effort > MaxEffort }

// object reads {"path": condition, "$or": […]}.
func (p *parser) object(v any, depth int) (All, error) {
	fields, is := v.(map[string]any)
	if !is {
		return nil, fmt.Errorf(`must be an object, such as {"status": "open", "total": {"$gt": 10}}`)
	}
	if depth > MaxNested {
		return nil, fmt.Errorf("$and and $or are nested deeper than %d", MaxNested)
	}
	all := All{}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		switch {
		case name == "$and" || name == "$or":
			parts, err := p.list(name, fields[name], depth)
			if err != nil {
				return nil, err
			}
			if name == "$and" {
				all = append(all, All(parts))
			} else {
				all = append(all, Any(parts))
			}
		case strings.HasPrefix(name, "$"):
			return nil, fmt.Errorf("there is no operator %q around conditions; there are $and and $or", name)
		default:
			path, err := ParsePath(name)
			if err != nil {
				return nil, err
			}
			conditions, err := p.path(path, fields[name])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			all = append(all, conditions...)
		}
	}
	return all, nil
}

func (p *parser) list(name string, v any, depth int) (parts []Expr, err error) {
	list, is := v.([]any)
	if !is || len(list) == 0 {
		return nil, fmt.Errorf(`%s: must be a list of filters, such as [{"status": "open"}, {"total": {"$gt": 10}}]`, name)
	}
	for _, item := range list {
		if err := p.count(); err != nil {
			return nil, err
		}
		part, err := p.object(item, depth+1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		parts = append(parts, part)
	}
	return parts, nil
}

func (p *parser) count() error {
	if p.conditions++; p.conditions > MaxConditions {
		return fmt.Errorf("has more than %d conditions", MaxConditions)
	}
	return nil
}

// path reads what is asked of the value at a path: a value that it must equal, or operators.
func (p *parser) path(path Path, v any) (all []Expr, err error) {
	asked, is := v.(map[string]any)
	if !is {
		asked = map[string]any{string(Eq): v}
	} else if len(asked) == 0 {
		return nil, fmt.Errorf("an object must hold operators: %s", operators)
	}
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		if err := p.count(); err != nil {
			return nil, err
		}
		c, err := p.condition(path, name, asked[name])
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

func (p *parser) condition(path Path, name string, v any) (*Condition, error) {
	c := &Condition{Path: path, Op: Op(name)}
	switch c.Op {
	case Eq, Ne, Gt, Gte, Lt, Lte:
		value := valueOf(v)
		switch {
		case value.Rank == Other:
			return nil, fmt.Errorf(`%s: a value is null, a bool, a number or a text; lists and objects are compared by their parts, such as "%s.name"`, name, path)
		case value.Rank < Number && c.Op != Eq && c.Op != Ne:
			return nil, fmt.Errorf("%s: only numbers, texts and times have an order", name)
		}
		c.Values = []Value{value}
	case In:
		list, is := v.([]any)
		if !is || len(list) > MaxIn {
			return nil, fmt.Errorf("$in: must be a list of at most %d values", MaxIn)
		}
		for _, item := range list {
			value := valueOf(item)
			if value.Rank == Other {
				return nil, fmt.Errorf("$in: a value is null, a bool, a number or a text")
			}
			c.Values = append(c.Values, value)
		}
	case Exists:
		var is bool
		if c.Exists, is = v.(bool); !is {
			return nil, fmt.Errorf("$exists: must be true or false")
		}
	case Regex:
		text, is := v.(string)
		if !is || len(text) > MaxRegex {
			return nil, fmt.Errorf("$regex: must be a text of at most %d bytes", MaxRegex)
		}
		var err error
		if c.Regex, c.program, err = compile(text); err != nil {
			return nil, fmt.Errorf("$regex: %w", err)
		}
		p.regex, c.effort = true, p.effort
	default:
		if strings.HasPrefix(name, "$") {
			return nil, fmt.Errorf("there is no operator %q; there are %s", name, operators)
		}
		return nil, fmt.Errorf(`an object must hold operators, and %q is none; to ask for a value inside, write its path, such as "%s.%s"`, name, path, name)
	}
	return c, nil
}

// compile compiles a pattern of at most MaxProgram steps: each of them costs time for each byte of text, and some bytes say
// "a thousand steps".
func compile(pattern string) (re *regexp.Regexp, steps int, err error) {
	if re, err = regexp.Compile(pattern); err != nil {
		return nil, 0, fmt.Errorf("%w; the syntax is that of RE2 and Go", err)
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, 0, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, 0, err
	}
	if steps = len(program.Inst); steps > MaxProgram {
		return nil, 0, fmt.Errorf("the pattern takes %d steps for each byte, more than %d: repeat less in it", steps, MaxProgram)
	}
	return re, steps, nil
}
