package auth_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/auth"
)

// memory is a KeyStore that counts its queries.
type memory struct {
	keys    map[string]auth.Key
	queries int
	err     error
}

func (m *memory) KeyByPrefix(_ context.Context, prefix string) (auth.Key, error) {
	m.queries++
	if m.err != nil {
		return auth.Key{}, m.err
	}
	k, ok := m.keys[prefix]
	if !ok {
		return k, auth.ErrNoKey
	}
	return k, nil
}

func (m *memory) CreateOwner(_ context.Context, k auth.Key) (bool, error) {
	if len(m.keys) > 0 {
		return false, nil
	}
	m.keys = map[string]auth.Key{k.Prefix: k}
	return true, nil
}

func setup(t *testing.T) (*memory, *auth.Authenticator, string) {
	t.Helper()
	m := &memory{}
	token, created, err := auth.Bootstrap(t.Context(), m)
	if err != nil || !created {
		t.Fatalf("Bootstrap: %v, created %v", err, created)
	}
	return m, auth.New(m), token
}

func (m *memory) edit(f func(*auth.Key)) {
	for prefix, k := range m.keys {
		f(&k)
		m.keys[prefix] = k
	}
}

func TestBootstrapOnce(t *testing.T) {
	t.Parallel()
	m, a, token := setup(t)
	p, err := a.Authenticate(t.Context(), token)
	if err != nil || p.Name != "owner" || p.Role != auth.RoleOwner {
		t.Fatalf("the owner's token gives %+v, %v", p, err)
	}
	for prefix, k := range m.keys {
		if strings.Contains(string(k.Hash), token) || !strings.HasPrefix(token, "pic_"+prefix) || len(k.Hash) != 32 {
			t.Errorf("the stored key is %+v", k)
		}
	}
	if again, created, err := auth.Bootstrap(t.Context(), m); err != nil || created || again != "" {
		t.Errorf("a second Bootstrap gives %q, %v, %v", again, created, err)
	}
}

func TestAuthenticateRefuses(t *testing.T) {
	t.Parallel()
	m, a, token := setup(t)
	last := "a"
	if strings.HasSuffix(token, "a") {
		last = "b"
	}
	for _, bad := range []string{
		"", "pic_", "pic_abc", token[4:], token + "a", strings.ToUpper(token), token[:len(token)-1] + last,
		"pic_" + strings.Repeat("a", 58), strings.Replace(token, "pic_", "pic-", 1), token[:len(token)-1] + "\x00",
	} {
		if p, err := a.Authenticate(t.Context(), bad); !errors.Is(err, auth.ErrInvalid) || p != nil {
			t.Errorf("%q gives %v, %v", bad, p, err)
		}
	}
	if m.queries > 1 { // all zeros have a matching checksum of their own only by chance
		t.Errorf("malformed tokens cost %d queries", m.queries)
	}
	_, _, other := setup(t)
	if _, err := a.Authenticate(t.Context(), other); !errors.Is(err, auth.ErrInvalid) {
		t.Errorf("a token of another instance gives %v", err)
	}
	m.edit(func(k *auth.Key) { k.Hash = make([]byte, 32) })
	if _, err := a.Authenticate(t.Context(), token); !errors.Is(err, auth.ErrInvalid) {
		t.Errorf("the right prefix with a wrong secret gives %v", err)
	}
	m.err = errors.New("the database is away")
	if _, err := a.Authenticate(t.Context(), token); err == nil || errors.Is(err, auth.ErrInvalid) {
		t.Errorf("a failing store gives %v", err)
	}
}

func TestCacheEndsInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, a, token := setup(t)
		for range 100 {
			if _, err := a.Authenticate(t.Context(), token); err != nil {
				t.Fatal(err)
			}
		}
		if m.queries != 1 {
			t.Errorf("100 requests cost %d queries", m.queries)
		}
		m.edit(func(k *auth.Key) { k.Active = false })
		<-time.After(time.Second)
		if _, err := a.Authenticate(t.Context(), token); !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("a second after the user was deactivated: %v", err)
		}
		m.edit(func(k *auth.Key) { k.Active, k.ExpiresAt = true, time.Now().Add(time.Second/2) })
		if _, err := a.Authenticate(t.Context(), token); err != nil {
			t.Errorf("before it expires: %v", err)
		}
		<-time.After(time.Second / 2)
		if _, err := a.Authenticate(t.Context(), token); !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("once it has expired: %v", err)
		}
	})
}

func TestCan(t *testing.T) {
	t.Parallel()
	app := []auth.Capability{
		auth.AppRead, auth.AppWriteScript, auth.AppWriteRoute, auth.AppLogRead, auth.AppInvoke,
		auth.AppManageDomains, auth.AppAdmin, auth.AppDeadLetterManage,
	}
	all := append(slices.Clone(app), auth.InstanceRead, auth.InstanceCreateApp, auth.InstanceManageUsers)
	bound := uuid.New()
	for name, c := range map[string]struct {
		p    auth.Principal
		want []auth.Capability
	}{
		"owner":  {auth.Principal{Role: auth.RoleOwner, Scopes: auth.Scopes}, all},
		"admin":  {auth.Principal{Role: auth.RoleAdmin, Scopes: auth.Scopes}, append(slices.Clone(app[:5]), auth.InstanceRead, auth.InstanceCreateApp)},
		"member": {auth.Principal{Role: auth.RoleMember, Scopes: auth.Scopes}, []auth.Capability{auth.InstanceRead}},
		"none":   {auth.Principal{Role: auth.RoleOwner}, []auth.Capability{auth.InstanceRead}},
		"bound":  {auth.Principal{Role: auth.RoleOwner, Scopes: auth.Scopes, App: bound}, append(slices.Clone(app), auth.InstanceRead)},
		"reader": {auth.Principal{Role: auth.RoleOwner, Scopes: []auth.Scope{auth.ScopeScriptRead}}, []auth.Capability{auth.AppRead, auth.InstanceRead}},
		"writer": {auth.Principal{Role: auth.RoleAdmin, Scopes: []auth.Scope{auth.ScopeScriptWrite}}, []auth.Capability{auth.AppWriteScript, auth.AppInvoke, auth.InstanceRead}},
	} {
		for _, capability := range append(all, "made:up") {
			if got, want := c.p.Can(capability), slices.Contains(c.want, capability); got != want {
				t.Errorf("%s: Can(%s) = %v", name, capability, got)
			}
		}
	}
	sees := map[bool]int{}
	for _, p := range []auth.Principal{
		{Role: auth.RoleOwner},
		{Role: auth.RoleOwner, App: bound},
		{Role: auth.RoleOwner, App: uuid.New()},
		{Role: auth.RoleMember},
	} {
		sees[p.Sees(bound)]++
	}
	if !maps.Equal(sees, map[bool]int{true: 2, false: 2}) {
		t.Errorf("Sees: %v", sees)
	}
}
