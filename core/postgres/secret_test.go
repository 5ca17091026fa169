package postgres_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

// safe is a vault on a database with two apps.
type safe struct {
	*testing.T
	pool         *pgxpool.Pool
	key          string
	ours, theirs uuid.UUID
	vault        *secret.Vault
	user         secret.Author
}

func newKey() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return base64.StdEncoding.EncodeToString(key)
}

func newSafe(t *testing.T) *safe {
	t.Helper()
	s := &safe{T: t, pool: coretest.DB(t), key: newKey()}
	token, _, err := auth.Bootstrap(t.Context(), postgres.NewUserStore(s.pool))
	if err != nil || token == "" {
		t.Fatal(err)
	}
	if err := s.pool.QueryRow(t.Context(), `SELECT id FROM users`).Scan(&s.user.User); err != nil {
		t.Fatal(err)
	}
	for slug, id := range map[string]*uuid.UUID{"ours": &s.ours, "theirs": &s.theirs} {
		app, err := postgres.NewAppStore(s.pool).Create(t.Context(), uuid.Nil, tenant.AppRecord{Slug: slug})
		if err != nil {
			t.Fatal(err)
		}
		*id = app.ID
	}
	s.vault = s.open(s.key)
	return s
}

// open makes a vault of another node, with keys of its own.
func (s *safe) open(keys string) *secret.Vault {
	s.Helper()
	masters, err := secret.ParseMasters(keys)
	if err != nil {
		s.Fatal(err)
	}
	v := secret.New(masters, postgres.NewSecretStore(s.pool), hclog.NewNullLogger())
	if err := v.Begin(s.Context()); err != nil {
		s.Fatal(err)
	}
	return v
}

func (s *safe) set(app uuid.UUID, name, value string) {
	s.Helper()
	if _, err := s.vault.Set(s.Context(), s.user, app, name, json.RawMessage(value)); err != nil {
		s.Fatal(err)
	}
}

// has checks what a vault gives out.
func (s *safe) has(v *secret.Vault, app uuid.UUID, name, want string) {
	s.Helper()
	if got, err := v.Get(s.Context(), app, name); err != nil || string(got) != want {
		s.Errorf("%s: %s, %v, want %s", name, got, err, want)
	}
}

func (s *safe) fails(err error, kind fault.Kind, words string) {
	s.Helper()
	f := (*fault.Fault)(nil)
	if !errors.As(err, &f) || f.Kind != kind || !strings.Contains(f.Message, words) {
		s.Errorf("%v, want %s with %q", err, kind, words)
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	const canary = "a-canary-that-nobody-finds"
	s.set(s.ours, "A", `"`+canary+`"`)
	s.set(s.ours, "B", `{"a":[1,null]}`)
	s.set(s.theirs, "A", `2`)
	s.has(s.vault, s.ours, "A", `"`+canary+`"`)
	s.has(s.vault, s.ours, "B", `{"a":[1,null]}`)
	s.has(s.open(s.key), s.theirs, "A", `2`)
	s.set(s.ours, "A", `"`+canary+`-2"`)
	s.has(s.vault, s.ours, "A", `"`+canary+`-2"`)
	if _, err := s.vault.Get(t.Context(), s.theirs, "B"); !errors.Is(err, tenant.ErrNotFound) {
		t.Errorf("another app's: %v", err)
	}
	list, next, err := s.vault.List(t.Context(), s.ours, "", 1)
	if err != nil || len(list) != 1 || list[0].Name != "A" || next == "" {
		t.Fatalf("%v, %q, %v", list, next, err)
	}
	if list, next, err = s.vault.List(t.Context(), s.ours, next, 1); err != nil || len(list) != 1 || list[0].Name != "B" || next != "" {
		t.Errorf("%v, %q, %v", list, next, err)
	}
	if err := s.vault.Delete(t.Context(), s.user, s.theirs, "B"); !errors.Is(err, tenant.ErrNotFound) {
		t.Errorf("another app's: %v", err)
	}
	if err := s.vault.Delete(t.Context(), s.user, s.ours, "B"); err != nil {
		t.Error(err)
	}
	// Whoever has the database has neither values nor keys.
	var dump []byte
	if err := s.pool.QueryRow(t.Context(), `SELECT convert_to(string_agg(x, ' '), 'UTF8') FROM (
		SELECT s::text x FROM secrets s UNION ALL SELECT encode(sealed, 'escape') FROM secrets UNION ALL SELECT r::text FROM secret_ring r
		UNION ALL SELECT encode(closed, 'escape') FROM secret_ring UNION ALL SELECT l::text FROM audit_log l) y`).Scan(&dump); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(dump, []byte("canary")) {
		t.Error("the database holds a value that can be read")
	}
	// With the app they are gone.
	if err := postgres.NewAppStore(s.pool).Delete(t.Context(), uuid.Nil, s.ours); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := s.pool.QueryRow(t.Context(), `SELECT count(*) FROM secrets WHERE app = $1`, s.ours).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d are left of a deleted app, %v", n, err)
	}
	if _, err := s.vault.Set(t.Context(), s.user, s.ours, "A", json.RawMessage(`1`)); err == nil {
		t.Error("a deleted app has a secret")
	}
}

