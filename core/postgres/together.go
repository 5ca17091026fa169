package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/outbox"
)

// InsertAll writes entries in one transaction, all of them or none. Errors are outbox.ErrFenced, those of outbox for an entry that
// is refused, and outbox.ErrUnknown where the end of the transaction is not known.
func (s *KeyedStore) InsertAll(ctx context.Context, owner int64, entries []*outbox.Entry) error {
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("insert entries: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // changes nothing after a commit
	if err := insertTogether(ctx, tx, owner, entries); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("insert entries: %w: %w", outbox.ErrUnknown, err)
	}
	return nil
}

// insertTogether writes entries in the caller's transaction. One that is refused refuses all: its error is returned, and the
// transaction must end.
func insertTogether(ctx context.Context, tx pgx.Tx, owner int64, entries []*outbox.Entry) error {
	w := newKeyedWrite(tx, entries)
	if err := w.run(ctx, owner, false); err != nil {
		return rejected(err)
	}
	return errors.Join(w.refused...)
}
