package postgres_test

import (
	"testing"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/dispatcher"
	"github.com/picloud/picloud/core/postgres"
)

// A node whose connection broke leaves all the same, so that nobody has to wait for its lease.
func TestLeaveOverABrokenConnection(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	node, err := postgres.NewNodeStore(r.url)
	r.must(err)
	epoch, err := node.Join(t.Context(), dispatcher.Node{Name: "n", Kinds: []int16{1}})
	r.must(err)
	r.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'picloud heartbeat'
		AND datname = current_database()`)
	coretest.Eventually(t, "the session is gone", func() bool {
		return one[int](r, `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'picloud heartbeat'
			AND datname = current_database()`) == 0
	})
	r.must(node.Leave(t.Context(), epoch))
	if n := one[int](r, `SELECT count(*) FROM nodes WHERE epoch = $1`, epoch); n != 0 {
		t.Error("the node has not left")
	}
}
