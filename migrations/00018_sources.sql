-- +goose Up

-- Where events of an app come from. config is what the plugin of that kind takes, with references to secrets in place of them. version
-- counts its changes. An enabled one runs on the node whose epoch is owner; claims counts the leases, so that a former holder of the same
-- epoch is told from the present one. cursor is where its events go on, and is written with the entries of those before.
CREATE TABLE sources (
    app           uuid        NOT NULL REFERENCES apps,
    id            uuid        NOT NULL,
    name          text        NOT NULL CHECK (name ~ '^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$'),
    kind          text        NOT NULL,
    version       integer     NOT NULL DEFAULT 1,
    config        jsonb       NOT NULL,
    enabled       boolean     NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    owner         bigint      NOT NULL DEFAULT 0,
    claims        bigint      NOT NULL DEFAULT 0,
    cursor        bytea       NOT NULL DEFAULT '',
    state         text        NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'failed')),
    error         text        NOT NULL DEFAULT '',
    failed_at     timestamptz,
    last_event_at timestamptz,
    lag_ms        bigint      NOT NULL DEFAULT 0,
    events        bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (app, id),
    UNIQUE (app, name)
);

-- +goose Down
DROP TABLE sources;
