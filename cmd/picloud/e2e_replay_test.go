package main

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/coretest"
)

// replayed is one dead letter that is put back.
type replayed struct {
	as     string  // whose it was: a user, or empty: it came from outside
	body   *string // in place of its own
	all    bool    // with others, some a second
	runs   bool    // the script is started
	acts   bool    // it may use what its grants do not say
	reason string  // why it is a dead letter again
}

// TestReplayGainsNothing puts dead letters back that were accepted for nobody and for users, of whom some are not there any more. Whoever
// does so, it is not his rights that the run has: it acts for whom it was accepted, if he is there and active now, and for nobody by
// the grants that the script has now. It answers nobody, and the log says who did it, and whether he changed the data. He may: a letter
// that failed for what is in it could not be mended otherwise. What he may not change is anything else of it, see TestReplayTakesNothingElse
// in core/api, and who may at all is told by TestWhoReplays there.
func TestReplayGainsNothing(t *testing.T) {
	t.Parallel()
	database := coretest.EmptyURL(t)
	n := start(t, setup{command: "dev", data: coretest.DataDir(t), database: database})
	db, err := pgxpool.New(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	users := map[string]uuid.UUID{"": uuid.Nil, "ada": uuid.New(), "left": uuid.New(), "gone": uuid.New()}
	var owner uuid.UUID
	if err := db.QueryRow(t.Context(), `SELECT id FROM users`).Scan(&owner); err != nil {
		t.Fatal(err)
	}
	users["owner"] = owner
	if _, err := db.Exec(t.Context(), `INSERT INTO users (id, name, role, active) VALUES ($1, 'ada', 'member', true), ($2, 'left', 'owner', false)`,
		users["ada"], users["left"]); err != nil {
		t.Fatal(err)
	}

	mended, empty := "mended", ""
	var table []replayed
	for _, as := range []replayed{
		{as: "", runs: true, reason: "fatal"},
		{as: "ada", runs: true, acts: true},
		{as: "owner", runs: true, acts: true},
		{as: "left", reason: "principal_inactive"},
		{as: "gone", reason: "principal_inactive"},
	} {
		for _, as.all = range []bool{false, true} {
			for _, as.body = range []*string{nil, &mended, &empty} {
				if !as.all || as.body == nil { // several are not edited
					table = append(table, as)
				}
			}
		}
	}
	names := map[bool]string{false: "one", true: "all"}
	for _, name := range names {
		n.command("deploy", script(t, name, `return nil, picloud.Fatal(errors.New("broken"))`, "errors"), "--name", name, "--route", "POST /"+name)
	}
	letters := make([]uuid.UUID, len(table))
	for i, row := range table {
		answer := n.with(http.MethodPost, "/"+names[row.all], fmt.Sprint(i), "Prefer", "respond-async")
		id, result := taken(t, answer)
		if got := n.with(http.MethodGet, result+"&wait=60s", ""); got.status != http.StatusBadGateway {
			t.Fatal(got)
		}
		letters[i] = uuid.MustParse(id)
		if _, err := db.Exec(t.Context(), `UPDATE dead_letters SET principal = nullif($2::uuid, '00000000-0000-0000-0000-000000000000') WHERE id = $1`,
			id, users[row.as]); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		n.command("deploy", script(t, name, `body := string(ctx.Request.Body)
	if _, err := ctx.Queue("held").Send(body); err != nil {
		return nil, picloud.Fatal(err)
	}
	if _, err := ctx.KV("acted").Increment("by "+body, 1); err != nil {
		return nil, picloud.Fatal(err)
	}
	return body, nil`), "--name", name)
		n.command("scripts", "grants", name, "--only", "queue")
	}
	n.command("queues", "create", "held", "--script", "one")
	n.command("queues", "pause", "held")
	results := func() (text string) {
		if err := db.QueryRow(t.Context(), `SELECT string_agg(r::text, '' ORDER BY id) FROM results r`).Scan(&text); err != nil {
			t.Fatal(err)
		}
		return text
	}
	before := results()

	for i, row := range table {
		if row.all {
			continue
		}
		_, err := call[api.Replayed](t.Context(), &cli{data: n.data}, http.MethodPost,
			client.Path("apps", "default", "dead-letters", letters[i].String(), "replay"), api.NewReplay{Body: row.body})
		if err != nil {
			t.Fatal(err)
		}
	}
	n.command("dead-letters", "replay-all", "--script", "all", "--rate", "1000")
	for i, row := range table {
		n.gained(t, db, row, letters[i], fmt.Sprint(i), users[row.as])
		if row.all {
			continue
		}
		var log int
		if err := db.QueryRow(t.Context(), `SELECT count(*) FROM audit_log WHERE action = 'dead_letter.replay' AND object = $1 AND actor = $2
			AND detail = jsonb_build_object('edited', $3::boolean)`, letters[i].String(), owner, row.body != nil).Scan(&log); err != nil || log != 1 {
			t.Errorf("%+v is %d times in the log, %v", row, log, err)
		}
	}
	var log int
	if err := db.QueryRow(t.Context(), `SELECT count(*) FROM audit_log WHERE action = 'replay.start' AND actor = $1`, owner).Scan(&log); err != nil || log != 1 {
		t.Errorf("the replay of all is %d times in the log, %v", log, err)
	}
	if after := results(); after != before {
		t.Errorf("a caller's answer is another: %s, before %s", after, before)
	}
}

// gained checks what became of a letter that was put back.
func (n *instance) gained(t *testing.T, db *pgxpool.Pool, row replayed, letter uuid.UUID, body string, as uuid.UUID) {
	t.Helper()
	var succeeded, replied bool
	var reason string
	await(t, "what was put back has ended", func() bool {
		return db.QueryRow(t.Context(), `SELECT e.outcome = 1, e.reason, EXISTS (SELECT 1 FROM results r WHERE r.id = e.id) FROM dead_letters d
			JOIN executions e ON e.id = d.replayed_as AND e.outcome <> 2 WHERE d.id = $1`, letter).Scan(&succeeded, &reason, &replied) == nil
	})
	if succeeded != (row.reason == "") || reason != row.reason || replied {
		t.Errorf("%+v: succeeded %v, %q, has an answer: %v", row, succeeded, reason, replied)
	}
	if row.body != nil {
		body = *row.body
	}
	// What the run has sent acts for whom the run has acted.
	rows, err := db.Query(t.Context(), `SELECT coalesce(o.principal, '00000000-0000-0000-0000-000000000000'), convert_from(o.payload, 'UTF8')
		FROM outbox o JOIN dead_letters d ON o.root_id = d.root_id WHERE d.id = $1`, letter)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	sent := 0
	for ; rows.Next(); sent++ {
		var principal uuid.UUID
		var payload string
		if err := rows.Scan(&principal, &payload); err != nil || principal != as || payload != body {
			t.Errorf("%+v has sent %q as %s, want %q as %s, %v", row, payload, principal, body, as, err)
		}
	}
	if (sent == 1) != row.runs || sent > 1 {
		t.Errorf("%+v: %d messages were sent", row, sent)
	}
	var acted int
	if err := db.QueryRow(t.Context(), `SELECT count(*) FROM kv_entries WHERE collection = 'acted' AND key = $1`, "by "+body).Scan(&acted); err != nil {
		t.Fatal(err)
	}
	if edited := row.body != nil; acted > 0 != row.acts && !edited { // others have the same data
		t.Errorf("%+v: has acted %d times", row, acted)
	}
}
