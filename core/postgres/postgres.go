// Package postgres holds every SQL statement of the core: one file and one small store type for each noun. It stands
// beside the line, whose packages declare the interfaces that the stores implement; node puts the two together.
package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgxpool"
)

// oldest is the first major version with all that the statements use.
const oldest = 15

// Config says how to reach the database.
type Config struct {
	// URL is a connection string as libpq takes it. Settings in it go before those of Open.
	URL string

	// MaxConns bounds the connections of the pool. 0: 8. All pools of a node together stay below NodeConns.
	MaxConns int32

	// Settings are of the server, for every connection of the pool. They go before those of URL and of Open.
	Settings map[string]string
}

// limits keep one statement or one forgotten transaction from holding up everybody else: vacuum can remove no row that
// the oldest transaction may still see.
var limits = map[string]string{
	"application_name":                    "picloud",
	"statement_timeout":                   "10s",
	"idle_in_transaction_session_timeout": "10s",
	"lock_timeout":                        "2s",
}

// Open makes a pool and one connection to see that the server answers and is new enough. The caller closes the pool.
func Open(ctx context.Context, config Config, log hclog.Logger) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(config.URL)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	for name, value := range limits {
		if _, set := c.ConnConfig.RuntimeParams[name]; !set {
			c.ConnConfig.RuntimeParams[name] = value
		}
	}
	for name, value := range config.Settings {
		c.ConnConfig.RuntimeParams[name] = value
	}
	c.MaxConns = 8
	if config.MaxConns > 0 {
		c.MaxConns = config.MaxConns
	}
	// By default a connection is tried before use once it has been idle for a second. The loops that run every second
	// would then cost a quiet database twice the queries.
	c.ShouldPing = func(_ context.Context, p pgxpool.ShouldPingParams) bool { return p.IdleDuration > 10*time.Second }

	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	version, err := serverVersion(ctx, pool)
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	log.Debug("database is open", "version", version, "connections", c.MaxConns)
	return pool, nil
}

// serverVersion is what the server says of itself when a connection is made, so that asking costs nothing.
func serverVersion(ctx context.Context, pool *pgxpool.Pool) (string, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Release()
	version := conn.Conn().PgConn().ParameterStatus("server_version")
	return version, checkVersion(version)
}

// checkVersion refuses servers that are too old. A version reads "15.18 (Debian 15.18-0+deb12u1)" or "18beta1".
func checkVersion(version string) error {
	digits := version
	if end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = version[:end]
	}
	major, err := strconv.Atoi(digits)
	if err != nil {
		return fmt.Errorf("unknown server version %q", version)
	}
	if major < oldest {
		return fmt.Errorf("the server runs PostgreSQL %s, and PiCloud needs %d or later", version, oldest)
	}
	return nil
}
