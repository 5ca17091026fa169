package api_test

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/api"
)

// references are the fields and query parameters that name something of an app: what another app has must be no way in. Every
// other one is in plain. A new one has to be put in one of the two.
var references = words("script scripts route_id queue trigger sink")

// plain are the names of fields and query parameters that name nothing, or, as that of a secret, something that is only looked
// for in the app itself, whenever it is needed.
var plain = words(`transactional grants activate algorithm answer_bytes async backoff base batch body body_base64 burst calls cap cause collection concurrency
	concurrency_key config content content_base64 content_type count cpu_ms cursor data data_base64 debounce debounce_key delay delays delivery
	description enabled engine expires_in factor files filter goroutines header headers host key key_concurrency kind limit limits log_bytes
	log_lines max_attempts max_wait memory_bytes method mode name note op ops ordering_key outcome params path pattern per policy preview
	previous priority query rate rate_key reason reasons request resolution routes run_at schedule secret signature since size slug
	source state stop_on_failure events text time_zone timeout_ms to topic type unresolved until value wait weight when window`)

func words(list string) map[string]bool {
	set := map[string]bool{}
	for _, word := range strings.Fields(list) {
		set[word] = true
	}
	return set
}

// foreignRows are the bodies and queries in which each operation is given what another app has. "?" before a name: a query parameter.
// {script} and so on are replaced by a name or id of the other app.
var foreignRows = map[string]map[string]any{
	"create-route": {"script": object{"pattern": "/new", "script": "{script}"}},
	"create-queue": {"script": object{"name": "new", "script": "{script}"}},
	"create-trigger": {
		"script":         object{"name": "new", "kind": "dead_letter", "script": "{script}"},
		"route_id":       object{"name": "new", "kind": "http", "route_id": "{route}"},
		"sink":           object{"name": "new", "kind": "dead_letter", "sink": "{sink}"},
		"filter.scripts": object{"name": "new", "kind": "dead_letter", "script": "own", "filter": object{"scripts": []string{"{script}"}}},
	},
	"update-queue":            {"script": object{"script": "{script}"}},
	"update-trigger":          {"filter.scripts": object{"filter": object{"scripts": []string{"{script}"}}}},
	"start-replay":            {"filter.script": object{"filter": object{"script": "{script}"}, "preview": true}},
	"resolve-dead-letters":    {"filter.script": object{"resolution": "ignored", "filter": object{"script": "{script}"}}},
	"cancel-entries":          {"script": object{"script": "{script}"}, "queue": object{"queue": "{queue}"}, "trigger": object{"trigger": "{trigger}"}},
	"list-entries":            {"?script": nil, "?queue": nil, "?trigger": nil},
	"list-executions":         {"?script": nil},
	"list-dead-letters":       {"?script": nil},
	"list-dead-letter-groups": {"?script": nil},
	"count-dead-letters":      {"?script": nil},
}

// made are the references that say what the operation makes, or how what it tries is called.
var made = words("deploy.script try-script.script")

// TestForeignReferences gives every operation names and ids of another app wherever it takes some. The rows are checked against the
// document: a new reference without a row fails, and so does a new field that is neither a reference nor plain.
func TestForeignReferences(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	script, route := s.app(t, "mine")
	s.want(t, 201, "POST", "/api/v1/apps/mine/scripts", object{"name": "theirs-not"}, nil)
	var queue api.Queue
	s.want(t, 201, "POST", "/api/v1/apps/mine/queues", object{"name": "q", "script": "hello"}, &queue)
	var sink api.Sink
	s.want(t, 201, "POST", "/api/v1/apps/mine/sinks", object{"name": "k", "kind": "http", "config": object{}}, &sink)
	var trigger api.Trigger
	s.want(t, 201, "POST", "/api/v1/apps/mine/triggers", object{"name": "t", "kind": "dead_letter", "script": "hello"}, &trigger)
	s.want(t, 201, "POST", "/api/v1/apps", object{"slug": "theirs"}, nil)
	s.want(t, 201, "POST", "/api/v1/apps/theirs/scripts", object{"name": "own"}, nil)
	s.want(t, 201, "POST", "/api/v1/apps/theirs/queues", object{"name": "own", "script": "own"}, nil)
	s.want(t, 201, "POST", "/api/v1/apps/theirs/sinks", object{"name": "own", "kind": "http", "config": object{}}, nil)
	s.want(t, 201, "POST", "/api/v1/apps/theirs/triggers", object{"name": "own", "kind": "dead_letter", "script": "own"}, nil)

	id := uuid.New()
	s.execute(t, appNamed(s.snapshot(t), "mine").ID, id, 3)
	s.bury(t, appNamed(s.snapshot(t), "mine").ID, id)
	foreign := []map[string]string{
		{"script": script.ID, "route": route.ID, "queue": queue.ID, "trigger": trigger.ID, "sink": sink.ID},
		{"script": "theirs-not", "route": route.ID, "queue": "q", "trigger": "t", "sink": "k"},
	}
	version, audited := s.count(t, "SELECT version FROM config"), s.count(t, "SELECT count(*) FROM audit_log")
	doc := fetchDocument(t, s)
	for path, operations := range doc.Paths {
		for method, op := range operations {
			if !strings.Contains(path, "{app}") {
				continue
			}
			found := slices.Sorted(maps.Keys(doc.named(t, &op)))
			rows := slices.Sorted(maps.Keys(foreignRows[op.OperationID]))
			if !slices.Equal(found, rows) {
				t.Errorf("%s names others by %v, but the rows are %v", op.OperationID, found, rows)
			}
			path := strings.NewReplacer("{app}", "theirs", "{trigger}", "own", "{queue}", "own", "{sink}", "own").Replace(path)
			for _, row := range rows {
				for _, values := range foreign {
					s.refuses(t, strings.ToUpper(method), path, row, foreignRows[op.OperationID][row], values)
				}
			}
		}
	}
	if after := s.count(t, "SELECT version FROM config"); after != version {
		t.Error("the requests changed the configuration")
	}
	if n := s.count(t, "SELECT count(*) FROM audit_log WHERE detail->>'count' IS DISTINCT FROM '0'"); n != audited {
		t.Errorf("%d changes, then %d", audited, n)
	}
	if n := s.count(t, "SELECT count(*) FROM dead_letters WHERE resolved_at IS NULL"); n != 1 {
		t.Errorf("%d dead letters of another app are open", n)
	}
}