func TestSecretLimits(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	s.set(s.ours, "A", `"`+strings.Repeat("x", secret.MaxValue-2)+`"`)
	many := func(n int) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = fmt.Sprint(1000 + i)
		}
		return strings.Join(parts, ",")
	}
	s.set(s.ours, "B", "["+many(secret.MaxParts)+"]")
	for _, value := range []string{`"` + strings.Repeat("x", secret.MaxValue-1) + `"`, "[" + many(secret.MaxParts+1) + "]", `{`, ``} {
		wrong := (*tenant.Invalid)(nil)
		if _, err := s.vault.Set(t.Context(), s.user, s.ours, "C", json.RawMessage(value)); !errors.As(err, &wrong) || wrong.Field != "value" {
			t.Errorf("%.20s: %v", value, err)
		}
	}
	if _, err := s.pool.Exec(t.Context(), `INSERT INTO secrets (app, name, key, sealed)
		SELECT $1, 'n' || i, 0, '' FROM generate_series(1, $2) i`, s.ours, secret.MaxPerApp-3); err != nil {
		t.Fatal(err)
	}
	s.set(s.ours, "last", `1`)
	full := (*tenant.Conflict)(nil)
	if _, err := s.vault.Set(t.Context(), s.user, s.ours, "more", json.RawMessage(`1`)); !errors.As(err, &full) {
		t.Errorf("one more: %v", err)
	}
	s.set(s.ours, "last", `2`)
	s.set(s.theirs, "A", `1`)
}

// What was sealed for one place opens in no other: not under another name, in another app, or with a key from elsewhere.
func TestSecretsStayInTheirPlace(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	s.set(s.ours, "A", `"a"`)
	s.set(s.ours, "B", `"b"`)
	s.set(s.theirs, "A", `"theirs"`)
	for _, swap := range []string{
		`UPDATE secrets x SET sealed = y.sealed, key = y.key FROM secrets y WHERE x.app = $1 AND x.name = 'A' AND y.app = $1 AND y.name = 'B' AND $2::uuid IS NOT NULL`,
		`UPDATE secrets x SET sealed = y.sealed, key = y.key FROM secrets y WHERE x.app = $1 AND x.name = 'A' AND y.app = $2 AND y.name = 'A'`,
		`UPDATE secrets SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1) WHERE app = $1 AND name = 'B' AND $2::uuid IS NOT NULL`,
	} {
		if _, err := s.pool.Exec(t.Context(), swap, s.ours, s.theirs); err != nil {
			t.Fatal(err)
		}
		_, err := s.vault.Get(t.Context(), s.ours, "A")
		s.fails(err, fault.Internal, "set it again")
	}
	_, err := s.vault.Get(t.Context(), s.ours, "B")
	s.fails(err, fault.Internal, "set it again")
	s.has(s.vault, s.theirs, "A", `"theirs"`)
	s.set(s.ours, "A", `"again"`)
	s.has(s.vault, s.ours, "A", `"again"`)
}

// A node without a key, or with a wrong one, says so, and does everything else.
func TestSecretsWithoutAKey(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	s.set(s.ours, "A", `1`)
	for keys, words := range map[string]string{"": "has no key for secrets", newKey(): "does not open the secrets"} {
		v := s.open(keys)
		_, err := v.Get(t.Context(), s.ours, "A")
		s.fails(err, fault.Unavailable, words)
		_, err = v.Set(t.Context(), s.user, s.ours, "A", json.RawMessage(`2`))
		s.fails(err, fault.Unavailable, words)
		_, _, err = v.Rotate(t.Context(), uuid.Nil)
		s.fails(err, fault.Unavailable, words)
		if list, _, err := v.List(t.Context(), s.ours, "", 9); err != nil || len(list) != 1 {
			t.Errorf("%v, %v", list, err)
		}
	}
	s.has(s.vault, s.ours, "A", `1`)
	if err := s.open("").Delete(t.Context(), s.user, s.ours, "A"); err != nil {
		t.Error(err)
	}
}

