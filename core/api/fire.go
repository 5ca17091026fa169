package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/picloud/picloud/core/cron"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
	"github.com/picloud/picloud/sdk/event"
)

// TriggerTime is one time at which a trigger comes.
type TriggerTime struct {
	At    time.Time `json:"at"`
	Local string    `json:"local" example:"2026-03-08T03:30:00-04:00" doc:"The same in the time zone of the trigger"`
}

// TriggerTimes are the next of them.
type TriggerTimes struct {
	Items []TriggerTime `json:"items"`
}

func (a *api) triggerTimes(ctx context.Context, in *struct {
	TriggerPath
	Count int `query:"count" minimum:"1" maximum:"100" default:"5" doc:"How many"`
},
) (*body[TriggerTimes], error) {
	t, err := a.Triggers.Get(ctx, app(ctx), in.Trigger)
	if err != nil {
		return nil, err
	}
	if t.Kind != tenant.TriggerCron {
		return nil, &tenant.Conflict{Message: "only a trigger of kind cron has times; this is of kind " + t.Kind}
	}
	s, err := cron.Parse(t.Filter.Schedule, t.Filter.TimeZone)
	if err != nil {
		return nil, err
	}
	out := TriggerTimes{Items: []TriggerTime{}}
	for _, at := range s.Following(time.Now(), in.Count) {
		out.Items = append(out.Items, TriggerTime{at.UTC(), at.Format(time.RFC3339)})
	}
	return answer(out), nil
}

// TriggerEvent is an event that did not happen.
type TriggerEvent struct {
	Collection string          `json:"collection,omitempty" maxLength:"255" doc:"Of kinds kv, docs and files"`
	Key        string          `json:"key,omitempty" maxLength:"1024" doc:"Of kinds kv, docs and files: the key, or the id"`
	Op         string          `json:"op,omitempty" enum:"create,update,delete" doc:"Of kinds kv, docs and files"`
	Topic      string          `json:"topic,omitempty" maxLength:"255" doc:"Of kind pubsub; of kinds webhook and source what the sender calls the event"`
	Data       json.RawMessage `json:"data,omitempty" doc:"The value as it is now, or the message: any JSON value. Not of kind cron"`
	Previous   json.RawMessage `json:"previous,omitempty" doc:"Of kinds kv, docs and files: the value before"`
}

func (a *api) fireTrigger(ctx context.Context, in *struct {
	TriggerPath
	KeyHeader
	Body TriggerEvent
},
) (*body[Accepted], error) {
	t, err := a.Triggers.Get(ctx, app(ctx), in.Trigger)
	if err != nil {
		return nil, err
	}
	change, err := in.Body.change(&t.Trigger)
	if err != nil {
		return nil, err
	}
	if invalid := (*tenant.Invalid)(nil); errors.As(trigger.Takes(&t.Trigger, change, nil), &invalid) {
		return nil, wrong("body."+invalid.Field, invalid.Message)
	}
	key, err := in.idempotency(t.ID, in.Body)
	if err != nil {
		return nil, err
	}
	sent, err := a.Firer.Fire(ctx, t.Trigger, change, key)
	duplicate := (*outbox.Duplicate)(nil)
	if errors.As(err, &duplicate) {
		sent, err = duplicate.Entry, nil
	}
	return answer(Accepted{sent.String(), outbox.AcceptedAt(sent).UTC(), duplicate != nil}), err
}

// firedWith says what an event may have of TriggerEvent, by the kind of its trigger.
var firedWith = map[string]string{
	tenant.TriggerKV: ofChange, tenant.TriggerDocs: ofChange, tenant.TriggerFiles: ofChange,
	tenant.TriggerPubSub: "topic and data", tenant.TriggerWebhook: "topic and data", tenant.TriggerSource: "topic and data",
	tenant.TriggerEmail: "data", tenant.TriggerApp: "data", tenant.TriggerCron: "nothing: its script is given the time",
}

const ofChange = "collection, key, op, data and previous"

