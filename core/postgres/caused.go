package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/outbox"
)

// insertCaused writes entries in the caller's transaction, which commits them with what caused them. The transaction has locked
// what it changes already, and locks nothing more afterwards. An entry that is refused refuses all: its error is returned, and
// the transaction must end.
func insertCaused(ctx context.Context, tx pgx.Tx, owner int64, entries []*outbox.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	w := &keyedWrite{tx: tx, entries: entries, refused: make([]error, len(entries)), seqs: make([]*int64, len(entries))}
	if err := w.run(ctx, owner, false); err != nil {
		return rejected(err)
	}
	return errors.Join(w.refused...)
}