// A node whose epoch is over changes nothing for a script that it still runs; one whose beat goes on does.
func TestSecretsAreFenced(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	s.set(s.ours, "A", `1`)
	zombie := secret.Author{Owner: 12345}
	if _, err := s.vault.Set(t.Context(), zombie, s.ours, "A", json.RawMessage(`2`)); !errors.Is(err, outbox.ErrFenced) {
		t.Errorf("set: %v", err)
	}
	if err := s.vault.Delete(t.Context(), zombie, s.ours, "A"); !errors.Is(err, outbox.ErrFenced) {
		t.Errorf("deleted: %v", err)
	}
	s.has(s.vault, s.ours, "A", `1`)
	if _, err := s.pool.Exec(t.Context(), `INSERT INTO nodes (epoch, name, address, version) VALUES ($1, 'n', 'a', 'v')`, zombie.Owner); err != nil {
		t.Fatal(err)
	}
	if _, err := s.vault.Set(t.Context(), zombie, s.ours, "A", json.RawMessage(`2`)); err != nil {
		t.Error(err)
	}
	s.has(s.vault, s.ours, "A", `2`)
	var audited int
	if err := s.pool.QueryRow(t.Context(), `SELECT count(*) FROM audit_log WHERE action = 'secret.set'`).Scan(&audited); err != nil || audited != 1 {
		t.Errorf("%d lines in the audit log, %v", audited, err)
	}
}

// A rotation that ends anywhere is gone on with, by whoever, while secrets are read and set; then the old keys are gone.
func TestSecretsRotate(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	const n = 250
	for i := range n {
		s.set([]uuid.UUID{s.ours, s.theirs}[i%2], fmt.Sprintf("S%d", i), fmt.Sprint(i))
	}
	ring := func() (b []byte) {
		if err := s.pool.QueryRow(t.Context(), `SELECT closed FROM secret_ring`).Scan(&b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	keys := func() (k int) {
		if err := s.pool.QueryRow(t.Context(), `SELECT count(DISTINCT key) FROM secrets`).Scan(&k); err != nil {
			t.Fatal(err)
		}
		return k
	}
	all := func(v *secret.Vault) {
		t.Helper()
		for i := range n {
			s.has(v, []uuid.UUID{s.ours, s.theirs}[i%2], fmt.Sprintf("S%d", i), fmt.Sprint(i))
		}
	}
	first := ring()
	other := s.open(s.key)
	done, left, err := s.vault.Rotate(t.Context(), uuid.Nil)
	if err != nil || done != 100 || left != n-100 || keys() != 2 {
		t.Fatalf("%d, %d, %v", done, left, err)
	}
	all(other)
	all(s.vault)
	if _, err := other.Set(t.Context(), s.user, s.ours, "S0", json.RawMessage(`0`)); err != nil { // sealed with the new key by whoever knew only the old
		t.Error(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := other.Rotate(ended, uuid.Nil); err == nil {
		t.Error("it went on although it had ended")
	}
	again := s.open(s.key + "," + newKey()) // after a restart
	for range 2 {
		if _, left, err = again.Rotate(t.Context(), uuid.Nil); err != nil {
			t.Fatal(err)
		}
	}
	if left != 0 || keys() != 1 { // which were first is for their apps' ids to say, so the set one may have been among them
		t.Errorf("%d left, %d keys", left, keys())
	}
	all(s.vault)
	all(other)
	last := ring()
	if _, err := s.pool.Exec(t.Context(), `UPDATE secret_ring SET closed = $1`, first); err != nil { // the old keys
		t.Fatal(err)
	}
	_, err = s.open(s.key).Get(t.Context(), s.ours, "S2")
	s.fails(err, fault.Internal, "set it again")
	if _, err := s.pool.Exec(t.Context(), `UPDATE secret_ring SET closed = $1`, last); err != nil {
		t.Fatal(err)
	}
	all(s.vault)
}

// The key of the nodes is changed by a rotation too: the first of several closes what is stored from then on.
func TestSecretsChangeMaster(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	s.set(s.ours, "A", `1`)
	next := newKey()
	both := s.open(next + "," + s.key)
	s.has(both, s.ours, "A", `1`)
	if _, left, err := both.Rotate(t.Context(), uuid.Nil); err != nil || left != 0 {
		t.Fatal(left, err)
	}
	s.has(s.open(next), s.ours, "A", `1`)
	_, err := s.open(s.key).Get(t.Context(), s.ours, "A")
	s.fails(err, fault.Unavailable, "does not open")
}

// Several nodes that start, set and rotate at a time agree on one ring, and lose nothing.
func TestSecretsInParallel(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() {
			v := s.open(s.key)
			for n := range 20 {
				if _, err := v.Set(t.Context(), s.user, s.ours, fmt.Sprintf("S%d_%d", i, n), json.RawMessage(fmt.Sprint(n))); err != nil {
					t.Error(err)
				}
				if n%7 == 0 {
					if _, _, err := v.Rotate(t.Context(), uuid.Nil); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	for i := range 3 {
		for n := range 20 {
			s.has(s.vault, s.ours, fmt.Sprintf("S%d_%d", i, n), fmt.Sprint(n))
		}
	}
}
