package postgres_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/tenant"
)

// drawer is a collection of values, in the hands of a live node.
type drawer struct {
	*testing.T
	*postgres.KVStore
	pool  *pgxpool.Pool
	owner int64
	place data.Place
}

func newDrawer(t *testing.T) *drawer {
	t.Helper()
	pool := coretest.DB(t)
	d := &drawer{T: t, KVStore: postgres.NewKVStore(pool), pool: pool, place: data.Place{App: uuid.New(), Collection: "c", Key: "k"}}
	if err := pool.QueryRow(t.Context(), `INSERT INTO nodes (name) VALUES ('n') RETURNING epoch`).Scan(&d.owner); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *drawer) at(key string) data.Place { p := d.place; p.Key = key; return p }

func (d *drawer) set(key, value string, ttl time.Duration, required *int64) (int64, error) {
	v, _, err := d.Set(d.Context(), d.owner, data.Write{Place: d.at(key), Value: []byte(value), TTL: ttl, If: required}, nil)
	return v, err
}

// expire has the time of a value be over.
func (d *drawer) expire(key string) {
	d.Helper()
	tag, err := d.pool.Exec(d.Context(), `UPDATE kv_entries SET expires_at = now() - interval '2 minutes' WHERE app = $1 AND key = $2`, d.place.App, key)
	if err != nil || tag.RowsAffected() != 1 {
		d.Fatal(tag, err)
	}
}

func ptr(v int64) *int64 { return &v }

