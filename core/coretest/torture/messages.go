package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// The queues that the load fills. Their scripts are those of the routes.
var queues = []queue{
	{name: "plain", script: "work"},
	{name: "ordered", script: "work", policy: map[string]any{
		"ordering_key": "{body.order}", "max_attempts": 20, "backoff": map[string]any{"base": "50ms", "cap": "500ms"},
	}},
	{name: "limited", script: "work", policy: map[string]any{"concurrency_key": "{body.limit}", "key_concurrency": limitMost}},
	{name: "narrow", script: "work", policy: map[string]any{"concurrency": 2}},
	{name: "bounced", script: "work", policy: map[string]any{
		"debounce": map[string]any{"key": "{body.bounce}", "wait": "200ms", "max_wait": "1s"},
	}},
}

type queue struct {
	name, script string
	policy       map[string]any
}

const limitMost = 2 // runs of one concurrency key at one time

// keys are the ordering keys of the load. Messages of one are sent one after the other, so their order is known. A key of
// which a message may or may not have been accepted is never used again.
type keys struct {
	mu   sync.Mutex
	free []*order
}

type order struct {
	name string
	seq  int
}

func newKeys(n int) *keys {
	k := &keys{}
	for range n {
		k.free = append(k.free, &order{name: uuid.NewString()})
	}
	return k
}

// take returns a key that no sender uses, nil if they all do.
func (k *keys) take(random *rand.Rand) *order {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.free) == 0 {
		return nil
	}
	i := random.IntN(len(k.free))
	o := k.free[i]
	k.free = slices.Delete(k.free, i, i+1)
	o.seq++
	return o
}

func (k *keys) give(o *order, sure bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !sure {
		o = &order{name: uuid.NewString()}
	}
	k.free = append(k.free, o)
}

// message is what is sent to a queue.
type message struct {
	Data  Command `json:"data"`
	Delay string  `json:"delay,omitempty"`
}

// drawMessage makes the next message, and what is to be done with it.
func (w *World) drawMessage(random *rand.Rand) (o *Op, do func(o *Op)) {
	o = &Op{App: "default", Script: "work", Queue: "plain"}
	o.Nonce = uuid.NewString()
	once := func(o *Op) { w.sendMessage(o, "") }
	switch p := random.IntN(100); {
	case p < 35:
		key := w.orders.take(random)
		if key == nil {
			return o, once
		}
		o.Queue, o.Order, o.Seq = "ordered", key.name, key.seq
		o.Sleep = 1 + random.IntN(60)
		if random.IntN(8) == 0 {
			o.Fail = 1 + random.IntN(2)
		}
		return o, func(o *Op) {
			once(o)
			w.orders.give(key, o.Result == acknowledged)
		}
	case p < 60:
		o.Queue, o.Limit, o.Most = "limited", fmt.Sprintf("key %d", random.IntN(4)), limitMost
		o.Sleep = 1 + random.IntN(100)
		if random.IntN(8) == 0 {
			o.Fail, o.RetryAfter = 1, 1+random.IntN(100)
		}
	case p < 70:
		return o, w.sendAgain
	case p < 80:
		o.Delay = time.Duration(100+random.IntN(2500)) * time.Millisecond
	case p < 85:
		o.Delay = time.Duration(random.IntN(2)) * 3 * time.Second
		o.Sleep = 3000
		return o, func(o *Op) {
			once(o)
			w.cancel(o)
		}
	case p < 90:
		o.Queue, o.Sleep = "narrow", 1+random.IntN(20)
	case p < 95:
		o.Queue, o.Bounce = "bounced", fmt.Sprintf("key %d", random.IntN(3))
		if random.IntN(3) == 0 { // it comes back while a newer one waits
			o.Fail, o.Sleep = 1, 1+random.IntN(300)
		}
	}
	return o, once
}

// sendMessage sends a message once and writes down what its client learns.
func (w *World) sendMessage(o *Op, idempotency string) {
	defer w.journal.add(o)
	o.Sent = time.Now()
	m := message{Data: o.Command}
	if o.Delay > 0 {
		m.Data.NotBefore, m.Delay = o.Sent.Add(o.Delay).UnixMilli(), o.Delay.String()
	}
	l := w.pick(rand.New(rand.NewPCG(uint64(o.Sent.UnixNano()), 0)))
	if l == nil {
		o.Result = refused
		return
	}
	o.Node = l.pid
	o.Result, o.ID, o.Status, o.Said = w.ask(l, "/apps/default/queues/"+o.Queue+"/messages", m, idempotency)
	o.Took = time.Since(o.Sent)
}

