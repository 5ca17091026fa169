package service

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
)

// inUnit are the methods that a transactional script can call. Those that send stage what they send by themselves.
var inUnit = map[string]func(c *call, ctx context.Context, args []byte) (any, error){
	"kv.get": (*call).unitKVGet, "kv.has": (*call).unitKVHas, "kv.set": (*call).unitKVSet, "kv.delete": (*call).unitKVDelete,
	"kv.increment": (*call).unitKVIncrement,

	"docs.create": (*call).unitDocsCreate, "docs.get": (*call).unitDocsGet, "docs.update": (*call).unitDocsUpdate,
	"docs.delete": (*call).unitDocsDelete,

	"invoke.send": (*call).invokeSend, "queue.send": (*call).queueSend, "pubsub.publish": (*call).pubsubPublish,
	"sink.send": (*call).sinkSend, "email.send": (*call).emailSend,
	"queue.depth": (*call).queueDepth, "secrets.get": (*call).secretsGet, "secrets.list": (*call).secretsList,
}

// notInUnit says why a transactional script cannot call a method.
func notInUnit(service, method string) error {
	why := "it would take effect at once, whatever becomes of the run"
	switch service + "." + method {
	case "kv.list", "docs.find", "docs.find_one", "docs.list":
		why = "what it finds could change before the run ends, without being noticed; read by key"
	case "files.get", "files.head", "files.list", "files.read":
		why = "files are no part of the transaction, so what it reads could be of another time than the rest"
	case "invoke.call":
		why = "the other script's effects would not be undone; send it an event"
	}
	return invalid("a transactional script cannot call %s.%s: %s", service, method, why)
}

// kvRow reads a value as the run sees it. The mutex of the unit is held by the caller, so that a run's own calls take turns.
func (c *call) kvRow(ctx context.Context, p data.Place) (data.Item, error) {
	row := data.Row{Kind: outbox.KindKV, Collection: p.Collection, Key: p.Key}
	u := c.run.Unit
	if s := u.rows[row]; s != nil {
		return data.Item{Key: p.Key, Value: s.Value, Version: s.version, ExpiresAt: s.ExpiresAt}, nil
	}
	i, err := c.kv.Get(ctx, p)
	if err != nil {
		return i, c.dataRefusal(ctx, err)
	}
	return i, u.read(row, i.Version)
}

// unitKV reads the value that the arguments name, as the run sees it.
func (c *call) unitKV(ctx context.Context, args []byte) (i data.Item, err error) {
	p, err := c.kvNamed(args)
	if err != nil {
		return i, err
	}
	c.run.Unit.mu.Lock()
	defer c.run.Unit.mu.Unlock()
	return c.kvRow(ctx, p)
}

func (c *call) unitKVGet(ctx context.Context, args []byte) (any, error) {
	i, err := c.unitKV(ctx, args)
	if err != nil {
		return nil, err
	}
	return viewItem(i), nil
}

func (c *call) unitKVHas(ctx context.Context, args []byte) (any, error) {
	i, err := c.unitKV(ctx, args)
	if err != nil {
		return nil, err
	}
	return struct {
		Found bool `json:"found"`
	}{i.Version != 0}, nil
}

func (c *call) unitKVSet(ctx context.Context, args []byte) (any, error) {
	w, err := c.kvWrite(args)
	if err != nil {
		return nil, err
	}
	u := c.run.Unit
	u.mu.Lock()
	defer u.mu.Unlock()
	if w.If != nil {
		i, err := c.kvRow(ctx, w.Place)
		if err != nil {
			return nil, err
		}
		if i.Version != *w.If {
			return nil, c.dataRefusal(ctx, data.ErrConflict)
		}
	}
	s, err := u.write(data.Staged{Row: data.Row{Kind: outbox.KindKV, Collection: w.Collection, Key: w.Key}, Value: w.Value, TTL: w.TTL})
	if err != nil {
		return nil, err
	}
	return struct {
		Version int64 `json:"version"`
	}{s.version}, nil
}

func (c *call) unitKVDelete(ctx context.Context, args []byte) (any, error) {
	p, required, err := c.kvRemoval(args)
	if err != nil {
		return nil, err
	}
	u := c.run.Unit
	u.mu.Lock()
	defer u.mu.Unlock()
	i, err := c.kvRow(ctx, p)
	if err != nil {
		return nil, err
	}
	if required != nil && (*required != i.Version || i.Version == 0) { // outside of a unit, too, it has to be there
		return nil, c.dataRefusal(ctx, data.ErrConflict)
	}
	if i.Version != 0 {
		if _, err := u.write(data.Staged{Row: data.Row{Kind: outbox.KindKV, Collection: p.Collection, Key: p.Key}}); err != nil {
			return nil, err
		}
	}
	return struct {
		Deleted bool `json:"deleted"`
	}{i.Version != 0}, nil
}

