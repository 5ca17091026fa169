-- +goose Up

-- How the attempts at the events of each script ended, day by day (UTC), whether they were recorded or not.
CREATE TABLE script_usage (
    app         uuid     NOT NULL,
    script      uuid     NOT NULL,
    day         date     NOT NULL,
    outcome     smallint NOT NULL,
    attempts    bigint   NOT NULL,
    duration_us bigint   NOT NULL,
    PRIMARY KEY (app, script, day, outcome)
) WITH (fillfactor = 50);

-- +goose Down
DROP TABLE script_usage;
