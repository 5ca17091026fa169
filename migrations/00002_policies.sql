-- +goose Up

-- What an entry asks of the dispatcher beyond its turn. gate is the one gate that it passes, gate_seq its place before it,
-- and gate_held says that it is through and counts among those who hold it.
ALTER TABLE outbox
    DROP COLUMN gates,
    ADD COLUMN gate         text,
    ADD COLUMN gate_limit   smallint,
    ADD COLUMN gate_seq     bigint,
    ADD COLUMN gate_held    boolean NOT NULL DEFAULT false,
    ADD COLUMN rate_key     text,
    ADD COLUMN debounce     text,
    ADD COLUMN debounced_at timestamptz, -- when the first of those was accepted that this one replaces
    ADD COLUMN keep_answer  boolean NOT NULL DEFAULT false,
    ADD COLUMN cancelled_at timestamptz;
CREATE INDEX outbox_gate ON outbox (app, gate, gate_seq) WHERE state = 3;
CREATE INDEX outbox_held ON outbox (app, gate) WHERE gate_held;
CREATE UNIQUE INDEX outbox_debounce ON outbox (app, lane, debounce) WHERE state = 0 AND debounce IS NOT NULL;
CREATE INDEX outbox_expiry ON outbox (expires_at) WHERE expires_at IS NOT NULL AND state <> 2;
CREATE INDEX outbox_cancelled ON outbox (owner) WHERE cancelled_at IS NOT NULL;

-- One row for each key that entries pass one after the other, or at most so many at a time; also for each that is
-- debounced or gathered into batches. Whoever changes a gate's entries locks its row first, in a statement of its own, and
-- reads them in the next: in one statement a wake-up could be lost. How many are through is counted from the entries.
CREATE TABLE gates (
    app      uuid   NOT NULL,
    key      text   NOT NULL,
    next_seq bigint NOT NULL DEFAULT 1, -- of the next entry that comes
    gathered integer NOT NULL DEFAULT 0, -- entries of the batch that is open
    until    timestamptz,                -- when that batch is closed at the latest
    PRIMARY KEY (app, key)
) WITH (fillfactor = 50);

-- Who asked first under a key, and for what. scope is the route, queue or script that the key was given to.
CREATE TABLE idempotency_keys (
    app        uuid        NOT NULL,
    scope      uuid        NOT NULL,
    key        text        NOT NULL,
    hash       bytea       NOT NULL,
    entry      uuid        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (app, scope, key)
);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

-- The answers of entries with keep_answer. kind is empty, or the kind of the fault that ended the run.
CREATE TABLE results (
    id          uuid PRIMARY KEY,
    app         uuid        NOT NULL,
    status      smallint    NOT NULL,
    headers     jsonb       NOT NULL DEFAULT '[]',
    body        bytea,
    kind        text        NOT NULL DEFAULT '',
    error       text        NOT NULL DEFAULT '',
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at  timestamptz NOT NULL
);
CREATE INDEX results_expiry ON results (expires_at);

