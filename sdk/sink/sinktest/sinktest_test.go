package sinktest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/sink"
	"github.com/picloud/picloud/sdk/sink/sinktest"
)

// The test binary is also the sinks.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "child:sink" {
		sink.Serve(courier{defect: os.Args[2]})
		return
	}
	goleak.VerifyTestMain(m)
}

// courier is a sink that posts to a URL, and may have a defect.
type courier struct{ defect string }

func (c courier) Info() sink.Info {
	if c.defect == "nameless" {
		return sink.Info{}
	}
	return sink.Info{Name: "courier", Version: "1"}
}

func (c courier) Open(s sink.Setting) (sink.Instance, error) {
	var config struct {
		URL string `json:"url"`
	}
	d := json.NewDecoder(bytes.NewReader(s.Config))
	d.DisallowUnknownFields()
	if err := d.Decode(&config); err != nil && c.defect != "careless" {
		return nil, fault.New(fault.Invalid, fault.Script, "%v", err)
	}
	if config.URL == "" && c.defect != "careless" {
		return nil, fault.New(fault.Invalid, fault.Script, "url: is missing")
	}
	x := &round{courier: c, url: config.URL}
	if c.defect == "alone" {
		x.turn = &turn
	}
	return x, nil
}

var turn sync.Mutex

type round struct {
	courier
	url  string
	turn *sync.Mutex
	seen sync.Map
}

func (r *round) Bounds() (batch, parallel int) {
	if r.defect == "lossy" {
		return 8, 1
	}
	return 1, 16
}

func (r *round) Close() {}

func (r *round) Deliver(items []*sink.Item) {
	if r.turn != nil {
		r.turn.Lock()
		defer r.turn.Unlock()
	}
	if r.defect == "lossy" { // only the first of a batch is sent, and all are done
		r.post(items[0])
	}
	for _, i := range items {
		r.one(i)
	}
}

func (r *round) one(i *sink.Item) {
	_, twice := r.seen.LoadOrStore(i.EventID, true)
	switch r.defect {
	case "lossy":
		i.Answer(200, nil)
		return
	case "liar":
		r.post(i)
		i.Answer(200, nil)
		return
	case "mute":
		return
	case "panics":
		panic("no luck")
	case "fragile":
		if !json.Valid(i.Data) {
			os.Exit(3)
		}
	case "once":
		if twice {
			i.Answer(200, nil)
			return
		}
	case "forgets":
		i.EventID = "new"
	case "cuts":
		i.Data = i.Data[:min(len(i.Data), 1<<10)]
	}
	status, err := r.post(i)
	switch {
	case err != nil:
		err = fault.New(fault.Unavailable, fault.Script, "it cannot be reached")
	case r.defect == "quitter" && status != 200:
		err = fault.New(fault.Invalid, fault.Script, "status %d", status)
	case r.defect == "stubborn" && status != 200:
		err = fault.New(fault.ScriptError, fault.Script, "status %d", status)
	case status == 410:
		err = fault.New(fault.Invalid, fault.Script, "it is gone")
	case status != 200:
		err = fault.New(fault.ScriptError, fault.Script, "status %d", status)
	}
	i.Answer(status, err)
}

func (r *round) post(i *sink.Item) (int, error) {
	ctx := i.Context()
	if r.defect == "deaf" {
		ctx = context.Background()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(i.Data))
	if err != nil {
		return 0, err
	}
	request.Header["Id"] = []string{strings.NewReplacer("\r", "", "\n", "").Replace(i.EventID)}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}

// inn is where the courier goes.
type inn struct {
	server *httptest.Server
	mu     sync.Mutex
	mode   sinktest.Mode
	let    chan struct{}
	got    []sinktest.Received
}

func newInn(tb testing.TB) sinktest.Receiver {
	n := &inn{let: make(chan struct{})}
	n.server = httptest.NewServer(n)
	tb.Cleanup(func() {
		n.Set(sinktest.Accept)
		n.server.CloseClientConnections()
		n.server.Close()
	})
	return n
}

func (n *inn) Config() []byte { return []byte(`{"url": "` + n.server.URL + `"}`) }

func (n *inn) Set(m sinktest.Mode) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mode = m
	close(n.let)
	n.let = make(chan struct{})
}

func (n *inn) Received() []sinktest.Received {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.got)
}

func (n *inn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	n.mu.Lock()
	mode, let := n.mode, n.let
	if mode == sinktest.Accept && err == nil {
		n.got = append(n.got, sinktest.Received{EventID: r.Header.Get("Id"), Data: data})
	}
	n.mu.Unlock()
	switch mode {
	case sinktest.Refuse:
		w.WriteHeader(http.StatusGone)
	case sinktest.Busy:
		w.WriteHeader(http.StatusServiceUnavailable)
	case sinktest.Hang:
		select {
		case <-let:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func suite(defect string) sinktest.Suite {
	return sinktest.Suite{
		Command: []string{os.Args[0], "child:sink", defect}, New: newInn, ContentType: "application/json",
		Data: func(text string, size int) []byte {
			data, _ := json.Marshal(text + strings.Repeat(" ", size)) // a text always encodes
			return data
		},
		Wrong: []string{`{}`, `{"url": 1}`},
	}
}

func TestASinkThatIsRight(t *testing.T) {
	t.Parallel()
	sinktest.Run(t, suite("none"))
}

// Each defect is found, by the check that is there for it.
func TestDefectsAreFound(t *testing.T) {
	t.Parallel()
	for defect, check := range map[string]string{
		"nameless": "describes", "careless": "configuration", "lossy": "many", "liar": "refused", "mute": "one", "panics": "one",
		"fragile": "garbage", "once": "duplicate", "forgets": "one", "cuts": "large", "quitter": "busy", "stubborn": "refused",
		"deaf": "hang", "alone": "slow",
	} {
		t.Run(defect, func(t *testing.T) {
			t.Parallel()
			s := suite(defect)
			if defect == "alone" { // the check waits for what never comes
				s.Patience = 500 * time.Millisecond
			}
			err := s.Check(t, check)
			if err == nil {
				t.Errorf("the check %q finds nothing", check)
			}
			t.Log(err)
		})
	}
}

func TestUnknownCheck(t *testing.T) {
	t.Parallel()
	if err := suite("none").Check(t, "no such check"); err == nil {
		t.Error("it passes")
	}
}
