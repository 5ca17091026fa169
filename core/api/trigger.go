package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/cron"
	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
)

// Trigger says that events like these go to that script, and how.
type Trigger struct {
	ID           string        `json:"id" format:"uuid"`
	Name         string        `json:"name" example:"orders"`
	Kind         string        `json:"kind" enum:"http,dead_letter,kv,docs,files,pubsub,cron,webhook,source,email,app"`
	Script       string        `json:"script,omitempty" example:"handle-order" doc:"Name of the script that runs"`
	ScriptID     string        `json:"script_id,omitempty" format:"uuid"`
	Sink         string        `json:"sink,omitempty" example:"billing" doc:"Or of the sink that the event goes to"`
	SinkID       string        `json:"sink_id,omitempty" format:"uuid"`
	RouteID      string        `json:"route_id,omitempty" format:"uuid" doc:"Of kind http"`
	Path         string        `json:"path,omitempty" example:"/.picloud/webhooks/orders" doc:"Of kinds webhook and email: where it takes requests, on every host of the app"`
	Filter       TriggerFilter `json:"filter"`
	Policy       Policy        `json:"policy"`
	Enabled      bool          `json:"enabled"`
	Paused       bool          `json:"paused" doc:"Itself, its script or the whole app"`
	RegisteredBy string        `json:"registered_by,omitempty" format:"uuid" doc:"The user as whom its scripts run"`
	CreatedAt    time.Time     `json:"created_at"`
	UpdatedAt    time.Time     `json:"updated_at"`
}

// TriggerFilter narrows what a trigger takes. What is absent takes everything.
type TriggerFilter struct {
	Scripts []string `json:"scripts,omitempty" maxItems:"100" doc:"Of kinds dead_letter and app: names of the scripts that failed, or have another version. Of kind app with names, failures of deliveries to sinks are not for it"`
	Reasons []string `json:"reasons,omitempty" maxItems:"20" enum:"exhausted,fatal,poison,undecodable,target_gone,principal_inactive,node_lost" doc:"Of kind dead_letter: why it was given up"`

	Collection string   `json:"collection,omitempty" maxLength:"255" example:"users" doc:"Of kinds kv, docs and files, which must have it: a collection, prefix*, or * for all"`
	Ops        []string `json:"ops,omitempty" maxItems:"3" enum:"create,update,delete" doc:"Of kinds kv, docs and files: what is done to the data"`

	Topic string `json:"topic,omitempty" maxLength:"255" example:"user.*" doc:"Of kind pubsub, which must have it: a topic, prefix.*, or * for all"`

	Schedule string `json:"schedule,omitempty" maxLength:"255" example:"0 9 * * 1-5" doc:"Of kind cron, which must have it: minute, hour, day of month, month, day of week; six fields begin with the second"`
	TimeZone string `json:"time_zone,omitempty" maxLength:"63" example:"Europe/Berlin" doc:"Of kind cron: a name of the IANA database. UTC if absent"`

	Events []string `json:"events,omitempty" maxItems:"2" enum:"deployed,failed" doc:"Of kind app: deployed says that scripts have other versions, failed that a run will not be tried again"`

	Source string `json:"source,omitempty" maxLength:"63" example:"orders" doc:"Of kind source: the name of the source. Any if absent"`
	Type   string `json:"type,omitempty" maxLength:"255" example:"order.*" doc:"Of kind source: what its events are called, prefix.*, or * for all"`
	To     string `json:"to,omitempty" maxLength:"255" example:"*@shop.example.com" doc:"Of kind email: an address that the message was sent to, in which one star stands for any text. Any if absent"`

	Signature string `json:"signature,omitempty" enum:"standard,github,stripe,slack,hmac,none" doc:"Of kind webhook, which must have it, and email, which takes no requests without: how they are signed. standard is Standard Webhooks, hmac an HMAC of the body in a header. none: whoever knows the address may send"`
	Secret    string `json:"secret,omitempty" maxLength:"63" example:"GITHUB_WEBHOOK_KEY" doc:"Of kinds webhook and email: the secret of the app that holds the key, a text, or a list of several that are good"`
	Header    string `json:"header,omitempty" maxLength:"100" example:"X-Signature" doc:"Of signature hmac: what has the signature, in hexadecimal or base64. X-Signature if absent"`
	Algorithm string `json:"algorithm,omitempty" enum:"sha1,sha256,sha512" doc:"Of signature hmac. sha256 if absent"`

	When string `json:"when,omitempty" maxLength:"2000" example:"event.op != 'delete' && data.value.total > 100" doc:"Of all kinds but http and cron: an expression in CEL. It knows event.type, event.subject, event.collection, event.key, event.id, event.op, event.source and event.topic, which of webhook is what the sender calls the event, and data, which is what the script is given, of a form its fields. Where it fails, such as for want of a field, the event is not taken, and once a minute at most an execution that was stopped for the reason when says so"`
}

