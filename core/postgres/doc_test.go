package postgres_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/docquery"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/tenant"
)

// cabinet is the documents of an app, in the hands of a live node.
type cabinet struct {
	testing.TB
	*postgres.DocStore
	pool  *pgxpool.Pool
	owner int64
	app   uuid.UUID
}

func newCabinet(t testing.TB) *cabinet {
	t.Helper()
	pool := coretest.DB(t)
	c := &cabinet{TB: t, DocStore: postgres.NewDocStore(pool), pool: pool, app: uuid.New()}
	if err := pool.QueryRow(t.Context(), `INSERT INTO nodes (name) VALUES ('n') RETURNING epoch`).Scan(&c.owner); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cabinet) create(collection, document string) data.Doc {
	c.Helper()
	p := data.DocPlace{App: c.app, Collection: collection, ID: uuid.New()}
	d, _, err := c.Create(c.Context(), c.owner, p, []byte(document), nil)
	if err != nil {
		c.Fatal(err)
	}
	return d
}

func (c *cabinet) index(collection, path, kind string) {
	c.Helper()
	if err := c.Index(c.Context(), c.app, collection, path, kind); err != nil {
		c.Fatal(err)
	}
}

// find returns the values at "n" of what a query finds, over all its pages.
func (c *cabinet) find(collection, filter, sort string, limit int) (all []string, err error) {
	c.Helper()
	for cursor := ""; ; {
		q, err := docquery.Parse([]byte(filter), []byte(sort), limit, cursor)
		if err != nil {
			return nil, err
		}
		docs, next, err := c.Find(c.Context(), c.app, collection, q)
		if err != nil {
			return nil, err
		}
		for _, d := range docs {
			var v struct{ N json.RawMessage }
			if err := json.Unmarshal(d.Data, &v); err != nil {
				c.Fatal(err)
			}
			all = append(all, string(v.N))
		}
		if next == "" {
			return all, nil
		}
		cursor = next
	}
}

