package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/sdk/picloud"
)

// Whoami is who a credential stands for.
type Whoami struct {
	ID     string   `json:"id" format:"uuid" doc:"The user"`
	Name   string   `json:"name" example:"owner"`
	Role   string   `json:"role" enum:"owner,admin,member"`
	App    string   `json:"app,omitempty" format:"uuid" doc:"The only app that the key may touch; absent if it is not bound to one"`
	Scopes []string `json:"scopes" doc:"What the key is narrowed to" example:"[\"script:read\"]"`
}

// VersionInfo is what this server is.
type VersionInfo struct {
	Product string `json:"product" example:"0.1.0"`
	API     string `json:"api" example:"1" doc:"Of this API; it is in the path"`
	SDK     string `json:"sdk" example:"1.0" doc:"Of what scripts see"`
}

// Layer is one layer of isolation between scripts and the machine.
type Layer struct {
	Name  string `json:"layer"`
	Holds bool   `json:"holds"`
	Why   string `json:"why,omitempty"` // why it does not hold
}

// readiness is the answer of /readyz.
type readiness struct {
	Ready     bool    `json:"ready"`
	Error     string  `json:"error,omitempty"`
	Isolation []Layer `json:"isolation"`
}

// readiness says whether the node takes work: 200 if it does, else 503.
func (c *Config) readiness(w http.ResponseWriter, _ *http.Request) {
	status, now := http.StatusOK, readiness{Ready: true, Isolation: c.Isolation}
	if err := c.Ready(); err != nil {
		status, now.Ready, now.Error = http.StatusServiceUnavailable, false, err.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(now) // nobody waits for it any more
}

func (a *api) registerSystem(doc huma.API) {
	register(a, doc, operation{
		id: "whoami", method: http.MethodGet, path: "/api/v1/whoami", tag: "system", capability: auth.InstanceRead,
		summary: "Who the credential stands for",
	}, func(ctx context.Context, _ *struct{}) (*body[Whoami], error) {
		p := callerOf(ctx).principal
		scopes := make([]string, len(p.Scopes))
		for i, s := range p.Scopes {
			scopes[i] = string(s)
		}
		return answer(Whoami{
			ID: p.User.String(), Name: p.Name, Role: string(p.Role), App: optional(p.App), Scopes: scopes,
		}), nil
	})
	register(a, doc, operation{
		id: "get-version", method: http.MethodGet, path: "/version", tag: "system", summary: "What this server is",
	}, func(context.Context, *struct{}) (*body[VersionInfo], error) {
		return answer(VersionInfo{Product: a.Version, API: "1", SDK: picloud.Version}), nil
	})
}
