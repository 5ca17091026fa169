-- +goose Up

-- What a trigger of these kinds takes is in its filter, see core/tenant/trigger.go.
ALTER TABLE triggers DROP CONSTRAINT triggers_kind_check, ADD CONSTRAINT triggers_kind_check
    CHECK (kind IN ('http', 'dead_letter', 'kv', 'docs', 'files', 'pubsub', 'cron', 'webhook', 'source', 'email', 'app'));

-- +goose Down
DELETE FROM triggers WHERE kind IN ('webhook', 'source', 'email', 'app');
ALTER TABLE triggers DROP CONSTRAINT triggers_kind_check, ADD CONSTRAINT triggers_kind_check
    CHECK (kind IN ('http', 'dead_letter', 'kv', 'docs', 'files', 'pubsub', 'cron'));
