package node

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/secret"
)

// openVault readies what seals the secrets of apps.
func (n *Node) openVault(ctx context.Context, pool *pgxpool.Pool) error {
	keys := n.cfg.SecretKey
	if keys == "" && n.cfg.Dev {
		var err error
		if keys, err = developmentKey(n.cfg.DataDir); err != nil {
			return fmt.Errorf("key for secrets: %w", err)
		}
	}
	masters, err := secret.ParseMasters(keys)
	if err != nil {
		return fmt.Errorf("key for secrets: %w", err)
	}
	n.vault = secret.New(masters, postgres.NewSecretStore(pool), n.log)
	if err := n.vault.Begin(ctx); err != nil {
		return fmt.Errorf("keys of secrets: %w", err)
	}
	return nil
}

// developmentKey is the key for secrets that a data folder has, made where there is none. Only its owner reads it.
func developmentKey(data string) (key string, err error) {
	path := filepath.Join(data, "secret.key")
	there, err := os.ReadFile(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return strings.TrimSpace(string(there)), err
	}
	if err := os.MkdirAll(data, 0o755); err != nil {
		return "", err
	}
	file, err := os.CreateTemp(data, ".secret-*") // with mode 0600
	if err != nil {
		return "", err
	}
	fresh := make([]byte, 32)
	_, _ = rand.Read(fresh) // it never fails
	key = base64.StdEncoding.EncodeToString(fresh)
	_, err = file.WriteString(key + "\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name()) // what is left of a failure
		return "", err
	}
	return key, nil
}
