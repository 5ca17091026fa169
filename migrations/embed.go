// Package migrations holds the database schema as numbered SQL files, applied in order by goose.
package migrations

import "embed"

// FS holds the SQL files.
//
//go:embed *.sql
var FS embed.FS