func viewTrigger(t *tenant.TriggerRecord) Trigger {
	view := Trigger{
		ID: t.ID.String(), Name: t.Name, Kind: t.Kind, Script: t.ScriptName, ScriptID: optional(t.Script), Sink: t.SinkName, SinkID: optional(t.Sink),
		RouteID: optional(t.Route), Filter: TriggerFilter(t.Filter), Policy: viewPolicy(&t.Policy), Enabled: t.Enabled,
		Paused: t.Paused, RegisteredBy: optional(t.RegisteredBy), CreatedAt: t.CreatedAt.UTC(), UpdatedAt: t.UpdatedAt.UTC(),
	}
	if t.Filter.Signature != "" {
		view.Path = tenant.WebhooksPath + t.Name
	}
	return view
}

// NewTrigger is what makes a trigger.
type NewTrigger struct {
	Name    string        `json:"name" minLength:"1" maxLength:"63" example:"orders" doc:"Lower-case letters, digits, dashes and underscores; unique in the app"`
	Kind    string        `json:"kind" enum:"http,dead_letter,kv,docs,files,pubsub,cron,webhook,source,email,app" doc:"http: how the requests of a route are delivered that nobody waits for. dead_letter: a script handles what other scripts failed at. kv, docs, files: a script runs when data changes. pubsub: when a message is published. cron: when a time comes. webhook: when another service sends a signed request to /.picloud/webhooks/ and the name of the trigger. source: when a source brings an event in. email: when it brings in a message of e-mail. app: when the app was deployed, or a script of it, or a delivery to a sink, has failed for good"`
	RouteID uuid.UUID     `json:"route_id,omitempty" format:"uuid" doc:"Of kind http: the route, whose script it is"`
	Script  string        `json:"script,omitempty" maxLength:"63" doc:"Of all kinds but http: name or id of the script that runs"`
	Sink    string        `json:"sink,omitempty" maxLength:"63" doc:"Of all kinds but http, in place of a script: name or id of the sink that the event goes to, as JSON with id, type, time, source, subject and data"`
	Filter  TriggerFilter `json:"filter,omitempty"`
	Policy  Policy        `json:"policy,omitempty" doc:"A handler of dead letters is tried once, so it only has priority, concurrency and rate"`
	Enabled *bool         `json:"enabled,omitempty" doc:"true if absent"`
}

// TriggerChange is what may change in a trigger. What is absent stays; a policy or filter replaces the whole one.
type TriggerChange struct {
	Filter  *TriggerFilter `json:"filter,omitempty"`
	Policy  *Policy        `json:"policy,omitempty"`
	Enabled *bool          `json:"enabled,omitempty"`
}

// TriggerPath is in the input of every operation of a trigger.
type TriggerPath struct {
	AppPath
	Trigger string `path:"trigger" maxLength:"63" doc:"Name or id of the trigger" example:"orders"`
}

