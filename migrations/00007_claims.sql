-- +goose Up

-- How often an entry was claimed, but for being born claimed. With the owner it names one claim, as attempt does not: an
-- attempt that is given back is counted again by the next claim.
ALTER TABLE outbox ADD COLUMN claims integer NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE outbox DROP COLUMN claims;
