-- +goose Up

-- Values by key. A version is never given twice, so a value that is deleted and made anew is not mistaken for the old one.
CREATE SEQUENCE data_versions CACHE 50;
CREATE TABLE kv_entries (
    app        uuid        NOT NULL,
    collection text        NOT NULL COLLATE "C",
    key        text        NOT NULL COLLATE "C",
    value      text        NOT NULL,
    version    bigint      NOT NULL DEFAULT nextval('data_versions'),
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app, collection, key)
) WITH (fillfactor = 85);
CREATE INDEX kv_entries_expired ON kv_entries (expires_at) WHERE expires_at IS NOT NULL;

-- +goose Down
DROP TABLE kv_entries;
DROP SEQUENCE data_versions;