const (
	triggersPath = appPath + "/triggers"
	triggerPath  = triggersPath + "/{trigger}"
)

func (a *api) registerTriggers(doc huma.API) {
	register(a, doc, operation{
		id: "list-triggers", method: http.MethodGet, path: triggersPath, tag: "triggers", capability: auth.AppRead,
		summary: "List the triggers of an app, by name",
	}, func(ctx context.Context, in *struct {
		AppPath
		PageQuery
	},
	) (*body[Page[Trigger]], error) {
		triggers, next, err := a.Triggers.List(ctx, app(ctx), in.Cursor, in.Limit)
		return listed(triggers, next, viewTrigger), err
	})
	register(a, doc, operation{
		id: "create-trigger", method: http.MethodPost, path: triggersPath, tag: "triggers", capability: auth.AppWriteRoute,
		summary: "Make a trigger", text: "This is a release. Its scripts run as whoever makes it.", status: http.StatusCreated,
	}, a.createTrigger)
	register(a, doc, operation{
		id: "get-trigger", method: http.MethodGet, path: triggerPath, tag: "triggers", capability: auth.AppRead,
		summary: "Get a trigger",
	}, func(ctx context.Context, in *TriggerPath) (*body[Trigger], error) {
		t, err := a.Triggers.Get(ctx, app(ctx), in.Trigger)
		return answer(viewTrigger(&t)), err
	})
	register(a, doc, operation{
		id: "update-trigger", method: http.MethodPatch, path: triggerPath, tag: "triggers", capability: auth.AppWriteRoute,
		summary: "Change a trigger", text: "This is a release.",
	}, a.updateTrigger)
	register(a, doc, operation{
		id: "delete-trigger", method: http.MethodDelete, path: triggerPath, tag: "triggers", capability: auth.AppWriteRoute,
		summary: "Delete a trigger", text: "This is a release. What waits still runs.",
	}, func(ctx context.Context, in *TriggerPath) (*struct{}, error) {
		t, err := a.Triggers.Get(ctx, app(ctx), in.Trigger)
		if err != nil {
			return nil, err
		}
		if err := a.Triggers.Delete(ctx, by(ctx), app(ctx), t.ID); err != nil {
			return nil, err
		}
		a.Changed()
		return nil, nil
	})
	register(a, doc, operation{
		id: "list-trigger-times", method: http.MethodGet, path: triggerPath + "/next", tag: "triggers", capability: auth.AppRead,
		summary: "Say when a trigger of kind cron comes next",
	}, a.triggerTimes)
	register(a, doc, operation{
		id: "fire-trigger", method: http.MethodPost, path: triggerPath + "/fire", tag: "triggers", capability: auth.AppInvoke,
		summary: "Run the script of a trigger as if its event had happened", status: http.StatusAccepted, maxBody: 2*maxMessage + maxBody,
		text: "What is absent is made up so that the trigger takes it. An event that the trigger does not take is refused, with " +
			"the reason. One that is disabled fires all the same; kinds http and dead_letter cannot be fired.",
	}, a.fireTrigger)
}

