-- +goose Up

-- What a trigger of these kinds takes is in its filter, see core/tenant/trigger.go.
ALTER TABLE triggers DROP CONSTRAINT triggers_kind_check, ADD CONSTRAINT triggers_kind_check
    CHECK (kind IN ('http', 'dead_letter', 'kv', 'docs', 'files', 'pubsub', 'cron'));

-- When each trigger of kind cron fires next. It has a row while it is enabled. spec is what next_at was made from; a trigger that is
-- paused keeps its time, and fires once when it goes on.
CREATE TABLE cron_state (
    app     uuid        NOT NULL,
    trigger uuid        NOT NULL,
    spec    text        NOT NULL,
    next_at timestamptz NOT NULL,
    paused  boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (app, trigger)
) WITH (fillfactor = 50);
CREATE INDEX cron_state_due ON cron_state (next_at) WHERE NOT paused;

-- +goose Down
DROP TABLE cron_state;
DELETE FROM triggers WHERE kind NOT IN ('http', 'dead_letter');
ALTER TABLE triggers DROP CONSTRAINT triggers_kind_check, ADD CONSTRAINT triggers_kind_check CHECK (kind IN ('http', 'dead_letter'));
