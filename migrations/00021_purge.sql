-- +goose Up

-- An app that was deleted keeps its data until it is removed in the background, which takes a while; then this says when.
ALTER TABLE apps ADD COLUMN purged_at timestamptz;
CREATE INDEX apps_to_purge ON apps (deleted_at) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;

-- +goose Down
ALTER TABLE apps DROP COLUMN purged_at;
