package auth

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Users says whether users are there and active.
type Users interface {
	ActiveUser(ctx context.Context, id uuid.UUID) (bool, error)
}

// Acting knows for whom runs may act: a user who is there and active. It asks for each at most once a second. Safe for concurrent use.
type Acting struct {
	users Users

	mu    sync.Mutex
	known map[uuid.UUID]acting
}

type acting struct {
	active bool
	until  time.Time
}

// NewActing makes an Acting over users.
func NewActing(users Users) *Acting { return &Acting{users: users, known: map[uuid.UUID]acting{}} }

// Active reports whether a run may act for a user now. An error means that it cannot be told.
func (a *Acting) Active(ctx context.Context, user uuid.UUID) (bool, error) {
	now := time.Now()
	a.mu.Lock()
	k, ok := a.known[user]
	a.mu.Unlock()
	if ok && now.Before(k.until) {
		return k.active, nil
	}
	active, err := a.users.ActiveUser(ctx, user)
	if err != nil {
		return false, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= cacheSize {
		clear(a.known)
	}
	a.known[user] = acting{active, now.Add(cacheFor)}
	return active, nil
}
