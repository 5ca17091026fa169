// Package secret keeps values that nobody but an app's scripts may see: sealed in the database with keys that the database
// does not have, and masked in whatever a run that has read them leaves behind. It stands behind core/service, and beside
// core/execution and core/api, which knows names only.
package secret

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

// Limits of secrets.
const (
	MaxValue  = 64 << 10 // bytes of a value as JSON
	MaxName   = 63
	MaxPerApp = 1000
	// MaxParts is how many texts, lines of texts, and numbers a value may hold: each of them is masked.
	MaxParts = 100
)

// Info is what is told of a secret.
type Info struct {
	Name      string
	UpdatedAt time.Time
}

// Sealed is a value as it is stored: with the id of the key that sealed it.
type Sealed struct {
	Key  int64
	Text []byte
}

// Row is a secret in its place.
type Row struct {
	App  uuid.UUID
	Name string
	Sealed
}

// Author is who changes a secret: a user, whom the audit log names, or a script, run by the node of an epoch.
type Author struct {
	User  uuid.UUID
	Owner int64
}

// Store keeps what is sealed, and the keys of it, closed: the ring. Whatever an app does not have is tenant.ErrNotFound.
type Store interface {
	// Change replaces the ring by what next makes of it, alone: meanwhile nobody seals. nil is no ring, and leaves it. other
	// counts the secrets that are not sealed with a key. by is for the audit log; nil: nobody asked for it.
	Change(ctx context.Context, by uuid.UUID, next func(ring []byte, other func(key int64) (int, error)) ([]byte, error)) error
	// Set stores what seal makes while the ring stays as it is. Beyond MaxPerApp it is a *tenant.Conflict. What a script does
	// under an epoch that is over is outbox.ErrFenced.
	Set(ctx context.Context, by Author, app uuid.UUID, name string, seal func(ring []byte) (Sealed, error)) (Info, error)
	Get(ctx context.Context, app uuid.UUID, name string) (sealed Sealed, ring []byte, err error)
	Delete(ctx context.Context, by Author, app uuid.UUID, name string) error
	List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]Info, string, error)
	// Reseal replaces up to limit secrets that are not sealed with the key which current names, by what again makes of them,
	// while the ring stays as it is. It returns how many.
	Reseal(ctx context.Context, limit int, current func(ring []byte) (key int64, err error), again func(Row) (Sealed, error)) (int, error)
}

// Vault seals and opens. Its methods are safe for concurrent use. Their errors are faults, *tenant.Conflict,
// *tenant.Invalid, tenant.ErrNotFound, or those of the store.
type Vault struct {
	masters Masters
	store   Store
	log     hclog.Logger

	mu     sync.Mutex
	last   *ring
	closed []byte // what last was read from
}

// New makes a vault. Without masters it lists and deletes, and says for the rest what is missing.
func New(masters Masters, store Store, log hclog.Logger) *Vault {
	return &Vault{masters: masters, store: store, log: log.Named("secret")}
}

var (
	errNoKey = fault.New(fault.Unavailable, fault.Platform, "this node has no key for secrets: start it with PICLOUD_SECRET_KEY, or "+
		"PICLOUD_SECRET_KEY_FILE and the name of a file that holds it")
	errWrongKey = fault.New(fault.Unavailable, fault.Platform, "the key of this node does not open the secrets that are stored: start it "+
		"with the PICLOUD_SECRET_KEY that they were stored with")
	errUnreadable = fault.New(fault.Internal, fault.Platform, "the secret cannot be opened: what is stored is not what was sealed under this "+
		"name; set it again")
)

var names = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// CheckName says what is wrong with the name of a secret.
func CheckName(name string) error {
	if len(name) > MaxName || !names.MatchString(name) {
		return &tenant.Invalid{Field: "name", Message: fmt.Sprintf(
			"%q is not 1 to %d letters, digits, underscores, dots and dashes, with a letter or underscore first", fault.Cut(name, 100), MaxName)}
	}
	return nil
}

// CheckValue says what is wrong with a value.
func CheckValue(value json.RawMessage) error {
	if len(value) > MaxValue {
		return &tenant.Invalid{Field: "value", Message: fmt.Sprintf("has %d bytes, more than %d", len(value), MaxValue)}
	}
	parts, err := partsOf(value)
	switch {
	case err != nil:
		return &tenant.Invalid{Field: "value", Message: "is no JSON"}
	case len(parts) > MaxParts:
		return &tenant.Invalid{Field: "value", Message: fmt.Sprintf("holds %d texts, lines of texts, and numbers, more than %d", len(parts), MaxParts)}
	}
	return nil
}

