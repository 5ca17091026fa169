package service

import (
	"context"
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/sdk/script"
)

// KV keeps values by key. See core/postgres.KVStore for the errors. Writes are made under the epoch of the run's owner; with a
// Caused they commit together with the entries that it makes, which are returned.
type KV interface {
	Get(ctx context.Context, p data.Place) (data.Item, error)
	Has(ctx context.Context, p data.Place) (bool, error)
	List(ctx context.Context, app uuid.UUID, collection, prefix, cursor string, limit int) ([]data.Item, string, error)
	Set(ctx context.Context, owner int64, w data.Write, caused data.Caused) (int64, []*outbox.Entry, error)
	Delete(ctx context.Context, owner int64, p data.Place, required *int64, caused data.Caused) (bool, []*outbox.Entry, error)
	Increment(ctx context.Context, owner int64, p data.Place, by int64, ttl time.Duration, caused data.Caused) (int64, []*outbox.Entry, error)
}

// Limits of lists.
const (
	defaultListed = 100
	maxListed     = 1000
)

// maxTTL is how long a value may live that does not live for ever.
const maxTTL = 10 * 366 * 24 * time.Hour

// kvPlace is in the arguments of every method of a value.
type kvPlace struct {
	Collection string  `json:"collection"`
	Key        keyText `json:"key"`
}

func (c *call) kvPlace(in kvPlace) (data.Place, error) {
	if err := data.CheckName(in.Collection); err != nil {
		return data.Place{}, invalid("collection: %v", err)
	}
	if err := data.CheckKey(string(in.Key)); err != nil {
		return data.Place{}, invalid("key: %v", err)
	}
	return data.Place{App: c.run.Entry.App, Collection: in.Collection, Key: string(in.Key)}, nil
}

// kvNamed is the place that arguments name, which say nothing else.
func (c *call) kvNamed(args []byte) (p data.Place, err error) {
	var in kvPlace
	if err := decode(args, &in); err != nil {
		return p, err
	}
	return c.kvPlace(in)
}

func (c *call) kvGet(ctx context.Context, args []byte) (any, error) {
	p, err := c.kvNamed(args)
	if err != nil {
		return nil, err
	}
	i, err := c.kv.Get(ctx, p)
	if err != nil {
		return nil, c.dataRefusal(ctx, err)
	}
	return viewItem(i), nil
}

// item is a value as scripts see it.
type item struct {
	Key       string          `json:"key"`
	Value     json.RawMessage `json:"value,omitzero"`
	Version   int64           `json:"version"`
	ExpiresAt time.Time       `json:"expires_at,omitzero"`
}

func viewItem(i data.Item) item {
	return item{Key: i.Key, Value: i.Value, Version: i.Version, ExpiresAt: i.ExpiresAt.UTC()}
}

func (c *call) kvHas(ctx context.Context, args []byte) (any, error) {
	p, err := c.kvNamed(args)
	if err != nil {
		return nil, err
	}
	found, err := c.kv.Has(ctx, p)
	if err != nil {
		return nil, c.dataRefusal(ctx, err)
	}
	return struct {
		Found bool `json:"found"`
	}{found}, nil
}

// kvWrite reads the arguments of a set.
func (c *call) kvWrite(args []byte) (w data.Write, err error) {
	var in struct {
		kvPlace
		Value     json.RawMessage `json:"value"`
		TTLMS     int64           `json:"ttl_ms"`
		IfVersion *int64          `json:"if_version"`
	}
	if err := decode(args, &in); err != nil {
		return w, err
	}
	p, err := c.kvPlace(in.kvPlace)
	if err != nil {
		return w, err
	}
	switch n := len(in.Value); {
	case n == 0:
		return w, invalid("value: is missing; to have none, delete the key")
	case n > data.MaxValue:
		return w, invalid("the value takes %d bytes as JSON, more than %d: divide it, or keep it as a file", n, data.MaxValue)
	case !utf8.Valid(in.Value):
		return w, invalid("value: holds text that is not UTF-8")
	case script.Nested([]byte(in.Value), data.MaxDepth):
		return w, invalid("the value is nested deeper than %d levels", data.MaxDepth)
	}
	ttl, err := timeToLive(in.TTLMS)
	if err != nil {
		return w, err
	}
	return data.Write{Place: p, Value: in.Value, TTL: ttl, If: in.IfVersion}, nil
}

