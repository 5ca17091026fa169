package picloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// KV is a collection of values by key. Collections belong to the app and need no making.
type KV struct {
	collection string
	runtime    Runtime
}

// KV names a collection of values by key.
func (c *Context) KV(collection string) *KV { return &KV{collection, c.runtime} }

// SetOptions say how a value is set.
type SetOptions struct {
	TTL time.Duration // after which it is gone; zero: it stays
}

// Item is a value and what is known of it.
type Item struct {
	Key       string
	Version   int64     // 0: there is no value
	ExpiresAt time.Time // zero: never

	value json.RawMessage
}

// JSON decodes the value into v. Where there is none the error is NotFound.
func (i Item) JSON(v any) error {
	if i.value == nil {
		return &Error{Code: NotFound, Message: fmt.Sprintf("there is no value of the key %q", i.Key)}
	}
	return json.Unmarshal(i.value, v)
}

type kvPlace struct {
	Collection string  `json:"collection"`
	Key        keyText `json:"key"`
}

// keyText is a text by which something is known again.
type keyText string

// MarshalText refuses what is not UTF-8. JSON would write U+FFFD in place of it, and two keys would be one.
func (k keyText) MarshalText() ([]byte, error) {
	if !utf8.ValidString(string(k)) {
		return nil, errors.New("a key is not UTF-8: write bytes as text, such as in hexadecimal")
	}
	return []byte(k), nil
}

type kvItem struct {
	Key       string          `json:"key"`
	Value     json.RawMessage `json:"value"`
	Version   int64           `json:"version"`
	ExpiresAt time.Time       `json:"expires_at"`
}

func (i *kvItem) item() Item { return Item{i.Key, i.Version, i.ExpiresAt, i.Value} }

// Get decodes the value of a key into v, and reports whether there is one.
func (kv *KV) Get(key string, v any) (found bool, err error) {
	i, err := kv.Entry(key)
	if err != nil || i.Version == 0 {
		return false, err
	}
	return true, i.JSON(v)
}

// Entry returns the value of a key with its version and when it expires.
func (kv *KV) Entry(key string) (Item, error) {
	var answer kvItem
	err := call(kv.runtime, "kv", "get", kvPlace{kv.collection, keyText(key)}, &answer)
	return answer.item(), err
}

// Has reports whether there is a value.
func (kv *KV) Has(key string) (bool, error) {
	var answer struct{ Found bool }
	err := call(kv.runtime, "kv", "has", kvPlace{kv.collection, keyText(key)}, &answer)
	return answer.Found, err
}

// Set sets the value of a key to what v is as JSON, at most 1 MiB, and returns its version.
func (kv *KV) Set(key string, v any, opts ...*SetOptions) (version int64, err error) {
	return kv.set(key, v, nil, opts)
}

// SetIf is Set for a value that has that version, 0 for a key that has no value, as Entry says: where that has changed since, it fails with
// Conflict.
func (kv *KV) SetIf(key string, v any, version int64, opts ...*SetOptions) (now int64, err error) {
	return kv.set(key, v, &version, opts)
}

func (kv *KV) set(key string, v any, required *int64, opts []*SetOptions) (version int64, err error) {
	o, err := one(opts)
	if err != nil {
		return 0, err
	}
	value, err := kv.runtime.JSON(v)
	if err != nil {
		return 0, &Error{Code: InvalidArgument, Message: "the value cannot be sent: " + err.Error()}
	}
	var answer struct{ Version int64 }
	err = call(kv.runtime, "kv", "set", struct {
		kvPlace
		Value     json.RawMessage `json:"value"`
		TTLMS     int64           `json:"ttl_ms,omitempty"`
		IfVersion *int64          `json:"if_version,omitempty"`
	}{kvPlace{kv.collection, keyText(key)}, value, milliseconds(o.TTL), required}, &answer)
	return answer.Version, err
}

// Delete deletes a key, and reports whether there was a value.
func (kv *KV) Delete(key string) (deleted bool, err error) { return kv.remove(key, nil) }

// DeleteIf is Delete for a value that has that version: it fails with Conflict where there is another one by now, or none.
func (kv *KV) DeleteIf(key string, version int64) (deleted bool, err error) {
	return kv.remove(key, &version)
}

func (kv *KV) remove(key string, required *int64) (deleted bool, err error) {
	var answer struct{ Deleted bool }
	err = call(kv.runtime, "kv", "delete", struct {
		kvPlace
		IfVersion *int64 `json:"if_version,omitempty"`
	}{kvPlace{kv.collection, keyText(key)}, required}, &answer)
	return answer.Deleted, err
}

// Increment adds to a number and returns the sum. A key without a value counts from 0, and lives for the TTL of opts then.
func (kv *KV) Increment(key string, by int64, opts ...*SetOptions) (sum int64, err error) {
	o, err := one(opts)
	if err != nil {
		return 0, err
	}
	var answer struct{ Value int64 }
	err = call(kv.runtime, "kv", "increment", struct {
		kvPlace
		By    int64 `json:"by"`
		TTLMS int64 `json:"ttl_ms,omitempty"`
	}{kvPlace{kv.collection, keyText(key)}, by, milliseconds(o.TTL)}, &answer)
	return answer.Value, err
}

// ListOptions say which values are listed.
type ListOptions struct {
	Prefix string // of the keys
	Limit  int    // from 1 to 1,000; zero: 100
	Cursor string // that of the page before
}

// List returns values by key, in the order of their bytes, and the cursor of the next page, empty where there is none.
func (kv *KV) List(opts ...*ListOptions) (items []Item, next string, err error) {
	o, err := one(opts)
	if err != nil {
		return nil, "", err
	}
	var answer struct {
		Items      []kvItem `json:"items"`
		NextCursor string   `json:"next_cursor"`
	}
	err = call(kv.runtime, "kv", "list", struct {
		Collection string  `json:"collection"`
		Prefix     keyText `json:"prefix,omitempty"`
		Limit      int     `json:"limit,omitempty"`
		Cursor     string  `json:"cursor,omitempty"`
	}{kv.collection, keyText(o.Prefix), o.Limit, o.Cursor}, &answer)
	for i := range answer.Items {
		items = append(items, answer.Items[i].item())
	}
	return items, answer.NextCursor, err
}

// one returns the options of a call, those of the zero value where there are none.
func one[T any](opts []*T) (*T, error) {
	switch {
	case len(opts) > 1:
		return nil, &Error{Code: InvalidArgument, Message: "more than one set of options"}
	case len(opts) == 0 || opts[0] == nil:
		return new(T), nil
	}
	return opts[0], nil
}
