package js

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"modernc.org/quickjs"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
)

// What the prelude asks for: op in prelude.js.
const (
	opLog = iota
	opCall
	opTimer
	opClear
	opSettle
	opText
	opBytes
	opRandom
	opEncode
	opDecode
	opUUID
	opAsk
	opCompute
	opWait
	opLibrary
)

// parts is how many arguments each has.
var parts = [...]int{opLog: 3, opCall: 5, opTimer: 2, opClear: 1, opSettle: 1, opText: 1, opBytes: 1, opRandom: 1, opEncode: 1, opDecode: 2, opUUID: 0, opAsk: 4, opCompute: 2, opWait: 5, opLibrary: 1}

// asked does what the prelude asks for. The arguments may be anything; an error is thrown in the script.
func (r *run) asked(op int, args []any) (any, error) {
	if op < 0 || op >= len(parts) || len(args) < parts[op] {
		return nil, errors.New("the platform has no such function")
	}
	switch op {
	case opLog:
		r.inv.Log(engine.Log{Time: time.Now(), Level: word(args[0]), Message: word(args[1]), Data: []byte(word(args[2]))})
	case opCall:
		return quickjs.Undefined{}, r.send(int(number(args[0])), word(args[1]), word(args[2]), word(args[3]), word(args[4]))
	case opAsk:
		return quickjs.Undefined{}, r.ask(int(number(args[0])), word(args[1]), word(args[2]), word(args[3]))
	case opTimer:
		at := time.Now().Add(time.Duration(number(args[1]) * float64(time.Millisecond)))
		r.timers.add(timer{at, int(number(args[0]))})
		return quickjs.Undefined{}, r.bound()
	case opClear:
		r.timers.remove(int(number(args[0])))
	case opSettle:
		r.settle(args)
	case opText:
		return string(r.body(args[0])), nil
	case opBytes:
		return base64.StdEncoding.EncodeToString(r.body(args[0])), nil
	case opRandom:
		b := make([]byte, min(max(0, int(number(args[0]))), 1<<16))
		_, err := rand.Read(b)
		return base64.StdEncoding.EncodeToString(b), err
	case opEncode:
		return base64.StdEncoding.EncodeToString([]byte(word(args[0]))), nil
	case opDecode:
		b, err := base64.StdEncoding.DecodeString(word(args[0]))
		if err != nil || number(args[1]) == 1 && !utf8.Valid(b) {
			return quickjs.Undefined{}, err
		}
		return string(b), nil
	case opUUID:
		return picloud.UUID(), nil
	case opCompute:
		return compute(int(number(args[0])), word(args[1]))
	case opLibrary:
		return libraries()[word(args[0])], nil
	case opWait:
		return r.nextAttempt(number(args[0]), number(args[1]), number(args[2]), number(args[3]), number(args[4]) == 1)
	}
	return quickjs.Undefined{}, nil
}

// nextAttempt is how many milliseconds to wait for the next attempt of ctx.retry, below zero if there is none. Attempt 0 is before
// the first, where the options are looked at.
func (r *run) nextAttempt(attempt, attempts, backoff, after float64, fatal bool) (any, error) {
	wait, err := milliseconds("backoffMs", backoff)
	if err != nil {
		return nil, err
	}
	if attempts != float64(int(attempts)) || attempts < 1 {
		return nil, errors.New("attempts must be a whole number from 1 on")
	}
	o := &picloud.RetryOptions{Attempts: int(attempts), Backoff: wait}
	if err := picloud.CheckRetry(o); err != nil || attempt == 0 {
		return 0, err
	}
	failed := errors.New("failed")
	if later, err := milliseconds("retryAfterMs", after); err == nil {
		failed = picloud.RetryAfter(failed, later)
	}
	if fatal {
		failed = picloud.Fatal(failed)
	}
	next, again := picloud.NextAttempt(r, o, int(attempt), failed)
	if !again {
		return -1, nil
	}
	return float64(next) / float64(time.Millisecond), nil
}

// body is that of the event, or of one of its batch, counted from 1.
func (r *run) body(which any) []byte {
	i := int(number(which))
	if batch := r.picloud.Batch(); i > 0 && i <= len(batch) {
		return batch[i-1].Body
	}
	return r.picloud.Request.Body
}

// bound ends a run that waits for too much.
func (r *run) bound() error {
	if len(r.timers)+r.open+len(r.queued) <= r.program.waits {
		return nil
	}
	f := fault.New(fault.Limit, fault.Script, "the script waits for more than %d timers and calls at one time", r.program.waits)
	r.cancel(f)
	return f
}

// delivery is picloud.Delivery as scripts write it.
type delivery struct {
	DelayMS        float64 `json:"delayMs"`
	RunAt          *string `json:"runAt"`
	ExpiresInMS    float64 `json:"expiresInMs"`
	Priority       int     `json:"priority"`
	MaxAttempts    int     `json:"maxAttempts"`
	OrderingKey    string  `json:"orderingKey"`
	ConcurrencyKey string  `json:"concurrencyKey"`
	RateKey        string  `json:"rateKey"`
	DebounceKey    string  `json:"debounceKey"`
	IdempotencyKey string  `json:"idempotencyKey"`
}

