package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// A run may handle several events at once. It is one invocation all the same: its envelope has the type BatchType, and
// its body is a Batch as JSON. A script that knows of batches answers with a BatchResult as JSON, under a Content-Type
// of BatchContentType; any other answer says that all went well. A run that fails has failed for all, and so has one that names a failure
// of something else, but for the events that it names.
const (
	BatchType        = "picloud.batch"
	BatchContentType = "application/vnd.picloud.batch+json"
)

// Batch is the body of an invocation for several events.
type Batch struct {
	Items []BatchItem `json:"items"`
}

// BatchItem is one event of a batch.
type BatchItem struct {
	ID      string    `json:"id"`      // of its entry: what would be the execution id if it came alone
	Attempt int       `json:"attempt"` // of this event: others of the batch may have another
	Event   BatchHead `json:"event"`
	// Body is the event's data if it is UTF-8, else BodyBase64 is; see Data.
	Body       string `json:"body,omitempty"`
	BodyBase64 []byte `json:"body_base64,omitempty"`
}

// BatchHead is what a batch tells of an envelope.
type BatchHead struct {
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Subject     string    `json:"subject,omitempty"`
	Time        time.Time `json:"time"`
	ContentType string    `json:"content_type,omitempty"`
}

// BatchResult tells which events of a batch failed. The others are done.
type BatchResult struct {
	Failures []BatchFailure `json:"failures"`
}

// BatchFailure is how one event failed.
type BatchFailure struct {
	ID           string `json:"id"` // of the item
	Error        string `json:"error"`
	RetryAfterMS int64  `json:"retry_after_ms,omitempty"` // zero: no wish
	Fatal        bool   `json:"fatal,omitempty"`          // trying again cannot help
}

// NewBatchItem makes an item of an event.
func NewBatchItem(id string, attempt int, e *Envelope, body []byte) BatchItem {
	item := BatchItem{ID: id, Attempt: attempt, Event: BatchHead{
		ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, Time: e.Time, ContentType: e.ContentType,
	}}
	if utf8.Valid(body) {
		item.Body = string(body)
	} else {
		item.BodyBase64 = body
	}
	return item
}

// Data is the event's data.
func (i *BatchItem) Data() []byte {
	if i.BodyBase64 != nil {
		return i.BodyBase64
	}
	return []byte(i.Body)
}

// ParseBatchResult reads what a run answered.
func ParseBatchResult(b []byte) (*BatchResult, error) {
	var r BatchResult
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("read the result of a batch: %w", err)
	}
	for _, f := range r.Failures {
		if f.ID == "" {
			return nil, errors.New("read the result of a batch: a failure has no id")
		}
	}
	return &r, nil
}
