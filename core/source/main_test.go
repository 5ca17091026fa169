package source_test

import (
	"context"
	"os"
	"testing"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/sdk/source"
	"github.com/picloud/picloud/sdk/source/sourcetest/feed"
)

// The test binary is also the sources, and a node that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "child:plugin" {
		switch os.Args[2] {
		case "source/feed":
			source.Serve(feed.New())
		case "source/again":
			source.Serve(again{feed.New()})
		case "source/failing":
			source.Serve(failing{feed.New()})
		case "source/unfit":
			source.Serve(unfit{feed.New()})
		}
		return
	}
	coretest.Main(m, coretest.Child("node", child))
}

// again is a source without cursors: each time that it starts, everything comes again.
type again struct{ source.Source }

func (a again) Run(ctx context.Context, s source.Setting, out source.Emitter) error {
	return a.Source.Run(ctx, s, forgetful{out})
}

type forgetful struct{ source.Emitter }

func (f forgetful) Emit(ctx context.Context, b source.Batch) error {
	b.Cursor = ""
	return f.Emitter.Emit(ctx, b)
}

// failing is one that cannot do anything.
type failing struct{ source.Source }

func (failing) Run(context.Context, source.Setting, source.Emitter) error { panic("no feed today") }

// unfit is one without cursors that sends what nobody can take in.
type unfit struct{ source.Source }

func (unfit) Run(ctx context.Context, _ source.Setting, out source.Emitter) error {
	return out.Emit(ctx, source.Batch{Events: []source.Event{{ID: "1", Type: "email.received", Data: []byte("no mail")}}})
}
