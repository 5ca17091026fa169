package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
)

const sqlModuleScripts = `SELECT ` + scriptColumns + scriptTables + `WHERE s.app = $1 ORDER BY s.name`

// Scripts returns all scripts of an app, linked as far as they can be.
func (s *VersionStore) Scripts(ctx context.Context, app uuid.UUID) ([]tenant.Script, error) {
	scripts, _, err := linkedScripts(ctx, s.pool, app)
	return scripts, err
}

// linkedScripts reads the scripts of an app. unlinked says why one cannot have what it imports.
func linkedScripts(ctx context.Context, db querier, app uuid.UUID) (scripts []tenant.Script, unlinked, err error) {
	rows, _ := db.Query(ctx, sqlModuleScripts, app)
	records, err := pgx.CollectRows(rows, scanScript)
	if err != nil {
		return nil, nil, fmt.Errorf("read scripts: %w", err)
	}
	for i := range records {
		scripts = append(scripts, records[i].Script)
	}
	return scripts, tenant.Link(scripts), nil
}

// relink makes sure of what a change does to imports. The app is locked, so what is seen here is what the release has. Every
// script must have what it imports, else it is *tenant.Unlinked; and each bundle that the change of a script makes must be one
// that was compiled, else it is tenant.ErrStale: another change came between the compiler and this one.
func relink(ctx context.Context, tx pgx.Tx, app, script uuid.UUID, compiled []string) error {
	scripts, unlinked, err := linkedScripts(ctx, tx, app)
	if err != nil {
		return err
	}
	if unlinked != nil {
		return unlinked
	}
	i := slices.IndexFunc(scripts, func(s tenant.Script) bool { return s.ID == script })
	for _, s := range tenant.Affected(scripts, scripts[i].Name) {
		if len(s.Modules) > 0 && !slices.Contains(compiled, s.Hash) {
			return tenant.ErrStale
		}
	}
	return nil
}

// linkable makes sure, with the app locked, that every script has what it imports, where all of them were compiled before.
func linkable(ctx context.Context, tx pgx.Tx, app uuid.UUID) error {
	_, unlinked, err := linkedScripts(ctx, tx, app)
	if err == nil {
		err = unlinked
	}
	if not := (*tenant.Unlinked)(nil); errors.As(err, &not) {
		return &tenant.Conflict{Message: not.Error()}
	}
	return err
}

const sqlModuleImports = `
INSERT INTO script_imports (script, version, app, module) SELECT $1, $2, $3, unnest($4::text[])`

func insertImports(ctx context.Context, tx pgx.Tx, app uuid.UUID, v *tenant.Version) error {
	if len(v.Imports) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, sqlModuleImports, v.Script, v.Number, app, v.Imports); err != nil {
		return fmt.Errorf("insert imports: %w", err)
	}
	return nil
}

const sqlModuleSources = `
SELECT v.script, v.files FROM script_versions v
JOIN unnest($2::uuid[], $3::int[]) AS m (script, number) ON m.script = v.script AND m.number = v.number
WHERE v.app = $1`

// Sources returns the files of one version each of scripts, by their ids. One that is gone is tenant.ErrNotFound.
func (s *VersionStore) Sources(ctx context.Context, app uuid.UUID, of []tenant.Module) (map[uuid.UUID][]engine.File, error) {
	ids, numbers := make([]uuid.UUID, len(of)), make([]int, len(of))
	for i, m := range of {
		ids[i], numbers[i] = m.Script, m.Version
	}
	found := make(map[uuid.UUID][]engine.File, len(of))
	rows, _ := s.pool.Query(ctx, sqlModuleSources, app, ids, numbers)
	var script uuid.UUID
	var files []byte
	_, err := pgx.ForEachRow(rows, []any{&script, &files}, func() (err error) {
		found[script], err = decodeFiles(files)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read sources: %w", err)
	}
	if len(found) < len(of) {
		return nil, tenant.ErrNotFound
	}
	return found, nil
}

// Bundle returns what an engine loads for the version of script that is active there, with its modules in the versions that
// are named there, or tenant.ErrNotFound.
func (s *VersionStore) Bundle(ctx context.Context, script *tenant.Script) (engine.Bundle, error) {
	b := engine.Bundle{Hash: script.Hash, Script: script.Name, Limits: script.Bounds.Engine()}
	own := tenant.Module{Script: script.ID, Version: script.Version}
	sources, err := s.Sources(ctx, script.App, append([]tenant.Module{own}, script.Modules...))
	if err != nil {
		return b, err
	}
	b.Files = sources[script.ID]
	for _, m := range script.Modules {
		b.Modules = append(b.Modules, engine.Module{Name: m.Name, Files: sources[m.Script]})
	}
	return b, nil
}
