package api_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/postgres"
)

// execute stores an execution that ended in success at its last attempt of three.
func (s *server) execute(t *testing.T, app, id uuid.UUID, attempt int) {
	t.Helper()
	_, err := s.pool.Exec(t.Context(), `INSERT INTO executions (id, attempt, finished_at, app, script, kind, outcome, event_id,
		root_id, accepted_at, started_at, duration_us, node, error)
		SELECT $1, $2, '2026-01-01', $3, s.id, 1, $4, $1, $1, now(), now(), 1500, 1, 'why' FROM scripts s WHERE s.app = $3 AND s.name = 'hello'`,
		id, attempt, app, map[bool]int{true: 1, false: 2}[attempt == 3])
	if err != nil {
		t.Fatal(err)
	}
}

// bury stores a dead letter.
func (s *server) bury(t *testing.T, app, id uuid.UUID) {
	t.Helper()
	_, err := s.pool.Exec(t.Context(), `INSERT INTO dead_letters (id, event_id, app, lane, target, target_kind, root_id, kind,
		priority, attempts, max_attempts, depth, timeout_ms, reason, envelope, payload, accepted_at)
		SELECT $1, $1, $2, s.id, s.id, 1, $1, 1, 0, 5, 5, 0, 1, 'exhausted', '', 'data', now() FROM scripts s
		WHERE s.app = $2 AND s.name = 'hello'`, id, app)
	if err != nil {
		t.Fatal(err)
	}
}

