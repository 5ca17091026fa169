package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
)

// The scripts that the load calls. What ends its engine has an app of its own, so that it is seen to disturb no other.
var scripts = []script{
	{app: "default", name: "work", path: "/work", async: true, attempts: 25, timeout: 5 * time.Second},
	{app: "default", name: "frail", path: "/frail", async: true, attempts: 3, timeout: 5 * time.Second},
	{app: "default", name: "call", path: "/call", timeout: syncTimeout},
	{app: "default", name: "pay", path: "/pay", timeout: syncTimeout, transactional: true},
	{
		app: "default", name: "payday", path: "/payday", async: true, attempts: 25, timeout: 5 * time.Second, transactional: true,
		policy: map[string]any{"backoff": map[string]any{"base": "50ms", "cap": "500ms"}}, // it is overtaken often
	},
	{app: "crash0", name: "crash", path: "/crash", async: true, attempts: 5, timeout: 2 * time.Second},
	{app: "crash1", name: "crash", path: "/crash", async: true, attempts: 5, timeout: 2 * time.Second},
	{app: "crash2", name: "crash", path: "/crash", async: true, attempts: 5, timeout: 2 * time.Second},
	{app: "crash3", name: "crash", path: "/crash", async: true, attempts: 5, timeout: 2 * time.Second},
}

// crashEvery lies between two requests that end their engine. One that dies again and again is started after ever longer
// pauses, up to half a minute, and nothing would come to an end with more.
const crashEvery = 10 * time.Second

// shortestTime is the least that a script of entries that may run again has.
const shortestTime = 2 * time.Second

type script struct {
	app, name, path string
	async           bool
	attempts        int
	timeout         time.Duration
	transactional   bool
	policy          map[string]any
}

const (
	syncTimeout = 3 * time.Second
	// longestRun bounds any run: the longest time of a script, the kill of its process, and a busy machine.
	longestRun = 5*time.Second + 3*time.Second
	// answerLimit is when the caller of a script must have a definite answer: its time, the wait for a place and for a
	// slot, and as much again for a busy machine.
	answerLimit = syncTimeout + 4*time.Second
	// clientLimit is when a caller gives up: what became of its request is unknown.
	clientLimit = 12 * time.Second
)

// Results of an operation as its client knows them.
const (
	acknowledged = "acknowledged"
	refused      = "refused" // definitely not accepted
	unknown      = "unknown"
)

// Op is an entry of the journal.
type Op struct {
	Command
	App    string
	Script string
	Queue  string        // empty: by a route
	Delay  time.Duration // of a message
	Once   bool          // under an idempotency key
	Replay bool          // of a dead letter
	Sent   time.Time
	Took   time.Duration
	Node   int // process
	Status int
	ID     string // of the execution; empty: the client does not know it
	Result string
	Said   string // what came in place of an answer

	Balances Balances // by the answer
}

// Journal is what clients know. Safe for concurrent use.
type Journal struct {
	mu  sync.Mutex
	ops []*Op
}

func (j *Journal) add(o *Op) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ops = append(j.ops, o)
}

// all returns the operations that have ended; call it when the load has.
func (j *Journal) all() []*Op {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ops
}

// load sends requests until ctx ends, and returns when each has its result.
func (w *World) load(ctx context.Context, rate int) {
	random := rand.New(rand.NewPCG(w.options.Seed, 1))
	senders := make(chan struct{}, 96) // callers who wait
	var sending sync.WaitGroup
	defer sending.Wait()
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		n := w.pick(random)
		if n == nil {
			continue
		}
		o, do := w.draw(random), func(o *Op) { w.send(n, o) }
		if random.IntN(4) == 0 {
			o, do = w.drawMessage(random)
		}
		select {
		case senders <- struct{}{}:
			sending.Go(func() {
				defer func() { <-senders }()
				do(o)
			})
		default: // they all wait: the platform is down
			if o.Order != "" {
				w.orders.give(nil, false)
			}
		}
	}
}

// pick returns a node that takes requests.
func (w *World) pick(random *rand.Rand) *life {
	first := random.IntN(len(w.nodes))
	for i := range w.nodes {
		if l := w.nodes[(first+i)%len(w.nodes)].now(); l != nil && !l.rest.Load() {
			return l
		}
	}
	return nil
}