// send begins a call of the host. Its answer comes as a turn of the event loop.
func (r *run) send(id int, service, name, items, how string) error {
	data, err := itemsOf(items)
	if err != nil {
		return err
	}
	return r.begin(func() completion {
		var d *picloud.Delivery
		var err error
		if how != "" {
			d, err = deliveryOf(how)
		}
		var ids []string
		if err == nil {
			ids, err = r.sent(service, name, data, d)
		}
		return completed(id, service, ids, err)
	})
}

// ask begins a call of a service that the table lists.
func (r *run) ask(id int, service, method, args string) error {
	return r.begin(func() completion {
		answer, err := picloud.Ask(r, service, method, []byte(args))
		if err != nil {
			return completed(id, "", nil, err)
		}
		return completion{id, 1, string(answer)}
	})
}

// begin makes a call of the host beside the script, or has it wait for its turn.
func (r *run) begin(call func() completion) error {
	if r.open == openCalls {
		r.queued = append(r.queued, call)
	} else {
		r.start(call)
	}
	return r.bound()
}

func (r *run) sent(service, name string, data []any, d *picloud.Delivery) (ids []string, err error) {
	if service == "queue.sendAll" {
		return r.picloud.Queue(name).SendAll(data, d)
	}
	if len(data) != 1 {
		return nil, &picloud.Error{Code: picloud.InvalidArgument, Message: "one message is sent at a time"}
	}
	var id string
	if service == "queue.send" {
		id, err = r.picloud.Queue(name).Send(data[0], d)
	} else {
		id, err = r.picloud.Invoke(name, data[0], d)
	}
	return []string{id}, err
}

// completed is the answer of a call as the prelude reads it.
func completed(id int, service string, ids []string, err error) completion {
	var answer any
	var refused *picloud.Error
	switch {
	case errors.As(err, &refused):
		answer = map[string]any{
			"code": refused.Code, "message": refused.Message, "retryAfterMs": refused.RetryAfter.Milliseconds(), "ids": idsOf(service, ids),
		}
	case err != nil:
		answer = map[string]any{"code": string(fault.Internal), "message": err.Error()}
	case service == "queue.sendAll":
		answer = append([]string{}, ids...)
	default:
		answer = ids[0]
	}
	text, _ := json.Marshal(answer) // texts and numbers always encode
	if err != nil {
		return completion{id, 0, string(text)}
	}
	return completion{id, 1, string(text)}
}

// idsOf is what was sent of several messages, where some were not.
func idsOf(service string, ids []string) []string {
	if service != "queue.sendAll" {
		return nil
	}
	return ids
}

// itemsOf reads what is to be sent, in the form that picloud takes.
func itemsOf(text string) ([]any, error) {
	var list [][2]string
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("read what is sent: %w", err)
	}
	data := make([]any, len(list))
	for i, item := range list {
		switch item[0] {
		case "text":
			data[i] = item[1]
		case "json":
			data[i] = encoded(item[1])
		case "bytes":
			b, err := base64.StdEncoding.DecodeString(item[1])
			if err != nil {
				return nil, fmt.Errorf("read what is sent: %w", err)
			}
			data[i] = b
		}
	}
	return data, nil
}

// year bounds what a script waits for.
const year = 366 * 24 * time.Hour

func deliveryOf(text string) (*picloud.Delivery, error) {
	var in delivery
	if err := strict(text, &in); err != nil {
		return nil, &picloud.Error{Code: picloud.InvalidArgument, Message: misread(err)}
	}
	delay, err1 := milliseconds("delayMs", in.DelayMS)
	expires, err2 := milliseconds("expiresInMs", in.ExpiresInMS)
	at, err3 := moment("runAt", in.RunAt)
	if err := cmp.Or(err1, err2, err3); err != nil {
		return nil, &picloud.Error{Code: picloud.InvalidArgument, Message: err.Error()}
	}
	return &picloud.Delivery{
		Delay: delay, RunAt: at, ExpiresIn: expires, Priority: in.Priority, MaxAttempts: in.MaxAttempts, OrderingKey: in.OrderingKey,
		ConcurrencyKey: in.ConcurrencyKey, RateKey: in.RateKey, DebounceKey: in.DebounceKey, IdempotencyKey: in.IdempotencyKey,
	}, nil
}

// misread says what is wrong with a delivery in words of the script's language.
func misread(err error) string {
	var wrong *json.UnmarshalTypeError
	switch name, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); {
	case unknown:
		return "a delivery has no option " + name
	case !errors.As(err, &wrong):
		return "the delivery cannot be read: " + err.Error()
	case wrong.Field == "":
		return "a delivery has to be an object"
	case wrong.Type.Kind() == reflect.String:
		return wrong.Field + " has to be a text"
	case wrong.Type.Kind() == reflect.Float64:
		return wrong.Field + " has to be a number"
	}
	return wrong.Field + " has to be a whole number"
}

