-- +goose Up

-- Documents of apps. Versions are from the sequence of values by key.
CREATE TABLE docs (
    app        uuid        NOT NULL,
    collection text        NOT NULL COLLATE "C",
    id         uuid        NOT NULL,
    data       jsonb       NOT NULL,
    version    bigint      NOT NULL DEFAULT nextval('data_versions'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app, collection, id)
);

-- What finds walk by. An index is ready once every document of its collection has an entry; built_to is how far that has come.
CREATE TABLE doc_indexes (
    app        uuid        NOT NULL,
    collection text        NOT NULL COLLATE "C",
    path       text        NOT NULL COLLATE "C",
    id         bigint      NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
    type       text        NOT NULL CHECK (type IN ('text', 'number', 'bool', 'time')),
    state      text        NOT NULL DEFAULT 'building' CHECK (state IN ('building', 'ready')),
    built_to   uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app, collection, path)
);

-- One row for each document and index of its collection. An index is told by its number: its collection and path would take more room
-- than the rest. rank, num and text are what doc_rank, doc_num and doc_text say of the value.
CREATE TABLE doc_index_entries (
    app   uuid     NOT NULL,
    index bigint   NOT NULL,
    doc   uuid     NOT NULL,
    rank  smallint NOT NULL,
    num   numeric  NOT NULL,
    text  text     NOT NULL COLLATE "C",
    PRIMARY KEY (app, index, doc)
);
CREATE INDEX doc_index_entries_order ON doc_index_entries (app, index, rank, num, text, doc);

-- The order of values is that of core/docquery.Value: by rank, then num, then text. None of these functions can fail, whatever a document
-- holds, so the order in which conditions are evaluated does not matter.

-- +goose StatementBegin
-- doc_time is the moment that a text in the form of RFC 3339 names, in nanoseconds since 1970; null for other texts.
CREATE FUNCTION doc_time(t text) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE WHEN octet_length(t) BETWEEN 20 AND 35 AND
    t ~ '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$'
    AND substr(t, 1, 4) <> '0000' THEN
    CASE WHEN substr(t, 9, 2)::int <= extract(day FROM make_date(substr(t, 1, 4)::int, substr(t, 6, 2)::int, 1) + interval '1 month -1 day') THEN
        ((make_date(substr(t, 1, 4)::int, substr(t, 6, 2)::int, substr(t, 9, 2)::int) - date '1970-01-01')::numeric * 86400
            + substr(t, 12, 2)::int * 3600 + substr(t, 15, 2)::int * 60 + substr(t, 18, 2)::int
            - CASE WHEN right(t, 1) = 'Z' THEN 0
                ELSE (substr(right(t, 6), 1, 1) || '1')::int * (substr(right(t, 6), 2, 2)::int * 3600 + right(t, 2)::int * 60) END
        ) * 1000000000 + rpad(coalesce(substring(t FROM '\.([0-9]+)'), '0'), 9, '0')::numeric
    END
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
-- doc_rank tells types apart: 0 nothing, 1 null, 2 bool, 3 number, 4 time, 5 text, 6 list or object.
CREATE FUNCTION doc_rank(v jsonb) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE jsonb_typeof(v) WHEN 'null' THEN 1 WHEN 'boolean' THEN 2 WHEN 'number' THEN 3
    WHEN 'string' THEN CASE WHEN doc_time(v #>> '{}') IS NULL THEN 5 ELSE 4 END
    WHEN 'array' THEN 6 WHEN 'object' THEN 6 ELSE 0 END::smallint
$$;
-- +goose StatementEnd

-- +goose StatementBegin
-- doc_num is what numbers, bools and times are ordered by, 0 for all else.
CREATE FUNCTION doc_num(v jsonb) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE jsonb_typeof(v) WHEN 'number' THEN v::numeric WHEN 'boolean' THEN v::boolean::int::numeric
    WHEN 'string' THEN coalesce(doc_time(v #>> '{}'), 0) ELSE 0 END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
-- doc_text is what texts are ordered by, '' for all else.
CREATE FUNCTION doc_text(v jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE jsonb_typeof(v) WHEN 'string' THEN left(v #>> '{}', 256) ELSE '' END
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION doc_text;
DROP FUNCTION doc_num;
DROP FUNCTION doc_rank;
DROP FUNCTION doc_time;
DROP TABLE doc_index_entries;
DROP TABLE doc_indexes;
DROP TABLE docs;
