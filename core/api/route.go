package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/core/tenant"
)

// Route sends requests for a method and path to a script.
type Route struct {
	ID        string    `json:"id" format:"uuid"`
	Method    string    `json:"method" example:"GET" doc:"ANY answers every method that no other route of the same path does"`
	Host      string    `json:"host" doc:"Empty: every host of the app"`
	Pattern   string    `json:"pattern" example:"/users/{id}"`
	Script    string    `json:"script" example:"hello" doc:"Name of the script"`
	ScriptID  string    `json:"script_id" format:"uuid"`
	Mode      string    `json:"mode" enum:"sync,async" doc:"Whether the caller waits for the answer or has a 202 at once"`
	Wait      string    `json:"wait,omitempty" example:"5s" doc:"How long a caller waits before it has a 202 with a result URL while the script runs on; absent: as long as the script may take"`
	CreatedAt time.Time `json:"created_at"`
}

func viewRoute(r *tenant.RouteRecord) Route {
	return Route{
		ID: r.ID.String(), Method: r.Method, Host: r.Host, Pattern: r.Pattern, Script: r.ScriptName,
		ScriptID: r.Script.String(), Mode: r.Mode, Wait: span(retry.Duration(r.Wait)), CreatedAt: r.CreatedAt.UTC(),
	}
}

// NewRoute is what makes a route.
type NewRoute struct {
	Method  string `json:"method,omitempty" maxLength:"32" example:"GET" doc:"Every method if absent"`
	Host    string `json:"host,omitempty" maxLength:"255" doc:"A host that the app claims, or one under such a claim; every host of the app if absent"`
	Pattern string `json:"pattern" minLength:"1" maxLength:"1024" example:"/users/{id}" doc:"Literal segments, {name} for one segment, {name...} for all that follow"`
	Script  string `json:"script" minLength:"1" maxLength:"63" example:"hello" doc:"Name or id of the script"`
	Mode    string `json:"mode,omitempty" enum:"sync,async" default:"sync"`
	Wait    string `json:"wait,omitempty" maxLength:"32" example:"5s" doc:"Of mode sync: after this long the caller has a 202 with a result URL while the script runs on; as long as the script may take if absent"`
}

// RouteCheck asks whether there is room for a route.
type RouteCheck struct {
	Method  string `json:"method,omitempty" maxLength:"32" example:"GET"`
	Host    string `json:"host,omitempty" maxLength:"255"`
	Pattern string `json:"pattern" minLength:"1" maxLength:"1024" example:"/users/{id}"`
}

// RouteVerdict is the answer to a RouteCheck.
type RouteVerdict struct {
	OK       bool   `json:"ok"`
	Reason   string `json:"reason,omitempty" doc:"What stands in the way"`
	Conflict string `json:"conflict,omitempty" format:"uuid" doc:"The route that does"`
}

// MatchQuestion asks where a request would go.
type MatchQuestion struct {
	Method string `json:"method" minLength:"1" maxLength:"32" example:"GET"`
	Host   string `json:"host,omitempty" maxLength:"255" example:"shop.example.com" doc:"As in a request"`
	Path   string `json:"path" minLength:"1" maxLength:"8192" example:"/users/42" doc:"As in a request: percent-encoded, a query is ignored"`
}

// MatchAnswer says where a request would go.
type MatchAnswer struct {
	Matched  bool     `json:"matched"`
	RouteID  string   `json:"route_id,omitempty" format:"uuid"`
	Pattern  string   `json:"pattern,omitempty" example:"/users/{id}"`
	Script   string   `json:"script,omitempty" example:"hello"`
	ScriptID string   `json:"script_id,omitempty" format:"uuid"`
	Mode     string   `json:"mode,omitempty" enum:"sync,async"`
	Params   []Param  `json:"params" doc:"In the order of the pattern"`
	Rest     string   `json:"rest,omitempty" doc:"What {name...} took, without a leading slash"`
	Allow    []string `json:"allow" doc:"Where nothing matched: the methods that the path has"`
}

// Param is one path parameter.
type Param struct {
	Name  string `json:"name" example:"id"`
	Value string `json:"value" example:"42"`
}

const (
	routesPath = appPath + "/routes"
	routePath  = routesPath + "/{route}"
)

// RoutePath is in the input of every operation of a route.
type RoutePath struct {
	AppPath
	Route uuid.UUID `path:"route" format:"uuid" doc:"Id of the route"`
}

