-- +goose Up

-- Where an app's events leave the platform. config is what the plugin of that kind takes, with references to secrets in place of them.
CREATE TABLE sinks (
    app          uuid        NOT NULL REFERENCES apps,
    id           uuid        NOT NULL,
    name         text        NOT NULL CHECK (name ~ '^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$'),
    kind         text        NOT NULL,
    version      integer     NOT NULL DEFAULT 1,
    config       jsonb       NOT NULL,
    timeout_ms   integer     NOT NULL,
    max_attempts smallint    NOT NULL,
    policy       jsonb       NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app, id),
    UNIQUE (app, name)
);

-- A trigger leads to a script or to a sink. A sink that triggers lead to is not deleted.
ALTER TABLE triggers ALTER COLUMN script DROP NOT NULL, ADD COLUMN sink uuid,
    ADD CONSTRAINT triggers_target CHECK ((script IS NULL) <> (sink IS NULL)),
    ADD CONSTRAINT triggers_sink FOREIGN KEY (app, sink) REFERENCES sinks (app, id);
CREATE INDEX triggers_sink ON triggers (app, sink) WHERE sink IS NOT NULL;

-- +goose Down
DELETE FROM triggers WHERE script IS NULL;
ALTER TABLE triggers DROP CONSTRAINT triggers_sink, DROP CONSTRAINT triggers_target;
DROP INDEX triggers_sink;
ALTER TABLE triggers DROP COLUMN sink, ALTER COLUMN script SET NOT NULL;
DROP TABLE sinks;
