package dispatcher_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/sdk/fault"
)

// drawn are calls on a few values and documents, as random has it.
func drawn(random *rand.Rand) (calls []drawnCall) {
	ids := []string{"0190d1a4-7c1e-7b7e-9d2b-3f6a1c0e5b11", "0190d1a4-7c1e-7b7e-9d2b-3f6a1c0e5b12"}
	for range 1 + random.IntN(12) {
		c := drawnCall{
			[]string{
				"kv.get", "kv.has", "kv.set", "kv.delete", "kv.increment", "docs.create", "docs.get", "docs.update", "docs.delete",
			}[random.IntN(9)],
			map[string]any{"collection": "c"},
		}
		service, method, _ := strings.Cut(c.what, ".")
		if service == "kv" {
			c.args["key"] = fmt.Sprint(random.IntN(2))
		} else {
			c.args["id"] = ids[random.IntN(2)]
		}
		switch c.what {
		case "kv.set":
			c.args["value"] = []any{1, "s", nil, map[string]any{"a": "<"}, 1e20, -3}[random.IntN(6)]
		case "kv.increment":
			c.args["by"] = []int64{1, -5, 1e15, 0}[random.IntN(4)]
		case "docs.create", "docs.update":
			c.args["data"] = map[string]any{"n": random.IntN(5)}
		}
		if service == "kv" && (method == "set" || method == "increment") && random.IntN(3) == 0 {
			c.args["ttl_ms"] = 3_600_000
		}
		if method == "delete" || c.what == "kv.set" || c.what == "docs.update" {
			if v := []any{nil, "last", 0, 12345}[random.IntN(4)]; v != nil {
				c.args["if_version"] = v
			}
		}
		calls = append(calls, c)
	}
	return calls
}

type drawnCall struct {
	what string
	args map[string]any
}

// follow makes calls one after the other, and returns what each was told, but for versions and times. A required version "last" is the one
// that was told last.
func follow(calls []drawnCall, call func(string, any) (map[string]any, error)) (told []string) {
	versions := map[string]any{}
	for _, c := range calls {
		args := maps.Clone(c.args)
		row := fmt.Sprint(args["key"], args["id"])
		if args["if_version"] == "last" {
			args["if_version"] = versions[row]
			if versions[row] == nil {
				args["if_version"] = 0
			}
		}
		answer, err := call(c.what, args)
		if err != nil {
			told = append(told, fmt.Sprint(c, " fails: ", fault.From(err).Kind, fault.From(err).Message))
			continue
		}
		view := answer
		if doc, is := answer["doc"].(map[string]any); is {
			view = doc
		}
		if v, is := view["version"].(float64); is {
			versions[row], view["version"] = v, v != 0
		}
		for _, at := range []string{"created_at", "updated_at", "expires_at"} {
			if view[at] != nil {
				view[at] = "a time"
			}
		}
		text, _ := json.Marshal(answer)
		told = append(told, fmt.Sprint(c, " is told ", string(text)))
	}
	return told
}

// A transactional run is told what another would be told, call by call, and leaves the same behind.
func TestUnitIsLikeNone(t *testing.T) {
	t.Parallel()
	var calls []drawnCall
	h := func(call func(string, any) (map[string]any, error), _ []byte) (any, error) {
		return follow(calls, call), nil
	}
	with, without := startBank(t, "", uuid.New(), h), startBank(t, "", uuid.New(), h)
	without.script.Transactional = false
	left := func(b *bank) (rows string) {
		t.Helper()
		err := b.pool.QueryRow(t.Context(), `SELECT coalesce(string_agg(row, ' ' ORDER BY row), '') FROM (
    SELECT key || value || (expires_at IS NULL) AS row FROM kv_entries UNION ALL SELECT id || data::text FROM docs) x`).Scan(&rows)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.pool.Exec(t.Context(), `DELETE FROM kv_entries`); err != nil {
			t.Fatal(err)
		}
		if _, err := b.pool.Exec(t.Context(), `DELETE FROM docs`); err != nil {
			t.Fatal(err)
		}
		return rows
	}
	for seed := range uint64(150) {
		calls = drawn(rand.New(rand.NewPCG(seed, 0)))
		var told [2][]string
		for i, b := range []*bank{with, without} {
			text, f := b.ask(t, `{}`)
			if f != nil {
				t.Fatalf("seed %d: %v", seed, f)
			}
			if err := json.Unmarshal([]byte(text), &told[i]); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(told[0], told[1]) {
			t.Errorf("seed %d: transactional\n%s\nand not\n%s", seed, strings.Join(told[0], "\n"), strings.Join(told[1], "\n"))
		}
		if a, b := left(with), left(without); a != b {
			t.Errorf("seed %d: transactional leaves %s, and not: %s", seed, a, b)
		}
	}
}
