package postgres_test

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/docquery"
)

var benchDocs = flag.Int("docs", 20_000, "how many documents BenchmarkDocFind has")

// BenchmarkDocFind finds pages of 20 among -docs documents of 200 bytes; -docs 1000000 takes minutes to build its indexes.
func BenchmarkDocFind(b *testing.B) {
	c := newCabinet(b)
	ctx := b.Context()
	for from := 1; from <= *benchDocs; from += 50_000 {
		if _, err := c.pool.Exec(ctx, `INSERT INTO docs (app, collection, id, data)
SELECT $1, 'orders', gen_random_uuid(), jsonb_build_object('n', i, 'total', (i::bigint * 7919) % 100000, 'customer', 'c' || i % 1000, 'status',
    CASE i % 10 WHEN 0 THEN 'closed' ELSE 'open' END, 'placed_at', to_char(timestamp '2026-01-01' + i * interval '1 second', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    'note', repeat('x', 60)) FROM generate_series($2::int, least($2 + 49999, $3)) i`, c.app, from, *benchDocs); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := c.pool.Exec(ctx, `ANALYZE docs`); err != nil {
		b.Fatal(err)
	}
	find := func(name, filter, sort string) {
		q, err := docquery.Parse([]byte(filter), []byte(sort), 20, "")
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := c.Find(ctx, c.app, "orders", q); err != nil {
			b.Logf("%s: %v", name, err)
			return
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := c.Find(ctx, c.app, "orders", q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	queries := func(with string) {
		find(with+"/equal", `{"customer": "c7"}`, ``)
		find(with+"/equal-sorted", `{"customer": "c7"}`, `"-placed_at"`)
		find(with+"/range-sorted", `{"total": {"$gte": 500, "$lt": 600}}`, `"total"`)
		find(with+"/newest", `{"status": "open"}`, `"-placed_at"`)
		find(with+"/time", `{"placed_at": {"$gte": "2026-01-01T01:00:00Z"}}`, `"placed_at"`)
		find(with+"/list", `{}`, ``)
		find(with+"/in", `{"n": {"$in": [0`+strings.Repeat(",0", docquery.MaxIn-1)+`]}}`, ``)
		find(with+"/regex", `{"customer": {"$regex": "^c1[0-9]$"}}`, ``)
	}
	queries("bare")
	for path, kind := range map[string]string{"customer": "text", "total": "number", "placed_at": "time", "status": "text"} {
		c.index("orders", path, kind)
	}
	if _, err := c.pool.Exec(ctx, `VACUUM ANALYZE doc_index_entries`); err != nil {
		b.Fatal(err)
	}
	queries("indexed")
}

// BenchmarkDocWrite creates documents with as many indexes as its name says.
func BenchmarkDocWrite(b *testing.B) {
	for _, n := range []int{0, 1, 4} {
		b.Run(fmt.Sprintf("indexes-%d", n), func(b *testing.B) {
			c := newCabinet(b)
			for i := range n {
				c.index("orders", fmt.Sprintf("p%d", i), "number")
			}
			document := []byte(`{"p0": 1, "p1": "two", "p2": 3, "p3": "2026-01-01T00:00:00Z", "note": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}`)
			for b.Loop() {
				p := data.DocPlace{App: c.app, Collection: "orders", ID: uuid.New()}
				if _, _, err := c.Create(b.Context(), c.owner, p, document, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
