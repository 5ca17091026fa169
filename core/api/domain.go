package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/tenant"
)

// Domain is the claim of an app to a host: requests for it are the app's.
type Domain struct {
	Host      string    `json:"host" example:"shop.example.com"`
	CreatedAt time.Time `json:"created_at"`
}

func viewDomain(d *tenant.Domain) Domain { return Domain{Host: d.Host, CreatedAt: d.CreatedAt.UTC()} }

// NewDomain is what claims a host.
type NewDomain struct {
	Host string `json:"host" minLength:"1" maxLength:"255" example:"shop.example.com" doc:"A name without port, *.suffix, an IP address, or * for every host that nobody else claims"`
}

const (
	domainsPath = appPath + "/domains"
	domainPath  = domainsPath + "/{host}"
)

func (a *api) registerDomains(doc huma.API) {
	register(a, doc, operation{
		id: "list-domains", method: http.MethodGet, path: domainsPath, tag: "apps", capability: auth.AppRead,
		summary: "List the hosts that an app claims",
	}, func(ctx context.Context, in *struct {
		AppPath
		PageQuery
	},
	) (*body[Page[Domain]], error) {
		domains, next, err := a.Apps.Domains(ctx, app(ctx), in.Cursor, in.Limit)
		return listed(domains, next, viewDomain), err
	})
	register(a, doc, operation{
		id: "claim-domain", method: http.MethodPost, path: domainsPath, tag: "apps", capability: auth.AppManageDomains,
		summary: "Claim a host", status: http.StatusCreated,
	}, func(ctx context.Context, in *struct {
		AppPath
		Body NewDomain
	},
	) (*body[Domain], error) {
		host, err := tenant.ParseHost(in.Body.Host)
		if err != nil {
			return nil, wrong("body.host", err.Error())
		}
		d, err := a.Apps.Claim(ctx, by(ctx), app(ctx), host)
		if err != nil {
			return nil, err
		}
		a.Changed()
		return answer(viewDomain(&d)), nil
	})
	register(a, doc, operation{
		id: "release-domain", method: http.MethodDelete, path: domainPath, tag: "apps", capability: auth.AppManageDomains,
		summary: "Give a host up",
	}, func(ctx context.Context, in *struct {
		AppPath
		Host string `path:"host" maxLength:"255" doc:"The host" example:"shop.example.com"`
	},
	) (*struct{}, error) {
		host, err := tenant.ParseHost(in.Host)
		if err != nil {
			return nil, tenant.ErrNotFound
		}
		if err := a.Apps.Release(ctx, by(ctx), app(ctx), host); err != nil {
			return nil, err
		}
		a.Changed()
		return nil, nil
	})
}
