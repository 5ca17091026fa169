-- +goose Up

-- What was tried before, or is put back in numbers, waits apart from what is fresh, so that a claim can take some of each.
ALTER TABLE outbox ADD COLUMN retry boolean NOT NULL DEFAULT false;
DROP INDEX outbox_ready;
CREATE INDEX outbox_ready ON outbox (app, lane, retry, priority, run_at, id) WHERE state = 1;

-- The app's share of the engines' time while others want some too, relative to theirs.
ALTER TABLE apps ADD COLUMN weight smallint NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 100);

-- What is kept of an app's runs of one day (UTC), and of how many nothing is.
CREATE TABLE history_usage (
    app      uuid   NOT NULL,
    day      date   NOT NULL,
    bytes    bigint NOT NULL,
    records  bigint NOT NULL,
    left_out bigint NOT NULL,
    PRIMARY KEY (app, day)
) WITH (fillfactor = 50);

-- +goose Down
DROP TABLE history_usage;
ALTER TABLE apps DROP COLUMN weight;
DROP INDEX outbox_ready;
ALTER TABLE outbox DROP COLUMN retry;
CREATE INDEX outbox_ready ON outbox (app, lane, priority, run_at, id) WHERE state = 1;
