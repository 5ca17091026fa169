package trigger

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/event"
)

// Change is something that has happened, which triggers may take: a change of data, a message that was published, a
// time that has come, or a request of another service. Not safe for concurrent use: what is read of it is read once.
type Change struct {
	Kind outbox.Kind // KindKV, KindDocs, KindFiles, KindPubSub, KindCron, KindHook, KindLetter, KindApp, KindSource or KindEmail

	// Of kv, docs and files.
	Op         string // tenant.OpCreate, OpUpdate or OpDelete; of app: tenant.EventDeployed or EventFailed
	Collection string
	Key        string // of a document or file: its id; of dead_letter and app: a script

	Topic string // of pubsub; of webhook what the sender calls the event, or nothing; of source and email what the source does

	Source string   // of source: its name
	About  string   // of source and email: the subject
	To     []string // of email: the addresses that it was sent to

	HTTP        *event.HTTP // of webhook; of source: with what is known beside the data as headers; nil: nothing is
	ContentType string      // of webhook and source, whose Data may have any form

	// Data is JSON: the value as it is now, nil when it was deleted; the message of pubsub; what a cron script is given.
	Data json.RawMessage
	// Previous is the value before, as JSON: of kv, docs and files; nil: there was none.
	Previous json.RawMessage

	Options *Options // what the sender asks for beyond the policies of triggers; nil: nothing

	payload   []byte
	variables map[string]any // of expressions; nil: not made yet
}

// MaxData is how many bytes of JSON describe a change. Where the values before and after are longer together, the one
// before is left out, and the script told so.
const MaxData = 1 << 20

// changed is what a script is given of a change of data.
type changed struct {
	Collection string          `json:"collection"`
	Key        string          `json:"key,omitempty"` // of kv
	ID         string          `json:"id,omitempty"`  // of docs and files
	Op         string          `json:"op"`
	Value      json.RawMessage `json:"value,omitempty"`
	Previous   json.RawMessage `json:"previous,omitempty"`
	Omitted    []string        `json:"omitted,omitempty"`
}

// Type is that of the event: "kv.update", "pubsub.message", "cron.tick".
func (c *Change) Type() string {
	switch c.Kind {
	case outbox.KindPubSub:
		return "pubsub.message"
	case outbox.KindCron:
		return "cron.tick"
	case outbox.KindLetter:
		return "dead_letter"
	case outbox.KindHook:
		if c.Topic != "" {
			return "webhook." + c.Topic
		}
		return "webhook"
	case outbox.KindSource, outbox.KindEmail:
		return c.Topic
	}
	return c.Kind.String() + "." + c.Op
}

// Subject says what the event is about: "collection/key", or a topic; of cron and webhook nothing.
func (c *Change) Subject() string {
	switch c.Kind {
	case outbox.KindPubSub:
		return c.Topic
	case outbox.KindCron, outbox.KindHook:
		return ""
	case outbox.KindLetter, outbox.KindApp:
		return c.Key
	case outbox.KindSource, outbox.KindEmail:
		return c.About
	}
	return c.Collection + "/" + c.Key
}

// Payload is the data of the event, as JSON. It is made once.
func (c *Change) Payload() ([]byte, error) {
	switch {
	case c.payload != nil:
	case c.Kind != outbox.KindKV && c.Kind != outbox.KindDocs && c.Kind != outbox.KindFiles:
		c.payload = c.Data
	default:
		v := changed{Collection: c.Collection, Op: c.Op, Value: c.Data, Previous: c.Previous}
		if c.Kind == outbox.KindKV {
			v.Key = c.Key
		} else {
			v.ID = c.Key
		}
		if len(c.Data)+len(c.Previous) > MaxData && c.Previous != nil {
			v.Previous, v.Omitted = nil, []string{"previous"}
		}
		var err error
		if c.payload, err = json.Marshal(&v); err != nil {
			return nil, fmt.Errorf("describe a change: %w", err)
		}
	}
	return c.payload, nil
}

// UnfitFunc is told of a trigger whose expression fails for a change, such as for want of a field, and why. The trigger does not take the
// change. It must not block. nil: nobody is told.
type UnfitFunc func(t *tenant.Trigger, c *Change, err error)

// Match returns the triggers of app that take a change, or nil.
func Match(s *tenant.Snapshot, app uuid.UUID, c *Change, unfit UnfitFunc) (found []*tenant.Trigger) {
	for _, t := range s.Triggers(app, c.Kind.String()) {
		if !c.fits(&t.Filter) {
			continue
		}
		switch is, err := c.meets(t.Filter.When); {
		case is:
			found = append(found, t)
		case err != nil && unfit != nil:
			unfit(t, c, err)
		}
	}
	return found
}

func (c *Change) fits(f *tenant.TriggerFilter) bool {
	switch c.Kind {
	case outbox.KindPubSub:
		return f.TakesTopic(c.Topic)
	case outbox.KindKV, outbox.KindDocs, outbox.KindFiles:
		return f.TakesCollection(c.Collection, c.Op)
	case outbox.KindSource:
		return f.TakesSource(c.Source, c.Topic)
	case outbox.KindEmail:
		return f.TakesMail(c.To)
	}
	return true // of cron and webhook: it comes for one trigger
}

// Caused makes the entry that brings a change to the script or sink of a trigger of a snapshot, ready to be written. cause is the entry of the run that
// has made the change, whose chain it lengthens; nil: the change is a first cause. Errors are outbox.ErrTooDeep, where the
// chain may not be longer, and *tenant.Invalid, where the trigger's policy cannot be applied to this change.
func Caused(t *tenant.Trigger, c *Change, cause *outbox.Entry) (*outbox.Entry, error) {
	if cause != nil && cause.Depth >= outbox.MaxDepth {
		return nil, outbox.ErrTooDeep
	}
	data, err := c.Payload()
	if err != nil {
		return nil, err
	}
	env := event.Envelope{Type: c.Type(), Subject: c.Subject(), ContentType: "application/json"}
	switch c.Kind {
	case outbox.KindCron:
		env.Subject = t.Name
	case outbox.KindHook:
		env.Subject, env.HTTP, env.ContentType = t.Name, c.HTTP, c.ContentType
	case outbox.KindSource:
		env.HTTP, env.ContentType = c.HTTP, c.ContentType
	}
	e, err := NewEntry(t.Lane, c.Kind, env, data, c.Options, cause)
	if err != nil {
		return nil, err
	}
	e.Trigger, e.State = t.ID, outbox.Ready
	if t.RegisteredBy != uuid.Nil {
		e.Principal = t.RegisteredBy
	}
	if e.Delay > 0 || !e.RunAt.IsZero() {
		e.State = outbox.Scheduled
	}
	return e, nil
}

// Entries makes the entries that bring an event from outside to all triggers of app that take it. unfit says of triggers why their policy
// cannot be applied to it, each as a *tenant.Invalid; they get nothing.
func Entries(s *tenant.Snapshot, app uuid.UUID, c *Change, failing UnfitFunc) (entries []*outbox.Entry, unfit []error, err error) {
	for _, t := range Match(s, app, c, failing) {
		e, err := Caused(t, c, nil)
		if invalid := (*tenant.Invalid)(nil); errors.As(err, &invalid) {
			unfit = append(unfit, fmt.Errorf("the trigger %q: %w", t.Name, err))
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		entries = append(entries, e)
	}
	return entries, unfit, nil
}
