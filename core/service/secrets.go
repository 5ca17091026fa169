package service

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

// Secrets are the sealed values of apps. Errors are as those of core/secret's Vault.
type Secrets interface {
	Get(ctx context.Context, app uuid.UUID, name string) (json.RawMessage, error)
	Set(ctx context.Context, by secret.Author, app uuid.UUID, name string, value json.RawMessage) (secret.Info, error)
	Delete(ctx context.Context, by secret.Author, app uuid.UUID, name string) error
	List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]secret.Info, string, error)
}

// secretsGet returns a value. From then on the run's logs and errors hide it.
func (c *call) secretsGet(ctx context.Context, args []byte) (any, error) {
	name, err := secretName(args)
	if err != nil {
		return nil, err
	}
	value, err := c.secrets.Get(ctx, c.run.Entry.App, name)
	if errors.Is(err, tenant.ErrNotFound) {
		return struct{}{}, nil
	}
	if err != nil {
		return nil, c.secretRefused(ctx, err)
	}
	if err := c.run.Veil.Add(value); err != nil {
		return nil, err
	}
	return struct {
		Value json.RawMessage `json:"value"`
	}{value}, nil
}

// secretsSet stores a value, which the run's logs and errors hide too.
func (c *call) secretsSet(ctx context.Context, args []byte) (any, error) {
	var in struct {
		Name  string          `json:"name"`
		Value json.RawMessage `json:"value"`
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	if in.Value == nil {
		return nil, invalid("value: is missing")
	}
	if err := secret.CheckValue(in.Value); err != nil {
		return nil, invalid("%v", err)
	}
	if err := c.run.Veil.Add(in.Value); err != nil {
		return nil, err
	}
	if _, err := c.secrets.Set(ctx, secret.Author{Owner: c.run.Entry.Owner}, c.run.Entry.App, in.Name, in.Value); err != nil {
		return nil, c.secretRefused(ctx, err)
	}
	return struct{}{}, nil
}

// secretsDelete forgets a value, and says whether there was one.
func (c *call) secretsDelete(ctx context.Context, args []byte) (any, error) {
	name, err := secretName(args)
	if err != nil {
		return nil, err
	}
	err = c.secrets.Delete(ctx, secret.Author{Owner: c.run.Entry.Owner}, c.run.Entry.App, name)
	if err != nil && !errors.Is(err, tenant.ErrNotFound) {
		return nil, c.secretRefused(ctx, err)
	}
	return struct {
		Deleted bool `json:"deleted"`
	}{err == nil}, nil
}

// secretsList returns the names of all, which are never so many that they would need pages.
func (c *call) secretsList(ctx context.Context, args []byte) (any, error) {
	if err := decode(args, &struct{}{}); err != nil {
		return nil, err
	}
	list, _, err := c.secrets.List(ctx, c.run.Entry.App, "", secret.MaxPerApp)
	if err != nil {
		return nil, c.secretRefused(ctx, err)
	}
	names := make([]string, len(list))
	for i := range list {
		names[i] = list[i].Name
	}
	return struct {
		Names []string `json:"names"`
	}{names}, nil
}

func secretName(args []byte) (string, error) {
	var in struct {
		Name string `json:"name"`
	}
	if err := decode(args, &in); err != nil {
		return "", err
	}
	if err := secret.CheckName(in.Name); err != nil {
		return "", invalid("%v", err)
	}
	return in.Name, nil
}

// secretRefused says in a script's terms what went wrong.
func (c *call) secretRefused(ctx context.Context, err error) error {
	var failed *fault.Fault
	var wrong *tenant.Invalid
	var full *tenant.Conflict
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &failed):
		return failed
	case errors.As(err, &wrong):
		return invalid("%v", wrong)
	case errors.As(err, &full):
		return fault.New(fault.Limit, fault.Script, "%s", full.Message)
	}
	c.log.Warn("secret not reached", "execution_id", c.run.Entry.ID, "error", err)
	f := fault.New(fault.Unavailable, fault.Platform, "the secret cannot be reached now; try again")
	f.RetryAfter = time.Second
	return f
}
