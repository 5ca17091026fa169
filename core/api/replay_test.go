package api_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/auth"
)

// Dead letters are put back by who may do just that: being there, seeing the app, reading its logs or changing its scripts is not enough.
// As whom they run then is told by TestReplayGainsNothing in cmd/picloud.
func TestWhoReplays(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	s.app(t, "b")
	app, other := appNamed(s.snapshot(t), "a").ID, appNamed(s.snapshot(t), "b").ID
	letter := uuid.New()
	s.bury(t, app, letter)
	narrow := slices.DeleteFunc(slices.Clone(auth.Scopes), func(s auth.Scope) bool { return s == auth.ScopeAppAdmin })
	started := 0
	for _, user := range []struct {
		name   string
		role   auth.Role
		active bool
	}{{"an owner", auth.RoleOwner, true}, {"an admin", auth.RoleAdmin, true}, {"a member", auth.RoleMember, true}, {"who has left", auth.RoleOwner, false}} {
		id := uuid.New()
		if _, err := s.pool.Exec(t.Context(), `INSERT INTO users (id, name, role, active) VALUES ($1, $2, $3, $4)`, id, user.name, user.role, user.active); err != nil {
			t.Fatal(err)
		}
		for _, of := range []struct {
			name string
			app  uuid.UUID
		}{{"all apps", uuid.Nil}, {"this app", app}, {"another app", other}} {
			for _, scopes := range [][]auth.Scope{auth.Scopes, {auth.ScopeAppAdmin}, narrow, {}} {
				want := 202
				switch {
				case !user.active:
					want = 401
				case user.role == auth.RoleMember, of.app == other:
					want = 404
				case user.role == auth.RoleAdmin, !slices.Contains(scopes, auth.ScopeAppAdmin):
					want = 403
				}
				token := s.keyOf(t, id, of.app, scopes)
				for path, body := range map[string]any{
					"dead-letters/" + letter.String() + "/replay": object{}, "replays": object{"filter": object{"cause": "nothing"}},
				} {
					r := s.do(t, "POST", "/api/v1/apps/a/"+path, body, "Authorization", "Bearer "+token)
					if r.status != want {
						t.Errorf("%s, with a key of %s and %v: %s: %d %s, want %d", user.name, of.name, scopes, path, r.status, r.body, want)
					}
				}
				if want == 202 {
					started++
				}
				if n := s.count(t, `SELECT count(*) FROM audit_log WHERE action = 'replay.start' AND actor = $1 AND app = $2`, id, app); n != started && want == 202 {
					t.Errorf("%d of %d replays are in the log", n, started)
				}
			}
		}
	}
	if n := s.count(t, `SELECT count(*) FROM replays`); n != started || n != 4 {
		t.Errorf("%d replays, %d were let through", n, started)
	}
}

// A replay says what the data is to be, and nothing else of what runs.
func TestReplayTakesNothingElse(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	letter := uuid.New()
	s.bury(t, appNamed(s.snapshot(t), "a").ID, letter)
	for _, field := range []string{
		"principal", "user", "as", "script", "target", "sink", "trigger", "app", "version", "headers", "envelope", "event_id", "root_id", "depth",
		"max_attempts", "timeout_ms", "reply_to", "wait", "sync", "async",
	} {
		for path, body := range map[string]object{
			"dead-letters/" + letter.String() + "/replay": {field: letter.String()}, "replays": {field: letter.String()},
		} {
			s.problem(t, 422, "POST", "/api/v1/apps/a/"+path, body)
		}
	}
	if n := s.count(t, `SELECT count(*) FROM replays`); n != 0 {
		t.Errorf("%d replays", n)
	}
	s.problem(t, 422, "POST", "/api/v1/apps/a/replays", object{"body": "edited"}) // only one letter is edited at a time
}