// refuses sends a request that names something of another app.
func (s *server) refuses(t *testing.T, method, path, row string, body any, values map[string]string) {
	t.Helper()
	if param, is := strings.CutPrefix(row, "?"); is {
		path += "?" + param + "=" + url.QueryEscape(values[param])
	}
	r := s.do(t, method, path, fill(body, values))
	// A filter that names nothing of the app may find nothing instead.
	empty := r.status < 300 && regexp.MustCompile(`"(items":\[\]|(count|total|resolved)":0\b)`).Match(r.body)
	if r.status != 404 && r.status != 422 && !empty {
		t.Errorf("%s %s with %s %v of another app: %d %s", method, path, row, values, r.status, r.body)
	}
}

// fill replaces placeholders in a body.
func fill(v any, values map[string]string) any {
	switch v := v.(type) {
	case object:
		out := object{}
		for name, member := range v {
			out[name] = fill(member, values)
		}
		return out
	case []string:
		return []string{fill(v[0], values).(string)}
	case string:
		if name, is := strings.CutPrefix(v, "{"); is {
			return values[strings.TrimSuffix(name, "}")]
		}
	}
	return v
}

// named are the references of an operation, by where they are: "filter.script", "?queue".
func (d *document) named(t *testing.T, op *documented) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	note := func(where, name string) {
		switch {
		case made[op.OperationID+"."+where]:
		case references[name]:
			found[where] = true
		case !plain[name]:
			t.Errorf("%s takes %s: say in the tables of this test whether it names something of an app", op.OperationID, where)
		}
	}
	for _, p := range op.Parameters {
		if p.In == "query" {
			note("?"+p.Name, p.Name)
		}
	}
	if op.RequestBody != nil {
		for _, media := range op.RequestBody.Content {
			d.fields(media.Schema, "", note)
		}
	}
	return found
}

// fields walks the fields of a schema, whose schemas do not contain themselves.
func (d *document) fields(s shape, at string, note func(where, name string)) {
	if s.Ref != "" {
		s = d.Components.Schemas[s.Ref[strings.LastIndex(s.Ref, "/")+1:]]
	}
	if s.Items != nil {
		d.fields(*s.Items, at, note)
	}
	for name, property := range s.Properties {
		if name == "$schema" {
			continue
		}
		note(at+name, name)
		d.fields(property, at+name+".", note)
	}
}

// Nobody says in a body who he is, or whose something is.
func TestMassAssignment(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	s.want(t, 201, "POST", "/api/v1/apps/a/queues", object{"name": "q", "script": "hello"}, nil)
	s.want(t, 201, "POST", "/api/v1/apps/a/triggers", object{"name": "t", "kind": "dead_letter", "script": "hello"}, nil)
	audited := s.count(t, "SELECT count(*) FROM audit_log")
	id := uuid.NewString()
	values := map[string]string{
		"secret": "KEY", "queue": "q", "trigger": "t", "sink": "k", "source": "f", "replay": id, "script": "hello", "number": "1", "route": id, "host": "a.example.com",
		"execution": id, "entry": id, "dead_letter": id,
	}
	bodies := 0
	for _, c := range calls(t, s, "a", values) {
		body, ok := c.body.(object)
		if !ok {
			continue
		}
		bodies++
		for _, field := range []string{
			"app", "app_id", "App_ID", "id", "role", "owner", "verified", "registered_by", "registeredBy", "principal", "created_at", "is_admin",
		} {
			more := maps.Clone(body)
			more[field] = id
			if r := s.do(t, c.method, c.path, more); r.status != 422 || !strings.Contains(string(r.body), field) {
				t.Errorf("%s with the field %s: %d %s", c.id, field, r.status, r.body)
			}
		}
	}
	if bodies < 20 || s.count(t, "SELECT count(*) FROM audit_log") != audited {
		t.Error(fmt.Sprint(bodies, " bodies were tried, or one of them changed something"))
	}
}
