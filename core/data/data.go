// Package data is what the data services keep for apps: values by key, documents and files. It names what core/service asks for and
// core/postgres does.
package data

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/files"
	"github.com/picloud/picloud/core/outbox"
)

// Limits of values by key.
const (
	MaxName  = 128     // of a collection, in bytes
	MaxKey   = 512     // of a key, in bytes
	MaxValue = 1 << 20 // of a value as JSON, in bytes
	MaxDepth = 64      // of objects and lists in one another, so that every language can read what another has written
	MaxSum   = 1<<53 - 1
)

// Conditions that callers act on.
var (
	// ErrConflict says that the value has another version than the one that it had to have.
	ErrConflict = errors.New("the value has another version by now")
	// ErrEffort says that the patterns of a find would look at too much.
	ErrEffort = errors.New("the $regex would look at too much text: narrow the filter down by other fields that are indexed, or write a shorter pattern")
	// ErrNoNumber says that a value to be added to is no whole number, or would be too large.
	ErrNoNumber = errors.New("the value is no whole number that can be added to, or the sum would be beyond 9007199254740991")
	// ErrQuota says that the files of the app would take more than they may.
	ErrQuota = errors.New("the files of the app would take more than they may")
	// ErrNone says that there is no such file.
	ErrNone = errors.New("there is no such file")
)

// Place names a value.
type Place struct {
	App        uuid.UUID
	Collection string
	Key        string
}

// Item is a value and what is known of it. Its versions are never used twice within an app: 0 means that there is no value.
type Item struct {
	Key       string
	Value     []byte // JSON
	Version   int64
	ExpiresAt time.Time // zero: never
}

// Write is a value to be set.
type Write struct {
	Place
	Value []byte        // JSON
	TTL   time.Duration // zero: it stays
	If    *int64        // the version that it has to have; nil: no matter which; 0: there must be none
}

// Caused makes the entries that a change leads to, within its transaction. An error undoes the change.
type Caused func(Change) ([]*outbox.Entry, error)

// Change is what happened to a value, for those who want to know.
type Change struct {
	Place
	Op       string // tenant.OpCreate, OpUpdate, OpDelete
	Value    []byte // JSON; nil after a delete
	Previous []byte // JSON; nil before a create
}

// File is what a file is called and which content it has.
type File struct {
	App         uuid.UUID
	Collection  string
	ID          uuid.UUID
	Name        string
	ContentType string
	CreatedAt   time.Time
	UpdatedAt   time.Time
	files.Content
}

// CheckName says what is wrong with the name of a collection. Names are compared byte by byte; letters of every script could look
// alike, so there are few.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("a collection's name has 1 to %d characters", MaxName)
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '_' || c == '-' || c == '.' || c == ':'):
		default:
			return fmt.Errorf("a collection's name has letters, digits, and between them - _ . : — not %q", c)
		}
	}
	return nil
}

// CheckKey says what is wrong with a key: any text but one that cannot be stored.
func CheckKey(key string) error {
	if key == "" || len(key) > MaxKey {
		return fmt.Errorf("a key has 1 to %d bytes", MaxKey)
	}
	for i := range len(key) {
		if key[i] == 0 {
			return errors.New("a key holds a zero byte, which cannot be stored")
		}
	}
	return nil
}
