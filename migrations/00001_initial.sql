-- +goose Up

-- One life of one node process. A row that is gone is a dead epoch: its entries belong to nobody and are swept.
CREATE SEQUENCE node_epochs;
CREATE TABLE nodes (
    epoch      bigint PRIMARY KEY DEFAULT nextval('node_epochs'),
    name       text        NOT NULL,
    address    text        NOT NULL DEFAULT '',
    roles      text[]      NOT NULL DEFAULT '{}',
    kinds      smallint[]  NOT NULL DEFAULT '{}',
    version    text        NOT NULL DEFAULT '',
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    beat_at    timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- Raised in the transaction of every configuration change; the pulse of each node reads it once a second.
CREATE TABLE config (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL DEFAULT 1
) WITH (fillfactor = 50);
INSERT INTO config DEFAULT VALUES;

CREATE TABLE users (
    id         uuid PRIMARY KEY,
    name       text        NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
    role       text        NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
    active     boolean     NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A key is a public prefix and the SHA-256 of the whole token: 256 random bits need no slow hash.
CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    user_id      uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    name         text        NOT NULL,
    prefix       text        NOT NULL UNIQUE,
    hash         bytea       NOT NULL,
    app          uuid,
    scopes       text[]      NOT NULL DEFAULT '{}',
    expires_at   timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE audit_log (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT now(),
    actor  uuid,
    app    uuid,
    action text        NOT NULL,
    object text        NOT NULL DEFAULT '',
    detail jsonb       NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_app ON audit_log (app, id);

CREATE TABLE apps (
    id             uuid PRIMARY KEY,
    slug           text        NOT NULL CHECK (slug ~ '^[a-z0-9](-?[a-z0-9]){0,62}$'),
    name           text        NOT NULL DEFAULT '',
    description    text        NOT NULL DEFAULT '',
    release        bigint      NOT NULL DEFAULT 0,
    config_version bigint      NOT NULL DEFAULT 1,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    deleted_at     timestamptz
);
CREATE UNIQUE INDEX apps_slug ON apps (slug) WHERE deleted_at IS NULL;

-- A host name that an app claims: a literal, *.suffix, or * for every host that nobody else claims.
CREATE TABLE app_domains (
    host       text PRIMARY KEY,
    app        uuid        NOT NULL REFERENCES apps,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX app_domains_app ON app_domains (app);

CREATE TABLE scripts (
    id             uuid PRIMARY KEY,
    app            uuid        NOT NULL REFERENCES apps,
    name           text        NOT NULL CHECK (name ~ '^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$'),
    kind           text        NOT NULL DEFAULT 'endpoint' CHECK (kind IN ('endpoint', 'module')),
    engine         text        NOT NULL,
    description    text        NOT NULL DEFAULT '',
    timeout_ms     integer     NOT NULL DEFAULT 30000 CHECK (timeout_ms BETWEEN 1 AND 300000),
    max_attempts   smallint    NOT NULL DEFAULT 5 CHECK (max_attempts BETWEEN 1 AND 25),
    active_version integer     NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (app, name)
);

-- Immutable: a change of source is a new number.
CREATE TABLE script_versions (
    script      uuid        NOT NULL REFERENCES scripts ON DELETE CASCADE,
    number      integer     NOT NULL,
    app         uuid        NOT NULL,
    files       jsonb       NOT NULL,
    hash        text        NOT NULL,
    sdk_version text        NOT NULL,
    note        text        NOT NULL DEFAULT '',
    created_by  uuid,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (script, number)
);

-- shape is the pattern without its parameter names: two routes of one shape and method would answer the same requests.
CREATE TABLE routes (
    id         uuid PRIMARY KEY,
    app        uuid        NOT NULL REFERENCES apps,
    script     uuid        NOT NULL REFERENCES scripts ON DELETE CASCADE,
    method     text        NOT NULL DEFAULT 'ANY',
    host       text        NOT NULL DEFAULT '',
    pattern    text        NOT NULL,
    shape      text        NOT NULL,
    mode       text        NOT NULL DEFAULT 'sync' CHECK (mode IN ('sync', 'async')),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (app, host, method, shape)
);

-- Every change to an app's versions or routes is a release; manifest is the whole state, so rolling back is activating one.
CREATE TABLE releases (
    app        uuid        NOT NULL REFERENCES apps,
    number     bigint      NOT NULL,
    action     text        NOT NULL,
    manifest   jsonb       NOT NULL,
    created_by uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app, number)
);

-- One row is one delivery of one event to one target. States and their movers: core/outbox/entry.go.
-- No foreign keys: one deleted app must not fail a batch of other apps' entries.
CREATE TABLE outbox (
    id            uuid        NOT NULL PRIMARY KEY,
    event_id      uuid        NOT NULL,
    app           uuid        NOT NULL,
    lane          uuid        NOT NULL,
    target        uuid        NOT NULL,
    trigger       uuid,
    root_id       uuid        NOT NULL,
    replay_of     uuid,
    handler_for   uuid,
    principal     uuid,
    reply_to      uuid,
    owner         bigint,
    run_at        timestamptz NOT NULL,
    accepted_at   timestamptz NOT NULL,
    expires_at    timestamptz,
    timeout_ms    integer     NOT NULL,
    kind          smallint    NOT NULL,
    target_kind   smallint    NOT NULL DEFAULT 1,
    state         smallint    NOT NULL,
    priority      smallint    NOT NULL DEFAULT 0,
    attempt       smallint    NOT NULL DEFAULT 0,
    max_attempts  smallint    NOT NULL,
    depth         smallint    NOT NULL DEFAULT 0,
    node_losses   smallint    NOT NULL DEFAULT 0,
    engine_losses smallint    NOT NULL DEFAULT 0,
    backoff       jsonb,
    gates         text[],
    last_error    text,
    envelope      bytea       NOT NULL,
    payload       bytea
) WITH (vacuum_truncate = off, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 20000);

-- The only index that orders ready rows, and it starts with the app: with a second one on (run_at, id) the planner
-- filters a whole backlog for an app it has no statistics of.
CREATE INDEX outbox_ready ON outbox (app, lane, priority, run_at, id) WHERE state = 1;
CREATE INDEX outbox_due ON outbox (run_at) WHERE state = 0;
CREATE INDEX outbox_owner ON outbox (owner) WHERE state = 2;

CREATE TABLE executions (
    id           uuid        NOT NULL,
    attempt      smallint    NOT NULL,
    finished_at  timestamptz NOT NULL,
    app          uuid        NOT NULL,
    script       uuid        NOT NULL,
    version      integer     NOT NULL DEFAULT 0,
    trigger      uuid,
    kind         smallint    NOT NULL,
    outcome      smallint    NOT NULL,
    reason       text        NOT NULL DEFAULT '',
    status       smallint    NOT NULL DEFAULT 0,
    depth        smallint    NOT NULL DEFAULT 0,
    event_id     uuid        NOT NULL,
    root_id      uuid        NOT NULL,
    accepted_at  timestamptz NOT NULL,
    started_at   timestamptz NOT NULL,
    duration_us  bigint      NOT NULL,
    node         bigint      NOT NULL,
    error        text        NOT NULL DEFAULT '',
    fault        text        NOT NULL DEFAULT ''
) PARTITION BY RANGE (finished_at);
CREATE INDEX executions_key ON executions (id, attempt);
CREATE INDEX executions_app ON executions (app, finished_at, id);
CREATE TABLE executions_default PARTITION OF executions DEFAULT;

-- Written only where there is something worth keeping: logs, and for a failure the request and the answer.
CREATE TABLE execution_bodies (
    id          uuid        NOT NULL,
    attempt     smallint    NOT NULL,
    finished_at timestamptz NOT NULL,
    app         uuid        NOT NULL,
    envelope    bytea,
    payload     bytea,
    response    bytea,
    logs        bytea
) PARTITION BY RANGE (finished_at);
CREATE INDEX execution_bodies_key ON execution_bodies (id, attempt);
CREATE TABLE execution_bodies_default PARTITION OF execution_bodies DEFAULT;

CREATE TABLE dead_letters (
    id            uuid PRIMARY KEY,
    event_id      uuid        NOT NULL,
    app           uuid        NOT NULL,
    lane          uuid        NOT NULL,
    target        uuid        NOT NULL,
    target_kind   smallint    NOT NULL,
    trigger       uuid,
    root_id       uuid        NOT NULL,
    replay_of     uuid,
    principal     uuid,
    kind          smallint    NOT NULL,
    priority      smallint    NOT NULL,
    attempts      smallint    NOT NULL,
    max_attempts  smallint    NOT NULL,
    depth         smallint    NOT NULL,
    timeout_ms    integer     NOT NULL,
    backoff       jsonb,
    gates         text[],
    reason        text        NOT NULL,
    error         text        NOT NULL DEFAULT '',
    fault         text        NOT NULL DEFAULT '',
    version       integer     NOT NULL DEFAULT 0,
    envelope      bytea       NOT NULL,
    payload       bytea,
    accepted_at   timestamptz NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    resolved_at   timestamptz,
    resolution    text CHECK (resolution IN ('replayed', 'ignored', 'handled_by_script', 'handler_failed')),
    replayed_as   uuid
);
CREATE INDEX dead_letters_app ON dead_letters (app, created_at, id);
CREATE INDEX dead_letters_open ON dead_letters (app) WHERE resolved_at IS NULL;

-- +goose Down
DROP TABLE dead_letters, execution_bodies, executions, outbox, releases, routes, script_versions, scripts, app_domains,
    apps, audit_log, api_keys, users, config, nodes;
DROP SEQUENCE node_epochs;
