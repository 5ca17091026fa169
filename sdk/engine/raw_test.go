package engine_test

import (
	"context"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/engine/enginetest"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	enginev1 "github.com/picloud/picloud/sdk/proto/engine/v1"
	pluginv1 "github.com/picloud/picloud/sdk/proto/plugin/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib = 1 << 20

// wire is one end of a session that a test drives by hand, message by message.
type wire struct {
	t      *testing.T
	stream interface {
		Send(*enginev1.Frame) error
		Recv() (*enginev1.Frame, error)
	}
	read []*enginev1.Message
	rpc  enginev1.EngineClient // on the host's side
}

// next waits for a message. nil means that the session has ended.
func (w *wire) next() *enginev1.Message {
	for len(w.read) == 0 {
		f, err := w.stream.Recv()
		if err != nil {
			return nil
		}
		w.read = f.GetMessages()
	}
	m := w.read[0]
	w.read = w.read[1:]
	return m
}

// send sends messages in one frame. The session may have ended.
func (w *wire) send(m ...*enginev1.Message) { _ = w.stream.Send(&enginev1.Frame{Messages: m}) }

func output(id uint64, o *enginev1.Output) *enginev1.Message {
	return &enginev1.Message{Id: id, Body: &enginev1.Message_Output{Output: o}}
}

func credit(id uint64, n int64) *enginev1.Message {
	return &enginev1.Message{Id: id, Body: &enginev1.Message_Credit{Credit: &enginev1.Credit{Bytes: n}}}
}

func cancelOf(id uint64) *enginev1.Message {
	return &enginev1.Message{Id: id, Body: &enginev1.Message_Cancel{Cancel: &enginev1.Cancel{}}}
}

func logs(id uint64, text string) *enginev1.Message {
	return &enginev1.Message{Id: id, Body: &enginev1.Message_Logs{Logs: &enginev1.Logs{
		Lines: []*enginev1.Log{{Level: "info", Message: []byte(text)}},
	}}}
}

// whole is a complete answer.
func whole(id uint64, body string) *enginev1.Message {
	return output(id, &enginev1.Output{Head: &enginev1.Head{Status: 200}, Data: []byte(body), End: true})
}

// rawEngine is an engine process whose session a test drives.
type rawEngine struct {
	enginev1.UnimplementedEngineServer
	t       *testing.T
	session func(*wire)
}

func (rawEngine) Describe(context.Context, *enginev1.DescribeRequest) (*enginev1.DescribeResponse, error) {
	return &enginev1.DescribeResponse{Name: "raw", Window: 8}, nil
}

func (e rawEngine) Session(s grpc.BidiStreamingServer[enginev1.Frame, enginev1.Frame]) error {
	if err := s.SendHeader(nil); err != nil {
		return err
	}
	w := &wire{t: e.t, stream: s}
	e.session(w)
	for w.next() != nil { // the host ends it
	}
	return nil
}

// hostOf connects a host to an engine that a test drives.
func hostOf(t *testing.T, session func(*wire)) *engine.Client {
	t.Helper()
	return enginetest.Connect(t, func(s *grpc.Server) {
		enginev1.RegisterEngineServer(s, rawEngine{t: t, session: session})
	})
}

// engineOf opens a session that the test drives with an engine that is served.
func engineOf(t *testing.T, e engine.Engine) *wire {
	t.Helper()
	return sessionWith(t, func(s *grpc.Server) { engine.Register(s, e) })
}

// patientOf is engineOf for an engine whose answers leave as one message where they are whole, however long that takes.
func patientOf(t *testing.T, e engine.Engine) *wire {
	t.Helper()
	return sessionWith(t, func(s *grpc.Server) { engine.RegisterPatient(s, e) })
}

func sessionWith(t *testing.T, register func(*grpc.Server)) *wire {
	t.Helper()
	conn := enginetest.Listen(t, register)
	rpc := enginev1.NewEngineClient(conn)
	stream, err := rpc.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &wire{t: t, stream: stream, rpc: rpc}
}

func (w *wire) invoke(id uint64, body string, timeoutMS int64) {
	env, err := (&event.Envelope{ID: "e"}).Marshal()
	if err != nil {
		w.t.Fatal(err)
	}
	w.send(&enginev1.Message{Id: id, Body: &enginev1.Message_Invoke{Invoke: &enginev1.Invoke{
		Bundle: "b", ExecutionId: "x", Attempt: 1, TimeoutMs: timeoutMS,
		Events: []*enginev1.Event{{Envelope: env, Body: []byte(body), BodyBytes: int64(len(body))}},
	}}})
}

// end reads up to the end of a run, and returns its fault and how much data came.
func (w *wire) end(id uint64) (*pluginv1.Fault, int) {
	n := 0
	for m := w.next(); m != nil; m = w.next() {
		if m.GetId() != id {
			w.t.Errorf("a message of run %d", m.GetId())
		}
		n += len(m.GetOutput().GetData())
		if m.GetOutput().GetEnd() {
			return m.GetOutput().GetFault(), n
		}
	}
	w.t.Error("the session ended")
	return nil, n
}

// engineFunc is an engine that runs a function.
type engineFunc func(context.Context, *engine.Invocation, engine.Reply) error

func (engineFunc) Info() engine.Info { return engine.Info{Name: "func"} }

func (engineFunc) Load(context.Context, engine.Bundle) (engine.Loaded, error) {
	return engine.Loaded{}, nil
}
func (engineFunc) Unload(string) {}
func (f engineFunc) Invoke(ctx context.Context, inv *engine.Invocation, out engine.Reply) error {
	return f(ctx, inv, out)
}

func kindOf(err error) fault.Kind {
	if err == nil {
		return ""
	}
	return fault.From(err).Kind
}

// gate is a Reply whose Write waits.
type gate struct {
	enginetest.Answer
	once    sync.Once
	reached chan struct{} // closed at the first Write
	open    chan struct{}
}

func newGate() *gate { return &gate{reached: make(chan struct{}), open: make(chan struct{})} }

func (g *gate) Write(p []byte) (int, error) {
	g.once.Do(func() { close(g.reached) })
	<-g.open
	return g.Answer.Write(p)
}
