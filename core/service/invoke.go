package service

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// invokeSend has another script of the app run. It sees a request, as with any other call by name.
func (c *call) invokeSend(ctx context.Context, args []byte) (any, error) {
	var in struct {
		Script string `json:"script"`
		message
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	if err := c.mayCause(); err != nil {
		return nil, err
	}
	snapshot := c.snapshot()
	script := snapshot.ScriptNamed(c.run.Entry.App, in.Script)
	if script == nil {
		return nil, fault.New(fault.NotFound, fault.Script, "there is no script %q in this app", in.Script)
	}
	if err := runnable(script); err != nil {
		return nil, err
	}
	request := &event.HTTP{Method: http.MethodPost, Path: "/"}
	if in.ContentType != "" {
		request.Headers = []event.Header{{Name: "Content-Type", Value: in.ContentType}}
	}
	e, err := c.entry(snapshot.Lane(script.ID), outbox.KindInvoke, &in.message, event.Envelope{
		Type: "http.request", Subject: request.Path, HTTP: request,
	})
	if err != nil {
		return nil, err
	}
	id, err := c.send(ctx, e)
	if err != nil {
		return nil, err
	}
	return struct {
		ID uuid.UUID `json:"id"`
	}{id}, nil
}

// runnable says why a script cannot be the target of an event.
func runnable(s *tenant.Script) error {
	switch {
	case s.Kind == tenant.KindModule:
		return invalid("%q is a module, which other scripts import; it cannot be called", s.Name)
	case s.Version == 0:
		return invalid("the script %q has no active version: deploy one first", s.Name)
	}
	return nil
}
