package picloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// Delivery says how one event is delivered, beyond what the policy of its queue or script says. Zero fields leave the
// policy's value.
type Delivery struct {
	Delay       time.Duration // before the first attempt
	RunAt       time.Time     // instead of Delay
	ExpiresIn   time.Duration // an event that has not started by then is given up
	Priority    int           // from -100 to 100, the lower the earlier
	MaxAttempts int
	// OrderingKey keeps events of one key in order: the next waits until the one before has ended for good.
	OrderingKey string
	// ConcurrencyKey, RateKey and DebounceKey are what the limits of the policy are counted by.
	ConcurrencyKey string
	RateKey        string
	DebounceKey    string
	// IdempotencyKey makes a second call with the same key and content, within a day, return the id of the first. A run
	// that is tried again sends nothing twice if it makes its keys from ctx.ExecutionID.
	IdempotencyKey string
}

// Queue is a queue of the app.
type Queue struct {
	name    string
	runtime Runtime
}

// Invoke has another script of the app run with data as its body, and returns the id of that execution once the event is
// safe; nobody waits for the answer. A []byte is sent as it is, a string as text, nil as nothing, anything else as JSON.
// Errors are *Error: LoopDepth and LoopBudget stop scripts that call one another for ever.
func (c *Context) Invoke(script string, data any, opts ...*Delivery) (id string, err error) {
	m, err := newMessage(c.runtime, data, opts)
	if err != nil {
		return "", err
	}
	var answer struct{ ID string }
	err = call(c.runtime, "invoke", "send", struct {
		Script string `json:"script"`
		message
	}{script, m}, &answer)
	return answer.ID, err
}

// Queue names a queue of the app. It asks nobody; a queue that does not exist is noticed when something is sent.
func (c *Context) Queue(name string) *Queue { return &Queue{name: name, runtime: c.runtime} }

// Send puts a message into the queue and returns its id once it is safe. data and errors are as with Context.Invoke.
func (q *Queue) Send(data any, opts ...*Delivery) (id string, err error) {
	m, err := newMessage(q.runtime, data, opts)
	if err != nil {
		return "", err
	}
	ids, err := q.send([]message{m})
	if len(ids) == 1 {
		id = ids[0]
	}
	return id, err
}

// SendAll sends up to 100 messages at once, 15 MiB together, all delivered as opts says; of an IdempotencyKey each has
// its own, with its place in messages added. ids are those of the messages in their order. With an error some were not
// sent: those have an empty id, and the error is that of the first of them. Where nothing could be sent ids is empty.
func (q *Queue) SendAll(messages []any, opts ...*Delivery) (ids []string, err error) {
	list := make([]message, len(messages))
	for i, data := range messages {
		m, err := newMessage(q.runtime, data, opts)
		if err != nil {
			if e := (*Error)(nil); errors.As(err, &e) {
				e.Message = fmt.Sprintf("message %d: %s", i, e.Message)
			}
			return nil, err
		}
		if d := m.Delivery; d != nil && d.IdempotencyKey != "" {
			d.IdempotencyKey += keyText("/" + strconv.Itoa(i))
		}
		list[i] = m
	}
	return q.send(list)
}

// QueueDepth is how a queue stands.
type QueueDepth struct {
	Waiting, Running int           // messages, counted up to 10,000 of each state
	OldestAge        time.Duration // of those that wait
}

// Depth says how the queue stands.
func (q *Queue) Depth() (QueueDepth, error) {
	var answer struct {
		Waiting     int   `json:"waiting"`
		Running     int   `json:"running"`
		OldestAgeMS int64 `json:"oldest_age_ms"`
	}
	err := call(q.runtime, "queue", "depth", map[string]string{"queue": q.name}, &answer)
	return QueueDepth{answer.Waiting, answer.Running, time.Duration(answer.OldestAgeMS) * time.Millisecond}, err
}

// Purge ends messages of the queue that wait, up to 10,000, and returns how many; more says that others may
// wait still. Those that run are left alone.
func (q *Queue) Purge() (purged int, more bool, err error) {
	var answer struct {
		Purged int
		More   bool
	}
	err = call(q.runtime, "queue", "purge", map[string]string{"queue": q.name}, &answer)
	return answer.Purged, answer.More, err
}

