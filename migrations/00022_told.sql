-- +goose Up

-- Whether triggers were told of a release. Of most releases there is nothing to tell.
ALTER TABLE releases ADD COLUMN told boolean NOT NULL DEFAULT true;
CREATE INDEX releases_untold ON releases (created_at) WHERE NOT told;

-- +goose Down
ALTER TABLE releases DROP COLUMN told;