// change is the event that a trigger is fired with. What is absent is made up so that its patterns take it.
func (e *TriggerEvent) change(t *tenant.Trigger) (*trigger.Change, error) {
	c := &trigger.Change{Data: e.Data, Previous: e.Previous}
	ofData, ofMessages := e.Collection != "" || e.Key != "" || e.Op != "" || e.Previous != nil, e.Topic != ""
	misplaced := ofData || ofMessages
	switch t.Kind {
	case tenant.TriggerKV, tenant.TriggerDocs, tenant.TriggerFiles:
		misplaced = ofMessages
		c.Kind = map[string]outbox.Kind{"kv": outbox.KindKV, "docs": outbox.KindDocs, "files": outbox.KindFiles}[t.Kind]
		c.Collection, c.Key, c.Op = cmp.Or(e.Collection, example(t.Filter.Collection)), cmp.Or(e.Key, "test"), e.Op
		if c.Op == "" {
			if c.Op = tenant.OpUpdate; len(t.Filter.Ops) > 0 {
				c.Op = t.Filter.Ops[0]
			}
		}
		if c.Data == nil && c.Op != tenant.OpDelete {
			c.Data = json.RawMessage("null")
		}
	case tenant.TriggerPubSub:
		misplaced = ofData
		c.Kind, c.Topic = outbox.KindPubSub, cmp.Or(e.Topic, example(t.Filter.Topic))
		if invalid := (*tenant.Invalid)(nil); errors.As(tenant.CheckTopic(c.Topic), &invalid) {
			return nil, wrong("body."+invalid.Field, invalid.Message)
		}
		if c.Data == nil {
			c.Data = json.RawMessage("null")
		}
	case tenant.TriggerWebhook:
		misplaced = ofData
		c.Kind, c.Topic, c.ContentType = outbox.KindHook, e.Topic, "application/json"
		c.HTTP = &event.HTTP{
			Method: http.MethodPost, Path: tenant.WebhooksPath + t.Name, Headers: []event.Header{{Name: "Content-Type", Value: c.ContentType}},
		}
		if c.Data == nil {
			c.Data = json.RawMessage("null")
		}
	case tenant.TriggerSource:
		misplaced = ofData
		c.Kind, c.Source, c.Topic = outbox.KindSource, cmp.Or(t.Filter.Source, "test"), cmp.Or(e.Topic, example(t.Filter.Type), "test")
		c.ContentType = "application/json"
		if c.Data == nil {
			c.Data = json.RawMessage("null")
		}
	case tenant.TriggerEmail:
		misplaced = ofData || ofMessages
		if c.Data == nil {
			to, _ := json.Marshal([]string{cmp.Or(strings.Replace(t.Filter.To, "*", "test", 1), "test@example.com")}) // a list of texts
			c.Data = fmt.Appendf(nil, `{"from":"test@example.com","to":%s,"cc":[],"subject":"test","text":"test","html":"","attachments":[]}`, to)
		}
		mail, err := trigger.Mail(c.Data)
		if invalid := (*tenant.Invalid)(nil); errors.As(err, &invalid) {
			return nil, wrong("body."+invalid.Field, invalid.Message)
		}
		c = mail
	case tenant.TriggerApp:
		misplaced = ofData || ofMessages
		c.Kind, c.Op = outbox.KindApp, cmp.Or(slices.Concat(t.Filter.Events, []string{""})[0], tenant.EventDeployed)
		if c.Data == nil {
			c.Data = json.RawMessage(`{"event":"` + c.Op + `"}`)
		}
	case tenant.TriggerCron:
		if e.Data != nil {
			return nil, wrong("body.data", "a trigger of kind cron has no data: its script is given the time")
		}
		c = cron.Tick(time.Now())
	default:
		return nil, &tenant.Conflict{Message: "a trigger of kind " + t.Kind + " cannot be fired: make a request, or have a script fail"}
	}
	switch {
	case misplaced:
		return nil, wrong("body", "a trigger of kind "+t.Kind+" is fired with "+firedWith[t.Kind])
	case len(c.Data)+len(c.Previous) > maxMessage:
		return nil, kindNamed("too_large").problem("data and previous are larger than 1 MiB")
	}
	return c, nil
}

// example is something that a pattern takes.
func example(pattern string) string {
	if prefix, open := strings.CutSuffix(pattern, "*"); open {
		return prefix + "test"
	}
	return pattern
}