func TestKV(t *testing.T) {
	t.Parallel()
	d := newDrawer(t)
	ctx := t.Context()
	if i, err := d.Get(ctx, d.at("k")); err != nil || i.Version != 0 || i.Value != nil {
		t.Errorf("nothing is %+v, %v", i, err)
	}
	first, err := d.set("k", `{"a": 1}`, time.Hour, ptr(0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.set("k", `2`, 0, ptr(0)); !errors.Is(err, data.ErrConflict) {
		t.Errorf("a second first value: %v", err)
	}
	second, err := d.set("k", `2`, 0, ptr(first))
	if err != nil || second == first {
		t.Fatal(second, err)
	}
	if _, err := d.set("k", `3`, 0, ptr(first)); !errors.Is(err, data.ErrConflict) {
		t.Errorf("over an older version: %v", err)
	}
	if i, err := d.Get(ctx, d.at("k")); err != nil || string(i.Value) != "2" || i.Version != second || !i.ExpiresAt.IsZero() {
		t.Errorf("%+v, %v", i, err)
	}
	// Another app and another collection have values of their own.
	for _, p := range []data.Place{{App: uuid.New(), Collection: "c", Key: "k"}, {App: d.place.App, Collection: "d", Key: "k"}} {
		if i, err := d.Get(ctx, p); err != nil || i.Version != 0 {
			t.Errorf("%+v has %+v, %v", p, i, err)
		}
		if deleted, _, err := d.Delete(ctx, d.owner, p, nil, nil); deleted || err != nil {
			t.Errorf("%+v: deleted %v, %v", p, deleted, err)
		}
	}
	if _, _, err := d.Delete(ctx, d.owner, d.at("k"), ptr(first), nil); !errors.Is(err, data.ErrConflict) {
		t.Errorf("deleting an older version: %v", err)
	}
	if deleted, _, err := d.Delete(ctx, d.owner, d.at("k"), ptr(second), nil); !deleted || err != nil {
		t.Error(deleted, err)
	}
	if deleted, _, err := d.Delete(ctx, d.owner, d.at("k"), nil, nil); deleted || err != nil {
		t.Error(deleted, err)
	}
	again, err := d.set("k", `1`, 0, nil)
	if err != nil || again == first || again == second {
		t.Errorf("a version is used twice: %d, %v", again, err)
	}
}

func TestKVExpires(t *testing.T) {
	t.Parallel()
	d := newDrawer(t)
	ctx := t.Context()
	for _, key := range []string{"a", "b", "c", "stays"} {
		if _, err := d.set(key, `7`, time.Hour, nil); err != nil {
			t.Fatal(err)
		}
		if key != "stays" {
			d.expire(key)
		}
	}
	if has, err := d.Has(ctx, d.at("a")); has || err != nil {
		t.Error(has, err)
	}
	if items, _, err := d.List(ctx, d.place.App, "c", "", "", 10); err != nil || len(items) != 1 || items[0].Key != "stays" {
		t.Errorf("%+v, %v", items, err)
	}
	if _, err := d.set("a", `8`, 0, ptr(0)); err != nil {
		t.Errorf("over what has expired: %v", err)
	}
	if sum, _, err := d.Increment(ctx, d.owner, d.at("b"), 2, 0, nil); err != nil || sum != 2 {
		t.Errorf("it counts from %d, %v", sum-2, err)
	}
	if n, err := d.Expire(ctx, 10); err != nil || n != 1 {
		t.Errorf("%d are removed, %v", n, err)
	}
	if i, err := d.Get(ctx, d.at("a")); err != nil || string(i.Value) != "8" {
		t.Errorf("%+v, %v", i, err)
	}
}

func TestKVIncrement(t *testing.T) {
	t.Parallel()
	d := newDrawer(t)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 10 {
				if _, _, err := d.Increment(t.Context(), d.owner, d.at("n"), 3, 0, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if sum, _, err := d.Increment(t.Context(), d.owner, d.at("n"), -1, 0, nil); err != nil || sum != 599 {
		t.Errorf("%d, %v", sum, err)
	}
	for _, value := range []string{`"7"`, `1.5`, `null`, `[1]`, `12345678901234567`} {
		if _, err := d.set("x", value, 0, nil); err != nil {
			t.Fatal(err)
		}
		if _, _, err := d.Increment(t.Context(), d.owner, d.at("x"), 1, 0, nil); !errors.Is(err, data.ErrNoNumber) {
			t.Errorf("%s: %v", value, err)
		}
	}
	for _, sign := range []int64{1, -1} { // beyond this not every language counts exactly
		if _, err := d.set("x", fmt.Sprint(sign*(data.MaxSum-1)), 0, nil); err != nil {
			t.Fatal(err)
		}
		if sum, _, err := d.Increment(t.Context(), d.owner, d.at("x"), sign, 0, nil); err != nil || sum != sign*data.MaxSum {
			t.Errorf("%d, %v", sum, err)
		}
		if sum, _, err := d.Increment(t.Context(), d.owner, d.at("x"), sign, 0, nil); !errors.Is(err, data.ErrNoNumber) {
			t.Errorf("%d, %v", sum, err)
		}
	}
}

func TestKVList(t *testing.T) {
	t.Parallel()
	d := newDrawer(t)
	keys := []string{"a", "a/1", "a/2", "a/é", "a/\U0010FFFF", "a/\U0010FFFFx", "a0", "b", "\U0010FFFF"}
	for _, key := range keys {
		if _, err := d.set(key, `1`, 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	for prefix, want := range map[string][]string{
		"": keys, "a": keys[:7], "a/": keys[1:6], "a/\U0010FFFF": keys[4:6], "b": {"b"}, "c": nil, "\U0010FFFF": {"\U0010FFFF"}, "%": nil, "a_": nil,
	} {
		var got []string
		for cursor, pages := "", 0; ; pages++ {
			items, next, err := d.List(t.Context(), d.place.App, "c", prefix, cursor, 2)
			if err != nil || pages > len(keys) {
				t.Fatal(err)
			}
			for _, i := range items {
				got = append(got, i.Key)
			}
			if cursor = next; cursor == "" {
				break
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%q: %q, not %q", prefix, got, want)
		}
	}
}

// A cursor is what somebody says: one that no list has returned is refused, and makes the database fail in nothing.
func TestKVListOfForgedCursors(t *testing.T) {
	t.Parallel()
	d := newDrawer(t)
	for _, forged := range []string{`["\u0000"]`, `["a\u0000b"]`, `[null]`, `null`, `[]`, `["a","b"]`, `[1]`, `{}`, `x`} {
		cursor := base64.RawURLEncoding.EncodeToString([]byte(forged))
		if _, _, err := d.List(t.Context(), d.place.App, "c", "", cursor, 1); !errors.Is(err, tenant.ErrCursor) {
			t.Errorf("%s: %v", forged, err)
		}
	}
}

// A page is bounded in bytes, too, and still all is listed.
func TestKVListOfLargeValues(t *testing.T) {
	t.Parallel()
	d := newDrawer(t)
	large := `"` + strings.Repeat("x", data.MaxValue-2) + `"`
	for n := range 12 {
		if _, err := d.set(fmt.Sprintf("%02d", n), large, 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	for cursor := ""; ; {
		items, next, err := d.List(t.Context(), d.place.App, "c", "", cursor, 1000)
		if err != nil || len(items) == 0 || len(items) > 8 {
			t.Fatal(len(items), err)
		}
		seen += len(items)
		if cursor = next; cursor == "" {
			break
		}
	}
	if seen != 12 {
		t.Errorf("%d of 12", seen)
	}
}

// A node whose entries were taken over changes nothing.
func TestKVFenced(t *testing.T) {
	t.Parallel()
	d := newDrawer(t)
	v, err := d.set("k", `1`, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.owner++
	for name, write := range map[string]func() error{
		"set":       func() error { _, err := d.set("k", `2`, 0, nil); return err },
		"set if":    func() error { _, err := d.set("k", `2`, 0, ptr(v)); return err },
		"set new":   func() error { _, err := d.set("new", `2`, 0, ptr(0)); return err },
		"delete":    func() error { _, _, err := d.Delete(t.Context(), d.owner, d.at("k"), nil, nil); return err },
		"increment": func() error { _, _, err := d.Increment(t.Context(), d.owner, d.at("k"), 1, 0, nil); return err },
	} {
		if err := write(); !errors.Is(err, outbox.ErrFenced) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if i, err := d.Get(t.Context(), d.at("k")); err != nil || string(i.Value) != "1" {
		t.Errorf("%s, %v", i.Value, err)
	}
}

// What a change leads to is committed with it: neither without the other. What it was before is what it was, whoever else writes.
func TestKVCaused(t *testing.T) {
	t.Parallel()
	d := newDrawer(t)
	var mu sync.Mutex
	var changes []data.Change
	caused := func(c data.Change) ([]*outbox.Entry, error) {
		mu.Lock()
		defer mu.Unlock()
		changes = append(changes, c)
		e := &outbox.Entry{
			ID: uuid.New(), EventID: uuid.New(), App: d.place.App, Lane: uuid.New(), Target: uuid.New(), RootID: uuid.New(), Depth: 1,
			TargetKind: outbox.TargetScript, Kind: outbox.KindInvoke, State: outbox.Ready, MaxAttempts: 1, Timeout: time.Second, Envelope: []byte{1},
		}
		return []*outbox.Entry{e}, nil
	}
	broken := func(data.Change) ([]*outbox.Entry, error) { return nil, errors.New("no luck") }
	entries := func() (n int) {
		t.Helper()
		if err := d.pool.QueryRow(context.Background(), `SELECT count(*) FROM outbox WHERE app = $1`, d.place.App).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	w := data.Write{Place: d.place, Value: []byte(`0`)}
	if _, _, err := d.Set(t.Context(), d.owner, w, broken); err == nil {
		t.Error("an event that cannot be made")
	}
	if has, err := d.Has(t.Context(), d.place); has || err != nil {
		t.Errorf("the value is there without its event: %v", err)
	}
	if _, made, err := d.Set(t.Context(), d.owner, w, caused); err != nil || len(made) != 1 || entries() != 1 {
		t.Fatal(made, err)
	}
	var all sync.WaitGroup
	const writers, each = 8, 10
	for range writers {
		all.Go(func() {
			for range each {
				if _, _, err := d.Increment(t.Context(), d.owner, d.place, 1, 0, caused); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if _, made, err := d.Delete(t.Context(), d.owner, d.at("none"), nil, caused); err != nil || len(made) != 0 {
		t.Errorf("deleting nothing leads to %d entries, %v", len(made), err)
	}
	if deleted, made, err := d.Delete(t.Context(), d.owner, d.place, nil, caused); !deleted || err != nil || len(made) != 1 {
		t.Error(deleted, err)
	}
	if n := entries(); n != writers*each+2 {
		t.Errorf("%d entries", n)
	}
	if c := changes[0]; c.Op != tenant.OpCreate || c.Previous != nil {
		t.Errorf("first: %+v", c)
	}
	seen := map[string]bool{}
	for _, c := range changes[1 : len(changes)-1] {
		before, err1 := strconv.Atoi(string(c.Previous))
		after, err2 := strconv.Atoi(string(c.Value))
		if err := errors.Join(err1, err2); err != nil || c.Op != tenant.OpUpdate || seen[string(c.Previous)] || after != before+1 {
			t.Errorf("%s: %s after %s, %v", c.Op, c.Value, c.Previous, err)
		}
		seen[string(c.Previous)] = true
	}
	if c := changes[len(changes)-1]; c.Op != tenant.OpDelete || string(c.Previous) != fmt.Sprint(writers*each) || c.Value != nil {
		t.Errorf("last: %+v", c)
	}
}