-- How many events one first cause has led to.
CREATE TABLE roots (
    id         uuid PRIMARY KEY,
    app        uuid        NOT NULL,
    events     integer     NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
CREATE INDEX roots_age ON roots (updated_at);

ALTER TABLE scripts ADD COLUMN policy jsonb NOT NULL DEFAULT '{}';
-- wait_ms: how long a caller waits before the run goes on without it; null: as long as the script may take.
ALTER TABLE routes ADD COLUMN wait_ms integer CHECK (wait_ms BETWEEN 1 AND 300000);

CREATE TABLE queues (
    id         uuid PRIMARY KEY,
    app        uuid        NOT NULL REFERENCES apps,
    name       text        NOT NULL CHECK (name ~ '^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$'),
    script     uuid        NOT NULL REFERENCES scripts,
    policy     jsonb       NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (app, name)
);
CREATE INDEX queues_script ON queues (script);

CREATE TABLE triggers (
    id            uuid PRIMARY KEY,
    app           uuid        NOT NULL REFERENCES apps,
    name          text        NOT NULL CHECK (name ~ '^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$'),
    kind          text        NOT NULL CHECK (kind IN ('http', 'dead_letter')),
    script        uuid        NOT NULL REFERENCES scripts ON DELETE CASCADE,
    route         uuid        REFERENCES routes ON DELETE CASCADE,
    filter        jsonb       NOT NULL DEFAULT '{}',
    policy        jsonb       NOT NULL DEFAULT '{}',
    enabled       boolean     NOT NULL DEFAULT true,
    registered_by uuid,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (app, name),
    CHECK ((kind = 'http') = (route IS NOT NULL))
);
CREATE UNIQUE INDEX triggers_route ON triggers (route) WHERE route IS NOT NULL;
CREATE INDEX triggers_script ON triggers (script);

-- A lane that starts nothing; the lane 0 is every lane of the app.
CREATE TABLE pauses (
    app       uuid        NOT NULL REFERENCES apps,
    lane      uuid        NOT NULL,
    paused_by uuid,
    paused_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app, lane)
);

-- cause groups letters of one error in one version. announced: the app's dead_letter triggers have been looked at.
ALTER TABLE dead_letters
    DROP COLUMN gates,
    ADD COLUMN gate       text,
    ADD COLUMN gate_limit smallint,
    ADD COLUMN rate_key   text,
    ADD COLUMN cause      text    NOT NULL DEFAULT '',
    ADD COLUMN announced  boolean NOT NULL DEFAULT false,
    ADD COLUMN replay     uuid;
CREATE INDEX dead_letters_cause ON dead_letters (app, cause) WHERE resolved_at IS NULL;
CREATE INDEX dead_letters_new ON dead_letters (created_at) WHERE NOT announced;
CREATE INDEX dead_letters_age ON dead_letters (created_at);
CREATE INDEX dead_letters_replay ON dead_letters (replay) WHERE replay IS NOT NULL;
CREATE INDEX dead_letters_replay_of ON dead_letters (replay_of) WHERE replay_of IS NOT NULL;

-- Dead letters that are put back by a filter, some at a time. next_at: when a node may take the next step.
CREATE TABLE replays (
    id              uuid PRIMARY KEY,
    app             uuid        NOT NULL REFERENCES apps,
    filter          jsonb       NOT NULL,
    rate            integer     NOT NULL CHECK (rate > 0),
    stop_on_failure boolean     NOT NULL DEFAULT false,
    state           text        NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'stopped', 'cancelled')),
    total           integer     NOT NULL,
    replayed        integer     NOT NULL DEFAULT 0,
    failed          integer     NOT NULL DEFAULT 0,
    created_by      uuid,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at        timestamptz
);
CREATE INDEX replays_app ON replays (app, created_at, id);
CREATE INDEX replays_due ON replays (next_at) WHERE state = 'running';

-- Answers of runs that nobody waits for are read with a token made from this.
ALTER TABLE config ADD COLUMN secret bytea NOT NULL
    DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());

-- +goose Down
ALTER TABLE config DROP COLUMN secret;
DROP TABLE replays;
ALTER TABLE dead_letters DROP COLUMN gate, DROP COLUMN gate_limit, DROP COLUMN rate_key, DROP COLUMN cause,
    DROP COLUMN announced, DROP COLUMN replay, ADD COLUMN gates text[];
DROP TABLE pauses, triggers, queues, roots, results, idempotency_keys, gates;
ALTER TABLE routes DROP COLUMN wait_ms;
ALTER TABLE scripts DROP COLUMN policy;
ALTER TABLE outbox DROP COLUMN gate, DROP COLUMN gate_limit, DROP COLUMN gate_seq, DROP COLUMN gate_held,
    DROP COLUMN rate_key, DROP COLUMN debounce, DROP COLUMN debounced_at, DROP COLUMN keep_answer, DROP COLUMN cancelled_at, ADD COLUMN gates text[];
