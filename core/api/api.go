// Package api is the control API: everything that people, the command line and the dashboard do to apps. It is served on
// the admin listener, describes itself as OpenAPI, and stands beside the line: it changes what ingress and dispatcher
// read, and reads what they wrote.
package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/engine"
	"github.com/picloud/picloud/core/tenant"
)

// Config is what the API works on. All fields are needed.
type Config struct {
	Apps        AppStore
	Scripts     ScriptStore
	Versions    VersionStore
	Routes      RouteStore
	Queues      QueueStore
	Triggers    TriggerStore
	Sinks       SinkStore
	SinkChecker SinkChecker
	SinkTester  SinkTester
	Sources     SourceStore
	SourceCheck SourceChecker
	Pauses      PauseStore
	Releases    ReleaseStore
	Snapshots   SnapshotStore
	Executions  ExecutionStore
	Usage       UsageStore
	Entries     EntryStore
	Lanes       Lanes
	DeadLetters DeadLetterStore
	Secrets     SecretStore
	Auth        Authenticator
	Checker     Checker
	Trials      Trials
	// Engines are those beside BuiltinEngines.
	Engines  []Engine
	Invoker  Invoker
	Sender   Sender
	Firer    Firer
	Replayer Replayer

	// Changed is called after each change of configuration and before its answer, so that whoever made the change finds
	// this node current.
	Changed func()
	// Ready says why the node cannot serve, or nil.
	Ready func() error
	// MaxLimits are the most that runs may be allowed on this node.
	MaxLimits tenant.Limits
	// Quarantined lists the versions of scripts that the node does not run.
	Quarantined func() []engine.Quarantine
	// Isolation is how processes that run scripts are isolated on this node.
	Isolation []Layer
	Metrics   http.Handler
	Version   string // of the product
	Log       hclog.Logger
}

type api struct {
	Config
	log hclog.Logger
}

// New returns the handler of the admin listener.
func New(c Config) http.Handler {
	mux := http.NewServeMux()
	doc := build(c, mux)
	serveDocs(mux, doc.OpenAPI())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", c.readiness)
	mux.Handle("GET /metrics", c.guarded(c.Metrics))
	return secure(fallback(mux))
}

// guarded lets those through who may see the whole instance.
func (c *Config) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		p, err := c.Auth.Authenticate(r.Context(), strings.TrimSpace(token))
		switch {
		case !strings.EqualFold(scheme, "bearer") || errors.Is(err, auth.ErrInvalid):
			w.Header().Set("WWW-Authenticate", `Bearer realm="picloud"`)
			plain(w, http.StatusUnauthorized, "this needs a credential: send the header Authorization: Bearer pic_…")
		case err != nil:
			plain(w, http.StatusServiceUnavailable, "the credential cannot be checked now")
		case !p.Can(auth.InstanceCreateApp):
			plain(w, http.StatusForbidden, "this needs the key of an owner or admin of the instance")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}

// Spec returns the OpenAPI document as YAML. It needs nothing but this binary, and is the same each time.
func Spec() ([]byte, error) {
	return build(Config{Log: hclog.NewNullLogger()}, http.NewServeMux()).OpenAPI().YAML()
}

func build(c Config, mux *http.ServeMux) huma.API {
	a := &api{Config: c, log: c.Log.Named("api")}
	doc := humago.New(mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "PiCloud control API",
				Version:     "1",
				Description: description + problemTable(),
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", BearerFormat: "pic_…", Description: "An API key."},
				},
			},
			Tags: tags,
		},
		OpenAPIPath:                  "/openapi",
		Formats:                      map[string]huma.Format{"application/json": strictJSON, "json": strictJSON},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
	})
	doc.UseMiddleware(a.authorize(doc))
	a.registerSystem(doc)
	a.registerApps(doc)
	a.registerLimits(doc)
	a.registerDomains(doc)
	a.registerScripts(doc)
	a.registerVersions(doc)
	a.registerDeploy(doc)
	a.registerTrials(doc)
	a.registerInvoke(doc)
	a.registerRoutes(doc)
	a.registerQueues(doc)
	a.registerTriggers(doc)
	a.registerSinks(doc)
	a.registerSources(doc)
	a.registerPauses(doc)
	a.registerReleases(doc)
	a.registerExecutions(doc)
	a.registerDeadLetters(doc)
	a.registerReplays(doc)
	a.registerEntries(doc)
	a.registerSecrets(doc)
	return doc
}

const description = `Everything that can be done to apps, their scripts and routes, and everything that can be known of their
executions.

- ` + "`{app}`" + ` is the slug or the id of an app, ` + "`{script}`" + ` the name or the id of a script.
- Times are RFC 3339 in UTC. Lists are ` + "`{items, next_cursor}`" + `: pass the cursor back to continue; it is absent on the last page.
- What is not yours does not exist: the answer is the same 404.
- Unknown fields, and fields in another case than documented, are refused.
- Errors are ` + "`application/problem+json`" + ` (RFC 9457) of these types:

`

var tags = []*huma.Tag{
	{Name: "apps", Description: "Apps and the hosts they claim"},
	{Name: "scripts", Description: "Scripts, their immutable versions, and calling them"},
	{Name: "routes", Description: "Which requests lead to which script"},
	{Name: "queues", Description: "Named work: each message goes to one run of a script"},
	{Name: "sinks", Description: "Where events leave the platform: URLs, mail servers, and what plugins reach"},
	{Name: "sources", Description: "Where events come from: mail, and what plugins follow"},
	{Name: "triggers", Description: "Which events lead to which script, and how they are delivered"},
	{Name: "releases", Description: "The states an app went through, and going back"},
	{Name: "executions", Description: "What ran, how it ended, and what waits"},
	{Name: "dead-letters", Description: "Events whose script failed for good"},
	{Name: "secrets", Description: "Values that only the scripts of an app see"},
	{Name: "system", Description: "This server"},
}

// The limits of requests.
const (
	maxBody        = 1 << 20
	maxSourceBody  = maxCompiled/3*4 + 1<<20 // in base64, and what is beside
	uploadPatience = time.Minute
)

// operation is what distinguishes one operation from another.
type operation struct {
	id         string
	method     string
	path       string
	tag        string
	summary    string
	text       string
	capability auth.Capability // empty: no credential is needed
	status     int             // zero: 200, or 204 without an answer
	maxBody    int64           // zero: maxBody
}

// capabilityKey is where the document carries an operation's capability.
const capabilityKey = "x-capability"

// register adds an operation. Errors of handler are answered as problemOf says.
func register[I, O any](a *api, doc huma.API, o operation, handler func(context.Context, *I) (*O, error)) {
	op := huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Tags: []string{o.tag}, Summary: o.summary, Description: o.text,
		DefaultStatus: o.status, MaxBodyBytes: maxBody, Extensions: map[string]any{},
	}
	if o.maxBody > 0 {
		op.MaxBodyBytes, op.BodyReadTimeout = o.maxBody, uploadPatience
	}
	if o.capability != "" {
		op.Extensions[capabilityKey] = string(o.capability)
		op.Security = []map[string][]string{{"token": {}}}
	}
	huma.Register(doc, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			return nil, a.problemOf(ctx, o.id, err)
		}
		return out, nil
	})
}
