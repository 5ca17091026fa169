package node

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/picloud"
)

// The app that every platform has, and in dev the script that greets.
const (
	defaultApp    = "default"
	helloScript   = "hello"
	helloTimeout  = 10 * time.Second
	helloAttempts = 5
)

//go:embed hello.go.txt
var helloSource []byte

// seed makes the default app if there is no app of that slug, and in dev a script that greets on /. The app answers on
// this machine's own names; with the catch-all switch it answers every host that no other app claims.
func (n *Node) seed(ctx context.Context, pool *pgxpool.Pool) error {
	apps := postgres.NewAppStore(pool)
	id, err := apps.Resolve(ctx, defaultApp)
	if err == nil {
		return n.catchAll(ctx, apps, id)
	}
	if !errors.Is(err, tenant.ErrNotFound) {
		return fmt.Errorf("look for the default app: %w", err)
	}
	app, err := apps.Create(ctx, uuid.Nil, tenant.AppRecord{Slug: defaultApp, Name: "Default"})
	if err != nil {
		return fmt.Errorf("create the default app: %w", err)
	}
	for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
		if _, err := apps.Claim(ctx, uuid.Nil, app.ID, host); err != nil {
			return fmt.Errorf("claim %s: %w", host, err)
		}
	}
	if err := n.catchAll(ctx, apps, app.ID); err != nil {
		return err
	}
	if !n.cfg.Dev {
		return nil
	}
	files := []engine.File{{Name: "hello.go", Data: helloSource}}
	_, err = postgres.NewReleaseStore(pool).Deploy(ctx, uuid.Nil, app.ID, tenant.Deployment{
		Script: helloScript, Kind: tenant.KindEndpoint, Engine: "yaegi", Timeout: helloTimeout, MaxAttempts: helloAttempts,
		Version: tenant.Version{
			Files: files, Hash: tenant.VersionHash(files, picloud.Version, engine.Limits{}), SDKVersion: picloud.Version,
		},
		Routes: []tenant.Route{{Method: "GET", Pattern: "/", Mode: tenant.ModeSync}},
	})
	if err != nil {
		return fmt.Errorf("deploy the hello script: %w", err)
	}
	return nil
}

// catchAll makes the default app's claim to every other host what the configuration says.
func (n *Node) catchAll(ctx context.Context, apps *postgres.AppStore, app uuid.UUID) error {
	if !n.cfg.CatchAll {
		return nil
	}
	_, err := apps.Claim(ctx, uuid.Nil, app, "*")
	var conflict *tenant.Conflict
	if err != nil && !errors.As(err, &conflict) {
		return fmt.Errorf("claim every host: %w", err)
	}
	return nil
}
