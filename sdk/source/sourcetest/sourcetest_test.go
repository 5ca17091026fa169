package sourcetest_test

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/picloud/picloud/sdk/source"
	"github.com/picloud/picloud/sdk/source/sourcetest"
	"github.com/picloud/picloud/sdk/source/sourcetest/feed"
)

// The test binary is also the sources.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "child:source" {
		source.Serve(&flawed{feed.New(), os.Args[2]})
		return
	}
	goleak.VerifyTestMain(m)
}

// flawed is the example with a defect.
type flawed struct {
	source.Source
	defect string
}

func (f *flawed) Info() source.Info {
	if f.defect == "nameless" {
		return source.Info{}
	}
	return f.Source.Info()
}

func (f *flawed) Check(config []byte) []source.Problem {
	if f.defect == "credulous" {
		return nil
	}
	return f.Source.Check(config)
}

func (f *flawed) Run(ctx context.Context, s source.Setting, out source.Emitter) error {
	switch f.defect {
	case "forgetful":
		s.Cursor = ""
	case "hasty": // it takes what was not answered for taken in
		if n, err := strconv.Atoi(s.Cursor); err == nil {
			s.Cursor = strconv.Itoa(n + 10)
		}
	case "single": // no defect: its events come one by one
		s.Config = bytes.Replace(s.Config, []byte(`"batch": 10`), []byte(`"batch": 1`), 1)
	case "whole": // no defect either: they come all at once
		s.Config = bytes.Replace(s.Config, []byte(`"batch": 10`), []byte(`"batch": 1000`), 1)
	case "deaf":
		ctx = context.WithoutCancel(ctx)
	case "lossy", "renaming", "cursorless", "crashing":
		out = &bent{out, f.defect, 0}
	}
	err := f.Source.Run(ctx, s, out)
	if f.defect == "deaf" {
		select {}
	}
	return err
}

// bent is an emitter that changes what goes through it.
type bent struct {
	source.Emitter
	defect string
	n      int
}

func (b *bent) Emit(ctx context.Context, batch source.Batch) error {
	b.n++
	switch b.defect {
	case "lossy": // what is refused is given up
		if err := b.Offer(ctx, batch); err != nil && ctx.Err() != nil {
			return err
		}
		return nil
	case "renaming":
		for {
			b.n++
			for i := range batch.Events {
				batch.Events[i].ID = strconv.Itoa(b.n) + "-" + strconv.Itoa(i)
			}
			if err := b.Offer(ctx, batch); err == nil || ctx.Err() != nil {
				return err
			}
		}
	case "cursorless":
		batch.Cursor = ""
	case "crashing":
		if b.n > 3 {
			os.Exit(3)
		}
	}
	return b.Emitter.Emit(ctx, batch)
}

func suite(t testing.TB, defect string) sourcetest.Suite {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return sourcetest.Suite{
		Command: []string{self, "child:source", defect}, Replays: true,
		New:   func(tb testing.TB) sourcetest.Feed { return feed.NewServer(tb) },
		Wrong: []string{`{"url": "ftp://x"}`, `{"url": "http://x", "batch": 1001}`},
	}
}

func TestExample(t *testing.T) {
	t.Parallel()
	sourcetest.Run(t, suite(t, "none"))
}

func TestOneByOne(t *testing.T) {
	t.Parallel()
	sourcetest.Run(t, suite(t, "single"))
}

func TestAtOnce(t *testing.T) {
	t.Parallel()
	sourcetest.Run(t, suite(t, "whole"))
}

// Each defect is found by the checks that are there for it.
func TestDefects(t *testing.T) {
	t.Parallel()
	for defect, by := range map[string][]string{
		"nameless": {"describes"}, "credulous": {"configuration"}, "forgetful": {"resume"}, "hasty": {"resume", "crash"}, "deaf": {"stop"},
		"lossy": {"nack"}, "renaming": {"nack"}, "cursorless": {"one"}, "crashing": {"many", "flood"},
	} {
		for _, check := range by {
			t.Run(defect+"/"+check, func(t *testing.T) {
				t.Parallel()
				s := suite(t, defect)
				s.Patience = 2 * time.Second
				if err := s.Check(t, check); err == nil {
					t.Errorf("%s passes %s", defect, check)
				}
			})
		}
	}
	if !slices.Contains(sourcetest.Checks(), "credit") || suite(t, "none").Check(t, "no such") == nil {
		t.Error("an unknown check passes")
	}
}