func TestExecutions(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	app := appNamed(s.snapshot(t), "a").ID
	id := uuid.New()
	for attempt := range 3 {
		s.execute(t, app, id, attempt+1)
		if _, err := s.pool.Exec(t.Context(), `INSERT INTO execution_bodies (id, attempt, finished_at, app, logs)
			VALUES ($1, $2, now(), $3, '[{"time":"2026-01-02T03:04:05Z","level":"info","message":"a"},{"time":"2026-01-02T03:04:05Z","level":"warn","message":"b","data":{"n":1}}]')`,
			id, attempt+1, app); err != nil {
			t.Fatal(err)
		}
	}
	var history api.ExecutionHistory
	s.want(t, 200, "GET", "/api/v1/apps/a/executions/"+id.String(), nil, &history)
	if len(history.Attempts) != 3 || history.Attempts[0].Outcome != "retried" || history.Attempts[2].Outcome != "succeeded" ||
		history.Attempts[2].DurationMS != 1.5 || history.Attempts[2].Script != "hello" {
		t.Errorf("the history is %+v", history)
	}
	for query, want := range map[string]int{"": 3, "?outcome=retried": 2, "?script=hello&outcome=succeeded": 1, "?outcome=failed": 0} {
		var page api.Page[api.Execution]
		s.want(t, 200, "GET", "/api/v1/apps/a/executions"+query, nil, &page)
		if len(page.Items) != want {
			t.Errorf("%s finds %d", query, len(page.Items))
		}
	}
	s.problem(t, 422, "GET", "/api/v1/apps/a/executions?script=nobody", nil)
	s.problem(t, 422, "GET", "/api/v1/apps/a/executions?outcome=nothing", nil)
	var logs api.Page[api.LogLine]
	s.want(t, 200, "GET", "/api/v1/apps/a/executions/"+id.String()+"/logs?limit=4", nil, &logs)
	if len(logs.Items) != 4 || logs.Items[3].Attempt != 2 || string(logs.Items[3].Data) != `{"n":1}` || logs.Items[2].Data != nil {
		t.Errorf("the logs are %+v", logs)
	}
	var rest api.Page[api.LogLine]
	s.want(t, 200, "GET", "/api/v1/apps/a/executions/"+id.String()+"/logs?cursor="+logs.NextCursor, nil, &rest)
	if len(rest.Items) != 2 || rest.NextCursor != "" || rest.Items[0].Attempt != 3 {
		t.Errorf("the rest of the logs is %+v", rest)
	}

	var usage api.ScriptUsage
	s.want(t, 200, "GET", "/api/v1/apps/a/scripts/hello/usage", nil, &usage)
	if usage.Days == nil || len(usage.Days) != 0 {
		t.Errorf("the usage of what never ran is %+v", usage)
	}
	if _, err := s.pool.Exec(t.Context(), `INSERT INTO script_usage SELECT app, id, day::date, outcome, n, 1000 * n
		FROM scripts, (VALUES ('2026-01-02', 1, 7), ('2026-01-02', 9, 2), ('2026-01-03', 1, 1)) AS x (day, outcome, n)`); err != nil {
		t.Fatal(err)
	}
	s.want(t, 200, "GET", "/api/v1/apps/a/scripts/hello/usage", nil, &usage)
	if len(usage.Days) != 2 || usage.Days[0].Day != "2026-01-03" || usage.Days[1].Attempts != 9 || usage.Days[1].DurationMS != 9 ||
		!maps.Equal(usage.Days[1].Outcomes, map[string]int64{"succeeded": 7, "failed": 2}) {
		t.Errorf("the usage is %+v", usage)
	}

	var entry api.Entry
	s.want(t, 200, "GET", "/api/v1/apps/a/entries/"+id.String(), nil, &entry)
	if entry.State != "succeeded" || entry.Attempt != 3 || entry.Last == nil || entry.Last.Error != "why" {
		t.Errorf("the ended entry is %+v", entry)
	}
	waiting := uuid.New()
	if _, err := s.pool.Exec(t.Context(), `INSERT INTO outbox (id, event_id, app, lane, target, root_id, run_at, accepted_at,
		timeout_ms, kind, state, attempt, max_attempts, envelope, last_error)
		VALUES ($1, $1, $2, $1, $1, $1, now(), now(), 1, 2, 0, 2, 5, '', 'not yet')`, waiting, app); err != nil {
		t.Fatal(err)
	}
	entry = api.Entry{}
	s.want(t, 200, "GET", "/api/v1/apps/a/entries/"+waiting.String(), nil, &entry)
	if entry.State != "scheduled" || entry.Kind != "invoke" || entry.Attempt != 2 || entry.MaxAttempts != 5 ||
		entry.LastError != "not yet" || entry.RunAt.IsZero() || entry.Last != nil {
		t.Errorf("the waiting entry is %+v", entry)
	}
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	app := appNamed(s.snapshot(t), "a").ID
	first, second := uuid.New(), uuid.New()
	s.bury(t, app, first)
	s.bury(t, app, second)
	path := "/api/v1/apps/a/dead-letters"
	var letter api.DeadLetterWithBody
	s.want(t, 200, "GET", path+"/"+first.String(), nil, &letter)
	if letter.Script != "hello" || letter.Reason != "exhausted" || letter.Body != "data" || !letter.ResolvedAt.IsZero() {
		t.Errorf("the dead letter is %+v", letter)
	}
	s.problem(t, 422, "POST", path+"/"+first.String()+"/resolve", object{"resolution": "replayed"})
	s.want(t, 200, "POST", path+"/"+first.String()+"/resolve", object{"resolution": "ignored"}, &letter)
	if letter.Resolution != "ignored" || letter.ResolvedAt.IsZero() {
		t.Errorf("the resolved dead letter is %+v", letter)
	}
	s.problem(t, 409, "POST", path+"/"+first.String()+"/resolve", object{"resolution": "ignored"})
	var open api.Page[api.DeadLetter]
	s.want(t, 200, "GET", path+"?unresolved=true", nil, &open)
	if len(open.Items) != 1 || open.Items[0].ID != second.String() {
		t.Errorf("the open dead letters are %+v", open)
	}
	var replayed api.Replayed
	s.want(t, 202, "POST", path+"/"+second.String()+"/replay", nil, &replayed)
	if replayed.ExecutionID != executionID.String() {
		t.Errorf("the replay is %+v", replayed)
	}
	if n := s.count(t, "SELECT count(*) FROM audit_log WHERE action = 'dead_letter.resolve' AND object = $1", first.String()); n != 1 {
		t.Errorf("%d rows in the audit log", n)
	}
}