// draw makes the next request.
func (w *World) draw(random *rand.Rand) *Op {
	o := &Op{App: "default", Script: "work"}
	o.Nonce = uuid.NewString()
	switch p := random.IntN(1000); {
	case w.options.Slow && p < 60, p < 4:
		o.Sleep = 2000 + random.IntN(2500)
	case p < 160:
		w.drawTransfer(random, o)
	case p < 560: // what most are: short and well
	case p < 760:
		o.Script, o.Sync = "call", true
		if random.IntN(10) == 0 {
			o.Answer = 1 + random.IntN(200<<10)
		}
	case p < 820:
		if o.Sleep = 1 + random.IntN(1500); w.options.Calm {
			o.Sleep /= 10
		}
	case p < 880:
		if o.Fail = 1 + random.IntN(2); w.options.Calm {
			o.Fail = 1
		}
	case p < 900:
		o.Fail, o.RetryAfter = 4, 1+random.IntN(200)
	case p < 915:
		o.Script, o.Fail, o.RetryAfter = "frail", -1, 50
	case p < 925:
		o.Script, o.FailEntry, o.RetryAfter = "frail", true, 50
	case p < 935:
		o.Script, o.Fatal = "frail", true
	case p < 970:
		o.Logs = random.IntN(20)
		o.Child, o.ChildScript, o.ChildOnce = &Command{Nonce: uuid.NewString()}, "work", random.IntN(2) == 0
		if random.IntN(4) == 0 {
			o.ChildScript, o.Child.FailEntry, o.Child.RetryAfter = "frail", true, 50
		} else if random.IntN(2) == 0 {
			o.Child.Child, o.Child.ChildScript = &Command{Nonce: uuid.NewString()}, "work"
		}
	case !w.options.Calm:
		o.App, o.Script = fmt.Sprintf("crash%d", random.IntN(4)), "crash"
		if time.Since(w.crashed) > crashEvery {
			w.crashed = time.Now()
			switch random.IntN(3) {
			case 0:
				o.Exit = 1
			case 1:
				o.Exit = -1
			case 2:
				o.Hang = 1
			}
		}
	}
	return o
}

// send sends a request and writes down what its client learns.
func (w *World) send(l *life, o *Op) {
	defer w.journal.add(o)
	var s script
	for _, s = range scripts {
		if s.app == o.App && s.name == o.Script {
			break
		}
	}
	o.Sent, o.Node = time.Now(), l.pid
	res, body, err := w.post(l, s, o.Command)
	o.Took = time.Since(o.Sent)
	if err != nil {
		o.Result, o.Said = unknown, err.Error()
		return
	}
	o.Status, o.ID = res.StatusCode, res.Header.Get("Picloud-Execution-Id")
	if !o.Sync {
		w.heedAccepted(o, body)
		return
	}
	w.heedAnswer(o, body)
}

func (w *World) post(l *life, s script, c Command) (*http.Response, []byte, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), clientLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.ready.Public+s.path, bytes.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	if s.app != "default" {
		req.Host = s.app + ".test"
	}
	res, err := w.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return res, body, err
}

func (w *World) heedAccepted(o *Op, body []byte) {
	switch o.Status {
	case http.StatusAccepted:
		o.Result = acknowledged
		if o.FailEntry {
			w.willDie(o.ID, o.Nonce)
		}
		var accepted struct {
			ID string `json:"execution_id"`
		}
		if err := json.Unmarshal(body, &accepted); err != nil || accepted.ID == "" || accepted.ID != o.ID {
			w.breach("acknowledgement", fmt.Sprintf("of %s: %.300s", o.ID, body))
		}
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		o.Result, o.Said = refused, string(body)
		if bytes.Contains(body, []byte("unknown_outcome")) {
			o.Result = unknown
		}
	case http.StatusNotFound: // the node has not heard of the script yet
		o.Result = refused
	default:
		o.Result, o.Said = unknown, string(body)
		w.breach("definite answers", fmt.Sprintf("async %s: %d %.300s", o.ID, o.Status, body))
	}
}

func (w *World) heedAnswer(o *Op, body []byte) {
	switch o.Status {
	case http.StatusOK:
		o.Result = acknowledged
		var a Answer
		if err := json.Unmarshal(body, &a); err != nil || a.Nonce != o.Nonce || a.ID != o.ID || len(a.Filling) != o.Answer {
			w.breach("I09 answers", fmt.Sprintf("%s was answered %.300s", o.Nonce, body))
		}
		o.Balances = a.Balances
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		o.Result, o.Said = refused, string(body)
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		o.Result, o.Said = unknown, string(body)
	case http.StatusConflict:
		if o.Transfer != nil {
			break
		}
		fallthrough
	default:
		o.Result, o.Said = unknown, string(body)
		w.breach("definite answers", fmt.Sprintf("sync %s: %d %.300s", o.ID, o.Status, body))
	}
	if o.Transfer != nil {
		w.heedTransfer(o, body)
	}
	if o.Took > answerLimit && w.calm(o.Sent, time.Now(), none) {
		w.breach("definite answers in time", fmt.Sprintf("sync %s after %s: %d %.300s", o.ID, o.Took, o.Status, body))
	}
}
