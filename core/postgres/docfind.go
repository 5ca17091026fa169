package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/docquery"
)

// Bounds of one find.
const (
	// maxScanned is how many documents a find looks at, be it all of the collection or those that an index leads to.
	maxScanned = 10_000
	// docChunk is how many documents at once are read for a $regex.
	docChunk = 1000
)

// Find returns the documents of a collection that meet a query, up to q.Limit and 8 MiB, and the cursor of the next page. It walks an
// index where there is one that helps. *data.Unserved: it would have to look at more documents than it may; tenant.ErrCursor: the cursor
// is none of this query.
func (s *DocStore) Find(ctx context.Context, app uuid.UUID, collection string, q *docquery.Query) (docs []data.Doc, next string, err error) {
	indexes, err := listIndexes(ctx, s.pool, app, collection)
	if err != nil {
		return nil, "", err
	}
	f := &find{store: s, app: app, collection: collection, query: q, sort: q.Sort, indexes: map[string]int64{}}
	for _, i := range indexes {
		if i.ready {
			f.indexes[i.path] = i.id
		}
	}
	f.choose()
	if err := f.begin(); err != nil {
		return nil, "", err
	}
	return f.run(ctx)
}

// find is a find under way.
type find struct {
	store      *DocStore
	app        uuid.UUID
	collection string
	query      *docquery.Query
	indexes    map[string]int64 // the ready ones, by path
	sort       []docquery.Key   // the order of the results, ids last
	narrow     *narrow          // the condition that an index serves best, if any
	after      *position        // where the page begins; nil: with the first
	decoded    int              // bytes of documents that patterns have looked at
}

// maxDecoded is how many bytes of documents the patterns of one find may look at. They are read here, about 100 MB a second, on the
// processors that answer everybody.
const maxDecoded = 32 << 20

// narrow is a part of an index in which all results are.
type narrow struct {
	path  docquery.Path
	index int64
	spans []docquery.Span
}

// choose finds the best condition for an index. Where no order is asked for, results come as the index has them.
func (f *find) choose() {
	best := -1
	for _, at := range docquery.Spans(f.query.Filter) {
		id, has := f.indexes[at.Path.String()]
		score := at.Score
		if len(f.sort) == 1 && slices.Equal(f.sort[0].Path, at.Path) {
			score++ // no sorting afterwards
		}
		if has && score > best {
			best, f.narrow = score, &narrow{at.Path, id, at.Spans}
		}
	}
	if len(f.sort) == 0 && f.narrow != nil {
		f.sort = []docquery.Key{{Path: f.narrow.path}}
	}
}

// walk is how documents are come by.
type walk struct {
	index int64 // 0: by id, through the whole collection
	spans []docquery.Span
	// sorted says that they come in the order of the results.
	sorted bool
}

// walks returns the ways to come by the results: the next one is for when the one before leads to too many documents.
func (f *find) walks() []walk {
	ordered, has := int64(0), false
	if len(f.sort) == 1 {
		ordered, has = f.indexes[f.sort[0].Path.String()]
	}
	switch n := f.narrow; {
	case n != nil && has && n.index == ordered:
		return []walk{{index: ordered, spans: n.spans, sorted: true}}
	case n != nil && has:
		return []walk{{index: n.index, spans: n.spans}, {index: ordered, sorted: true}}
	case n != nil:
		return []walk{{index: n.index, spans: n.spans}}
	case has:
		return []walk{{index: ordered, sorted: true}}
	}
	return []walk{{sorted: len(f.sort) == 0}}
}

// run goes through the results until a page is full.
func (f *find) run(ctx context.Context) (docs []data.Doc, next string, err error) {
	walks := f.walks()
	if len(walks) > 1 {
		if long, err := f.long(ctx, walks[0]); err != nil {
			return nil, "", err
		} else if long {
			walks = walks[1:]
		}
	}
	for _, w := range walks {
		var overrun *overrun
		docs, next, overrun, err = f.page(ctx, w)
		if err != nil {
			return nil, "", err
		}
		if overrun == nil {
			return docs, next, nil
		}
		err = f.unserved(overrun)
	}
	return nil, "", err
}