// Begin makes the ring of keys where there is none, and reports as an error if the node cannot use the one that is there.
func (v *Vault) Begin(ctx context.Context) error {
	if len(v.masters) == 0 {
		return nil
	}
	err := v.store.Change(ctx, uuid.Nil, func(ring []byte, _ func(int64) (int, error)) ([]byte, error) {
		if ring != nil {
			_, err := v.ring(ring)
			return nil, err
		}
		made, err := newRing()
		if err != nil {
			return nil, err
		}
		return made.close(v.masters)
	})
	if f := (*fault.Fault)(nil); errors.As(err, &f) {
		v.log.Error("secrets cannot be used", "error", err)
		return nil
	}
	return err
}

// ring opens the keys, once while they stay the same.
func (v *Vault) ring(closed []byte) (*ring, error) {
	if len(v.masters) == 0 {
		return nil, errNoKey
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.last != nil && bytes.Equal(v.closed, closed) {
		return v.last, nil
	}
	opened, err := openRing(v.masters, closed)
	if err != nil {
		return nil, errWrongKey
	}
	v.last, v.closed = opened, closed
	return opened, nil
}

// Set stores a value, which is JSON.
func (v *Vault) Set(ctx context.Context, by Author, app uuid.UUID, name string, value json.RawMessage) (Info, error) {
	if err := CheckName(name); err != nil {
		return Info{}, err
	}
	if err := CheckValue(value); err != nil {
		return Info{}, err
	}
	return v.store.Set(ctx, by, app, name, func(ring []byte) (Sealed, error) {
		keys, err := v.ring(ring)
		if err != nil {
			return Sealed{}, err
		}
		return keys.seal(app, name, value)
	})
}

// Get returns a value, or tenant.ErrNotFound.
func (v *Vault) Get(ctx context.Context, app uuid.UUID, name string) (json.RawMessage, error) {
	if len(v.masters) == 0 {
		return nil, errNoKey
	}
	sealed, stored, err := v.store.Get(ctx, app, name)
	if err != nil {
		return nil, err
	}
	keys, err := v.ring(stored)
	if err != nil {
		return nil, err
	}
	value, err := keys.open(app, name, sealed)
	if err != nil {
		v.log.Error("secret not opened", "app", app, "secret", name, "error", err)
		return nil, errUnreadable
	}
	return value, nil
}

// Delete forgets a secret.
func (v *Vault) Delete(ctx context.Context, by Author, app uuid.UUID, name string) error {
	return v.store.Delete(ctx, by, app, name)
}

// List returns up to limit names in their order from cursor on, and the cursor of the next page.
func (v *Vault) List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]Info, string, error) {
	return v.store.List(ctx, app, cursor, limit)
}

// resealed is how many secrets one transaction takes.
const resealed = 100

// Rotate seals secrets with a new key, some of them at a call: it is done once none is left. A call goes on where the one
// before has stopped, wherever that was, and makes no other key before it is done. At the end the old keys are gone. by is
// for the audit log.
func (v *Vault) Rotate(ctx context.Context, by uuid.UUID) (done, left int, err error) {
	err = v.store.Change(ctx, by, func(ring []byte, _ func(int64) (int, error)) ([]byte, error) {
		keys, err := v.ring(ring)
		if err != nil || keys.old() {
			return nil, err
		}
		if keys, err = keys.turn(); err != nil {
			return nil, err
		}
		return keys.close(v.masters)
	})
	if err != nil {
		return 0, 0, err
	}
	var now *ring
	current := func(ring []byte) (key int64, err error) {
		if now, err = v.ring(ring); err != nil {
			return 0, err
		}
		return now.primary(), nil
	}
	done, err = v.store.Reseal(ctx, resealed, current, func(row Row) (Sealed, error) {
		value, err := now.open(row.App, row.Name, row.Sealed)
		if err != nil { // it stays as spoiled as it is
			v.log.Error("secret not opened", "app", row.App, "secret", row.Name, "error", err)
			return Sealed{Key: now.primary(), Text: row.Text}, nil
		}
		return now.seal(row.App, row.Name, value)
	})
	if err != nil {
		return done, 0, err
	}
	err = v.store.Change(ctx, uuid.Nil, func(ring []byte, other func(int64) (int, error)) ([]byte, error) {
		keys, err := v.ring(ring)
		if err != nil {
			return nil, err
		}
		if left, err = other(keys.primary()); err != nil || left > 0 || !keys.old() {
			return nil, err
		}
		if keys, err = keys.shed(); err != nil {
			return nil, err
		}
		return keys.close(v.masters)
	})
	return done, left, err
}
