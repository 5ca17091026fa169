package api_test

import (
	"encoding/json"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/coretest"
)

// canary is in what the other app has. No answer may hold it.
const canary = "canary-7d1f"

// furnished makes an app that has one of each kind of thing, all with the same names, and returns them as parameters of paths.
func (s *server) furnished(t *testing.T, app, script, note string) map[string]string {
	t.Helper()
	base := "/api/v1/apps/" + app
	s.want(t, 201, "POST", "/api/v1/apps", object{"slug": app}, nil)
	s.want(t, 201, "POST", base+"/domains", object{"host": script + ".example.com"}, nil)
	var made api.Deployed
	s.want(t, 200, "POST", base+"/deploy", object{
		"script": script, "files": []object{{"name": "main.go", "content": note}}, "routes": []object{{"method": "get", "pattern": "/" + script}},
	}, &made)
	s.want(t, 201, "POST", base+"/queues", object{"name": script + "-q", "script": script}, nil)
	s.want(t, 201, "POST", base+"/triggers", object{"name": script + "-t", "kind": "dead_letter", "script": script}, nil)
	s.want(t, 200, "POST", base+"/secrets", object{"name": strings.ToUpper(script), "value": note}, nil)
	s.want(t, 201, "POST", base+"/sinks", object{"name": script + "-s", "kind": "http", "config": object{}}, nil)
	s.want(t, 201, "POST", base+"/sources", object{"name": script + "-f", "kind": "smtp", "config": object{}}, nil)
	id := uuid.New()
	return map[string]string{
		"app": app, "slug": app, "script": script, "number": "1", "route": made.Routes[0].ID, "host": script + ".example.com", "queue": script + "-q", "trigger": script + "-t",
		"secret": strings.ToUpper(script), "sink": script + "-s", "source": script + "-f", "replay": id.String(), "execution": id.String(), "entry": id.String(),
		"dead_letter": id.String(),
	}
}

var pathParam = regexp.MustCompile(`\{(\w+)\}`)

// TestHostilePaths names in every parameter of every path what is nearly the name of something: of what the app has, and of what
// another has. Nothing is found, nothing changes, and nothing is sent elsewhere: a path that says "up" is none.
func TestHostilePaths(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	theirs := s.furnished(t, "mine", "hello", canary)
	ours := s.furnished(t, "ours", "own", "")
	version, audited := s.count(t, "SELECT version FROM config"), s.count(t, "SELECT count(*) FROM audit_log")
	for pattern, operations := range fetchDocument(t, s).Paths {
		for method, op := range operations {
			for _, found := range pathParam.FindAllStringSubmatch(pattern, -1) {
				param := found[1]
				if theirs[param] == "" {
					t.Errorf("%s has the parameter %s: say what the apps have of it", pattern, param)
					continue
				}
				for _, known := range []map[string]string{theirs, ours} {
					if param == "host" && known["app"] == "ours" {
						continue // names of hosts are the same in any case
					}
					for _, name := range coretest.HostileNames(known[param]) {
						if parsed, err := uuid.Parse(name); err == nil && parsed.String() == known[param] {
							continue // ids are the same in any case
						}
						forms := []string{url.PathEscape(name), strings.ReplaceAll(url.PathEscape(name), ".", "%2E")}
						for _, escaped := range slices.Compact(forms) {
							path := pathParam.ReplaceAllStringFunc(pattern, func(p string) string {
								if p = strings.Trim(p, "{}"); p == param {
									return escaped
								}
								return ours[p]
							})
							r := s.do(t, strings.ToUpper(method), path, bodies[op.OperationID])
							if r.status < 400 || r.status >= 500 || strings.Contains(string(r.body), canary) {
								t.Errorf("%s %.200s: %d %.200s", method, path, r.status, r.body)
							}
						}
					}
				}
			}
		}
	}
	if after := s.count(t, "SELECT version FROM config"); after != version || s.count(t, "SELECT count(*) FROM audit_log") != audited {
		t.Errorf("the requests changed something: version %d, then %d", version, after)
	}
	if n := s.count(t, "SELECT count(*) FROM apps WHERE deleted_at IS NULL"); n != 2 {
		t.Errorf("%d apps are left", n)
	}
}