// long reports whether a walk leads to more documents than may be looked at. The index alone tells.
func (f *find) long(ctx context.Context, w walk) (long bool, err error) {
	s := &statement{}
	app, most := s.arg(f.app.String(), "uuid"), s.arg(int64(maxScanned+1), "bigint")
	fmt.Fprintf(&s.text, "SELECT count(*) = %s FROM (%s) e", most, f.entries(s, w, nil, app, most))
	err = f.store.pool.QueryRow(ctx, s.text.String(), append([]any{pgx.QueryExecModeExec}, s.args...)...).Scan(&long)
	if err != nil {
		return false, fmt.Errorf("count entries: %w", err)
	}
	return long, nil
}

// overrun is that a walk was longer than it may be.
type overrun struct{ ranks []docquery.Rank } // of what the last document has at the paths of the order

// found is one row of a walk.
type found struct {
	doc  data.Doc         // whose data is the driver's until the next row
	keys []docquery.Value // at the paths of the order
	n    int              // how many documents have been looked at
}

// page reads one page.
func (f *find) page(ctx context.Context, w walk) (docs []data.Doc, next string, over *overrun, err error) {
	after, budget, size := f.after, maxScanned, 0
	var last *position
	for {
		limit := f.query.Limit + 1 - len(docs)
		if f.query.Regex {
			limit = docChunk
		}
		sql := f.statement(w, after, budget, limit)
		rows, err := f.store.pool.Query(ctx, sql.text.String(), append([]any{pgx.QueryExecModeExec}, sql.args...)...)
		if err != nil {
			return nil, "", nil, fmt.Errorf("find documents: %w", err)
		}
		read, walked := 0, 0
		var row *found
		full := false
		for rows.Next() {
			if row, err = f.scan(rows); err != nil {
				rows.Close()
				return nil, "", nil, err
			}
			if row.n > budget {
				if len(docs) == f.query.Limit {
					full = true
					break
				}
				over = &overrun{}
				for _, k := range row.keys {
					over.ranks = append(over.ranks, k.Rank)
				}
				break
			}
			if w.sorted && row.n <= walked {
				rows.Close()
				return nil, "", nil, fmt.Errorf("find documents: row %d came after row %d", row.n, walked)
			}
			walked = row.n
			read++
			matches, err := f.matches(&row.doc)
			if err != nil {
				rows.Close()
				return nil, "", nil, err
			}
			if !matches {
				continue
			}
			if size += len(row.doc.Data); len(docs) == f.query.Limit || len(docs) > 0 && size > maxListed {
				full = true
				break
			}
			row.doc.Data = slices.Clone(row.doc.Data)
			docs = append(docs, row.doc)
			last = &position{row.keys, row.doc.ID}
		}
		rows.Close()
		switch {
		case rows.Err() != nil:
			return nil, "", nil, fmt.Errorf("find documents: %w", rows.Err())
		case full:
			return docs, f.cursor(last), nil, nil
		case over != nil:
			return nil, "", over, nil
		case read < limit:
			return docs, "", nil, nil
		}
		after = &position{row.keys, row.doc.ID}
		if w.sorted {
			budget -= row.n
		}
	}
}

// matches decides what the database has left open: whether a text matches a pattern. Patterns run here because those of the database
// are of another language, and can take time without end.
func (f *find) matches(d *data.Doc) (bool, error) {
	if !f.query.Regex {
		return true, nil
	}
	if f.decoded += len(d.Data); f.decoded > maxDecoded {
		return false, data.ErrEffort
	}
	matches := f.query.Filter.Match(d.Data)
	if f.query.Exhausted() {
		return false, data.ErrEffort
	}
	return matches, nil
}

