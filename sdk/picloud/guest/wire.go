// Package guest makes a WebAssembly module of a script that is written in Go, for the engine plugins/engine/wasm. The function is
// the same that the Go engine interprets, see sdk/picloud, and may use all of Go:
//
//	func Handle(ctx *picloud.Context) (any, error) { … }
//
//	func main() { guest.Serve(Handle) }
//
// built by
//
//	GOOS=wasip1 GOARCH=wasm go build -ldflags=-s -o hello.wasm .
//
// has every run begin with a fresh program, which takes some milliseconds. With
//
//	func init() { guest.Register(Handle) }
//
// beside it, and -buildmode=c-shared, the program is started once and serves call after call: globals stay, as those of
// interpreted scripts do. A goroutine that goes on after Handle has returned stands still until the next call.
//
// The types of this file are the JSON between the host and any module, in whatever language.
package guest

import (
	"encoding/json"
	"time"

	"github.com/picloud/picloud/sdk/event"
)

// Input is what a run is told.
type Input struct {
	ExecutionID string `json:"execution_id"`
	Attempt     int    `json:"attempt"`
	SDKVersion  string `json:"sdk_version"`
	// Deadline is when the run ends at the latest; zero: nobody knows.
	Deadline time.Time `json:"deadline,omitzero"`
	Event    Event     `json:"event"`
	Request  *Request  `json:"request,omitempty"` // of an event that is an HTTP request
	// Body is the event's data if it is UTF-8, else BodyBase64 is.
	Body       string `json:"body,omitempty"`
	BodyBase64 []byte `json:"body_base64,omitempty"`
	// Batch is in place of the body of a run for several events: a list of event.BatchItem.
	Batch json.RawMessage `json:"batch,omitempty"`
}

// Event is the envelope of an event.
type Event struct {
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Subject     string    `json:"subject,omitempty"`
	Time        time.Time `json:"time"`
	ContentType string    `json:"content_type,omitempty"`
}

// Request is the head of an HTTP request. Bytes that are not UTF-8 became U+FFFD.
type Request struct {
	Method  string              `json:"method"`
	Host    string              `json:"host"`
	Path    string              `json:"path"`
	Rest    string              `json:"rest,omitempty"`
	Headers map[string][]string `json:"headers,omitempty"` // names in canonical form
	Query   map[string][]string `json:"query,omitempty"`
	Params  map[string]string   `json:"params,omitempty"`
}

// Answer is what a run says. One that says nothing at all is answered with status 204.
type Answer struct {
	Status  int               `json:"status,omitempty"`  // 200 if absent
	Headers map[string]Values `json:"headers,omitempty"` // a Content-Type is set where there is none
	// At most one of them is the body: any JSON, a text, or bytes.
	Body   json.RawMessage `json:"body,omitempty"`
	Text   *string         `json:"text,omitempty"`
	Base64 *[]byte         `json:"base64,omitempty"`
	// Failures, even none, answer a run for several events: these have failed, the others not.
	Failures *[]event.BatchFailure `json:"failures,omitempty"`
	// Error makes the run fail.
	Error *Error `json:"error,omitempty"`
}

// Values are those of a header: a text or a list of texts.
type Values []string

// UnmarshalJSON takes both forms.
func (v *Values) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*v = make(Values, 1)
		return json.Unmarshal(b, &(*v)[0])
	}
	return json.Unmarshal(b, (*[]string)(v))
}

// Error is how a run failed.
type Error struct {
	Message      string `json:"message"`
	RetryAfterMS int64  `json:"retry_after_ms,omitempty"` // try again after this; zero: as the back-off says
	Fatal        bool   `json:"fatal,omitempty"`          // do not try again
	Invalid      bool   `json:"invalid,omitempty"`        // it has not failed, but what it returned cannot be sent
}

// Refusal is what a service of the host answers in place of a result.
type Refusal struct {
	Code         string `json:"code"`
	Message      string `json:"message"`
	RetryAfterMS int64  `json:"retry_after_ms,omitempty"`
}
