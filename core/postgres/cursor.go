package postgres

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/picloud/picloud/core/tenant"
)

// A cursor is the sort key of the last item of a page, so that a list continues at the same place however much was added
// or removed meanwhile. Callers must take it for opaque.

func encodeCursor(key ...any) string {
	b, err := json.Marshal(key)
	if err != nil {
		panic(err) // the keys are strings and numbers
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// decodeCursor reads a cursor into the variables that key points to. An empty cursor leaves them as they are, which is
// how callers say where a list begins.
func decodeCursor(cursor string, key ...any) error {
	if cursor == "" {
		return nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return tenant.ErrCursor
	}
	want := len(key)
	if err := json.Unmarshal(b, &key); err != nil || len(key) != want {
		return tenant.ErrCursor
	}
	for _, k := range key {
		text, _ := k.(*string)
		if k == nil || text != nil && strings.IndexByte(*text, 0) >= 0 { // no text of the database
			return tenant.ErrCursor
		}
	}
	return nil
}

// page cuts items, of which one more was read than limit allows, and returns the cursor of the rest.
func page[T any](items []T, limit int, key func(*T) []any) ([]T, string) {
	if len(items) <= limit {
		return items, ""
	}
	items = items[:limit]
	return items, encodeCursor(key(&items[limit-1])...)
}