func TestDeadLettersByFilter(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	app := appNamed(s.snapshot(t), "a").ID
	ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	for i, id := range ids {
		s.bury(t, app, id)
		if _, err := s.pool.Exec(t.Context(), `UPDATE dead_letters SET created_at = '2026-01-01T00:00:00Z'::timestamptz + $2 * interval '1 hour',
			cause = $3, error = $4 WHERE id = $1`, id, i, []string{"x", "x", "y"}[i], []string{"One", "two", "three"}[i]); err != nil {
			t.Fatal(err)
		}
	}
	base := "/api/v1/apps/a/"
	for query, want := range map[string]int{
		"": 3, "?script=hello": 3, "?script=" + uuid.NewString(): 0, "?reason=exhausted&cause=x": 2, "?text=ONE": 1,
		"?since=2026-01-01T01:00:00Z": 2, "?since=2026-01-01T01:00:00%2B01:00&until=2026-01-01T02:00:00Z": 2, "?reason=fatal": 0,
	} {
		var n api.Count
		s.want(t, 200, "GET", base+"dead-letter-count"+query, nil, &n)
		var page api.Page[api.DeadLetter]
		s.want(t, 200, "GET", base+"dead-letters"+query, nil, &page)
		if n.Count != want || len(page.Items) != want {
			t.Errorf("%s counts %d and lists %d, want %d", query, n.Count, len(page.Items), want)
		}
	}
	s.problem(t, 422, "GET", base+"dead-letters?script=nobody", nil)
	s.problem(t, 422, "GET", base+"dead-letter-count?since=yesterday", nil)
	var groups api.Page[api.LetterGroup]
	s.want(t, 200, "GET", base+"dead-letter-groups", nil, &groups)
	if g := groups.Items; len(g) != 2 || g[0].Cause != "x" || g[0].Count != 2 || g[0].Newest != ids[1].String() || g[0].Error != "two" {
		t.Errorf("the groups are %+v", g)
	}

	// A preview changes nothing, and a replay says how far it is.
	only := object{"cause": "x", "script": "hello"}
	var r api.Replay
	s.want(t, 202, "POST", base+"replays", object{"filter": only, "preview": true}, &r)
	if r.State != "preview" || r.Total != 2 || r.ID != "" || s.count(t, "SELECT count(*) FROM replays") != 0 {
		t.Errorf("the preview is %+v", r)
	}
	s.want(t, 202, "POST", base+"replays", object{"filter": only, "rate": 1, "stop_on_failure": true}, &r)
	if n, did, err := postgres.NewDeadLetterStore(s.pool).StepReplay(t.Context()); n != 1 || !did || err != nil {
		t.Fatalf("a step: %d, %v, %v", n, did, err)
	}
	s.want(t, 200, "GET", base+"replays/"+r.ID, nil, &r)
	if r.State != "running" || r.Total != 2 || r.Replayed != 1 || r.Rate != 1 || !r.StopOnFailure {
		t.Errorf("the replay is %+v", r)
	}
	s.want(t, 200, "POST", base+"replays/"+r.ID+"/cancel", nil, &r)
	s.problem(t, 409, "POST", base+"replays/"+r.ID+"/cancel", nil)
	var replays api.Page[api.Replay]
	s.want(t, 200, "GET", base+"replays", nil, &replays)
	if len(replays.Items) != 1 || replays.Items[0].State != "cancelled" || replays.Items[0].EndedAt.IsZero() {
		t.Errorf("the replays are %+v", replays.Items)
	}
	s.problem(t, 422, "POST", base+"replays", object{"rate": 1001})
	s.problem(t, 422, "POST", base+"replays", object{"filter": object{"script": "nobody"}})

	var closed api.Resolved
	s.want(t, 200, "POST", base+"dead-letter-resolutions", object{"filter": object{"reason": "exhausted"}, "resolution": "ignored"}, &closed)
	if closed.Resolved != 2 || closed.More {
		t.Errorf("closed %+v", closed)
	}
	s.problem(t, 422, "POST", base+"dead-letter-resolutions", object{"resolution": "replayed"})
	replay := base + "dead-letters/" + ids[0].String() + "/replay"
	s.problem(t, 422, "POST", replay, object{"body": "x", "body_base64": "eA=="})
	s.problem(t, 413, "POST", replay, object{"body": strings.Repeat("x", 6<<20+1)})
	s.want(t, 202, "POST", replay, object{"body": strings.Repeat("x", 2<<20)}, nil)
}
