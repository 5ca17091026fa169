package source

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/plugin"
	sourcev1 "github.com/picloud/picloud/sdk/proto/source/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dial serves on a unix socket and returns a client of it.
func dial(t *testing.T, register func(*grpc.Server)) *Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "pic") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(plugin.ServerOptions()...)
	register(s)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	conn, err := grpc.NewClient("unix:"+filepath.Join(dir, "s"),
		append(plugin.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Dial(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		_ = conn.Close()
		s.Stop()
		if err := errors.Join(<-served, os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return c
}

// overWire is what arrives of a message.
func overWire[M proto.Message](t *testing.T, in, out M) M {
	t.Helper()
	b, err := proto.Marshal(in)
	if err == nil {
		err = proto.Unmarshal(b, out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// full checks that a value has no empty field, so that one that is not converted is seen.
func full(t *testing.T, v any) {
	t.Helper()
	x := reflect.ValueOf(v)
	for i := range x.NumField() {
		if x.Field(i).IsZero() {
			t.Errorf("%T.%s is not filled in", v, x.Type().Field(i).Name)
		}
	}
}

func TestEveryFieldIsConverted(t *testing.T) {
	t.Parallel()
	info := Info{Name: "n", Version: "v", Secrets: []string{"a"}}
	full(t, info)
	m := overWire(t, infoToWire(info, []plugin.Layer{{Name: "l", Missing: "m"}}), &sourcev1.DescribeResponse{})
	if got := infoFromWire(m); !reflect.DeepEqual(got, info) || m.GetLayers()[0].GetMissing() != "m" {
		t.Errorf("%+v %v", got, m)
	}
	problems := []Problem{{Field: "f", Message: "m"}}
	if got := problemsFromWire(overWire(t, problemsToWire(problems), &sourcev1.CheckResponse{})); !reflect.DeepEqual(got, problems) {
		t.Errorf("%+v", got)
	}
	setting := Setting{Config: []byte("{}"), Cursor: "\xff"}
	if got := startFromWire(overWire(t, startToWire(setting), &sourcev1.Start{})); !reflect.DeepEqual(got, setting) {
		t.Errorf("%+v", got)
	}
	b := Batch{Cursor: "\xfe", Events: []Event{{
		ID: "i", Type: "t", Time: time.Unix(1, 2).UTC(), Subject: "s", ContentType: "c", Data: []byte("d"), Attributes: []event.Header{{Name: "n", Value: "v"}},
	}}}
	full(t, b)
	full(t, b.Events[0])
	if got := batchFromWire(overWire(t, batchToWire(1, &b), &sourcev1.Batch{})); !reflect.DeepEqual(got, b) {
		t.Errorf("%+v", got)
	}
}

func TestBatchesAreBounded(t *testing.T) {
	t.Parallel()
	good := func() Batch { return Batch{Events: []Event{{ID: "i", Type: "t"}}} }
	for what, change := range map[string]func(b *Batch, more int){
		"events":     func(b *Batch, more int) { b.Events = make([]Event, MaxEvents+more); fill(b) },
		"bytes":      func(b *Batch, more int) { b.Events[0].Data = make([]byte, MaxBytes-2+more) },
		"id":         func(b *Batch, more int) { b.Events[0].ID = strings.Repeat("x", MaxName+more) },
		"type":       func(b *Batch, more int) { b.Events[0].Type = strings.Repeat("x", MaxName+more) },
		"subject":    func(b *Batch, more int) { b.Events[0].Subject = strings.Repeat("x", MaxSubject+more) },
		"cursor":     func(b *Batch, more int) { b.Cursor = strings.Repeat("x", MaxCursor+more) },
		"attributes": func(b *Batch, more int) { b.Events[0].Attributes = make([]event.Header, MaxAttributes+more) },
	} {
		for more, wrong := range []bool{false, true} {
			b := good()
			change(&b, more)
			if err := b.Validate(); (err != nil) != wrong {
				t.Errorf("%s, %d more than there may be: %v", what, more, err)
			}
		}
	}
	for _, b := range []Batch{{}, {Events: []Event{{Type: "t"}}}, {Events: []Event{{ID: "i"}}}, {Events: []Event{{ID: "\x00", Type: "t"}}}} {
		if b.Validate() == nil {
			t.Errorf("%+v passes", b)
		}
	}
}

func fill(b *Batch) {
	for i := range b.Events {
		b.Events[i] = Event{ID: "i", Type: "t"}
	}
}

// odd is a source that breaks the contract, once it has credit.
type odd struct {
	sourcev1.UnimplementedSourceServer
	say []*sourcev1.Message
}

func (odd) Describe(context.Context, *sourcev1.DescribeRequest) (*sourcev1.DescribeResponse, error) {
	return &sourcev1.DescribeResponse{Name: "odd"}, nil
}

func (o odd) Session(stream grpc.BidiStreamingServer[sourcev1.Frame, sourcev1.Frame]) error {
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	for {
		frame, err := stream.Recv()
		if err != nil {
			return nil
		}
		for _, m := range frame.GetMessages() {
			if m.GetCredit().GetBatches() == Credit {
				_ = stream.Send(&sourcev1.Frame{Messages: o.say}) // the host may have hung up
			}
		}
	}
}

// A source that breaks the contract ends its session, and with it every instance.
func TestTheContractIsKept(t *testing.T) {
	t.Parallel()
	batch := func(id uint64, cursor string) *sourcev1.Message {
		b := batchToWire(id, &Batch{Events: []Event{{ID: "i", Type: "t"}}, Cursor: cursor})
		return &sourcev1.Message{Instance: 1, Body: &sourcev1.Message_Batch{Batch: b}}
	}
	for what, say := range map[string][]*sourcev1.Message{
		"nothing in it":               {{Instance: 1}},
		"of no instance":              {{Body: &sourcev1.Message_Ended{}}},
		"of one that was not started": {{Instance: 2, Body: &sourcev1.Message_Ended{}}},
		"what the host sends":         {{Instance: 1, Body: &sourcev1.Message_Ack{}}},
		"no events":                   {{Instance: 1, Body: &sourcev1.Message_Batch{Batch: &sourcev1.Batch{Id: 1}}}},
		"a batch twice":               {batch(1, ""), batch(1, "")},
		"a batch left out":            {batch(2, "")},
		"more than the credit":        {batch(1, ""), batch(2, ""), batch(3, ""), batch(4, ""), batch(5, "")},
		"a cursor beside another":     {batch(1, "a"), batch(2, "b")},
		"too long a line":             {{Instance: 1, Body: &sourcev1.Message_Log{Log: &sourcev1.Log{Message: make([]byte, maxLogText+1)}}}},
	} {
		c := dial(t, func(s *grpc.Server) { sourcev1.RegisterSourceServer(s, odd{say: say}) })
		i, err := c.Start(Setting{Config: []byte("{}")}, func(string, string) {})
		if err != nil {
			t.Fatal(err)
		}
		<-c.Lost()
		if !errors.Is(c.Err(), plugin.ErrProtocol) {
			t.Errorf("%s: %v", what, c.Err())
		}
		for {
			if _, err := i.Next(t.Context()); err != nil {
				if f := fault.From(err); f.Origin != fault.Plugin {
					t.Errorf("%s: %+v", what, f)
				}
				break
			}
		}
		if _, err := c.Start(Setting{}, func(string, string) {}); err == nil {
			t.Errorf("%s: an instance is started afterwards", what)
		}
	}
}

// emits is a source of which each instance does what emit says.
type emits struct {
	emit func(ctx context.Context, out Emitter) error
}

func (emits) Info() Info             { return Info{Name: "emits"} }
func (emits) Check([]byte) []Problem { return nil }

func (e emits) Run(ctx context.Context, _ Setting, out Emitter) error {
	if err := e.emit(ctx, out); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// started is an instance of a source that does what emit says.
func started(t *testing.T, emit func(ctx context.Context, out Emitter) error) *Instance {
	t.Helper()
	c := dial(t, func(s *grpc.Server) { sourcev1.RegisterSourceServer(s, newServer(emits{emit})) })
	i, err := c.Start(Setting{Config: []byte("{}")}, func(string, string) {})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// Batches that are as large as they may be are no message too large, whatever they are large by.
func TestLargeBatches(t *testing.T) {
	t.Parallel()
	for what, fill := range map[string]func(e *Event, bytes int){
		"data":       func(e *Event, bytes int) { e.Data = make([]byte, bytes) },
		"attributes": func(e *Event, bytes int) { e.Attributes = []event.Header{{Value: strings.Repeat("x", bytes)}} },
	} {
		i := started(t, func(ctx context.Context, out Emitter) error {
			var all sync.WaitGroup
			b := Batch{Events: []Event{{ID: "i", Type: "t"}}}
			fill(&b.Events[0], MaxBytes-b.Size())
			if n := messageSize(&sourcev1.Message{Body: &sourcev1.Message_Batch{Batch: batchToWire(1, &b)}}); n < MaxBytes {
				t.Errorf("%s: a batch of %d bytes counts %d", what, MaxBytes, n)
			}
			for range Credit {
				all.Go(func() { _ = out.Offer(ctx, b) })
			}
			all.Wait()
			return nil
		})
		for range Credit {
			b, err := i.Next(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			b.Ack()
		}
	}
}

// A source that has given up a batch with a cursor, and offers another, breaks no contract: the next one waits for the answer to the first.
func TestCursorsFollowOneAnother(t *testing.T) {
	t.Parallel()
	over, giveUp := context.WithCancel(t.Context())
	told := make(chan error, 3)
	i := started(t, func(ctx context.Context, out Emitter) error {
		for at, ctx := range []context.Context{over, over, ctx} {
			told <- out.Offer(ctx, Batch{Events: []Event{{ID: "i", Type: "t"}}, Cursor: string(rune('a' + at))})
		}
		return nil
	})
	first, err := i.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	giveUp()
	for range 2 {
		if err := <-told; !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up is told %v", err)
		}
	}
	first.Ack()
	next, err := i.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if next.Cursor != "c" {
		t.Errorf("the next has the cursor %q", next.Cursor)
	}
	next.Ack()
	if err := <-told; err != nil {
		t.Error(err)
	}
}

// A source that logs without end stands in the way of nobody's batches, its own neither.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	const flood = 100_000
	flooded := make(chan struct{})
	done := errors.New("done")
	c := dial(t, func(s *grpc.Server) {
		sourcev1.RegisterSourceServer(s, newServer(emits{func(ctx context.Context, out Emitter) error {
			if err := out.Emit(ctx, Batch{Events: []Event{{ID: "before", Type: "t"}}}); err != nil { // there is credit
				return err
			}
			for range flood {
				out.Log("info", "%s", strings.Repeat("x", 200))
			}
			over, cancel := context.WithCancel(ctx)
			cancel()
			_ = out.Offer(over, Batch{Events: []Event{{ID: "after", Type: "t"}}}) // is sent, and nobody waits
			close(flooded)
			return done
		}}))
	})
	var lines []string // of the client's goroutine, until the instance has ended
	i, err := c.Start(Setting{Config: []byte("{}")}, func(level, line string) {
		<-flooded // the host does not keep up
		lines = append(lines, level+" "+line)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"before", "after"} {
		b, err := i.Next(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		if b.Events[0].ID != id {
			t.Errorf("the event is %q, want %q", b.Events[0].ID, id)
		}
		b.Ack()
	}
	if _, err := i.Next(t.Context()); err == nil || !strings.Contains(err.Error(), done.Error()) {
		t.Errorf("the instance ends with %v", err)
	}
	if len(lines) == 0 || len(lines) > flood/2 || !strings.HasSuffix(lines[len(lines)-1], " lines more were dropped") {
		t.Errorf("%d lines, the last: %q", len(lines), lines[len(lines)-1:])
	}
}

// A line that is too long is cut, and breaks no contract.
func TestLongLine(t *testing.T) {
	t.Parallel()
	said := make(chan string, 1)
	c := dial(t, func(s *grpc.Server) {
		sourcev1.RegisterSourceServer(s, newServer(emits{func(_ context.Context, out Emitter) error {
			out.Log("info", "%s", strings.Repeat("ö", maxLogText))
			return nil
		}}))
	})
	if _, err := c.Start(Setting{Config: []byte("{}")}, func(_, line string) { said <- line }); err != nil {
		t.Fatal(err)
	}
	select {
	case line := <-said:
		if len(line) > maxLogText || strings.Trim(line, "ö") != "…" {
			t.Errorf("a line of %d bytes: %q", len(line), line[len(line)-10:])
		}
	case <-c.Lost():
		t.Error(c.Err())
	}
}
