package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/secret"
)

// Secret is what is told of a secret. Its value is for scripts only.
type Secret struct {
	Name      string    `json:"name" example:"STRIPE_KEY"`
	UpdatedAt time.Time `json:"updated_at"`
}

func viewSecret(i *secret.Info) Secret { return Secret{Name: i.Name, UpdatedAt: i.UpdatedAt.UTC()} }

// SecretValue is what a secret is set to.
type SecretValue struct {
	Name  string          `json:"name" minLength:"1" maxLength:"63" example:"STRIPE_KEY" doc:"Letters, digits, underscores, dots and dashes, with a letter or underscore first"`
	Value json.RawMessage `json:"value" doc:"Any JSON value, up to 64 KiB with at most 100 texts, lines of texts, and numbers"`
}

// Rotation is how far a rotation of keys has come.
type Rotation struct {
	Done int `json:"done" doc:"Secrets that this call sealed with the new key"`
	Left int `json:"left" doc:"Those that are left: call again until there is none"`
}

// SecretPath is in the input of every operation of a secret.
type SecretPath struct {
	AppPath
	Secret string `path:"secret" maxLength:"63" doc:"Name of the secret" example:"STRIPE_KEY"`
}

const (
	secretsPath = appPath + "/secrets"
	secretPath  = secretsPath + "/{secret}"
)

func (a *api) registerSecrets(doc huma.API) {
	register(a, doc, operation{
		id: "list-secrets", method: http.MethodGet, path: secretsPath, tag: "secrets", capability: auth.AppRead,
		summary: "List the secrets of an app, by name", text: "Values are shown to nobody: only scripts of the app read them.",
	}, func(ctx context.Context, in *struct {
		AppPath
		PageQuery
	},
	) (*body[Page[Secret]], error) {
		list, next, err := a.Secrets.List(ctx, app(ctx), in.Cursor, in.Limit)
		return listed(list, next, viewSecret), err
	})
	register(a, doc, operation{
		id: "set-secret", method: http.MethodPost, path: secretsPath, tag: "secrets", capability: auth.AppWriteScript,
		summary: "Set a secret", text: "It is what scripts read from then on, in place of what had that name.",
	}, func(ctx context.Context, in *struct {
		AppPath
		Body SecretValue
	},
	) (*body[Secret], error) {
		set, err := a.Secrets.Set(ctx, secret.Author{User: by(ctx)}, app(ctx), in.Body.Name, in.Body.Value)
		return answer(viewSecret(&set)), err
	})
	register(a, doc, operation{
		id: "delete-secret", method: http.MethodDelete, path: secretPath, tag: "secrets", capability: auth.AppWriteScript,
		summary: "Delete a secret",
	}, func(ctx context.Context, in *SecretPath) (*struct{}, error) {
		return nil, a.Secrets.Delete(ctx, secret.Author{User: by(ctx)}, app(ctx), in.Secret)
	})
	register(a, doc, operation{
		id: "rotate-secrets", method: http.MethodPost, path: "/api/v1/secrets/rotate", tag: "secrets", capability: auth.InstanceManageKeys,
		summary: "Seal the secrets of all apps with a new key",
		text: "Each call takes some of them, and goes on where the one before has stopped: call again until none is left. Scripts read " +
			"and set secrets meanwhile. At the end the old keys are gone, and the new ones are closed with the first key of this node.",
	}, func(ctx context.Context, _ *struct{}) (*body[Rotation], error) {
		done, left, err := a.Secrets.Rotate(ctx, by(ctx))
		return answer(Rotation{done, left}), err
	})
}
