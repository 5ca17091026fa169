package postgres

import (
	"hash/fnv"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/docquery"
	"github.com/picloud/picloud/core/tenant"
)

// position is where a page ends: what its last document has at the paths of the order, and its id.
type position struct {
	keys []docquery.Value
	id   uuid.UUID
}

// cursorKey is one value of a position in a cursor.
type cursorKey struct {
	Rank docquery.Rank `json:"r"`
	Num  string        `json:"n"`
	Text string        `json:"t"`
}

// cursor makes the cursor of what follows a position. It names the order, which may come from an index: one that is made between two
// pages changes nothing.
func (f *find) cursor(p *position) string {
	order := make([]string, len(f.sort))
	keys := make([]cursorKey, len(f.sort))
	for i, k := range f.sort {
		order[i] = k.String()
		keys[i] = cursorKey{p.keys[i].Rank, p.keys[i].Num, docquery.Sorted(p.keys[i].Text)}
	}
	return encodeCursor(f.digest(), order, keys, p.id)
}

// begin reads the cursor of the query. What is in it is a script's word: nothing of it may fail in the database.
func (f *find) begin() error {
	if f.query.Cursor == "" {
		return nil
	}
	var digest string
	var order []string
	var keys []cursorKey
	p := &position{}
	if err := decodeCursor(f.query.Cursor, &digest, &order, &keys, &p.id); err != nil {
		return err
	}
	if digest != f.digest() || len(order) != len(keys) || len(order) > docquery.MaxSort {
		return tenant.ErrCursor
	}
	sort := make([]docquery.Key, len(order))
	for i, k := range keys {
		var err error
		if sort[i], err = docquery.ParseKey(order[i]); err != nil {
			return tenant.ErrCursor
		}
		v := docquery.Value{Rank: k.Rank, Num: k.Num, Text: k.Text}
		if !v.Storable() {
			return tenant.ErrCursor
		}
		p.keys = append(p.keys, v)
	}
	if len(f.query.Sort) > 0 && !slices.EqualFunc(sort, f.query.Sort, func(a, b docquery.Key) bool { return a.String() == b.String() }) {
		return tenant.ErrCursor
	}
	f.sort, f.after = sort, p
	return nil
}

// digest tells queries apart.
func (f *find) digest() string {
	h := fnv.New64a()
	h.Write([]byte(f.collection + " " + f.query.Canonical))
	return strconv.FormatUint(h.Sum64(), 36)
}
