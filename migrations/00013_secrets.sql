-- +goose Up

-- Values that only an app's scripts see, sealed; key is the id of the key in the ring that sealed it. See core/secret.
CREATE TABLE secrets (
    app        uuid        NOT NULL REFERENCES apps,
    name       text        NOT NULL CHECK (name ~ '^[A-Za-z_][A-Za-z0-9_.-]{0,62}$'),
    key        bigint      NOT NULL,
    sealed     bytea       NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app, name)
);

-- The keys of all secrets, closed with a key that the database does not have.
CREATE TABLE secret_ring (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    closed     bytea       NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- +goose Down
DROP TABLE secret_ring;
DROP TABLE secrets;
