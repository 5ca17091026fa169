package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const sqlPartitionExists = `SELECT to_regclass($1) IS NOT NULL`

// sqlPartitionLock keeps two nodes from making the same partition.
const sqlPartitionLock = `SELECT pg_advisory_xact_lock(2614)`

// Extend makes the daily partitions of the execution tables from today to the day after tomorrow. It should run before
// the first record of a database is written: while the default partition is empty, a new one costs nothing; later it has
// to be searched for rows that belong into the new one, and those of a day that has begun would be in the way.
func (s *ExecutionStore) Extend(ctx context.Context) error {
	today := time.Now().UTC().Truncate(24 * time.Hour)
	for days := range 3 {
		day := today.AddDate(0, 0, days)
		for _, table := range []string{"executions", "execution_bodies"} {
			err := s.extend(ctx, table, day)
			if days == 0 && inTheWay(err) {
				continue // today's records are in the default partition, where they are found as well
			}
			if err != nil {
				return fmt.Errorf("partition of %s for %s: %w", table, day.Format(time.DateOnly), err)
			}
		}
	}
	return nil
}

// inTheWay reports whether err says that the default partition holds rows of a new one.
func inTheWay(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23514"
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