// moment reads a time, zero where there is none.
func moment(name string, text *string) (t time.Time, err error) {
	if text == nil {
		return t, nil
	}
	if t, err = time.Parse(time.RFC3339, *text); err != nil {
		return t, fmt.Errorf("%s must be a Date, or a time such as 2026-01-02T15:04:05Z", name)
	}
	return t, nil
}

func milliseconds(name string, ms float64) (time.Duration, error) {
	if !(ms >= 0 && ms <= float64(year.Milliseconds())) {
		return 0, fmt.Errorf("%s must be a number of milliseconds, at most a year", name)
	}
	return time.Duration(ms * float64(time.Millisecond)), nil
}

// settle takes how handle ended. The first time counts, but for a failure, which nothing may hide.
func (r *run) settle(args []any) {
	kind := word(args[0])
	text := make([]string, 4)
	for i := range text {
		if i+1 < len(args) {
			text[i] = word(args[i+1])
		}
	}
	if kind == "failed" || kind == "invalid" {
		if r.failed == nil {
			f := r.thrown(text[0])
			if kind == "invalid" && f.Kind == fault.ScriptError {
				f.Kind, f.Message = fault.InvalidResponse, "what the script returned cannot be sent: "+f.Message
			}
			r.failed = f
		}
		r.settled = true
		return
	}
	if r.settled {
		return
	}
	r.settled = true
	var err error
	switch kind {
	case "none":
	case "json":
		r.result = encoded(text[0])
	case "batch":
		r.result, err = batchResult(text[0])
	default:
		status := 0.0
		if len(args) > 1 {
			status = number(args[1])
		}
		r.result, err = response(status, text[1], text[2], text[3])
	}
	if err != nil {
		r.failed = fault.New(fault.InvalidResponse, fault.Script, "what the script returned cannot be sent: %v", err)
	}
}

// thrown is the fault of what a script threw, as the prelude describes it.
func (r *run) thrown(description string) *fault.Fault {
	var d struct {
		Name, Message, Stack string
		Fatal                bool
		After                *float64
	}
	if err := json.Unmarshal([]byte(description), &d); err != nil {
		d.Message = "the script threw what cannot be shown"
	}
	if d.Name == "InternalError" || d.Name == "TypeError" || d.Name == "" {
		if limit := r.exhausted(d.Name, d.Message); limit != nil {
			r.broken = true
			return limit
		}
	}
	f := picloud.Failed(errors.New(fault.Cut(d.Message, maxMessage)))
	if d.After != nil {
		after, err := milliseconds("", *d.After)
		if err == nil {
			f = picloud.Failed(picloud.RetryAfter(errors.New(f.Message), after))
		}
	}
	if d.Fatal {
		f.RetryAfter, f.Fatal = 0, true
	}
	lines, _ := r.program.trace(d.Stack)
	f.Detail = strings.Join(lines, "\n") // the message stands before it, wherever both are shown
	return f
}

// maxMessage bounds what is told of an error, in bytes.
const maxMessage = 16 << 10

func batchResult(text string) (picloud.BatchResult, error) {
	var out picloud.BatchResult
	var list []struct {
		ID           string
		Error        string
		RetryAfterMS float64 `json:"retryAfterMs"`
		Fatal        bool
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return out, fmt.Errorf("a BatchResult takes a list of {id, error, retryAfterMs, fatal}: %w", err)
	}
	for _, f := range list {
		after, err := milliseconds("retryAfterMs", f.RetryAfterMS)
		if err != nil {
			return out, err
		}
		out.Failures = append(out.Failures, picloud.Failure{ID: f.ID, Error: f.Error, RetryAfter: after, Fatal: f.Fatal})
	}
	return out, nil
}

// response makes what the script returned as one; kind says what its body is.
func response(status float64, headers, kind, body string) (picloud.Response, error) {
	out := picloud.Response{Status: -1, Headers: http.Header{}}
	if status == float64(int(status)) && status != 0 {
		out.Status = int(status)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(headers), &fields); err != nil {
		return out, errors.New("headers are an object of texts, or lists of them")
	}
	for name, value := range fields {
		values, ok := value.([]any)
		if !ok {
			values = []any{value}
		}
		for _, v := range values {
			text, ok := v.(string)
			if !ok {
				return out, fmt.Errorf("headers are texts, or lists of them: %s is %v", name, v)
			}
			out.Headers[name] = append(out.Headers[name], text)
		}
	}
	switch kind {
	case "text":
		out.Body = body
	case "json":
		out.Body = encoded(body)
	case "bytes":
		b, err := base64.StdEncoding.DecodeString(body)
		if err != nil {
			return out, err
		}
		out.Body = b
	}
	return out, nil
}
