package main

import (
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/tenant"
)

// grants drives the methods of one service in every language, at once and in a transactional script, by itself and as what another
// script calls: with no other grant than that of the service they are let through, with every other one they are refused and change
// nothing. The scripts are warm in between: what they may is looked at call by call. The script that calls them has what they lack, and
// what they call has it: neither lends.
func (m *matrixed) grants(t *testing.T, grant string) {
	without := slices.DeleteFunc(tenant.DefaultGrants(), func(g string) bool { return g == grant })
	m.set(t, other, false, grant, "invoke")
	for _, asker := range askers {
		refusal := fmt.Sprintf(`forbidden: the script \"%[1]s\" has no grant \"%[2]s\": picloud scripts grants %[1]s --only ... gives it one"`, named(asker), grant)
		through := fmt.Sprintf(`script_error: the script \"%s\" failed in execution ID: `, named(asker)) + refusal
		for _, transactional := range []bool{false, true} {
			m.set(t, named(asker), transactional, grant)
			ours := m.fill(t)
			m.eachOf(t, grant, ours, func(row asked, call string) {
				call = begun(t, row, call)
				got, called := m.ask(t, "owner", asker, call), m.ask(t, "owner", other, calling(named(asker), call))
				apart := fmt.Sprintf(`a transactional script cannot call %s.`, grant) // in Go docs.list is a find, and files have a writer
				for _, got := range []string{got, called} {
					if granted := strings.HasPrefix(got, "200 "); granted == (transactional && row.apart) || !granted && !strings.Contains(got, apart) {
						t.Errorf("%s of %s, transactional: %v, with no other grant: %s", row, asker, transactional, got)
					}
				}
			})

			m.set(t, named(asker), transactional, without...)
			before := m.state(t)
			m.eachOf(t, grant, ours, func(row asked, call string) {
				if got := m.ask(t, "owner", asker, call); !strings.HasPrefix(got, `502 {"detail":"`+refusal) {
					t.Errorf("%s of %s, transactional: %v, without the grant: %s", row, asker, transactional, got)
				}
				if got := m.ask(t, "owner", other, calling(named(asker), call)); !strings.HasPrefix(got, `502 {"detail":"`+through) {
					t.Errorf("%s of %s, transactional: %v, whose caller has the grant: %s", row, asker, transactional, got)
				}
			})
			if after := m.state(t); after != before {
				t.Errorf("calls of %s that were refused, transactional: %v: %s, before %s", asker, transactional, after, before)
			}
		}
		if grant == "invoke" {
			continue // without it a script calls nobody
		}
		m.set(t, named(asker), false, without...)
		m.eachOf(t, grant, m.fill(t), func(row asked, call string) {
			if got := m.ask(t, "owner", asker, calling(other, begun(t, row, call))); !strings.HasPrefix(got, "200 ") {
				t.Errorf("%s of what %s calls, which has the grant: %s", row, asker, got)
			}
		})
	}
}

// withdrawn takes a grant from a script in the middle of its run.
func (m *matrixed) withdrawn(t *testing.T, asker string) {
	m.set(t, named(asker), false, "http", "kv")
	set := asked{service: "kv", method: "set", args: []any{"withdrawn " + asker, 1}}
	wait := asked{service: "http", method: "get", args: []any{"{web}/hold"}}
	read := asked{service: "kv", method: "get", args: set.args[:1]}
	values := map[string]string{"web": m.web}
	answer := make(chan string, 1)
	go func() {
		answer <- m.ask(t, "owner", asker, read.ask(t, values), wait.ask(t, values), set.ask(t, values))
	}()
	select {
	case <-m.held:
	case got := <-answer:
		t.Fatalf("%s does not wait: %s", asker, got)
	}
	m.set(t, named(asker), false, "http")
	m.hold <- struct{}{}
	if got := <-answer; !strings.Contains(got, `has no grant \"kv\"`) {
		t.Errorf("a run of %s whose grant was taken: %s", asker, got)
	}
	m.set(t, named(asker), false, "kv")
	if got := m.ask(t, "owner", asker, read.ask(t, values)); strings.Contains(got, "1") {
		t.Errorf("it has set the value: %s", got)
	}
}

// eachOf goes through the rows of a service.
func (m *matrixed) eachOf(t *testing.T, service string, values map[string]string, do func(row asked, call string)) {
	t.Helper()
	for _, row := range matrix {
		if row.service == service {
			do(row, row.ask(t, values))
		}
	}
}

// begun is a call that writes a large file, after that which begins it.
func begun(t *testing.T, row asked, call string) string {
	t.Helper()
	if !slices.Contains(row.args, any("{upload}")) {
		return call
	}
	return asked{service: row.service, method: "begin"}.ask(t, nil) + "," + call
}

// calling is the call of a script that is to make a call.
func calling(script, call string) string {
	return fmt.Sprintf(`{"service":"invoke","handle":null,"method":"call","name":"call","args":[%q,[%s]]}`, script, call)
}

// set says what a script has grants for, and whether it is transactional.
func (m *matrixed) set(t *testing.T, script string, transactional bool, grants ...string) {
	t.Helper()
	_, err := call[api.Script](t.Context(), &cli{data: m.data}, http.MethodPatch, client.Path("apps", "owner", "scripts", script),
		api.ScriptChange{Transactional: &transactional, Grants: &grants})
	if err != nil {
		t.Fatal(err)
	}
}

// state is all that calls of scripts may change: data, what was sent by events, contents of files and requests to the outside. Events are
// those that wait, run or have run, but for those by which the test asks.
func (m *matrixed) state(t *testing.T) string {
	t.Helper()
	var data, sent string
	err := m.db.QueryRow(t.Context(), `
SELECT md5(concat((SELECT string_agg(r::text, '' ORDER BY app, collection, key) FROM kv_entries r),
    (SELECT string_agg(r::text, '' ORDER BY app, collection, id) FROM docs r), (SELECT string_agg(r::text, '' ORDER BY id) FROM doc_indexes r),
    (SELECT string_agg(r::text, '' ORDER BY app, collection, id) FROM files r), (SELECT string_agg(r::text, '' ORDER BY app, name) FROM secrets r))),
(WITH there AS (SELECT id FROM scripts WHERE name = 'there'),
    events AS (SELECT id FROM outbox WHERE reply_to IS NULL UNION SELECT id FROM executions WHERE kind NOT IN (1, 2) OR script IN (TABLE there))
SELECT md5(string_agg(id::text, '' ORDER BY id)) FROM events)`).Scan(&data, &sent)
	if err != nil {
		t.Fatal(err)
	}
	contents := 0
	if err := filepath.WalkDir(filepath.Join(m.data, "files"), func(_ string, f fs.DirEntry, err error) error {
		if err == nil && !f.IsDir() {
			contents++
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("data %s, events %s, %d files, %d requests", data, sent, contents, m.hits.Load())
}