func (a *api) registerRoutes(doc huma.API) {
	register(a, doc, operation{
		id: "list-routes", method: http.MethodGet, path: routesPath, tag: "routes", capability: auth.AppRead,
		summary: "List the routes of an app, by pattern",
	}, func(ctx context.Context, in *struct {
		AppPath
		PageQuery
	},
	) (*body[Page[Route]], error) {
		routes, next, err := a.Routes.List(ctx, app(ctx), in.Cursor, in.Limit)
		return listed(routes, next, viewRoute), err
	})
	register(a, doc, operation{
		id: "create-route", method: http.MethodPost, path: routesPath, tag: "routes", capability: auth.AppWriteRoute,
		summary: "Make a route", text: "This is a release.", status: http.StatusCreated,
	}, a.createRoute)
	register(a, doc, operation{
		id: "get-route", method: http.MethodGet, path: routePath, tag: "routes", capability: auth.AppRead,
		summary: "Get a route",
	}, func(ctx context.Context, in *RoutePath) (*body[Route], error) {
		r, err := a.Routes.Get(ctx, app(ctx), in.Route)
		return answer(viewRoute(&r)), err
	})
	register(a, doc, operation{
		id: "delete-route", method: http.MethodDelete, path: routePath, tag: "routes", capability: auth.AppWriteRoute,
		summary: "Delete a route", text: "This is a release.",
	}, func(ctx context.Context, in *RoutePath) (*struct{}, error) {
		if err := a.Routes.Delete(ctx, by(ctx), app(ctx), in.Route); err != nil {
			return nil, err
		}
		a.Changed()
		return nil, nil
	})
	register(a, doc, operation{
		id: "check-route", method: http.MethodPost, path: routesPath + "/check", tag: "routes", capability: auth.AppRead,
		summary: "Tell whether there is room for a route",
	}, a.checkRoute)
	register(a, doc, operation{
		id: "match-route", method: http.MethodPost, path: routesPath + "/match", tag: "routes", capability: auth.AppRead,
		summary: "Tell where a request would go",
	}, a.matchRoute)
}

// parseRoute checks what a request says of a route; field is what comes before the names of its fields.
func parseRoute(field, method, host, pattern, mode string) (tenant.Route, error) {
	r := tenant.Route{Pattern: pattern, Mode: mode}
	var err error
	if r.Method, err = tenant.ParseMethod(method); err != nil {
		return r, wrong(field+"method", err.Error())
	}
	if host != "" && host != "*" {
		if r.Host, err = tenant.ParseHost(host); err != nil {
			return r, wrong(field+"host", err.Error())
		}
	}
	if _, err := tenant.ParsePattern(pattern); err != nil {
		return r, wrong(field+"pattern", err.Error())
	}
	return r, nil
}

// longestWait is as long as a script may take.
const longestWait = 5 * time.Minute

func routeWait(place, text, mode string) (time.Duration, error) {
	s := &spans{}
	wait := time.Duration(s.read("", text))
	switch {
	case s.err != nil || text != "" && (wait < time.Millisecond || wait > longestWait):
		return 0, wrong(place, "a span of time between 1ms and 5m, such as 5s")
	case wait > 0 && mode == tenant.ModeAsync:
		return 0, wrong(place, "nobody waits at a route of mode async")
	}
	return wait, nil
}

func (a *api) createRoute(ctx context.Context, in *struct {
	AppPath
	Body NewRoute
},
) (*body[Route], error) {
	r, err := parseRoute("body.", in.Body.Method, in.Body.Host, in.Body.Pattern, in.Body.Mode)
	if err != nil {
		return nil, err
	}
	if r.Wait, err = routeWait("body.wait", in.Body.Wait, in.Body.Mode); err != nil {
		return nil, err
	}
	if r.Script, err = a.target(ctx, "body.script", in.Body.Script); err != nil {
		return nil, err
	}
	r.App = app(ctx)
	made, err := a.Routes.Create(ctx, by(ctx), r)
	if err != nil {
		return nil, err
	}
	a.Changed()
	return answer(viewRoute(&made)), nil
}

func (a *api) checkRoute(ctx context.Context, in *struct {
	AppPath
	Body RouteCheck
},
) (*body[RouteVerdict], error) {
	r, err := parseRoute("body.", in.Body.Method, in.Body.Host, in.Body.Pattern, "")
	if err != nil {
		return nil, err
	}
	r.App = app(ctx)
	err = a.Routes.Conflicts(ctx, r)
	if conflict := (*tenant.Conflict)(nil); errors.As(err, &conflict) {
		return answer(RouteVerdict{Reason: conflict.Message, Conflict: optional(conflict.With)}), nil
	}
	return answer(RouteVerdict{OK: true}), err
}

func (a *api) matchRoute(ctx context.Context, in *struct {
	AppPath
	Body MatchQuestion
},
) (*body[MatchAnswer], error) {
	u, err := url.ParseRequestURI(in.Body.Path)
	if err != nil || u.Host != "" || u.Scheme != "" {
		return nil, wrong("body.path", "this is not the path of a request")
	}
	snapshot, err := a.Snapshots.Load(ctx)
	if err != nil {
		return nil, err
	}
	out := MatchAnswer{Params: []Param{}, Allow: []string{}}
	m := snapshot.Match(snapshot.App(app(ctx)), in.Body.Host, strings.ToUpper(in.Body.Method), u.Path)
	if m.Route == nil {
		out.Allow = append(out.Allow, m.Allow...)
		return answer(out), nil
	}
	out.Matched, out.RouteID, out.Pattern, out.Mode = true, m.Route.ID.String(), m.Route.Pattern, m.Route.Mode
	out.Script, out.ScriptID, out.Rest = m.Script.Name, m.Script.ID.String(), m.Rest
	for _, p := range m.Params {
		out.Params = append(out.Params, Param{p.Name, p.Value})
	}
	return answer(out), nil
}