func (a *api) createTrigger(ctx context.Context, in *struct {
	AppPath
	Body NewTrigger
},
) (*body[Trigger], error) {
	b := &in.Body
	if err := tenant.CheckName(b.Name); err != nil {
		return nil, wrong("body.name", err.Error())
	}
	policy, err := b.Policy.ofTrigger(b.Kind)
	if err != nil {
		return nil, err
	}
	if err := a.checkFilter(ctx, b.Kind, &b.Filter); err != nil {
		return nil, err
	}
	t := tenant.Trigger{
		App: app(ctx), Name: b.Name, Kind: b.Kind, Route: b.RouteID, Filter: tenant.TriggerFilter(b.Filter), Policy: *policy,
		Enabled: b.Enabled == nil || *b.Enabled, RegisteredBy: by(ctx),
	}
	switch b.Kind {
	case tenant.TriggerHTTP:
		if b.RouteID == uuid.Nil {
			return nil, wrong("body.route_id", "a trigger of kind http needs a route")
		}
		if b.Script != "" || b.Sink != "" {
			return nil, wrong("body.script", "a trigger of kind http runs the script of its route")
		}
	default:
		if b.RouteID != uuid.Nil {
			return nil, wrong("body.route_id", "only a trigger of kind http has a route")
		}
		switch {
		case b.Script != "" && b.Sink != "":
			return nil, wrong("body.sink", "excludes script")
		case b.Sink != "":
			t.Sink, err = a.sinkTarget(ctx, "body.sink", b.Sink)
		case b.Script == "":
			return nil, wrong("body.script", "a trigger of kind "+b.Kind+" needs a script, or a sink")
		default:
			t.Script, err = a.target(ctx, "body.script", b.Script)
		}
		if err != nil {
			return nil, err
		}
	}
	made, err := a.Triggers.Create(ctx, t)
	if err != nil {
		return nil, err
	}
	a.Changed()
	return answer(viewTrigger(&made)), nil
}

// checkFilter says what is wrong with the filter of a trigger of a kind, and puts names where it has ids of scripts.
func (a *api) checkFilter(ctx context.Context, kind string, f *TriggerFilter) error {
	filter := tenant.TriggerFilter(*f)
	err := filter.Validate(kind)
	if err == nil && f.When != "" {
		err = trigger.CheckWhen(f.When)
	}
	if bad := secret.CheckName(f.Secret); err == nil && f.Secret != "" && bad != nil {
		return wrong("body.filter.secret", bad.Error())
	}
	if err == nil && kind == tenant.TriggerCron {
		_, err = cron.Parse(f.Schedule, f.TimeZone)
	}
	if invalid := (*tenant.Invalid)(nil); errors.As(err, &invalid) {
		return wrong("body.filter."+invalid.Field, invalid.Field+" "+invalid.Message)
	}
	if err != nil {
		return err
	}
	for i, ref := range f.Scripts { // with a typing error in one, or its id in place of its name, the trigger would never fire
		s, err := a.Scripts.Get(ctx, app(ctx), ref)
		switch {
		case errors.Is(err, tenant.ErrNotFound):
			return unknown("body.filter.scripts", "script", ref)
		case err != nil:
			return err
		}
		f.Scripts[i] = s.Name
	}
	return nil
}

// ofTrigger reads the policy of a trigger of the given kind.
func (p *Policy) ofTrigger(kind string) (*tenant.Policy, error) {
	const place = "body.policy."
	out, err := p.record(place, kind == tenant.TriggerHTTP || kind == tenant.TriggerWebhook)
	if err != nil || kind != tenant.TriggerDeadLetter {
		return out, err
	}
	if invalid := (*tenant.Invalid)(nil); errors.As(out.ValidateHandler(), &invalid) {
		return nil, wrong(place+invalid.Field, invalid.Message)
	}
	return out, nil
}

func (a *api) updateTrigger(ctx context.Context, in *struct {
	TriggerPath
	Body TriggerChange
},
) (*body[Trigger], error) {
	t, err := a.Triggers.Get(ctx, app(ctx), in.Trigger)
	if err != nil {
		return nil, err
	}
	var policy *tenant.Policy
	if in.Body.Policy != nil {
		if policy, err = in.Body.Policy.ofTrigger(t.Kind); err != nil {
			return nil, err
		}
	}
	if in.Body.Filter != nil {
		if err := a.checkFilter(ctx, t.Kind, in.Body.Filter); err != nil {
			return nil, err
		}
	}
	if t, err = a.Triggers.Update(ctx, by(ctx), app(ctx), t.ID, policy, (*tenant.TriggerFilter)(in.Body.Filter), in.Body.Enabled); err != nil {
		return nil, err
	}
	a.Changed()
	return answer(viewTrigger(&t)), nil
}
