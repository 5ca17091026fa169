package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/picloud/picloud/core/coretest"
)

// optional are options of methods that name something.
var optional = []asked{
	{service: "kv", method: "list", options: object{"prefix": "k"}},
	{service: "kv", method: "list", options: object{"cursor": "k"}},
	{service: "docs", method: "list", options: object{"cursor": "k"}},
	{service: "docs", method: "create", args: []any{object{"n": 1}}, options: object{"id": "k"}},
	{service: "docs", method: "find", args: []any{object{"n": 1}}, options: object{"sort": []any{"k"}}},
	{service: "docs", method: "find", args: []any{object{"k": 1}}},
	{service: "files", method: "create", args: []any{"n", "content"}, options: object{"id": "k"}},
	{service: "files", method: "create", args: []any{"n", "content"}, options: object{"contentType": "k"}},
	{service: "files", method: "list", options: object{"cursor": "k"}},
	{service: "sink", method: "send", args: []any{1}, options: object{"type": "k"}},
	{service: "queue", method: "send", args: []any{1}, options: object{"idempotencyKey": "k"}},
	{service: "queue", method: "send", args: []any{1}, options: object{"orderingKey": "k"}},
	{service: "pubsub", method: "publish", args: []any{"topic", 1}, options: object{"concurrencyKey": "k"}},
	{service: "invoke", method: "send", args: []any{"there", 1}, options: object{"debounceKey": "k"}},
}

// refused is how a call with a name fails that is none. Whatever else a call may end with is a defect.
var refused = regexp.MustCompile(`^502 \{"detail":"(invalid_argument|not_found|conflict): `)

// names puts hostile names into every text of every method, and what services are opened with. Each is refused, or means just itself.
func (m *matrixed) names(t *testing.T) {
	const asker = "ask.js"
	m.set(t, named(asker), false, "docs", "files", "invoke", "kv", "pubsub", "queue", "secrets", "sink")
	tried := 0
	try := func(row asked, with string) {
		tried++
		call := row.ask(t, nil)
		if got := m.ask(t, "owner", asker, begun(t, row, call)); !strings.HasPrefix(got, "200 ") && !refused.MatchString(got) {
			t.Errorf("%s with %s: %s", row, with, got)
		}
	}
	for r, row := range append(slices.Clone(matrix), optional...) {
		if row.service == "http" || row.service == "email" {
			continue // addresses have tests of their own
		}
		for n, name := range coretest.HostileNames("there") {
			if (n+r)%3 > 0 {
				continue // other methods of the service have the rest
			}
			for i, arg := range row.args {
				if _, text := arg.(string); text {
					changed := row
					changed.args = slices.Clone(row.args)
					changed.args[i] = name
					try(changed, fmt.Sprintf("%.80q", name))
				}
			}
			for option := range row.options {
				changed := row
				changed.options = object{option: name}
				if option == "sort" {
					changed.options = object{option: []any{name}}
				}
				try(changed, fmt.Sprintf("%s %.80q", option, name))
			}
			if handles[row.service] != "" {
				changed := row
				changed.handle = &name
				try(changed, fmt.Sprintf("opened with %.80q", name))
			}
		}
	}
	t.Logf("%d calls", tried)

	// What was taken is there under its name, under no other, and for nobody else.
	ids := map[string]string{}
	for i, name := range coretest.HostileNames("there") {
		for _, w := range m.stored(name) {
			got := m.raw("owner", asker, w.write(i).ask(t, nil))
			if taken := strings.HasPrefix(got, "200 "); taken {
				ids[w.what+" "+name] = field(answered(got), "id")
			} else if !refused.MatchString(got) {
				t.Errorf("%s %.80q: %s", w.what, name, got)
			}
		}
	}
	kept := 0
	for i, name := range coretest.HostileNames("there") {
		for _, w := range m.stored(name) {
			id, taken := ids[w.what+" "+name]
			if !taken {
				continue
			}
			kept++
			call := w.read(id).ask(t, nil)
			if got := m.raw("owner", asker, call); !w.is(i, got) {
				t.Errorf("%s %.80q, the %dth, is %.300s", w.what, name, i, got)
			}
			if got := m.raw("thief", asker, call); got != "200 {}" {
				t.Errorf("%s %.80q of another app is %.300s", w.what, name, got)
			}
		}
	}
	t.Logf("%d names were taken", kept)
	if kept < 100 {
		t.Error("next to nothing was stored")
	}
	root := filepath.Join(m.data, "files")
	if err := filepath.WalkDir(root, func(path string, f fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(root, path); err == nil && !contentName.MatchString(name) {
			t.Errorf("a content is at %q", name)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

var contentName = regexp.MustCompile(`^[0-9a-z./-]*$`)

// stored is something that a name is given.
type stored struct {
	what  string
	write func(i int) asked
	read  func(id string) asked
	is    func(i int, got string) bool
}

// answered is what the last call of an asker has returned.
func answered(got string) []byte {
	var made struct{ Answer json.RawMessage }
	_ = json.Unmarshal([]byte(strings.TrimPrefix(got, "200 ")), &made) // what is no answer has no members
	return made.Answer
}

func (m *matrixed) stored(name string) []stored {
	number := func(i int, got string) bool { return string(answered(got)) == fmt.Sprint(i) }
	return []stored{
		{
			"the key", func(i int) asked { return asked{service: "kv", method: "set", args: []any{name, i}} },
			func(string) asked { return asked{service: "kv", method: "get", args: []any{name}} }, number,
		},
		{
			"the collection of values", func(i int) asked { return asked{service: "kv", method: "set", args: []any{"same", i}, handle: &name} },
			func(string) asked { return asked{service: "kv", method: "get", args: []any{"same"}, handle: &name} }, number,
		},
		{
			"the collection of documents", func(i int) asked {
				return asked{service: "docs", method: "create", args: []any{object{"same": i}}, handle: &name}
			},
			func(id string) asked { return asked{service: "docs", method: "get", args: []any{id}, handle: &name} },
			func(i int, got string) bool { return strings.Contains(got, fmt.Sprintf(`"data":{"same":%d}`, i)) },
		},
		{
			"the name of a file", func(i int) asked { return asked{service: "files", method: "create", args: []any{name, fmt.Sprint(i)}} },
			func(id string) asked { return asked{service: "files", method: "head", args: []any{id}} },
			func(_ int, got string) bool { return field(answered(got), "name") == name },
		},
		{
			"the collection of files", func(i int) asked {
				return asked{service: "files", method: "create", args: []any{"same", fmt.Sprint(i)}, handle: &name}
			},
			func(id string) asked { return asked{service: "files", method: "head", args: []any{id}, handle: &name} },
			func(i int, got string) bool {
				return strings.Contains(got, fmt.Sprintf(`"size":%d,`, len(fmt.Sprint(i))))
			},
		},
		{
			"the secret", func(i int) asked { return asked{service: "secrets", method: "set", args: []any{name, i}} },
			func(string) asked { return asked{service: "secrets", method: "get", args: []any{name}} }, number,
		},
	}
}
