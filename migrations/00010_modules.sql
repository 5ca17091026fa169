-- +goose Up

-- What a version imports itself, by name: versions never change, so they name a module that is made anew as they did before.
CREATE TABLE script_imports (
    script  uuid    NOT NULL,
    version integer NOT NULL,
    app     uuid    NOT NULL,
    module  text    NOT NULL,
    PRIMARY KEY (script, version, module),
    FOREIGN KEY (script, version) REFERENCES script_versions ON DELETE CASCADE
);
CREATE INDEX script_imports_module ON script_imports (app, module);

-- +goose Down
DROP TABLE script_imports;
