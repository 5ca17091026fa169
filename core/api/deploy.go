package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/tenant"
)

// NewDeployment brings a script to a new version, with its routes, in one step.
type NewDeployment struct {
	Script      string        `json:"script" minLength:"1" maxLength:"63" example:"hello" doc:"Name; made if there is no such script"`
	Kind        string        `json:"kind,omitempty" enum:"endpoint,module" doc:"It never changes: that of the script, or endpoint for a new one, if absent"`
	Engine      string        `json:"engine,omitempty" maxLength:"63" example:"yaegi" doc:"Found by the extension of the first file if absent"`
	Files       []SourceFile  `json:"files" minItems:"1" maxItems:"100" doc:"The first is the entry point"`
	Routes      []DeployRoute `json:"routes,omitempty" maxItems:"100" doc:"Made where missing; others of the script stay"`
	TimeoutMS   int64         `json:"timeout_ms,omitempty" minimum:"1" maximum:"300000" doc:"Unchanged if absent"`
	MaxAttempts int           `json:"max_attempts,omitempty" minimum:"1" maximum:"25" doc:"Unchanged if absent"`
	// Transactional is a setting of the script, not of the version.
	Transactional *bool  `json:"transactional,omitempty" doc:"Whether its writes take effect together; unchanged if absent"`
	Note          string `json:"note,omitempty" maxLength:"2000" doc:"Why there is a new version"`
}

// DeployRoute is a route to the script that is deployed.
type DeployRoute struct {
	Method  string `json:"method,omitempty" maxLength:"32" example:"GET" doc:"Every method if absent"`
	Host    string `json:"host,omitempty" maxLength:"255" doc:"Every host of the app if absent"`
	Pattern string `json:"pattern" minLength:"1" maxLength:"1024" example:"/hello/{name}"`
	Mode    string `json:"mode,omitempty" enum:"sync,async" default:"sync"`
}

// Deployed is what a deployment made.
type Deployed struct {
	Script  Script  `json:"script"`
	Version Version `json:"version"`
	Routes  []Route `json:"routes" doc:"Those that the request named"`
	Release int64   `json:"release" example:"12"`
}

func (a *api) registerDeploy(doc huma.API) {
	register(a, doc, operation{
		id: "deploy", method: http.MethodPost, path: appPath + "/deploy", tag: "scripts", capability: auth.AppWriteScript,
		summary: "Deploy a script with its routes",
		text: "All or nothing, as one release: a new version is stored and active, the script is made if it is missing, and " +
			"so are the routes. A new version of a module runs in all scripts that import it; it is refused if one of them does not compile with it. Naming routes also needs the capability " + string(auth.AppWriteRoute) + ".",
		maxBody: maxSourceBody,
	}, a.deploy)
}

func (a *api) deploy(ctx context.Context, in *struct {
	AppPath
	Body NewDeployment
},
) (*body[Deployed], error) {
	if len(in.Body.Routes) > 0 && !callerOf(ctx).principal.Can(auth.AppWriteRoute) {
		return nil, kindNamed("forbidden").problem("routes need the capability " + string(auth.AppWriteRoute))
	}
	d := tenant.Deployment{
		Script: in.Body.Script, Timeout: time.Duration(in.Body.TimeoutMS) * time.Millisecond, MaxAttempts: in.Body.MaxAttempts,
		Transactional: in.Body.Transactional,
	}
	if err := tenant.CheckName(d.Script); err != nil {
		return nil, wrong("body.script", err.Error())
	}
	for i, r := range in.Body.Routes {
		route, err := parseRoute(fmt.Sprintf("body.routes[%d].", i), r.Method, r.Host, r.Pattern, r.Mode)
		if err != nil {
			return nil, err
		}
		d.Routes = append(d.Routes, route)
	}
	var err error
	if d.Engine, err = a.engineOf(in.Body.Engine, in.Body.Files[0].Name); err != nil {
		return nil, err
	}
	save := saving{script: d.Script, kind: in.Body.Kind, engine: d.Engine, activate: true}
	if save.version, err = newVersion(in.Body.Files); err != nil {
		return nil, err
	}
	save.version.Note = in.Body.Note
	var made tenant.Deployed
	err = a.save(ctx, &save, func() (err error) {
		d.Kind, d.Version, d.Compiled = save.kind, save.version, save.compiled
		if d.Kind == tenant.KindModule && len(d.Routes) > 0 {
			return wrong("body.routes", fmt.Sprintf("%q is a module, which other scripts import; no route leads to it", d.Script))
		}
		made, err = a.Releases.Deploy(ctx, by(ctx), app(ctx), d)
		return err
	})
	if err != nil {
		return nil, err
	}
	a.Changed()
	out := Deployed{
		Script: viewScript(&made.Script), Version: viewVersion(&made.Version), Routes: []Route{}, Release: made.Release,
	}
	for i := range made.Routes {
		out.Routes = append(out.Routes, viewRoute(&made.Routes[i]))
	}
	return answer(out), nil
}
