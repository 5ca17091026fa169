// Package feed is an example of a source, and of what it follows: a list of events that a server has, which can be read again from any
// place on. Tests use both.
package feed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/picloud/picloud/sdk/source"
)

// New makes the source.
func New() source.Source { return follower{} }

type follower struct{}

// config is that of an instance.
type config struct {
	URL   string `json:"url"`   // answers ?after=N&limit=M with a JSON list of what comes after the Nth item
	Batch int    `json:"batch"` // how many items are taken in together; zero: 100
}

// Item is one of the list.
type Item struct {
	ID   string          `json:"id"`
	Data json.RawMessage `json:"data"`
}

func (follower) Info() source.Info { return source.Info{Name: "feed", Version: "1"} }

func (follower) Check(text []byte) []source.Problem {
	_, problems := parse(text)
	return problems
}

func parse(text []byte) (c config, problems []source.Problem) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil || !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return c, []source.Problem{{Message: fmt.Sprintf("is no object with url and batch: %v", err)}}
	}
	if u, err := url.Parse(c.URL); err != nil || !strings.HasPrefix(u.Scheme, "http") || u.Host == "" {
		problems = append(problems, source.Problem{Field: "url", Message: "is no address that begins with http"})
	}
	if c.Batch < 0 || c.Batch > source.MaxEvents {
		problems = append(problems, source.Problem{Field: "batch", Message: fmt.Sprintf("is not between 0 and %d", source.MaxEvents)})
	}
	if c.Batch == 0 {
		c.Batch = 100
	}
	return c, problems
}

// Run reads on from the cursor, which is how many items were taken in.
func (follower) Run(ctx context.Context, s source.Setting, out source.Emitter) error {
	c, problems := parse(s.Config)
	if len(problems) > 0 {
		return fmt.Errorf("%s %s", problems[0].Field, problems[0].Message)
	}
	after, err := strconv.Atoi(s.Cursor)
	if err != nil && s.Cursor != "" {
		return fmt.Errorf("a cursor that is not ours: %w", err)
	}
	for ctx.Err() == nil {
		items, err := read(ctx, c, after)
		if err != nil {
			return err
		}
		if len(items) == 0 {
			continue // the server has waited
		}
		after += len(items)
		b := source.Batch{Cursor: strconv.Itoa(after)}
		for _, i := range items {
			b.Events = append(b.Events, source.Event{ID: i.ID, Type: "feed.item", Subject: i.ID, Time: time.Now(), Data: i.Data})
		}
		if err := out.Emit(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// maxAnswer bounds what the server may answer.
const maxAnswer = 4 << 20

func read(ctx context.Context, c config, after int) (items []Item, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s?after=%d&limit=%d", c.URL, after, c.Batch), nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }() // read-only
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &items); err != nil || answer.StatusCode != http.StatusOK || len(items) > c.Batch {
		return nil, fmt.Errorf("the feed answers %d, and %.100q", answer.StatusCode, text)
	}
	return items, nil
}
