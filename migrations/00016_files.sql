-- +goose Up

-- What files are called, and which content they have: that is a blob in the folder of files, which never changes.
CREATE TABLE files (
    app          uuid        NOT NULL,
    collection   text        NOT NULL COLLATE "C",
    id           uuid        NOT NULL,
    name         text        NOT NULL,
    content_type text        NOT NULL,
    size         bigint      NOT NULL,
    sha256       bytea       NOT NULL,
    blocks       bytea       NOT NULL,
    blob         uuid        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app, collection, id)
);
CREATE UNIQUE INDEX files_blob ON files (app, blob);

-- How much the files of an app take together, kept in the transaction of each change.
CREATE TABLE file_usage (
    app   uuid PRIMARY KEY,
    bytes bigint NOT NULL
) WITH (fillfactor = 50);

-- +goose Down
DROP TABLE files, file_usage;
