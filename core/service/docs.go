package service

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/docquery"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
)

// Docs keeps documents. See core/postgres.DocStore for the errors. Writes are made under the epoch of the run's owner; with a Caused
// they commit together with the entries that it makes, which are returned.
type Docs interface {
	Create(ctx context.Context, owner int64, p data.DocPlace, document []byte, caused data.Caused) (data.Doc, []*outbox.Entry, error)
	Get(ctx context.Context, p data.DocPlace) (data.Doc, error)
	Update(ctx context.Context, owner int64, p data.DocPlace, document []byte, required *int64, caused data.Caused) (
		data.Doc, []*outbox.Entry, error)
	Delete(ctx context.Context, owner int64, p data.DocPlace, required *int64, caused data.Caused) ([]*outbox.Entry, error)
	Find(ctx context.Context, app uuid.UUID, collection string, q *docquery.Query) ([]data.Doc, string, error)
	// Index returns once the index is ready, which may take as long as its collection is large.
	Index(ctx context.Context, app uuid.UUID, collection, path, kind string) error
}

// doc is a document as scripts see it.
type doc struct {
	ID        uuid.UUID       `json:"id"`
	Data      json.RawMessage `json:"data"`
	Version   int64           `json:"version"`
	CreatedAt time.Time       `json:"created_at"`
	UpdatedAt time.Time       `json:"updated_at"`
}

func viewDoc(d data.Doc) doc {
	return doc{ID: d.ID, Data: d.Data, Version: d.Version, CreatedAt: d.CreatedAt.UTC(), UpdatedAt: d.UpdatedAt.UTC()}
}

// docPlace is in the arguments of every method of a document.
type docPlace struct {
	Collection string `json:"collection"`
	ID         string `json:"id"`
}

func (c *call) docPlace(in docPlace) (p data.DocPlace, err error) {
	if err := data.CheckName(in.Collection); err != nil {
		return p, invalid("collection: %v", err)
	}
	p = data.DocPlace{App: c.run.Entry.App, Collection: in.Collection}
	if len(in.ID) != 36 {
		return p, invalid("id: must be a UUID, such as docs.create returns")
	}
	if p.ID, err = uuid.Parse(in.ID); err != nil {
		return p, invalid("id: must be a UUID, such as docs.create returns")
	}
	return p, nil
}

// document reads what a document is to hold.
func document(raw json.RawMessage) ([]byte, error) {
	if len(raw) == 0 || raw[0] != '{' {
		return nil, invalid("data: must be an object")
	}
	if err := docquery.Check(raw); err != nil {
		return nil, invalid("data: %v", err)
	}
	return raw, nil
}

// docNew reads the arguments of a create; fresh: nobody has named the id.
func (c *call) docNew(args []byte) (p data.DocPlace, body []byte, fresh bool, err error) {
	var in struct {
		docPlace
		Data json.RawMessage `json:"data"`
	}
	if err := decode(args, &in); err != nil {
		return p, nil, false, err
	}
	if fresh = in.ID == ""; fresh {
		id, err := uuid.NewV7() // the newest documents are together, at the end
		if err != nil {
			return p, nil, false, err
		}
		in.ID = id.String()
	}
	p, err = c.docPlace(in.docPlace)
	if err != nil {
		return p, nil, false, err
	}
	body, err = document(in.Data)
	return p, body, fresh, err
}

func (c *call) docsCreate(ctx context.Context, args []byte) (any, error) {
	p, body, _, err := c.docNew(args)
	if err != nil {
		return nil, err
	}
	var d data.Doc
	err = c.change(ctx, outbox.KindDocs, p.Collection, len(body), func(owner int64, caused data.Caused) (entries []*outbox.Entry, err error) {
		d, entries, err = c.docs.Create(ctx, owner, p, body, caused)
		return entries, err
	})
	if err != nil {
		return nil, err
	}
	return viewDoc(d), nil
}

// oneDoc is an answer with a document, or none.
type oneDoc struct {
	Doc *doc `json:"doc,omitzero"`
}

// docNamed is the place that arguments name, which say nothing else.
func (c *call) docNamed(args []byte) (p data.DocPlace, err error) {
	var in docPlace
	if err := decode(args, &in); err != nil {
		return p, err
	}
	return c.docPlace(in)
}

func (c *call) docsGet(ctx context.Context, args []byte) (any, error) {
	p, err := c.docNamed(args)
	if err != nil {
		return nil, err
	}
	d, err := c.docs.Get(ctx, p)
	if errors.Is(err, tenant.ErrNotFound) {
		return oneDoc{}, nil
	}
	if err != nil {
		return nil, c.dataRefusal(ctx, err)
	}
	view := viewDoc(d)
	return oneDoc{&view}, nil
}

