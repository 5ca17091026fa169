package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/tenant"
)

// Release is one state of an app.
type Release struct {
	Number    int64     `json:"number" example:"12"`
	Action    string    `json:"action" example:"version.activate" doc:"What made it"`
	CreatedBy string    `json:"created_by,omitempty" format:"uuid"`
	CreatedAt time.Time `json:"created_at"`
}

func viewRelease(r *tenant.Release) Release {
	return Release{Number: r.Number, Action: r.Action, CreatedBy: optional(r.CreatedBy), CreatedAt: r.CreatedAt.UTC()}
}

// ReleaseWithManifest is a release with the state itself.
type ReleaseWithManifest struct {
	Release
	Manifest Manifest `json:"manifest"`
}

// Manifest is the whole state of an app: what of each script runs, and all routes, queues and triggers.
type Manifest struct {
	Scripts  []ManifestScript  `json:"scripts"`
	Routes   []ManifestRoute   `json:"routes"`
	Queues   []ManifestQueue   `json:"queues,omitempty" doc:"Absent if there were none"`
	Triggers []ManifestTrigger `json:"triggers,omitempty" doc:"Absent if there were none"`
}

// ManifestScript is a script in a release.
type ManifestScript struct {
	ID          string `json:"id" format:"uuid"`
	Name        string `json:"name" example:"hello"`
	Kind        string `json:"kind" enum:"endpoint,module"`
	Engine      string `json:"engine" example:"yaegi"`
	Version     int    `json:"version" example:"3" doc:"0: none runs"`
	TimeoutMS   int64  `json:"timeout_ms" example:"30000"`
	MaxAttempts int    `json:"max_attempts" example:"5"`
	Policy      Policy `json:"policy"`
}

// ManifestRoute is a route in a release.
type ManifestRoute struct {
	ID      string `json:"id" format:"uuid"`
	Script  string `json:"script" format:"uuid"`
	Method  string `json:"method" example:"GET"`
	Host    string `json:"host"`
	Pattern string `json:"pattern" example:"/users/{id}"`
	Mode    string `json:"mode" enum:"sync,async"`
	WaitMS  int64  `json:"wait_ms,omitempty" example:"2000" doc:"How long a caller waits before the run goes on without it"`
}

// ManifestQueue is a queue in a release.
type ManifestQueue struct {
	ID     string `json:"id" format:"uuid"`
	Name   string `json:"name" example:"mail"`
	Script string `json:"script" format:"uuid"`
	Policy Policy `json:"policy"`
}

// ManifestTrigger is a trigger in a release.
type ManifestTrigger struct {
	ID      string        `json:"id" format:"uuid"`
	Name    string        `json:"name" example:"orders"`
	Kind    string        `json:"kind" enum:"http,dead_letter"`
	Script  string        `json:"script" format:"uuid"`
	Route   string        `json:"route,omitempty" format:"uuid" doc:"Of kind http"`
	Filter  TriggerFilter `json:"filter"`
	Policy  Policy        `json:"policy"`
	Enabled bool          `json:"enabled"`
}

// ReleasePath is in the input of every operation of a release.
type ReleasePath struct {
	AppPath
	Number int64 `path:"number" minimum:"1" doc:"The release" example:"12"`
}

const (
	releasesPath = appPath + "/releases"
	releasePath  = releasesPath + "/{number}"
)

func (a *api) registerReleases(doc huma.API) {
	register(a, doc, operation{
		id: "list-releases", method: http.MethodGet, path: releasesPath, tag: "releases", capability: auth.AppRead,
		summary: "List the releases of an app, newest first",
	}, func(ctx context.Context, in *struct {
		AppPath
		PageQuery
	},
	) (*body[Page[Release]], error) {
		releases, next, err := a.Releases.List(ctx, app(ctx), in.Cursor, in.Limit)
		return listed(releases, next, viewRelease), err
	})
	register(a, doc, operation{
		id: "get-release", method: http.MethodGet, path: releasePath, tag: "releases", capability: auth.AppRead,
		summary: "Get a release with its state",
	}, a.getRelease)
	register(a, doc, operation{
		id: "activate-release", method: http.MethodPost, path: releasePath + "/activate", tag: "releases",
		capability: auth.AppAdmin, summary: "Bring the app back to a release",
		text: "The state becomes a new release. Scripts that came later stay, without an active version.",
	}, func(ctx context.Context, in *ReleasePath) (*body[ReleaseWithManifest], error) {
		number, err := a.Releases.Activate(ctx, by(ctx), app(ctx), in.Number)
		if err != nil {
			return nil, err
		}
		a.Changed()
		return a.getRelease(ctx, &ReleasePath{in.AppPath, number})
	})
}

func (a *api) getRelease(ctx context.Context, in *ReleasePath) (*body[ReleaseWithManifest], error) {
	r, err := a.Releases.Get(ctx, app(ctx), in.Number)
	if err != nil {
		return nil, err
	}
	out := ReleaseWithManifest{Release: viewRelease(&r)}
	if err := json.Unmarshal(r.Manifest, &out.Manifest); err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	return answer(out), nil
}
