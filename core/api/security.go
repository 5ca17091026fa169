package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/tenant"
)

// caller is who makes a request, and the app that its path names.
type caller struct {
	principal *auth.Principal
	app       uuid.UUID
}

type callerKey struct{}

func callerOf(ctx context.Context) *caller { return ctx.Value(callerKey{}).(*caller) }

// by is the user whom the audit log names.
func by(ctx context.Context) uuid.UUID { return callerOf(ctx).principal.User }

// app is the app of the path. The principal sees it.
func app(ctx context.Context) uuid.UUID { return callerOf(ctx).app }

// authorize is the one place where requests are let in: a valid credential, an app that exists for it, and the
// capability that the operation declares, in this order. A credential that is presented but not valid is refused also
// where none is needed, since otherwise a weak key could do more by being wrong.
func (a *api) authorize(doc huma.API) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		op := ctx.Operation()
		need, _ := op.Extensions[capabilityKey].(string)
		c := &caller{}
		var err error
		if c.principal, err = a.principal(ctx); err == nil && need != "" {
			err = a.admit(ctx, c, auth.Capability(need))
		}
		if err != nil {
			refuse(doc, ctx, a.problemOf(ctx.Context(), op.OperationID, err))
			return
		}
		next(huma.WithValue(ctx, callerKey{}, c))
	}
}

var errNoCredential = errors.New("this needs a credential: send the header Authorization: Bearer pic_…")

// principal returns who presents a credential; nil if there is none.
func (a *api) principal(ctx huma.Context) (*auth.Principal, error) {
	header := ctx.Header("Authorization")
	if header == "" {
		return nil, nil
	}
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "bearer") {
		return nil, unauthenticated("the only scheme is Bearer")
	}
	p, err := a.Auth.Authenticate(ctx.Context(), strings.TrimSpace(token))
	if errors.Is(err, auth.ErrInvalid) {
		return nil, unauthenticated("the credential is not valid")
	}
	return p, err
}

func (a *api) admit(ctx huma.Context, c *caller, need auth.Capability) error {
	if c.principal == nil {
		return unauthenticated(errNoCredential.Error())
	}
	if strings.Contains(ctx.Operation().Path, "{app}") {
		var err error
		if c.app, err = a.Apps.Resolve(ctx.Context(), ctx.Param("app")); err != nil {
			return err
		}
		if !c.principal.Sees(c.app) {
			return tenant.ErrNotFound
		}
	}
	if !c.principal.Can(need) {
		return kindNamed("forbidden").problem("this needs the capability " + string(need))
	}
	return nil
}

func unauthenticated(detail string) error {
	return huma.ErrorWithHeaders(kindNamed("unauthenticated").problem(detail),
		http.Header{"WWW-Authenticate": {`Bearer realm="picloud"`}})
}

// refuse answers from a middleware as an operation would.
func refuse(doc huma.API, ctx huma.Context, err error) {
	var p *Problem
	if !errors.As(err, &p) {
		p = kindNamed("internal").problem("")
	}
	if h := huma.HeadersError(nil); errors.As(err, &h) {
		for name, values := range h.GetHeaders() {
			ctx.SetHeader(name, values[0])
		}
	}
	ctx.SetHeader("Content-Type", p.ContentType(""))
	ctx.SetStatus(p.Status)
	_ = doc.Marshal(ctx.BodyWriter(), "application/json", p) // the caller may be gone
}

// secure sets the headers that every answer of the admin listener carries.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

const contentPolicy = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"

// fallback answers what no operation does with a problem, where http.ServeMux answers with text.
func fallback(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if query, err := url.QueryUnescape(r.URL.RawQuery); err != nil || !isText(query) {
			p := kindNamed("malformed_request").problem("the query is not text in UTF-8, with percent signs as they have to be")
			w.Header().Set("Content-Type", p.ContentType(""))
			w.WriteHeader(p.Status)
			_ = strictJSON.Marshal(w, p) // the caller may be gone
			return
		}
		handler, pattern := mux.Handler(r)
		if pattern != "" && isText(r.URL.Path) && isClean(r.URL.EscapedPath()) {
			mux.ServeHTTP(w, r)
			return
		}
		probe := &headOnly{header: http.Header{}, status: http.StatusOK}
		handler.ServeHTTP(probe, r)
		p := notFound()
		if probe.status == http.StatusMethodNotAllowed {
			p = kindNamed("method_not_allowed").problem("the path has other methods: " + probe.header.Get("Allow"))
			w.Header().Set("Allow", probe.header.Get("Allow"))
		}
		w.Header().Set("Content-Type", p.ContentType(""))
		w.WriteHeader(p.Status)
		_ = strictJSON.Marshal(w, p) // the caller may be gone
	})
}

// isText reports whether all of s could be the name of something: what is not text is not stored, so it is not found.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsRune(s, 0) && !strings.Contains(s, "%00")
}

// isClean reports whether a path is none that http.ServeMux sends elsewhere: to delete the script ".." of an app would be to delete the app.
func isClean(p string) bool { return path.Clean(p) == p || path.Clean(p)+"/" == p }

// headOnly is a response of which only the head matters.
type headOnly struct {
	header http.Header
	status int
}

func (h *headOnly) Header() http.Header         { return h.header }
func (h *headOnly) WriteHeader(status int)      { h.status = status }
func (h *headOnly) Write(b []byte) (int, error) { return len(b), nil }
