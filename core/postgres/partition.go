package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const sqlPartitionExists = `SELECT to_regclass($1) IS NOT NULL`

// sqlPartitionLock keeps two nodes from making the same partition.
const sqlPartitionLock = `SELECT pg_advisory_xact_lock(2614)`

// Extend makes the daily partitions of the execution tables for tomorrow and the day after. Today's is never made: its
// rows may be in the default partition already, and moving them would hold everybody up.
func (s *ExecutionStore) Extend(ctx context.Context) error {
	today := time.Now().UTC().Truncate(24 * time.Hour)
	for days := 1; days <= 2; days++ {
		day := today.AddDate(0, 0, days)
		for _, table := range []string{"executions", "execution_bodies"} {
			if err := s.extend(ctx, table, day); err != nil {
				return fmt.Errorf("partition of %s for %s: %w", table, day.Format(time.DateOnly), err)
			}
		}
	}
	return nil
}

func (s *ExecutionStore) extend(ctx context.Context, table string, day time.Time) error {
	name := table + "_" + day.Format("20060102")
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlPartitionLock); err != nil {
			return err
		}
		var exists bool
		if err := tx.QueryRow(ctx, sqlPartitionExists, name).Scan(&exists); err != nil || exists {
			return err
		}
		// Names and bounds cannot be parameters; both are made from a date above.
		_, err := tx.Exec(ctx, fmt.Sprintf(`CREATE TABLE %s PARTITION OF %s FOR VALUES FROM ('%s') TO ('%s')`,
			name, table, day.Format(time.RFC3339), day.AddDate(0, 0, 1).Format(time.RFC3339)))
		return err
	})
}
