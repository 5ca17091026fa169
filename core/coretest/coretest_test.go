package coretest_test

import (
	"testing"

	"github.com/picloud/picloud/core/coretest"
)

func TestMain(m *testing.M) { coretest.Main(m) }

func TestDatabasesAreApart(t *testing.T) {
	t.Parallel()
	one, two := coretest.DB(t), coretest.DB(t)
	if _, err := one.Exec(t.Context(), "UPDATE config SET version = 42"); err != nil {
		t.Fatal(err)
	}
	var version int
	if err := two.QueryRow(t.Context(), "SELECT version FROM config").Scan(&version); err != nil {
		t.Fatal(err)
	}
	if version != 1 {
		t.Errorf("version = %d, want the 1 of a new database", version)
	}
}