func (c *call) kvSet(ctx context.Context, args []byte) (any, error) {
	w, err := c.kvWrite(args)
	if err != nil {
		return nil, err
	}
	var version int64
	err = c.change(ctx, outbox.KindKV, w.Collection, len(w.Value), func(owner int64, caused data.Caused) (entries []*outbox.Entry, err error) {
		version, entries, err = c.kv.Set(ctx, owner, w, caused)
		return entries, err
	})
	if err != nil {
		return nil, err
	}
	return struct {
		Version int64 `json:"version"`
	}{version}, nil
}

// timeToLive reads a duration that is zero where none was asked for.
func timeToLive(ms int64) (time.Duration, error) {
	if ms < 0 || ms > maxTTL.Milliseconds() {
		return 0, invalid("ttl_ms: must be a number of milliseconds, at most ten years; without one the value stays")
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// kvRemoval reads the arguments of a delete.
func (c *call) kvRemoval(args []byte) (p data.Place, required *int64, err error) {
	var in struct {
		kvPlace
		IfVersion *int64 `json:"if_version"`
	}
	if err := decode(args, &in); err != nil {
		return p, nil, err
	}
	p, err = c.kvPlace(in.kvPlace)
	return p, in.IfVersion, err
}

func (c *call) kvDelete(ctx context.Context, args []byte) (any, error) {
	p, required, err := c.kvRemoval(args)
	if err != nil {
		return nil, err
	}
	deleted := false
	err = c.change(ctx, outbox.KindKV, p.Collection, 0, func(owner int64, caused data.Caused) (entries []*outbox.Entry, err error) {
		deleted, entries, err = c.kv.Delete(ctx, owner, p, required, caused)
		return entries, err
	})
	if err != nil {
		return nil, err
	}
	return struct {
		Deleted bool `json:"deleted"`
	}{deleted}, nil
}

// kvAddition reads the arguments of an increment.
func (c *call) kvAddition(args []byte) (p data.Place, by int64, ttl time.Duration, err error) {
	var in struct {
		kvPlace
		By    *int64 `json:"by"`
		TTLMS int64  `json:"ttl_ms"`
	}
	if err := decode(args, &in); err != nil {
		return p, 0, 0, err
	}
	p, err = c.kvPlace(in.kvPlace)
	if err != nil {
		return p, 0, 0, err
	}
	const most = 1_000_000_000_000_000 // what every language counts exactly, with room for the sum
	by = 1
	if in.By != nil {
		by = *in.By
	}
	if by < -most || by > most {
		return p, 0, 0, invalid("by: must be a whole number, at most %d", int64(most))
	}
	ttl, err = timeToLive(in.TTLMS)
	return p, by, ttl, err
}

func (c *call) kvIncrement(ctx context.Context, args []byte) (any, error) {
	p, by, ttl, err := c.kvAddition(args)
	if err != nil {
		return nil, err
	}
	var sum int64
	err = c.change(ctx, outbox.KindKV, p.Collection, 0, func(owner int64, caused data.Caused) (entries []*outbox.Entry, err error) {
		sum, entries, err = c.kv.Increment(ctx, owner, p, by, ttl, caused)
		return entries, err
	})
	if err != nil {
		return nil, err
	}
	return struct {
		Value int64 `json:"value"`
	}{sum}, nil
}

func (c *call) kvList(ctx context.Context, args []byte) (any, error) {
	in := struct {
		Collection string  `json:"collection"`
		Prefix     keyText `json:"prefix"`
		Limit      int     `json:"limit"`
		Cursor     string  `json:"cursor"`
	}{Limit: defaultListed}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	if err := data.CheckName(in.Collection); err != nil {
		return nil, invalid("collection: %v", err)
	}
	if in.Prefix != "" {
		if err := data.CheckKey(string(in.Prefix)); err != nil {
			return nil, invalid("prefix: %v", err)
		}
	}
	if in.Limit < 1 || in.Limit > maxListed {
		return nil, invalid("limit: must be from 1 to %d", maxListed)
	}
	items, next, err := c.kv.List(ctx, c.run.Entry.App, in.Collection, string(in.Prefix), in.Cursor, in.Limit)
	if err != nil {
		return nil, c.dataRefusal(ctx, err)
	}
	out := struct {
		Items      []item `json:"items"`
		NextCursor string `json:"next_cursor"`
	}{Items: make([]item, len(items)), NextCursor: next}
	for n, i := range items {
		out.Items[n] = viewItem(i)
	}
	return out, nil
}
