package secret

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

// Values are the secrets of apps. Errors are as those of Vault.
type Values interface {
	Get(ctx context.Context, app uuid.UUID, name string) (json.RawMessage, error)
}

// Fill puts the app's secrets into a configuration, in place of references to them. veil knows them from then on.
func Fill(ctx context.Context, values Values, app uuid.UUID, config json.RawMessage, veil *Veil) (json.RawMessage, *fault.Fault) {
	names, err := tenant.SecretRefs(config, nil)
	if err != nil {
		return nil, fault.New(fault.Invalid, fault.Script, "%v", err)
	}
	if len(names) == 0 {
		return config, nil
	}
	filledIn := map[string]any{}
	for _, name := range names {
		value, err := values.Get(ctx, app, name)
		if errors.Is(err, tenant.ErrNotFound) {
			return nil, fault.New(fault.NotFound, fault.Script, "the app has no secret %q, which the configuration refers to: set it", name)
		}
		if err != nil {
			return nil, fault.From(err)
		}
		if err := veil.Add(value); err != nil {
			return nil, fault.From(err)
		}
		var v any
		if err := json.Unmarshal(value, &v); err != nil {
			return nil, fault.From(err)
		}
		filledIn[name] = v
	}
	var all any
	if err := json.Unmarshal(config, &all); err != nil {
		return nil, fault.From(err)
	}
	filled, err := json.Marshal(tenant.WalkSecrets(all, func(name string) any { return filledIn[name] }))
	if err != nil {
		return nil, fault.From(err)
	}
	return filled, nil
}