func (q *Queue) send(messages []message) (ids []string, err error) {
	var answer struct {
		Messages []struct {
			ID           string `json:"id"`
			Code         string `json:"code"`
			Error        string `json:"error"`
			RetryAfterMS int64  `json:"retry_after_ms"`
		} `json:"messages"`
	}
	if err := call(q.runtime, "queue", "send", struct {
		Queue    string    `json:"queue"`
		Messages []message `json:"messages"`
	}{q.name, messages}, &answer); err != nil {
		return nil, err
	}
	for _, m := range answer.Messages {
		ids = append(ids, m.ID)
		if m.Code != "" && err == nil {
			err = &Error{Code: m.Code, Message: m.Error, RetryAfter: time.Duration(m.RetryAfterMS) * time.Millisecond}
		}
	}
	return ids, err
}

// message is an event as services take it. Data is its data if that is UTF-8, else DataBase64 is.
type message struct {
	Data        string    `json:"data,omitempty"`
	DataBase64  []byte    `json:"data_base64,omitempty"`
	ContentType string    `json:"content_type,omitempty"`
	Delivery    *delivery `json:"delivery,omitempty"`
}

// delivery is Delivery as services take it.
type delivery struct {
	DelayMS        int64     `json:"delay_ms,omitempty"`
	RunAt          time.Time `json:"run_at,omitzero"`
	ExpiresInMS    int64     `json:"expires_in_ms,omitempty"`
	Priority       int       `json:"priority,omitempty"`
	MaxAttempts    int       `json:"max_attempts,omitempty"`
	OrderingKey    keyText   `json:"ordering_key,omitempty"`
	ConcurrencyKey keyText   `json:"concurrency_key,omitempty"`
	RateKey        keyText   `json:"rate_key,omitempty"`
	DebounceKey    keyText   `json:"debounce_key,omitempty"`
	IdempotencyKey keyText   `json:"idempotency_key,omitempty"`
}

// wire is d as it travels.
func (d *Delivery) wire() *delivery {
	return &delivery{
		DelayMS: milliseconds(d.Delay), RunAt: d.RunAt, ExpiresInMS: milliseconds(d.ExpiresIn), Priority: d.Priority,
		MaxAttempts: d.MaxAttempts, OrderingKey: keyText(d.OrderingKey), ConcurrencyKey: keyText(d.ConcurrencyKey), RateKey: keyText(d.RateKey),
		DebounceKey: keyText(d.DebounceKey), IdempotencyKey: keyText(d.IdempotencyKey),
	}
}

func newMessage(r Runtime, data any, opts []*Delivery) (m message, err error) {
	var b []byte
	switch v := data.(type) {
	case nil:
	case []byte:
		b, m.ContentType = v, "application/octet-stream"
	case string:
		b, m.ContentType = []byte(v), "text/plain; charset=utf-8"
	default:
		if b, err = r.JSON(v); err != nil {
			return m, &Error{Code: InvalidArgument, Message: "the data cannot be sent: " + err.Error()}
		}
		m.ContentType = "application/json"
	}
	if utf8.Valid(b) {
		m.Data = string(b)
	} else {
		m.DataBase64 = b
	}
	if len(opts) > 1 {
		return m, &Error{Code: InvalidArgument, Message: "more than one Delivery: an event is delivered in one way"}
	}
	if len(opts) == 1 && opts[0] != nil {
		m.Delivery = opts[0].wire()
	}
	return m, nil
}

// milliseconds rounds away from zero, so that what was asked for is not nothing: a time to live that has just passed is wrong, not without end.
func milliseconds(d time.Duration) int64 {
	ms := d.Milliseconds()
	switch whole := time.Duration(ms) * time.Millisecond; {
	case d > whole:
		ms++
	case d < whole:
		ms--
	}
	return ms
}

// call asks a service with JSON and reads its answer.
func call(r Runtime, service, method string, args, answer any) error {
	b, err := json.Marshal(args)
	if err != nil { // a time beyond the year 9999, or a key
		if of := (*json.MarshalerError)(nil); errors.As(err, &of) {
			err = of.Err
		}
		return &Error{Code: InvalidArgument, Message: err.Error()}
	}
	b, err = Ask(r, service, method, b)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return serviceError(errors.New("the platform's answer cannot be read"))
	}
	return nil
}