func (f *find) scan(rows pgx.Rows) (*found, error) {
	row := &found{keys: make([]docquery.Value, len(f.sort))}
	into := []any{&row.doc.ID, (*pgtype.DriverBytes)(&row.doc.Data), &row.doc.Version, &row.doc.CreatedAt, &row.doc.UpdatedAt, &row.n}
	for i := range row.keys {
		into = append(into, &row.keys[i].Rank, &row.keys[i].Num, &row.keys[i].Text)
	}
	if err := rows.Scan(into...); err != nil {
		return nil, fmt.Errorf("find documents: %w", err)
	}
	return row, nil
}

// unserved names the index that would have made a walk shorter.
func (f *find) unserved(over *overrun) error {
	u := &data.Unserved{Scanned: maxScanned, Collection: f.collection}
	best := 0
	for _, at := range docquery.Spans(f.query.Filter) {
		if _, has := f.indexes[at.Path.String()]; !has && at.Score > best {
			best, u.Path, u.Type = at.Score, at.Path.String(), at.Type
		}
	}
	if u.Path == "" && len(f.sort) == 1 && f.indexes[f.sort[0].Path.String()] == 0 {
		u.Path, u.Type = f.sort[0].Path.String(), over.ranks[0].Type()
	}
	return u
}

// statement is a statement that is put together. What a script says is in args alone.
type statement struct {
	text strings.Builder
	args []any
}

// arg adds an argument, and returns what stands for it. Arguments are texts, numbers and lists of texts: their types are in the text.
func (s *statement) arg(v any, kind string) string {
	s.args = append(s.args, v)
	return fmt.Sprintf("$%d::%s", len(s.args), kind)
}

func (s *statement) at(p docquery.Path) string {
	return "(d.data #> " + s.arg([]string(p), "text[]") + ")"
}

// statement reads up to limit documents of a walk behind a position, and looks at budget of them. A row whose n is larger says that there
// were more; where results have yet to be sorted it comes first.
func (f *find) statement(w walk, after *position, budget, limit int) *statement {
	s := &statement{}
	app, collection := s.arg(f.app.String(), "uuid"), s.arg(f.collection, "text")
	most := s.arg(int64(budget+1), "bigint")
	keys := make([][3]string, len(f.sort))
	for i, k := range f.sort {
		if w.sorted {
			keys[i] = [3]string{"d.rank", "d.num", "d.text"}
			continue
		}
		v := s.at(k.Path)
		keys[i] = [3]string{"doc_rank(" + v + ")", "doc_num(" + v + ")", "(doc_text(" + v + `) COLLATE "C")`}
	}
	s.text.WriteString("SELECT d.id, d.data::text, d.version, d.created_at, d.updated_at, d.n::int")
	for _, k := range keys {
		fmt.Fprintf(&s.text, ", %s::int, %s::text, %s", k[0], k[1], k[2])
	}
	s.text.WriteString(" FROM (")
	if w.index == 0 {
		behind := ""
		if w.sorted && after != nil {
			behind = " AND id > " + s.arg(after.id.String(), "uuid")
		}
		fmt.Fprintf(&s.text, `SELECT *, row_number() OVER () AS n FROM (SELECT * FROM docs WHERE app = %s AND collection = %s%s ORDER BY id LIMIT %s) x`,
			app, collection, behind, most)
	} else {
		fmt.Fprintf(&s.text, `SELECT d.*, e.rank, e.num, e.text, e.n FROM (SELECT *, row_number() OVER () AS n FROM (%s) x) e
CROSS JOIN LATERAL (SELECT * FROM docs WHERE app = %s AND collection = %s AND id = e.doc OFFSET 0) d`,
			f.entries(s, w, after, app, most), app, collection)
	}
	s.text.WriteString(") d WHERE (")
	s.filter(f.query.Filter)
	if after != nil && !w.sorted {
		s.text.WriteString(" AND (")
		f.behind(s, keys, after)
		s.text.WriteString(")")
	}
	fmt.Fprintf(&s.text, ") OR d.n = %s", most)
	// What is walked in order comes in order, since one row leads to one look-up. To ask for the order would have all be sorted that may
	// be looked at, before the first is known: 20 documents of an index would take 120 ms instead of 1.
	if !w.sorted {
		fmt.Fprintf(&s.text, " ORDER BY d.n = %s DESC, ", most)
		for i, k := range keys {
			way := direction(f.sort[i].Desc)
			fmt.Fprintf(&s.text, "%s %s, %s %s, %s %s, ", k[0], way, k[1], way, k[2], way)
		}
		fmt.Fprintf(&s.text, "d.id %s", direction(f.down()))
	}
	fmt.Fprintf(&s.text, " LIMIT %s", s.arg(int64(limit), "bigint"))
	return s
}

