package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
)

// Queue is named work: each message goes to one run of its script.
type Queue struct {
	ID        string    `json:"id" format:"uuid"`
	Name      string    `json:"name" example:"mail"`
	Script    string    `json:"script" example:"send-mail" doc:"Name of the script that handles its messages"`
	ScriptID  string    `json:"script_id" format:"uuid"`
	Policy    Policy    `json:"policy"`
	Paused    bool      `json:"paused" doc:"Itself, its script or the whole app"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// QueueWithCounts is a queue with what is in it.
type QueueWithCounts struct {
	Queue
	Waiting int `json:"waiting" doc:"Messages that have not started, or are tried again later; up to 10,000 of each state are counted"`
	Running int `json:"running" doc:"Messages that run now, counted up to 10,000"`
}

func viewQueue(q *tenant.QueueRecord) Queue {
	return Queue{
		ID: q.ID.String(), Name: q.Name, Script: q.ScriptName, ScriptID: q.Script.String(), Policy: viewPolicy(&q.Policy),
		Paused: q.Paused, CreatedAt: q.CreatedAt.UTC(), UpdatedAt: q.UpdatedAt.UTC(),
	}
}

// NewQueue is what makes a queue.
type NewQueue struct {
	Name   string `json:"name" minLength:"1" maxLength:"63" example:"mail" doc:"Lower-case letters, digits, dashes and underscores; unique in the app"`
	Script string `json:"script" minLength:"1" maxLength:"63" example:"send-mail" doc:"Name or id of the script that handles its messages"`
	Policy Policy `json:"policy,omitempty"`
}

// QueueChange is what may change in a queue. What is absent stays; a policy replaces the whole one.
type QueueChange struct {
	Script *string `json:"script,omitempty" minLength:"1" maxLength:"63"`
	Policy *Policy `json:"policy,omitempty"`
}

// NewMessage is what is sent to a queue.
type NewMessage struct {
	Delivery
	Data        json.RawMessage `json:"data,omitempty" doc:"Any JSON value; or see text and data_base64"`
	Text        *string         `json:"text,omitempty" doc:"As text"`
	DataBase64  []byte          `json:"data_base64,omitempty" doc:"As bytes"`
	ContentType string          `json:"content_type,omitempty" maxLength:"255" doc:"That of the kind of data if absent"`
}

// QueuePath is in the input of every operation of a queue.
type QueuePath struct {
	AppPath
	Queue string `path:"queue" maxLength:"63" doc:"Name or id of the queue" example:"mail"`
}

const (
	queuesPath = appPath + "/queues"
	queuePath  = queuesPath + "/{queue}"
)

// maxMessage is how much data a message may carry.
const maxMessage = 1 << 20

func (a *api) registerQueues(doc huma.API) {
	register(a, doc, operation{
		id: "list-queues", method: http.MethodGet, path: queuesPath, tag: "queues", capability: auth.AppRead,
		summary: "List the queues of an app, by name",
	}, func(ctx context.Context, in *struct {
		AppPath
		PageQuery
	},
	) (*body[Page[Queue]], error) {
		queues, next, err := a.Queues.List(ctx, app(ctx), in.Cursor, in.Limit)
		return listed(queues, next, viewQueue), err
	})
	register(a, doc, operation{
		id: "create-queue", method: http.MethodPost, path: queuesPath, tag: "queues", capability: auth.AppWriteScript,
		summary: "Make a queue", text: "This is a release.", status: http.StatusCreated,
	}, a.createQueue)
	register(a, doc, operation{
		id: "get-queue", method: http.MethodGet, path: queuePath, tag: "queues", capability: auth.AppRead,
		summary: "Get a queue, and how many messages wait and run",
	}, func(ctx context.Context, in *QueuePath) (*body[QueueWithCounts], error) {
		q, err := a.Queues.Get(ctx, app(ctx), in.Queue)
		if err != nil {
			return nil, err
		}
		waiting, running, err := a.Queues.Counts(ctx, app(ctx), q.ID)
		return answer(QueueWithCounts{viewQueue(&q), waiting, running}), err
	})
	register(a, doc, operation{
		id: "update-queue", method: http.MethodPatch, path: queuePath, tag: "queues", capability: auth.AppWriteScript,
		summary: "Change a queue",
		text:    "This is a release. Messages that wait keep their attempts, times and keys; limits apply to them as they are when they start.",
	}, a.updateQueue)
	register(a, doc, operation{
		id: "delete-queue", method: http.MethodDelete, path: queuePath, tag: "queues", capability: auth.AppWriteScript,
		summary: "Delete a queue", text: "This is a release. A queue with messages that have not ended is a conflict.",
	}, func(ctx context.Context, in *QueuePath) (*struct{}, error) {
		q, err := a.Queues.Get(ctx, app(ctx), in.Queue)
		if err != nil {
			return nil, err
		}
		if err := a.Queues.Delete(ctx, by(ctx), app(ctx), q.ID); err != nil {
			return nil, err
		}
		a.Changed()
		return nil, nil
	})
	register(a, doc, operation{
		id: "send-message", method: http.MethodPost, path: queuePath + "/messages", tag: "queues", capability: auth.AppInvoke,
		summary: "Send a message to a queue", status: http.StatusAccepted, maxBody: maxMessage*4/3 + maxBody,
		text: "Once it is answered the message is safe: it runs, as often as its policy says, or becomes a dead letter.",
	}, a.sendMessage)
}

// target finds the script that a request names in field.
func (a *api) target(ctx context.Context, field, ref string) (uuid.UUID, error) {
	s, err := a.Scripts.Get(ctx, app(ctx), ref)
	if errors.Is(err, tenant.ErrNotFound) {
		return uuid.Nil, unknown(field, "script", ref)
	}
	return s.ID, err
}

func (a *api) createQueue(ctx context.Context, in *struct {
	AppPath
	Body NewQueue
},
) (*body[Queue], error) {
	if err := tenant.CheckName(in.Body.Name); err != nil {
		return nil, wrong("body.name", err.Error())
	}
	policy, err := in.Body.Policy.record("body.policy.", false)
	if err != nil {
		return nil, err
	}
	script, err := a.target(ctx, "body.script", in.Body.Script)
	if err != nil {
		return nil, err
	}
	q, err := a.Queues.Create(ctx, by(ctx), tenant.Queue{App: app(ctx), Name: in.Body.Name, Script: script, Policy: *policy})
	if err != nil {
		return nil, err
	}
	a.Changed()
	return answer(viewQueue(&q)), nil
}

func (a *api) updateQueue(ctx context.Context, in *struct {
	QueuePath
	Body QueueChange
},
) (*body[Queue], error) {
	q, err := a.Queues.Get(ctx, app(ctx), in.Queue)
	if err != nil {
		return nil, err
	}
	var script *uuid.UUID
	var policy *tenant.Policy
	if in.Body.Script != nil {
		id, err := a.target(ctx, "body.script", *in.Body.Script)
		if err != nil {
			return nil, err
		}
		script = &id
	}
	if in.Body.Policy != nil {
		if policy, err = in.Body.Policy.record("body.policy.", false); err != nil {
			return nil, err
		}
	}
	if q, err = a.Queues.Update(ctx, by(ctx), app(ctx), q.ID, script, policy); err != nil {
		return nil, err
	}
	a.Changed()
	return answer(viewQueue(&q)), nil
}

func (a *api) sendMessage(ctx context.Context, in *struct {
	QueuePath
	KeyHeader
	Body NewMessage
},
) (*body[Accepted], error) {
	options, err := in.Body.options("body.")
	if err != nil {
		return nil, err
	}
	data, contentType, err := in.Body.data()
	if err != nil {
		return nil, err
	}
	q, err := a.Queues.Get(ctx, app(ctx), in.Queue)
	if err != nil {
		return nil, err
	}
	key, err := in.idempotency(q.ID, in.Body)
	if err != nil {
		return nil, err
	}
	sent, err := a.Sender.Send(ctx, q.Queue, Message{
		Data: data, ContentType: contentType, Options: options, Principal: by(ctx), Idempotency: key,
	})
	duplicate := (*outbox.Duplicate)(nil)
	if errors.As(err, &duplicate) {
		sent, err = duplicate.Entry, nil
	}
	return answer(Accepted{sent.String(), outbox.AcceptedAt(sent).UTC(), duplicate != nil}), err
}

// data returns what a message carries and its content type.
func (m *NewMessage) data() (data []byte, contentType string, err error) {
	given := 0
	if m.Data != nil {
		data, contentType = m.Data, "application/json"
		given++
	}
	if m.Text != nil {
		data, contentType = []byte(*m.Text), "text/plain; charset=utf-8"
		given++
	}
	if m.DataBase64 != nil {
		data, contentType = m.DataBase64, "application/octet-stream"
		given++
	}
	if given > 1 {
		return nil, "", wrong("body", "data, text and data_base64 exclude each other")
	}
	if len(data) > maxMessage {
		return nil, "", kindNamed("too_large").problem("the data is larger than 1 MiB: store it and send where it is")
	}
	if m.ContentType != "" {
		contentType = m.ContentType
	}
	return data, contentType, nil
}
