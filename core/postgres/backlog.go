package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// sqlOutboxBacklog measures by the indexes of the states, each of which begins with the app but that of entries due later.
const sqlOutboxBacklog = `
SELECT count(*), coalesce(sum(size), 0)::bigint FROM (
    (SELECT octet_length(envelope) + coalesce(octet_length(payload), 0) AS size FROM outbox WHERE state = 1 AND app = $1 LIMIT $2)
    UNION ALL
    (SELECT octet_length(envelope) + coalesce(octet_length(payload), 0) FROM outbox WHERE state = 3 AND app = $1 LIMIT $2)
    UNION ALL
    (SELECT octet_length(envelope) + coalesce(octet_length(payload), 0) FROM outbox WHERE state = 0 AND app = $1 LIMIT $2)
) waiting`

// Backlog counts the waiting entries of an app and their bytes. It stops soon after limit entries.
func (s *OutboxStore) Backlog(ctx context.Context, app uuid.UUID, limit int) (entries int, bytes int64, err error) {
	if err := s.pool.QueryRow(ctx, sqlOutboxBacklog, app, limit).Scan(&entries, &bytes); err != nil {
		return 0, 0, fmt.Errorf("measure backlog: %w", err)
	}
	return entries, bytes, nil
}