// docChange reads the arguments of an update.
func (c *call) docChange(args []byte) (p data.DocPlace, body []byte, required *int64, err error) {
	var in struct {
		docPlace
		Data      json.RawMessage `json:"data"`
		IfVersion *int64          `json:"if_version"`
	}
	if err := decode(args, &in); err != nil {
		return p, nil, nil, err
	}
	p, err = c.docPlace(in.docPlace)
	if err != nil {
		return p, nil, nil, err
	}
	body, err = document(in.Data)
	return p, body, in.IfVersion, err
}

func (c *call) docsUpdate(ctx context.Context, args []byte) (any, error) {
	p, body, required, err := c.docChange(args)
	if err != nil {
		return nil, err
	}
	var d data.Doc
	err = c.change(ctx, outbox.KindDocs, p.Collection, 2*len(body), func(owner int64, caused data.Caused) (entries []*outbox.Entry, err error) {
		d, entries, err = c.docs.Update(ctx, owner, p, body, required, caused)
		return entries, err
	})
	if err != nil {
		return nil, err
	}
	return viewDoc(d), nil
}

// docRemoval reads the arguments of a delete.
func (c *call) docRemoval(args []byte) (p data.DocPlace, required *int64, err error) {
	var in struct {
		docPlace
		IfVersion *int64 `json:"if_version"`
	}
	if err := decode(args, &in); err != nil {
		return p, nil, err
	}
	p, err = c.docPlace(in.docPlace)
	return p, in.IfVersion, err
}

func (c *call) docsDelete(ctx context.Context, args []byte) (any, error) {
	p, required, err := c.docRemoval(args)
	if err != nil {
		return nil, err
	}
	deleted := false
	err = c.change(ctx, outbox.KindDocs, p.Collection, 0, func(owner int64, caused data.Caused) ([]*outbox.Entry, error) {
		entries, err := c.docs.Delete(ctx, owner, p, required, caused)
		if errors.Is(err, tenant.ErrNotFound) && required == nil {
			return nil, nil
		}
		deleted = err == nil
		return entries, err
	})
	if err != nil {
		return nil, err
	}
	return struct {
		Deleted bool `json:"deleted"`
	}{deleted}, nil
}

func (c *call) docsFind(ctx context.Context, args []byte) (any, error) {
	var in struct {
		Collection string          `json:"collection"`
		Filter     json.RawMessage `json:"filter"`
		Sort       json.RawMessage `json:"sort"`
		Limit      int             `json:"limit"`
		Cursor     string          `json:"cursor"`
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	return c.findDocs(ctx, in.Collection, in.Filter, in.Sort, in.Limit, in.Cursor)
}

func (c *call) docsFindOne(ctx context.Context, args []byte) (any, error) {
	var in struct {
		Collection string          `json:"collection"`
		Filter     json.RawMessage `json:"filter"`
		Sort       json.RawMessage `json:"sort"`
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	page, err := c.findDocs(ctx, in.Collection, in.Filter, in.Sort, 1, "")
	if err != nil || len(page.Items) == 0 {
		return oneDoc{}, err
	}
	return oneDoc{&page.Items[0]}, nil
}

func (c *call) docsList(ctx context.Context, args []byte) (any, error) {
	var in struct {
		Collection string `json:"collection"`
		Limit      int    `json:"limit"`
		Cursor     string `json:"cursor"`
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	return c.findDocs(ctx, in.Collection, nil, nil, in.Limit, in.Cursor)
}

// docPage is a page of documents as scripts see it.
type docPage struct {
	Items      []doc  `json:"items"`
	NextCursor string `json:"next_cursor"`
}

func (c *call) findDocs(ctx context.Context, collection string, filter, sort json.RawMessage, limit int, cursor string) (p docPage, err error) {
	if err := data.CheckName(collection); err != nil {
		return p, invalid("collection: %v", err)
	}
	q, err := docquery.Parse(filter, sort, limit, cursor)
	if err != nil {
		return p, invalid("%v", err)
	}
	docs, next, err := c.docs.Find(ctx, c.run.Entry.App, collection, q)
	if err != nil {
		return p, c.dataRefusal(ctx, err)
	}
	p = docPage{Items: make([]doc, len(docs)), NextCursor: next}
	for i, d := range docs {
		p.Items[i] = viewDoc(d)
	}
	return p, nil
}

// docTypes are what an index may be of.
var docTypes = []string{"text", "number", "bool", "time"}

func (c *call) docsIndex(ctx context.Context, args []byte) (any, error) {
	var in struct {
		Collection string `json:"collection"`
		Path       string `json:"path"`
		Type       string `json:"type"`
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	if err := data.CheckName(in.Collection); err != nil {
		return nil, invalid("collection: %v", err)
	}
	path, err := docquery.ParsePath(in.Path)
	if err != nil {
		return nil, invalid("path: %v", err)
	}
	if !slices.Contains(docTypes, in.Type) {
		return nil, invalid("type: must be one of %q", docTypes)
	}
	if err := c.docs.Index(ctx, c.run.Entry.App, in.Collection, path.String(), in.Type); err != nil {
		return nil, c.dataRefusal(ctx, err)
	}
	return struct {
		State string `json:"state"`
	}{"ready"}, nil
}
