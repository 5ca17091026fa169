package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

// secrets keeps the values of one app, in the open.
type secrets struct {
	app    uuid.UUID
	values map[string]json.RawMessage
	err    error
}

func (s *secrets) of(app uuid.UUID) error {
	if app != s.app {
		return errors.New("asked for another app")
	}
	return s.err
}

func (s *secrets) Get(_ context.Context, app uuid.UUID, name string) (json.RawMessage, error) {
	if v, ok := s.values[name]; ok || s.of(app) != nil {
		return v, s.of(app)
	}
	return nil, tenant.ErrNotFound
}

func (s *secrets) Set(_ context.Context, by secret.Author, app uuid.UUID, name string, value json.RawMessage) (secret.Info, error) {
	if by != (secret.Author{Owner: 7}) {
		return secret.Info{}, errors.New("it is no script of this node")
	}
	if err := errors.Join(s.of(app), secret.CheckName(name)); err != nil {
		return secret.Info{}, err
	}
	s.values[name] = value
	return secret.Info{}, nil
}

func (s *secrets) Delete(_ context.Context, by secret.Author, app uuid.UUID, name string) error {
	if by.Owner != 7 || s.values[name] == nil || s.of(app) != nil {
		return errors.Join(tenant.ErrNotFound, s.of(app))
	}
	delete(s.values, name)
	return nil
}

func (s *secrets) List(_ context.Context, app uuid.UUID, _ string, limit int) (list []secret.Info, next string, err error) {
	for name := range s.values {
		list = append(list, secret.Info{Name: name})
	}
	slices.SortFunc(list, func(a, b secret.Info) int { return strings.Compare(a.Name, b.Name) })
	return list[:min(len(list), limit)], "", s.of(app)
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, x := range [][3]string{
		{"secrets.get", `{"name":"KEY"}`, `map[]`},
		{"secrets.list", `{}`, `map[names:[]]`},
		{"secrets.delete", `{"name":"KEY"}`, `map[deleted:false]`},
		{"secrets.set", `{"name":"KEY","value":"a canary"}`, `map[]`},
		{"secrets.set", `{"name":"NONE","value":null}`, `map[]`},
		{"secrets.get", `{"name":"KEY"}`, `map[value:a canary]`},
		{"secrets.get", `{"name":"NONE"}`, `map[value:<nil>]`},
		{"secrets.list", `{}`, `map[names:[KEY NONE]]`},
		{"secrets.delete", `{"name":"KEY"}`, `map[deleted:true]`},
	} {
		if answer, err := b.ask(t, x[0], x[1]); err != nil || fmt.Sprint(answer) != x[2] {
			t.Errorf("%s %s: %v, %v", x[0], x[1], answer, err)
		}
	}
}

// What a run has read or set is behind its veil.
func TestSecretsAreVeiled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.secrets.values["KEY"] = json.RawMessage(`{"user":"the-user","password":"the-password"}`)
	if got := b.run.Veil.Text("the-password"); got != "the-password" {
		t.Error(got)
	}
	if _, err := b.ask(t, "secrets.get", `{"name":"KEY"}`); err != nil {
		t.Fatal(err)
	}
	b.secrets.err = errors.New("the database is gone")
	if _, err := b.ask(t, "secrets.set", `{"name":"NEW","value":"the-new-one"}`); err == nil {
		t.Error("it was set")
	}
	if got := b.run.Veil.Text("the-user:the-password, the-new-one"); got != "[secret]:[secret], [secret]" {
		t.Error(got)
	}
}

func TestSecretsRefusals(t *testing.T) {
	t.Parallel()
	many := `["word"`
	for i := range secret.MaxParts {
		many += fmt.Sprintf(`,"word%d"`, i)
	}
	for _, x := range []struct {
		what, args string
		kind       fault.Kind
		words      string
	}{
		{"secrets.get", `{}`, fault.Invalid, "name"},
		{"secrets.get", `{"name":"a b"}`, fault.Invalid, "name"},
		{"secrets.get", `{"name":"A","app":"x"}`, fault.Invalid, `"app"`},
		{"secrets.delete", `{"name":""}`, fault.Invalid, "name"},
		{"secrets.list", `{"app":"x"}`, fault.Invalid, `"app"`},
		{"secrets.set", `{"name":"A"}`, fault.Invalid, "value: is missing"},
		{"secrets.set", `{"name":"1","value":1}`, fault.Invalid, "name"},
		{"secrets.set", `{"name":"A","value":"` + strings.Repeat("x", secret.MaxValue-1) + `"}`, fault.Invalid, "65537 bytes"},
		{"secrets.set", `{"name":"A","value":` + many + `]}`, fault.Invalid, "101 texts, lines of texts, and numbers"},
	} {
		setup(t).refused(t, x.what, x.args, x.kind, x.words)
	}
	b := setup(t)
	b.secrets.err = fault.New(fault.Unavailable, fault.Platform, "this node has no key")
	b.refused(t, "secrets.get", `{"name":"A"}`, fault.Unavailable, "no key")
	b.secrets.err = &tenant.Conflict{Message: "the app has 1000"}
	b.refused(t, "secrets.set", `{"name":"A","value":1}`, fault.Limit, "1000")
	b.secrets.err = errors.New("host=db password=x")
	if f := b.refused(t, "secrets.list", `{}`, fault.Unavailable, "try again"); f != nil && strings.Contains(f.Message, "password") {
		t.Errorf("%+v", f)
	}
}
