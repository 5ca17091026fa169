package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/tenant"
)

// Source is where events of an app come from.
type Source struct {
	ID          string          `json:"id" format:"uuid"`
	Name        string          `json:"name" example:"post"`
	Kind        string          `json:"kind" example:"smtp" doc:"smtp, or that of an installed plugin"`
	Config      json.RawMessage `json:"config" doc:"As it was given, with references in place of secrets"`
	Version     int             `json:"version" example:"1" doc:"Counts changes"`
	Enabled     bool            `json:"enabled"`
	State       string          `json:"state" enum:"waiting,running,failed" doc:"waiting: no node runs it. failed: it is started again after a while"`
	Node        string          `json:"node,omitempty" doc:"The node that runs it"`
	Error       string          `json:"error,omitempty" doc:"Of its last failure, also if it runs again"`
	FailedAt    *time.Time      `json:"failed_at,omitempty"`
	LastEventAt *time.Time      `json:"last_event_at,omitempty" doc:"When an event was taken in last"`
	LagMS       int64           `json:"lag_ms" doc:"How old that event was then"`
	Events      int64           `json:"events" doc:"How many were taken in so far"`
	CreatedAt   time.Time       `json:"created_at"`
	UpdatedAt   time.Time       `json:"updated_at"`
}

func viewSource(f *tenant.SourceRecord) Source {
	when := func(t time.Time) *time.Time {
		if t = t.UTC(); t.Year() > 1 {
			return &t
		}
		return nil
	}
	return Source{
		ID: f.ID.String(), Name: f.Name, Kind: f.Kind, Config: f.Config, Version: f.Version, Enabled: f.Enabled, State: f.State, Node: f.Node,
		Error: f.Error, FailedAt: when(f.FailedAt), LastEventAt: when(f.LastEventAt), LagMS: f.Lag.Milliseconds(), Events: f.Events,
		CreatedAt: f.CreatedAt.UTC(), UpdatedAt: f.UpdatedAt.UTC(),
	}
}

// NewSource is what makes a source.
type NewSource struct {
	Name    string          `json:"name" minLength:"1" maxLength:"63" example:"post" doc:"Lower-case letters, digits, dashes and underscores; unique in the app"`
	Kind    string          `json:"kind" minLength:"1" maxLength:"63" example:"smtp"`
	Config  json.RawMessage `json:"config" doc:"An object, as the kind takes it: smtp has listen, domains, recipients, max_bytes, tls_certificate and tls_key. Secrets are references to those of the app: {\"secret\": \"NAME\"}"`
	Enabled *bool           `json:"enabled,omitempty" doc:"true if absent"`
}

// SourceChange is what may change in a source. What is absent stays; a configuration replaces the whole one.
type SourceChange struct {
	Config  json.RawMessage `json:"config,omitempty"`
	Enabled *bool           `json:"enabled,omitempty"`
}

// SourcePath is in the input of every operation of a source.
type SourcePath struct {
	AppPath
	Source string `path:"source" maxLength:"63" doc:"Name or id of the source" example:"post"`
}

const (
	sourcesPath = appPath + "/sources"
	sourcePath  = sourcesPath + "/{source}"
)

// A source listens on the node, or reaches out from it, for as long as it is there: to make one is the owner's.
func (a *api) registerSources(doc huma.API) {
	register(a, doc, operation{
		id: "list-sources", method: http.MethodGet, path: sourcesPath, tag: "sources", capability: auth.AppRead,
		summary: "List the sources of an app, by name",
	}, func(ctx context.Context, in *struct {
		AppPath
		PageQuery
	},
	) (*body[Page[Source]], error) {
		sources, next, err := a.Sources.List(ctx, app(ctx), in.Cursor, in.Limit)
		return listed(sources, next, viewSource), err
	})
	register(a, doc, operation{
		id: "create-source", method: http.MethodPost, path: sourcesPath, tag: "sources", capability: auth.AppAdmin,
		summary: "Make a source", status: http.StatusCreated,
		text: "The configuration is checked by the source itself, with the secrets that it refers to, which must be there. It runs on one node, and moves when that ends. Triggers of kind source take its events.",
	}, a.createSource)
	register(a, doc, operation{
		id: "get-source", method: http.MethodGet, path: sourcePath, tag: "sources", capability: auth.AppRead,
		summary: "Get a source, and how it stands",
	}, func(ctx context.Context, in *SourcePath) (*body[Source], error) {
		f, err := a.Sources.Get(ctx, app(ctx), in.Source)
		return answer(viewSource(&f)), err
	})
	register(a, doc, operation{
		id: "update-source", method: http.MethodPatch, path: sourcePath, tag: "sources", capability: auth.AppAdmin,
		summary: "Change a source", text: "It is stopped, and goes on where it was.",
	}, a.updateSource)
	register(a, doc, operation{
		id: "delete-source", method: http.MethodDelete, path: sourcePath, tag: "sources", capability: auth.AppAdmin,
		summary: "Delete a source", text: "It takes nothing in from then on, and where it was is forgotten. What it has taken in goes on.",
	}, func(ctx context.Context, in *SourcePath) (*struct{}, error) {
		f, err := a.Sources.Get(ctx, app(ctx), in.Source)
		if err != nil {
			return nil, err
		}
		if err := a.Sources.Delete(ctx, by(ctx), app(ctx), f.ID); err != nil {
			return nil, err
		}
		a.Changed()
		return nil, nil
	})
}

// checkSource says what is wrong with the configuration of a source of a kind.
func (a *api) checkSource(ctx context.Context, kind string, config json.RawMessage) error {
	err := a.SourceCheck.Check(ctx, app(ctx), kind, config)
	if invalid := (*tenant.Invalid)(nil); errors.As(err, &invalid) {
		return wrong("body."+invalid.Field, invalid.Message)
	}
	return err
}

func (a *api) createSource(ctx context.Context, in *struct {
	AppPath
	Body NewSource
},
) (*body[Source], error) {
	b := &in.Body
	if err := tenant.CheckName(b.Name); err != nil {
		return nil, wrong("body.name", err.Error())
	}
	if err := a.checkSource(ctx, b.Kind, b.Config); err != nil {
		return nil, err
	}
	f, err := a.Sources.Create(ctx, by(ctx), tenant.Source{
		App: app(ctx), Name: b.Name, Kind: b.Kind, Config: b.Config, Enabled: b.Enabled == nil || *b.Enabled,
	})
	if err != nil {
		return nil, err
	}
	a.Changed()
	return answer(viewSource(&f)), nil
}

func (a *api) updateSource(ctx context.Context, in *struct {
	SourcePath
	Body SourceChange
},
) (*body[Source], error) {
	f, err := a.Sources.Get(ctx, app(ctx), in.Source)
	if err != nil {
		return nil, err
	}
	if in.Body.Config != nil {
		if err := a.checkSource(ctx, f.Kind, in.Body.Config); err != nil {
			return nil, err
		}
	}
	f, err = a.Sources.Update(ctx, by(ctx), app(ctx), f.ID, tenant.SourceUpdate{Config: in.Body.Config, Enabled: in.Body.Enabled})
	if err != nil {
		return nil, err
	}
	a.Changed()
	return answer(viewSource(&f)), nil
}