func (c *call) unitKVIncrement(ctx context.Context, args []byte) (any, error) {
	p, by, ttl, err := c.kvAddition(args)
	if err != nil {
		return nil, err
	}
	u := c.run.Unit
	u.mu.Lock()
	defer u.mu.Unlock()
	i, err := c.kvRow(ctx, p)
	if err != nil {
		return nil, err
	}
	w := data.Staged{Row: data.Row{Kind: outbox.KindKV, Collection: p.Collection, Key: p.Key}, TTL: ttl}
	sum := by
	if i.Version != 0 {
		text := strings.TrimPrefix(string(i.Value), "-")
		n, err := strconv.ParseInt(string(i.Value), 10, 64)
		sum += n
		if err != nil || len(text) > 16 || sum > data.MaxSum || sum < -data.MaxSum {
			return nil, c.dataRefusal(ctx, data.ErrNoNumber)
		}
		w.TTL, w.ExpiresAt = 0, i.ExpiresAt
	}
	w.Value = strconv.AppendInt(nil, sum, 10)
	if _, err := u.write(w); err != nil {
		return nil, err
	}
	return struct {
		Value int64 `json:"value"`
	}{sum}, nil
}

// docRow reads a document as the run sees it; nil: there is none. The mutex of the unit is held.
func (c *call) docRow(ctx context.Context, p data.DocPlace) (*data.Doc, error) {
	row := data.Row{Kind: outbox.KindDocs, Collection: p.Collection, Key: p.ID.String()}
	u := c.run.Unit
	if s := u.rows[row]; s != nil {
		if s.Value == nil {
			return nil, nil
		}
		return &data.Doc{ID: p.ID, Data: s.Value, Version: s.version, CreatedAt: s.created, UpdatedAt: s.updated}, nil
	}
	d, err := c.docs.Get(ctx, p)
	if errors.Is(err, tenant.ErrNotFound) {
		return nil, u.read(row, 0)
	}
	if err != nil {
		return nil, c.dataRefusal(ctx, err)
	}
	return &d, u.read(row, d.Version)
}

// stageDoc stages what a document is to hold. The mutex of the unit is held.
func (c *call) stageDoc(p data.DocPlace, body []byte, before *data.Doc) (any, error) {
	s, err := c.run.Unit.write(data.Staged{Row: data.Row{Kind: outbox.KindDocs, Collection: p.Collection, Key: p.ID.String()}, Value: body})
	if err != nil {
		return nil, err
	}
	if s.created = s.updated; before != nil {
		s.created = before.CreatedAt
	}
	return viewDoc(data.Doc{ID: p.ID, Data: body, Version: s.version, CreatedAt: s.created, UpdatedAt: s.updated}), nil
}

func (c *call) unitDocsCreate(ctx context.Context, args []byte) (any, error) {
	p, body, fresh, err := c.docNew(args)
	if err != nil {
		return nil, err
	}
	u := c.run.Unit
	u.mu.Lock()
	defer u.mu.Unlock()
	if fresh {
		err = u.read(data.Row{Kind: outbox.KindDocs, Collection: p.Collection, Key: p.ID.String()}, 0)
	} else {
		var d *data.Doc
		if d, err = c.docRow(ctx, p); err == nil && d != nil {
			err = c.dataRefusal(ctx, data.ErrDocExists)
		}
	}
	if err != nil {
		return nil, err
	}
	return c.stageDoc(p, body, nil)
}

func (c *call) unitDocsGet(ctx context.Context, args []byte) (any, error) {
	p, err := c.docNamed(args)
	if err != nil {
		return nil, err
	}
	c.run.Unit.mu.Lock()
	defer c.run.Unit.mu.Unlock()
	d, err := c.docRow(ctx, p)
	if err != nil || d == nil {
		return oneDoc{}, err
	}
	view := viewDoc(*d)
	return oneDoc{&view}, nil
}

func (c *call) unitDocsUpdate(ctx context.Context, args []byte) (any, error) {
	p, body, required, err := c.docChange(args)
	if err != nil {
		return nil, err
	}
	c.run.Unit.mu.Lock()
	defer c.run.Unit.mu.Unlock()
	d, err := c.docRow(ctx, p)
	switch {
	case err != nil:
		return nil, err
	case d == nil:
		return nil, c.dataRefusal(ctx, tenant.ErrNotFound)
	case required != nil && *required != d.Version:
		return nil, c.dataRefusal(ctx, data.ErrConflict)
	}
	return c.stageDoc(p, body, d)
}

func (c *call) unitDocsDelete(ctx context.Context, args []byte) (any, error) {
	p, required, err := c.docRemoval(args)
	if err != nil {
		return nil, err
	}
	u := c.run.Unit
	u.mu.Lock()
	defer u.mu.Unlock()
	d, err := c.docRow(ctx, p)
	switch {
	case err != nil:
		return nil, err
	case d == nil && required != nil:
		return nil, c.dataRefusal(ctx, tenant.ErrNotFound)
	case d != nil && required != nil && *required != d.Version:
		return nil, c.dataRefusal(ctx, data.ErrConflict)
	}
	if d != nil {
		if _, err := u.write(data.Staged{Row: data.Row{Kind: outbox.KindDocs, Collection: p.Collection, Key: p.ID.String()}}); err != nil {
			return nil, err
		}
	}
	return struct {
		Deleted bool `json:"deleted"`
	}{d != nil}, nil
}
