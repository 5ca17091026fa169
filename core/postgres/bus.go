package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// busChannel carries hints between nodes. They have no content: whoever hears one looks at the tables, and the pulse
// finds a second later what a lost one would have told.
const busChannel = "picloud_changed"

// Bus wakes the other nodes after a change of configuration, by LISTEN and NOTIFY on connections of their own.
type Bus struct {
	url  string
	pool *pgxpool.Pool
	log  hclog.Logger
}

// NewBus makes a bus.
func NewBus(url string, pool *pgxpool.Pool, log hclog.Logger) *Bus {
	return &Bus{url: url, pool: pool, log: log.Named("bus")}
}

const sqlBusNotify = `SELECT pg_notify($1, '')`

// Notify wakes every listener. It must not run in a business transaction: a NOTIFY takes a lock for the whole database
// at commit.
func (b *Bus) Notify(ctx context.Context) error {
	if _, err := b.pool.Exec(ctx, sqlBusNotify, busChannel); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}

// Listen calls heard for each hint until ctx ends, reconnecting as often as it must.
func (b *Bus) Listen(ctx context.Context, heard func()) {
	for {
		err := b.listen(ctx, heard)
		if ctx.Err() != nil {
			return
		}
		b.log.Warn("listener lost", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

func (b *Bus) listen(ctx context.Context, heard func()) error {
	conn, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "LISTEN "+busChannel); err != nil {
		return err
	}
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
		heard()
	}
}