func TestDocs(t *testing.T) {
	t.Parallel()
	c := newCabinet(t)
	ctx := t.Context()
	made := c.create("orders", `{"n": 1.50, "b": "é"}`)
	p := data.DocPlace{App: c.app, Collection: "orders", ID: made.ID}
	if d, err := c.Get(ctx, p); err != nil || d.Version != made.Version || string(d.Data) != `{"b": "é", "n": 1.50}` || !d.CreatedAt.Equal(made.CreatedAt) {
		t.Errorf("%+v, %v", d, err)
	}
	if _, _, err := c.Create(ctx, c.owner, p, []byte(`{}`), nil); !errors.Is(err, data.ErrDocExists) {
		t.Errorf("created twice: %v", err)
	}
	second, _, err := c.Update(ctx, c.owner, p, []byte(`{"n":2}`), ptr(made.Version), nil)
	if err != nil || second.Version == made.Version || !second.CreatedAt.Equal(made.CreatedAt) {
		t.Fatalf("%+v, %v", second, err)
	}
	if _, _, err := c.Update(ctx, c.owner, p, []byte(`{"n":3}`), ptr(made.Version), nil); !errors.Is(err, data.ErrConflict) {
		t.Errorf("over an older version: %v", err)
	}
	if _, err := c.Delete(ctx, c.owner, p, ptr(made.Version), nil); !errors.Is(err, data.ErrConflict) {
		t.Errorf("deleting an older version: %v", err)
	}
	// Another app, another collection and another id have documents of their own.
	for _, other := range []data.DocPlace{
		{App: uuid.New(), Collection: "orders", ID: made.ID}, {App: c.app, Collection: "x", ID: made.ID}, {App: c.app, Collection: "orders", ID: uuid.New()},
	} {
		if _, err := c.Get(ctx, other); !errors.Is(err, tenant.ErrNotFound) {
			t.Errorf("%+v: %v", other, err)
		}
		if _, _, err := c.Update(ctx, c.owner, other, []byte(`{}`), nil, nil); !errors.Is(err, tenant.ErrNotFound) {
			t.Errorf("%+v: %v", other, err)
		}
		if _, err := c.Delete(ctx, c.owner, other, nil, nil); !errors.Is(err, tenant.ErrNotFound) {
			t.Errorf("%+v: %v", other, err)
		}
	}
	if d, err := c.Get(ctx, p); err != nil || string(d.Data) != `{"n": 2}` {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := c.Delete(ctx, c.owner, p, ptr(second.Version), nil); err != nil {
		t.Error(err)
	}
	if again, _, err := c.Create(ctx, c.owner, p, []byte(`{}`), nil); err != nil || again.Version == made.Version || again.Version == second.Version {
		t.Errorf("a version is used twice: %+v, %v", again, err)
	}
}

// A node that has lost its lease changes nothing.
func TestDocsFenced(t *testing.T) {
	t.Parallel()
	c := newCabinet(t)
	ctx := t.Context()
	d := c.create("c", `{"n":1}`)
	if _, err := c.pool.Exec(ctx, `DELETE FROM nodes WHERE epoch = $1`, c.owner); err != nil {
		t.Fatal(err)
	}
	p := data.DocPlace{App: c.app, Collection: "c", ID: d.ID}
	if _, _, err := c.Create(ctx, c.owner, data.DocPlace{App: c.app, Collection: "c", ID: uuid.New()}, []byte(`{}`), nil); !errors.Is(err, outbox.ErrFenced) {
		t.Errorf("create: %v", err)
	}
	if _, _, err := c.Update(ctx, c.owner, p, []byte(`{"n":2}`), nil, nil); !errors.Is(err, outbox.ErrFenced) {
		t.Errorf("update: %v", err)
	}
	if _, err := c.Delete(ctx, c.owner, p, nil, nil); !errors.Is(err, outbox.ErrFenced) {
		t.Errorf("delete: %v", err)
	}
	if all, err := c.find("c", `{}`, ``, 10); err != nil || fmt.Sprint(all) != "[1]" {
		t.Error(all, err)
	}
}

// Of changes at one time each learns what the one before has left: none is told twice, and none is left out.
func TestDocsPrevious(t *testing.T) {
	t.Parallel()
	c := newCabinet(t)
	d := c.create("c", `{"n": 0}`)
	p := data.DocPlace{App: c.app, Collection: "c", ID: d.ID}
	const writers, each = 6, 15
	var mu sync.Mutex
	before := map[string]int{}
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				document := fmt.Sprintf(`{"n": %d}`, 1+w*each+i)
				_, _, err := c.Update(t.Context(), c.owner, p, []byte(document), nil, func(change data.Change) ([]*outbox.Entry, error) {
					if change.Op != tenant.OpUpdate || string(change.Value) != document || change.Key != d.ID.String() {
						t.Errorf("%+v", change)
					}
					mu.Lock()
					defer mu.Unlock()
					before[string(change.Previous)]++
					return nil, nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	last, err := c.Get(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	before[string(last.Data)]++
	if len(before) != writers*each+1 {
		t.Errorf("%d states of %d were seen", len(before), writers*each+1)
	}
	for state, n := range before {
		if n != 1 {
			t.Errorf("%s was before %d changes", state, n)
		}
	}
	refused := errors.New("refused")
	_, err = c.Delete(t.Context(), c.owner, p, nil, func(data.Change) ([]*outbox.Entry, error) { return nil, refused })
	if !errors.Is(err, refused) {
		t.Error(err)
	}
	if _, err := c.Get(t.Context(), p); err != nil {
		t.Errorf("a change whose entries were refused was made: %v", err)
	}
}

// An index that is made while documents change has every one of them as it is afterwards.
func TestDocIndexWhileWriting(t *testing.T) {
	t.Parallel()
	c := newCabinet(t)
	ctx := t.Context()
	for i := range 600 {
		c.create("c", fmt.Sprintf(`{"n": %d}`, i))
	}
	stop := make(chan struct{})
	started := make(chan struct{}, 3)
	var all sync.WaitGroup
	for w := range 3 {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				p := data.DocPlace{App: c.app, Collection: "c", ID: uuid.New()}
				if _, _, err := c.Create(ctx, c.owner, p, fmt.Appendf(nil, `{"n": %d}`, 1000+i*3+w), nil); err != nil {
					t.Error(err)
				}
				if _, _, err := c.Update(ctx, c.owner, p, fmt.Appendf(nil, `{"n": "%d"}`, i), nil, nil); err != nil {
					t.Error(err)
				}
				if i%3 == 0 {
					if _, err := c.Delete(ctx, c.owner, p, nil, nil); err != nil {
						t.Error(err)
					}
				}
				if i == 5 {
					started <- struct{}{}
				}
			}
		})
	}
	for range 3 {
		<-started
	}
	c.index("c", "n", "number")
	close(stop)
	all.Wait()
	var wrong int
	if err := c.pool.QueryRow(ctx, `
SELECT count(*) FROM docs d FULL JOIN doc_index_entries e ON e.doc = d.id AND e.app = d.app
WHERE d.id IS NULL OR e.doc IS NULL OR e.rank <> doc_rank(data->'n') OR e.num <> doc_num(data->'n') OR e.text <> doc_text(data->'n')`).Scan(&wrong); err != nil || wrong != 0 {
		t.Errorf("%d documents are not in the index as they are, %v", wrong, err)
	}
}

func TestDocIndex(t *testing.T) {
	t.Parallel()
	c := newCabinet(t)
	c.index("c", "a.b", "number")
	c.index("c", "a.b", "number")
	var conflict *tenant.Conflict
	if err := c.Index(t.Context(), c.app, "c", "a.b", "text"); !errors.As(err, &conflict) || !strings.Contains(err.Error(), `type "number"`) {
		t.Error(err)
	}
	for i := range data.MaxDocIndexes - 1 {
		c.index("c", fmt.Sprintf("p%d", i), "text")
	}
	if err := c.Index(t.Context(), c.app, "c", "last", "text"); !errors.As(err, &conflict) {
		t.Errorf("one too many: %v", err)
	}
	c.index("d", "last", "text")
}

// What no index serves is refused beyond a number of documents, with the index that would help, and then served with that.
func TestDocsUnserved(t *testing.T) {
	t.Parallel()
	c := newCabinet(t)
	ctx := t.Context()
	fill := func(collection string, n int) {
		if _, err := c.pool.Exec(ctx, `INSERT INTO docs (app, collection, id, data)
SELECT $1, $2, gen_random_uuid(), jsonb_build_object('n', i, 'total', i, 'name', 'x' || i, 'kind', i % 2, 'at', to_char(timestamp '2026-01-01' + i * interval '1 minute', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
FROM generate_series(1, $3) i`, c.app, collection, n); err != nil {
			t.Fatal(err)
		}
	}
	fill("fits", 10_000)
	fill("large", 10_001)
	queries := []struct{ filter, sort, index, want string }{
		{`{"total": {"$gt": 9999}}`, ``, `docs.index("large", "total", "number")`, "[10000 10001]"},
		{`{"total": {"$lte": 2}}`, `"total"`, `docs.index("large", "total", "number")`, "[1 2]"},
		{`{"name": "x7"}`, `"-total"`, `docs.index("large", "name", "text")`, "[7]"},
		{`{"name": {"$gte": "x10000"}, "total": {"$gt": 9999}, "kind": 1}`, `"name"`, `docs.index("large", "kind", "number")`, "[10001]"},
		{`{"at": {"$lt": "2026-01-01T00:02:00+00:00"}}`, `"-at"`, `docs.index("large", "at", "time")`, "[1]"},
	}
	for _, q := range queries {
		if _, err := c.find("fits", q.filter, q.sort, 3); err != nil {
			t.Errorf("%s: %v", q.filter, err)
		}
		_, err := c.find("large", q.filter, q.sort, 3)
		var unserved *data.Unserved
		if !errors.As(err, &unserved) || !strings.Contains(err.Error(), q.index) {
			t.Errorf("%s: %v, not %s", q.filter, err, q.index)
		}
	}
	if _, err := c.find("large", `{"$or": [{"name": "x7"}, {"name": "x8"}]}`, ``, 3); err == nil || strings.Contains(err.Error(), "docs.index") {
		t.Errorf("without an index that helps: %v", err)
	}
	if _, err := c.find("large", `{"name": {"$regex": "^nobody$"}}`, ``, 3); err == nil {
		t.Error("a pattern is looked for in more documents than may be")
	}
	if _, err := c.find("large", ``, `"-total"`, 3); err == nil || !strings.Contains(err.Error(), `docs.index("large", "total", "number")`) {
		t.Errorf("an order: %v", err)
	}
	if all, err := c.find("large", `{}`, ``, 200); err != nil || len(all) != 10_001 {
		t.Errorf("a list: %d, %v", len(all), err)
	}
	for _, index := range [][2]string{{"total", "number"}, {"name", "text"}, {"at", "time"}} {
		c.index("large", index[0], index[1])
	}
	for _, q := range queries {
		all, err := c.find("large", q.filter, q.sort, 3)
		if err != nil || fmt.Sprint(all) != q.want {
			t.Errorf("%s: %v, %v", q.filter, all, err)
		}
	}
	if all, err := c.find("large", `{"kind": 1, "total": {"$lt": 6}}`, `"-at"`, 2); err != nil || fmt.Sprint(all) != "[5 3 1]" {
		t.Errorf("narrowed, then sorted: %v, %v", all, err)
	}
	if all, err := c.find("large", `{"total": {"$gt": 0}, "kind": 0}`, `"-at"`, 200); err != nil || len(all) != 5000 || all[0] != "10000" {
		t.Errorf("sorted by an index, since the other leads too far: %d, %v", len(all), err)
	}
}

// A page is as large as an answer may be.
func TestDocsLargePages(t *testing.T) {
	t.Parallel()
	c := newCabinet(t)
	for i := range 10 {
		c.create("c", fmt.Sprintf(`{"n": %d, "s": %q}`, i, strings.Repeat("x", 1<<20-100)))
	}
	q, err := docquery.Parse(nil, []byte(`"n"`), 100, "")
	if err != nil {
		t.Fatal(err)
	}
	if docs, next, err := c.Find(t.Context(), c.app, "c", q); err != nil || next == "" || len(docs) != 8 {
		t.Errorf("%d documents, %q, %v", len(docs), next, err)
	}
	if all, err := c.find("c", `{}`, `"-n"`, 100); err != nil || fmt.Sprint(all) != "[9 8 7 6 5 4 3 2 1 0]" {
		t.Error(all, err)
	}
}