// down reports whether ids go down where all else is equal: as the last part of the order does, so that an index can be walked either way.
func (f *find) down() bool { return len(f.sort) > 0 && f.sort[len(f.sort)-1].Desc }

func direction(desc bool) string {
	if desc {
		return "DESC"
	}
	return "ASC"
}

// beyond is how what follows in an order compares.
func beyond(desc bool) string {
	if desc {
		return "<"
	}
	return ">"
}

// entries reads the entries of an index in their order, span by span.
func (f *find) entries(s *statement, w walk, after *position, app, most string) string {
	desc := w.sorted && f.sort[0].Desc
	way := direction(desc)
	order := fmt.Sprintf("ORDER BY rank %[1]s, num %[1]s, text %[1]s, doc %[1]s LIMIT %[2]s", way, most)
	spans := w.spans
	if spans == nil {
		spans = []docquery.Span{{From: docquery.Missing, To: docquery.Other}}
	}
	index := s.arg(w.index, "bigint")
	behind := ""
	if w.sorted && after != nil {
		k := after.keys[0]
		behind = fmt.Sprintf(" AND (rank, num, text, doc) %s (%s, %s, %s, %s)", beyond(desc), s.arg(int64(k.Rank), "smallint"),
			s.arg(k.Num, "numeric"), s.arg(k.Text, "text"), s.arg(after.id.String(), "uuid"))
	}
	var parts []string
	for _, span := range spans {
		part := fmt.Sprintf("SELECT rank, num, text, doc FROM doc_index_entries WHERE app = %s AND index = %s", app, index)
		if span.From == span.To {
			part += " AND rank = " + s.arg(int64(span.From), "smallint")
		} else {
			part += fmt.Sprintf(" AND rank BETWEEN %s AND %s", s.arg(int64(span.From), "smallint"), s.arg(int64(span.To), "smallint"))
		}
		part += s.between("num", "numeric", span.NumFrom, span.NumTo) + s.between("text", "text", span.TextFrom, span.TextTo)
		parts = append(parts, "("+part+behind+" "+order+")")
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return "SELECT * FROM (" + strings.Join(parts, " UNION ALL ") + ") u " + order
}

// between is the condition that a column is within bounds. Where both are the same it says so: an index is not walked by what follows a
// column that lies between two values, even if they are one.
func (s *statement) between(column, kind string, from, to *string) (where string) {
	if from != nil && to != nil && *from == *to {
		return fmt.Sprintf(" AND %s = %s", column, s.arg(*from, kind))
	}
	if from != nil {
		where = fmt.Sprintf(" AND %s >= %s", column, s.arg(*from, kind))
	}
	if to != nil {
		where += fmt.Sprintf(" AND %s <= %s", column, s.arg(*to, kind))
	}
	return where
}

// behind is the condition that a row comes after a position.
func (f *find) behind(s *statement, keys [][3]string, after *position) {
	tuple := func(k [3]string) string { return strings.Join(k[:], ", ") }
	values := make([]string, len(keys))
	for i, k := range after.keys {
		values[i] = s.arg(int64(k.Rank), "smallint") + ", " + s.arg(k.Num, "numeric") + ", " + s.arg(k.Text, "text")
	}
	var equal string
	for i, k := range keys {
		fmt.Fprintf(&s.text, "%s(%s) %s (%s) OR ", equal, tuple(k), beyond(f.sort[i].Desc), values[i])
		equal += fmt.Sprintf("(%s) = (%s) AND ", tuple(k), values[i])
	}
	fmt.Fprintf(&s.text, "%sd.id %s %s", equal, beyond(f.down()), s.arg(after.id.String(), "uuid"))
}

// filter writes an expression. It is true or false of every document, and never fails: see the functions in migrations.
func (s *statement) filter(e docquery.Expr) {
	switch e := e.(type) {
	case docquery.All:
		s.each(e, " AND ", "true")
	case docquery.Any:
		s.each(e, " OR ", "false")
	case *docquery.Condition:
		s.condition(e)
	}
}

func (s *statement) each(parts []docquery.Expr, between, none string) {
	s.text.WriteString("(")
	if len(parts) == 0 {
		s.text.WriteString(none)
	}
	for i, part := range parts {
		if i > 0 {
			s.text.WriteString(between)
		}
		s.filter(part)
	}
	s.text.WriteString(")")
}

// compared are the operators of SQL.
var compared = map[docquery.Op]string{
	docquery.Eq: "=", docquery.Ne: "=", docquery.Gt: ">", docquery.Gte: ">=", docquery.Lt: "<", docquery.Lte: "<=",
}

func (s *statement) condition(c *docquery.Condition) {
	if c.Op == docquery.In && len(c.Values) == 0 {
		s.text.WriteString("false")
		return
	}
	v := s.at(c.Path)
	switch c.Op {
	case docquery.Exists:
		if c.Exists {
			s.text.WriteString(v + " IS NOT NULL")
		} else {
			s.text.WriteString(v + " IS NULL")
		}
		return
	case docquery.Regex: // find.matches decides
		s.text.WriteString("doc_rank(" + v + ") IN (4, 5)")
		return
	case docquery.In:
		s.in(v, c.Values)
		return
	case docquery.Ne:
		s.text.WriteString("NOT ")
	}
	s.compare(v, compared[c.Op], c.Values[0])
}

// in writes that a value is one of many. Each of them is looked for among those of its type: 200 conditions, for each of 10,000 documents,
// would take ten seconds.
func (s *statement) in(v string, values []docquery.Value) {
	byRank := map[docquery.Rank][]string{}
	for _, value := range values {
		of := value.Num
		if value.Rank == docquery.Text {
			of = value.Text
		}
		byRank[value.Rank] = append(byRank[value.Rank], of)
	}
	s.text.WriteString("(")
	for i, rank := range slices.Sorted(maps.Keys(byRank)) {
		if i > 0 {
			s.text.WriteString(" OR ")
		}
		switch rank {
		case docquery.Null:
			fmt.Fprintf(&s.text, "doc_rank(%s) = 1", v)
		case docquery.Text:
			fmt.Fprintf(&s.text, `(doc_rank(%s) IN (4, 5) AND (%s #>> '{}') COLLATE "C" = ANY (%s))`, v, v, s.arg(byRank[rank], "text[]"))
		default: // bools, numbers, times
			fmt.Fprintf(&s.text, "(doc_rank(%s) = %s AND doc_num(%s) = ANY (%s))",
				v, s.arg(int64(rank), "smallint"), v, s.arg(byRank[rank], "numeric[]"))
		}
	}
	s.text.WriteString(")")
}

// compare writes a comparison of a value that may be of any type, or none, with one of a query, whose type it has to have.
func (s *statement) compare(v, op string, value docquery.Value) {
	switch value.Rank {
	case docquery.Null:
		fmt.Fprintf(&s.text, "doc_rank(%s) = 1", v)
	case docquery.Text:
		fmt.Fprintf(&s.text, `(doc_rank(%s) IN (4, 5) AND (%s #>> '{}') COLLATE "C" %s %s)`, v, v, op, s.arg(value.Text, "text"))
	default: // a bool, a number, a time
		fmt.Fprintf(&s.text, "(doc_rank(%s) = %s AND doc_num(%s) %s %s)",
			v, s.arg(int64(value.Rank), "smallint"), v, op, s.arg(value.Num, "numeric"))
	}
}
