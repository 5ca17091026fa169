-- +goose Up

-- What one run may take; absent fields: what the app says, or else the node. See core/tenant/limits.go.
ALTER TABLE scripts ADD COLUMN limits jsonb NOT NULL DEFAULT '{}';
ALTER TABLE apps ADD COLUMN limits jsonb NOT NULL DEFAULT '{}';

-- +goose Down
ALTER TABLE apps DROP COLUMN limits;
ALTER TABLE scripts DROP COLUMN limits;
