package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/tenant"
)

// App is the unit of isolation: it owns scripts, routes and data.
type App struct {
	ID          string    `json:"id" format:"uuid"`
	Slug        string    `json:"slug" example:"shop"`
	Name        string    `json:"name" example:"The shop"`
	Description string    `json:"description"`
	Release     int64     `json:"release" example:"12" doc:"Number of the current release; 0 before the first"`
	Weight      int       `json:"weight" example:"1" doc:"Its share of the slots while other apps want some too, relative to theirs"`
	Limits      Limits    `json:"limits" doc:"What runs of its scripts have that do not say, and the most that they may say"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}

func viewApp(a *tenant.AppRecord) App {
	return App{
		ID: a.ID.String(), Slug: a.Slug, Name: a.Name, Description: a.Description, Release: a.Release, Weight: a.Weight,
		Limits:    viewLimits(&a.Limits),
		CreatedAt: a.CreatedAt.UTC(), UpdatedAt: a.UpdatedAt.UTC(),
	}
}

// NewApp is what makes an app.
type NewApp struct {
	Slug        string `json:"slug" minLength:"1" maxLength:"63" example:"shop" doc:"Lower-case letters, digits and single dashes; unique"`
	Name        string `json:"name,omitempty" maxLength:"200" example:"The shop"`
	Description string `json:"description,omitempty" maxLength:"2000"`
}

// AppChange is what may change in an app. What is absent stays.
type AppChange struct {
	Slug        *string `json:"slug,omitempty" minLength:"1" maxLength:"63" example:"shop"`
	Name        *string `json:"name,omitempty" maxLength:"200" example:"The shop"`
	Description *string `json:"description,omitempty" maxLength:"2000"`
}

// AppWeight is an app's share of the slots.
type AppWeight struct {
	Weight int `json:"weight" minimum:"1" maximum:"100" example:"2" doc:"An app of weight 2 has twice the time of one of weight 1 while both want more than there is"`
}

const appsPath = "/api/v1/apps"

const appPath = appsPath + "/{app}"

func (a *api) registerApps(doc huma.API) {
	register(a, doc, operation{
		id: "list-apps", method: http.MethodGet, path: appsPath, tag: "apps", capability: auth.InstanceRead,
		summary: "List the apps that the credential sees, by slug",
	}, a.listApps)
	register(a, doc, operation{
		id: "create-app", method: http.MethodPost, path: appsPath, tag: "apps", capability: auth.InstanceCreateApp,
		summary: "Make an app", status: http.StatusCreated,
	}, a.createApp)
	register(a, doc, operation{
		id: "get-app", method: http.MethodGet, path: appPath, tag: "apps", capability: auth.AppRead,
		summary: "Get an app",
	}, func(ctx context.Context, _ *AppPath) (*body[App], error) {
		r, err := a.Apps.Get(ctx, app(ctx))
		return answer(viewApp(&r)), err
	})
	register(a, doc, operation{
		id: "update-app", method: http.MethodPatch, path: appPath, tag: "apps", capability: auth.AppAdmin,
		summary: "Change an app",
	}, a.updateApp)
	register(a, doc, operation{
		id: "weigh-app", method: http.MethodPut, path: "/api/v1/app-weights/{slug}", tag: "apps", capability: auth.InstanceCreateApp,
		summary: "Set an app's share of the slots",
		text:    "Apps share a node by the time that their runs take. It is for whoever makes apps to say who has more, not for the apps.",
	}, func(ctx context.Context, in *struct {
		Slug string `path:"slug" maxLength:"63" doc:"Of the app, or its id"`
		Body AppWeight
	},
	) (*body[App], error) {
		id, err := a.Apps.Resolve(ctx, in.Slug)
		if err != nil {
			return nil, err
		}
		r, err := a.Apps.Weigh(ctx, by(ctx), id, in.Body.Weight)
		if err != nil {
			return nil, err
		}
		a.Changed()
		return answer(viewApp(&r)), nil
	})
	register(a, doc, operation{
		id: "delete-app", method: http.MethodDelete, path: appPath, tag: "apps", capability: auth.AppAdmin,
		summary: "Delete an app with everything in it",
		text:    "Its slug and hosts are free at once. Events that wait are cancelled; what runs ends by itself.",
	}, func(ctx context.Context, _ *AppPath) (*struct{}, error) {
		if err := a.Apps.Delete(ctx, by(ctx), app(ctx)); err != nil {
			return nil, err
		}
		a.Changed()
		return nil, nil
	})
}

func (a *api) listApps(ctx context.Context, in *struct{ PageQuery }) (*body[Page[App]], error) {
	p := callerOf(ctx).principal
	apps, next, err := a.Apps.List(ctx, p.App, in.Cursor, in.Limit)
	if err != nil {
		return nil, err
	}
	seen := apps[:0]
	for _, r := range apps {
		if p.Sees(r.ID) {
			seen = append(seen, r)
		}
	}
	return listed(seen, next, viewApp), nil
}

func (a *api) createApp(ctx context.Context, in *struct{ Body NewApp }) (*body[App], error) {
	if err := tenant.CheckSlug(in.Body.Slug); err != nil {
		return nil, wrong("body.slug", err.Error())
	}
	r, err := a.Apps.Create(ctx, by(ctx), tenant.AppRecord{
		Slug: in.Body.Slug, Name: in.Body.Name, Description: in.Body.Description,
	})
	if err != nil {
		return nil, err
	}
	a.Changed()
	return answer(viewApp(&r)), nil
}

func (a *api) updateApp(ctx context.Context, in *struct {
	AppPath
	Body AppChange
},
) (*body[App], error) {
	if in.Body.Slug != nil {
		if err := tenant.CheckSlug(*in.Body.Slug); err != nil {
			return nil, wrong("body.slug", err.Error())
		}
	}
	r, err := a.Apps.Update(ctx, by(ctx), app(ctx), in.Body.Slug, in.Body.Name, in.Body.Description)
	if err != nil {
		return nil, err
	}
	a.Changed()
	return answer(viewApp(&r)), nil
}
