// Package auth says who a request acts as and what it may do. It stands beside the line: core/api asks it before every
// operation.
package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

// ErrInvalid says that a credential is not valid: unknown, expired, or its user is not active. Which of them is nobody's
// business but the log's.
var ErrInvalid = errors.New("invalid credential")

// ErrNoKey is how a KeyStore says that no key has a prefix.
var ErrNoKey = errors.New("no such key")

// Key is what is stored of an API key, together with its user.
type Key struct {
	ID        uuid.UUID
	Name      string
	Prefix    string
	Hash      []byte // SHA-256 of the whole token
	App       uuid.UUID
	Scopes    []Scope
	ExpiresAt time.Time // zero: never

	User   uuid.UUID
	Login  string // the user's name
	Role   Role
	Active bool // the user's
}

// KeyStore finds keys. KeyByPrefix returns ErrNoKey where there is none.
type KeyStore interface {
	KeyByPrefix(ctx context.Context, prefix string) (Key, error)
}

const (
	// cacheFor is how long an answer may be reused: a key costs one query a second at most, and one that is revoked
	// works for a second at most.
	cacheFor = time.Second
	// cacheSize bounds the memory. Only valid tokens get in, so it takes as many keys to fill it.
	cacheSize = 4096
)

// Authenticator turns tokens into principals. Safe for concurrent use.
type Authenticator struct {
	keys KeyStore

	mu    sync.Mutex
	known map[[sha256.Size]byte]cached
}

type cached struct {
	principal *Principal
	until     time.Time
}

// New makes an Authenticator over keys.
func New(keys KeyStore) *Authenticator {
	return &Authenticator{keys: keys, known: make(map[[sha256.Size]byte]cached)}
}

// Authenticate returns the principal of a token. It is ErrInvalid if the token is not valid; another error means that
// it cannot be told now.
func (a *Authenticator) Authenticate(ctx context.Context, token string) (*Principal, error) {
	prefix, err := parseToken(token)
	if err != nil {
		return nil, ErrInvalid
	}
	hash := sha256.Sum256([]byte(token))
	now := time.Now()
	if p := a.recall(hash, now); p != nil {
		return p, nil
	}
	key, err := a.keys.KeyByPrefix(ctx, prefix)
	if err != nil && !errors.Is(err, ErrNoKey) {
		return nil, fmt.Errorf("find key: %w", err)
	}
	// An unknown prefix has an empty hash: it takes the same way as a wrong secret.
	same := subtle.ConstantTimeCompare(hash[:], key.Hash) == 1
	if !same || !key.Active || !key.ExpiresAt.IsZero() && !now.Before(key.ExpiresAt) {
		return nil, ErrInvalid
	}
	p := &Principal{User: key.User, Name: key.Login, Role: key.Role, App: key.App, Scopes: key.Scopes}
	until := now.Add(cacheFor)
	if !key.ExpiresAt.IsZero() && key.ExpiresAt.Before(until) {
		until = key.ExpiresAt
	}
	a.remember(hash, cached{p, until})
	return p, nil
}

func (a *Authenticator) recall(hash [sha256.Size]byte, now time.Time) *Principal {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.known[hash]; ok && now.Before(c.until) {
		return c.principal
	}
	return nil
}

func (a *Authenticator) remember(hash [sha256.Size]byte, c cached) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= cacheSize {
		clear(a.known)
	}
	a.known[hash] = c
}

// OwnerStore makes the first user. CreateOwner stores owner and its key if there is no user at all, and reports whether
// it did.
type OwnerStore interface {
	CreateOwner(ctx context.Context, key Key) (bool, error)
}

// Bootstrap makes the owner of a new instance and returns its token, which is not stored anywhere: created is false and
// the token empty where the instance has users already.
func Bootstrap(ctx context.Context, store OwnerStore) (token string, created bool, err error) {
	token, prefix, hash := newToken()
	user, err := uuid.NewV7()
	if err != nil {
		return "", false, fmt.Errorf("make user id: %w", err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", false, fmt.Errorf("make key id: %w", err)
	}
	created, err = store.CreateOwner(ctx, Key{
		ID: id, Name: "bootstrap", Prefix: prefix, Hash: hash[:], Scopes: Scopes,
		User: user, Login: "owner", Role: RoleOwner, Active: true,
	})
	if err != nil || !created {
		return "", false, err
	}
	return token, true, nil
}
