-- +goose Up

-- A transactional script's writes take effect together, at the end of a run that succeeds. grants are the services that runs of a
-- script may use that act for nobody; NULL: all that need no grant of their own.
ALTER TABLE scripts ADD COLUMN transactional boolean NOT NULL DEFAULT false, ADD COLUMN grants text[];

-- +goose Down
ALTER TABLE scripts DROP COLUMN transactional, DROP COLUMN grants;