// TestHostileTexts puts hostile names into every text of every body and query. Each is refused, or stored as it is: it comes back to
// the byte, and nothing of another app with it.
func TestHostileTexts(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.furnished(t, "mine", "hello", canary)
	ours := s.furnished(t, "ours", "own", "")
	go s.drain(t)
	doc := fetchDocument(t, s)
	fields, tried, stored := 0, 0, 0
	some := func() (names []string) { // a part of all for each text; the next has others
		fields++
		for i, name := range coretest.HostileNames("hello") {
			if (i+fields)%4 == 0 {
				names = append(names, name)
			}
		}
		tried += len(names)
		return names
	}
	for _, pattern := range slices.Sorted(maps.Keys(doc.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(doc.Paths[pattern])) {
			op := doc.Paths[pattern][method]
			path := pathParam.ReplaceAllStringFunc(pattern, func(p string) string { return url.PathEscape(ours[strings.Trim(p, "{}")]) })
			for _, p := range op.Parameters {
				if p.In != "query" || slices.Contains([]string{"limit"}, p.Name) {
					continue
				}
				for _, name := range some() {
					r := s.do(t, strings.ToUpper(method), path+"?"+p.Name+"="+url.QueryEscape(name), bodies[op.OperationID])
					if r.status >= 500 || strings.Contains(string(r.body), canary) {
						t.Errorf("%s with %s=%.80q: %d %.200s", op.OperationID, p.Name, name, r.status, r.body)
					}
				}
			}
			if op.RequestBody == nil {
				continue
			}
			for _, media := range op.RequestBody.Content {
				doc.texts(media.Schema, nil, func(at []string) {
					for _, name := range some() {
						body := with(bodies[op.OperationID], at, name)
						r := s.do(t, strings.ToUpper(method), path, body)
						if r.status >= 500 || strings.Contains(string(r.body), canary) {
							t.Errorf("%s with %s %.80q: %d %.300s", op.OperationID, at, name, r.status, r.body)
						}
						var answer object
						if r.status >= 300 || json.Unmarshal(r.body, &answer) != nil {
							continue
						}
						if back, told := answer[at[0]].(string); told && len(at) == 1 && name != "" { // which is as good as absent
							if stored++; back != name && (op.OperationID != "claim-domain" || !sameHost(back, name)) {
								t.Errorf("%s with %s %.80q stores %.80q", op.OperationID, at, name, back)
							}
						}
					}
				})
			}
		}
	}
	t.Logf("%d texts, of which %d were stored", tried, stored)
}

// sameHost reports whether two names of a host differ in the case of letters of ASCII, or in the last dot, only.
func sameHost(a, b string) bool {
	b = strings.TrimSuffix(b, ".")
	return len(a) == len(b) && strings.EqualFold(a, b)
}

// drain takes what scripts and queues are asked for, until the end of the test.
func (s *server) drain(t *testing.T) {
	for {
		select {
		case <-s.invoked:
		case <-s.sent:
		case <-s.fired:
		case <-t.Context().Done():
			return
		}
	}
}

// texts walks the texts of a schema, whose schemas do not contain themselves. An element of a list is its first.
func (d *document) texts(s shape, at []string, do func(at []string)) {
	if s.Ref != "" {
		s = d.Components.Schemas[s.Ref[strings.LastIndex(s.Ref, "/")+1:]]
	}
	if s.Items != nil {
		d.texts(*s.Items, append(slices.Clone(at), "0"), do)
	}
	if s.Type == "string" && len(at) > 0 {
		do(at)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if name != "$schema" {
			d.texts(s.Properties[name], append(slices.Clone(at), name), do)
		}
	}
}

// with is a body in which a text stands at a place.
func with(body any, at []string, text string) any {
	if len(at) == 0 {
		return text
	}
	if at[0] == "0" {
		var first any
		if list, ok := body.([]object); ok && len(list) > 0 {
			first = list[0]
		}
		return []any{with(first, at[1:], text)}
	}
	out := object{}
	if members, ok := body.(object); ok {
		for name, member := range members {
			out[name] = member
		}
	}
	out[at[0]] = with(out[at[0]], at[1:], text)
	return out
}
