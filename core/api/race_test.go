package api_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/postgres"
)

// TestParallelChanges makes changes of one app and of several at one time: numbers have no gaps, and what must be unique
// is so.
func TestParallelChanges(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	before := s.count(t, "SELECT version FROM config")
	var all sync.WaitGroup
	var mu sync.Mutex
	statuses := make(map[string][]int)
	for i := range 6 {
		for name, c := range map[string]call{
			"version": {path: "/api/v1/apps/a/scripts/hello/versions", body: object{"files": []object{{"name": "main.go", "content": fmt.Sprint(i)}}}},
			"route":   {path: "/api/v1/apps/a/routes", body: object{"pattern": fmt.Sprintf("/users/{p%d}", i), "script": "hello"}},
			"app":     {path: "/api/v1/apps", body: object{"slug": "same"}},
			"domain":  {path: "/api/v1/apps/a/domains", body: object{"host": "same.example.com"}},
		} {
			all.Go(func() {
				status := s.do(t, "POST", c.path, c.body).status
				mu.Lock()
				defer mu.Unlock()
				statuses[name] = append(statuses[name], status)
			})
		}
	}
	all.Wait()
	for name, got := range statuses {
		slices.Sort(got)
		want := []int{201, 409, 409, 409, 409, 409}
		if name == "version" {
			want = []int{201, 201, 201, 201, 201, 201}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v", name, got)
		}
	}
	var versions api.Page[api.Version]
	s.want(t, 200, "GET", "/api/v1/apps/a/scripts/hello/versions", nil, &versions)
	for i, v := range versions.Items {
		if v.Number != 7-i {
			t.Errorf("version %d is at place %d", v.Number, i)
		}
	}
	if n := s.count(t, "SELECT count(*) FROM releases WHERE number BETWEEN 1 AND 8"); n != 8 || len(versions.Items) != 7 {
		t.Errorf("there are %d releases and %d versions", n, len(versions.Items))
	}
	// Six versions, a route, an app and a domain; refused changes leave nothing.
	if after := s.count(t, "SELECT version FROM config"); after != before+9 {
		t.Errorf("the config went from version %d to %d", before, after)
	}
}

func TestOneOwner(t *testing.T) {
	t.Parallel()
	users := postgres.NewUserStore(coretest.DB(t))
	var all sync.WaitGroup
	tokens := make(chan string, 8)
	for range 8 {
		all.Go(func() {
			token, created, err := auth.Bootstrap(t.Context(), users)
			if err != nil {
				t.Error(err)
			}
			if created {
				tokens <- token
			}
		})
	}
	all.Wait()
	if len(tokens) != 1 {
		t.Fatalf("%d owners were made", len(tokens))
	}
	if _, err := auth.New(users).Authenticate(t.Context(), <-tokens); err != nil {
		t.Errorf("the owner's token: %v", err)
	}
}

// TestDeactivatedUser shows that rights are those of now: a key dies with its user.
func TestDeactivatedUser(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if _, err := s.pool.Exec(t.Context(), "UPDATE users SET active = false"); err != nil {
		t.Fatal(err)
	}
	s.problem(t, 401, "GET", "/api/v1/whoami", nil)
}
