package picloud

import (
	"encoding/json"
	"time"
)

// Docs is a collection of documents: JSON objects with an id, which are found by what is in them. Collections belong to the app and need
// no making.
type Docs struct {
	collection string
	runtime    Runtime
}

// Docs names a collection of documents.
func (c *Context) Docs(collection string) *Docs { return &Docs{collection, c.runtime} }

// Doc is a document and what is known of it.
type Doc struct {
	ID        string
	Version   int64
	CreatedAt time.Time
	UpdatedAt time.Time

	data json.RawMessage
}

// JSON decodes what the document holds into v. Of a document that was not found the error is NotFound.
func (d *Doc) JSON(v any) error {
	if d.data == nil {
		return &Error{Code: NotFound, Message: "there is no such document"}
	}
	return json.Unmarshal(d.data, v)
}

// Filter says which documents are meant: what is at each path, which may lead up to five levels down ("address.city", "items.0.price").
// A value must be equal and of the same type; other conditions are an object of operators:
//
//	picloud.Filter{"status": "open", "total": picloud.Filter{"$gte": 10, "$lt": 100}}
//
// $eq $ne $gt $gte $lt $lte $in $exists $regex, and around filters $and $or. Numbers compare as numbers, texts byte by byte; a text in the
// form of RFC 3339, such as a time.Time becomes, compares with others of that form as the moment that it names. $ne takes documents without
// a value too. A $regex is a pattern as package regexp has them.
type Filter map[string]any

// FindOptions say in which order documents are found, and how many.
type FindOptions struct {
	Sort   []string // paths, with "-" before those that go down; none: in any order, which stays the same from page to page
	Limit  int      // from 1 to 200; zero: 100
	Cursor string   // that of the page before, of the same filter and order
}

// The types of indexes.
const (
	TextIndex   = "text"
	NumberIndex = "number"
	BoolIndex   = "bool"
	TimeIndex   = "time"
)

type docPlace struct {
	Collection string `json:"collection"`
	ID         string `json:"id,omitempty"`
}

type wireDoc struct {
	ID        string          `json:"id"`
	Data      json.RawMessage `json:"data"`
	Version   int64           `json:"version"`
	CreatedAt time.Time       `json:"created_at"`
	UpdatedAt time.Time       `json:"updated_at"`
}

func (d *wireDoc) doc() Doc { return Doc{d.ID, d.Version, d.CreatedAt, d.UpdatedAt, d.Data} }

// Create stores what v is as JSON, an object of at most 1 MiB, under a new id.
func (d *Docs) Create(v any) (Doc, error) { return d.CreateAs("", v) }

// CreateAs is Create with an id, a UUID: it fails with Conflict where there is such a document already.
func (d *Docs) CreateAs(id string, v any) (Doc, error) { return d.write("create", id, v, nil) }

// Update replaces what a document holds by what v is as JSON. Without such a document it fails with NotFound.
func (d *Docs) Update(id string, v any) (Doc, error) { return d.write("update", id, v, nil) }

// UpdateIf is Update for a document of that version; it fails with Conflict where it has another by now. No document has the version 0.
func (d *Docs) UpdateIf(id string, v any, version int64) (Doc, error) {
	return d.write("update", id, v, &version)
}

func (d *Docs) write(method, id string, v any, version *int64) (Doc, error) {
	data, err := d.runtime.JSON(v)
	if err != nil {
		return Doc{}, &Error{Code: InvalidArgument, Message: "the document cannot be sent: " + err.Error()}
	}
	var answer wireDoc
	err = call(d.runtime, "docs", method, struct {
		docPlace
		Data      json.RawMessage `json:"data"`
		IfVersion *int64          `json:"if_version,omitempty"`
	}{docPlace{d.collection, id}, data, version}, &answer)
	return answer.doc(), err
}