// ask sends something to the control API that is accepted as an execution.
func (w *World) ask(l *life, path string, in any, idempotency string) (result, id string, status int, said string) {
	text, err := json.Marshal(in)
	if err != nil {
		return refused, "", 0, err.Error()
	}
	ctx, cancel := context.WithTimeout(context.Background(), clientLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.ready.Admin+"/api/v1"+path, bytes.NewReader(text))
	if err != nil {
		return refused, "", 0, err.Error()
	}
	req.Header.Set("Authorization", "Bearer "+w.token)
	req.Header.Set("Content-Type", "application/json")
	if idempotency != "" {
		req.Header.Set("Idempotency-Key", idempotency)
	}
	res, err := w.client.Do(req)
	if err != nil {
		return unknown, "", 0, err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return unknown, "", 0, err.Error()
	}
	var accepted struct {
		ID string `json:"execution_id"`
	}
	switch {
	case res.StatusCode == http.StatusAccepted && json.Unmarshal(body, &accepted) == nil && accepted.ID != "":
		return acknowledged, accepted.ID, res.StatusCode, ""
	case res.StatusCode >= 500:
		return unknown, "", res.StatusCode, string(body) // some part of it may be done
	}
	return refused, "", res.StatusCode, string(body)
}

// sendAgain sends a message under an idempotency key until it is acknowledged, and then once more: it must be one. Another
// message under the key is refused.
func (w *World) sendAgain(o *Op) {
	key := uuid.NewString()
	o.Once = true
	for range 8 {
		try := *o
		w.sendMessage(&try, key)
		if try.Result != acknowledged {
			continue
		}
		if o.ID != "" {
			if o.ID != try.ID {
				w.breach("I15 one key, one execution", fmt.Sprintf("%s is %s and %s", key, o.ID, try.ID))
			}
			break
		}
		o.ID = try.ID
	}
	if o.ID == "" {
		return
	}
	other := *o
	other.Nonce, other.ID, other.Once = uuid.NewString(), "", false
	if w.sendMessage(&other, key); other.Result == acknowledged {
		w.breach("I15 a key is for one request", fmt.Sprintf("%s was taken for %s and %s", key, o.ID, other.ID))
	}
	if other.Status == http.StatusUnprocessableEntity {
		w.saw("a key reused is refused")
	}
}

// cancel cancels what was accepted a moment ago.
func (w *World) cancel(o *Op) {
	l := w.pick(rand.New(rand.NewPCG(uint64(o.Sent.UnixNano()), 1)))
	if o.Result != acknowledged || l == nil {
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), clientLimit)
	defer stop()
	note := func(c cancelled) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.cancels[o.ID] = c
	}
	note(cancelled{}) // its answer may be lost
	var out struct {
		Ended bool `json:"ended"`
	}
	if w.api(ctx, l, http.MethodPost, "/apps/default/entries/"+o.ID+"/cancel", nil, &out) == nil {
		note(cancelled{time.Now(), out.Ended})
	}
}

// cancelled is when somebody was told that an entry is, or will be; the zero value, that somebody asked.
type cancelled struct {
	at    time.Time
	ended bool
}

// replay puts dead letters back until ctx ends: those of requests that fail as long as they were never put back.
func (w *World) replay(ctx context.Context) {
	random := rand.New(rand.NewPCG(w.options.Seed, 2))
	var waiting []candidate
	for pause(ctx, 200*time.Millisecond) {
		waiting = append(waiting, w.candidates()...)
		if len(waiting) == 0 || time.Since(waiting[0].since) < time.Second {
			continue
		}
		l := w.pick(random)
		if l == nil {
			continue
		}
		c := waiting[0]
		waiting = waiting[1:]
		o := &Op{App: "default", Script: "frail", Replay: true, Sent: time.Now(), Node: l.pid}
		o.Nonce = c.nonce
		o.Result, o.ID, o.Status, o.Said = w.ask(l, "/apps/default/dead-letters/"+c.id+"/replay", struct{}{}, "")
		o.Took = time.Since(o.Sent)
		if o.Result == acknowledged {
			w.journal.add(o)
		} else if o.Status != http.StatusConflict && c.tries < 60 {
			waiting = append(waiting, candidate{c.id, c.nonce, time.Now(), c.tries + 1})
		}
	}
}

// candidate is an entry that will be a dead letter, or is one.
type candidate struct {
	id, nonce string
	since     time.Time
	tries     int
}

func (w *World) candidates() []candidate {
	w.mu.Lock()
	defer w.mu.Unlock()
	found := w.doomed
	w.doomed = nil
	return found
}

// willDie notes an entry that becomes a dead letter and is to be put back.
func (w *World) willDie(id, nonce string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.doomed = append(w.doomed, candidate{id, nonce, time.Now(), 0})
}