// Get decodes what a document holds into v, and reports whether there is one.
func (d *Docs) Get(id string, v any) (found bool, err error) {
	doc, found, err := d.Doc(id)
	if err != nil || !found {
		return false, err
	}
	return true, doc.JSON(v)
}

// Doc returns a document with its version and times.
func (d *Docs) Doc(id string) (doc Doc, found bool, err error) {
	var answer struct{ Doc *wireDoc }
	err = call(d.runtime, "docs", "get", docPlace{d.collection, id}, &answer)
	if err != nil || answer.Doc == nil {
		return Doc{}, false, err
	}
	return answer.Doc.doc(), true, nil
}

// Delete deletes a document, and reports whether there was one.
func (d *Docs) Delete(id string) (deleted bool, err error) { return d.remove(id, nil) }

// DeleteIf is Delete for a document of that version, as with UpdateIf.
func (d *Docs) DeleteIf(id string, version int64) (deleted bool, err error) {
	return d.remove(id, &version)
}

func (d *Docs) remove(id string, version *int64) (deleted bool, err error) {
	var answer struct{ Deleted bool }
	err = call(d.runtime, "docs", "delete", struct {
		docPlace
		IfVersion *int64 `json:"if_version,omitempty"`
	}{docPlace{d.collection, id}, version}, &answer)
	return answer.Deleted, err
}

// Find returns the documents that filter takes, nil takes all, and the cursor of the next page, empty where there is none. A find that no
// index serves looks at no more than 10,000 documents; beyond that it fails, and says which Index would help.
func (d *Docs) Find(filter Filter, opts ...*FindOptions) (docs []Doc, next string, err error) {
	o, err := one(opts)
	if err != nil {
		return nil, "", err
	}
	f, err := d.filter(filter)
	if err != nil {
		return nil, "", err
	}
	var answer struct {
		Items      []wireDoc `json:"items"`
		NextCursor string    `json:"next_cursor"`
	}
	err = call(d.runtime, "docs", "find", struct {
		Collection string          `json:"collection"`
		Filter     json.RawMessage `json:"filter,omitempty"`
		Sort       []string        `json:"sort,omitempty"`
		Limit      int             `json:"limit,omitempty"`
		Cursor     string          `json:"cursor,omitempty"`
	}{d.collection, f, o.Sort, o.Limit, o.Cursor}, &answer)
	for i := range answer.Items {
		docs = append(docs, answer.Items[i].doc())
	}
	return docs, answer.NextCursor, err
}

// FindOne returns the first document that filter takes, in the order of sort.
func (d *Docs) FindOne(filter Filter, sort ...string) (doc Doc, found bool, err error) {
	f, err := d.filter(filter)
	if err != nil {
		return Doc{}, false, err
	}
	var answer struct{ Doc *wireDoc }
	err = call(d.runtime, "docs", "find_one", struct {
		Collection string          `json:"collection"`
		Filter     json.RawMessage `json:"filter,omitempty"`
		Sort       []string        `json:"sort,omitempty"`
	}{d.collection, f, sort}, &answer)
	if err != nil || answer.Doc == nil {
		return Doc{}, false, err
	}
	return answer.Doc.doc(), true, nil
}

func (d *Docs) filter(filter Filter) (json.RawMessage, error) {
	if filter == nil {
		return nil, nil
	}
	b, err := d.runtime.JSON(filter)
	if err != nil {
		return nil, &Error{Code: InvalidArgument, Message: "the filter cannot be sent: " + err.Error()}
	}
	return b, nil
}

// Index makes an index of what is at a path, for filters and orders by it, and returns once it holds every document; where there is one it
// does nothing. kind is what the values are for the most part; the index serves others all the same. A run that ends before has done a part
// of it, and the next call goes on from there.
func (d *Docs) Index(path, kind string) error {
	var answer struct{}
	return call(d.runtime, "docs", "index", struct {
		Collection string `json:"collection"`
		Path       string `json:"path"`
		Type       string `json:"type"`
	}{d.collection, path, kind}, &answer)
}
