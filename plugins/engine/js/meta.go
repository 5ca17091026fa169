package js

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

// What a script sees of its run, as the prelude reads it.
type (
	metaContext struct {
		ExecutionID string        `json:"executionId"`
		Attempt     int           `json:"attempt"`
		SDKVersion  string        `json:"sdkVersion"`
		Event       metaEvent     `json:"event"`
		Request     metaRequest   `json:"request"`
		Batch       []metaMessage `json:"batch"`
	}
	metaEvent struct {
		ID          string `json:"id"`
		Source      string `json:"source"`
		Type        string `json:"type"`
		Subject     string `json:"subject"`
		Time        string `json:"time"`
		ContentType string `json:"contentType"`
	}
	metaRequest struct {
		Method  string              `json:"method"`
		Host    string              `json:"host"`
		Path    string              `json:"path"`
		Rest    string              `json:"rest"`
		Headers map[string][]string `json:"headers"`
		Query   map[string][]string `json:"query"`
		Params  map[string]string   `json:"params"`
	}
	metaMessage struct {
		ID      string    `json:"id"`
		Attempt int       `json:"attempt"`
		Event   metaEvent `json:"event"`
	}
)

func newEvent(e *picloud.Event) metaEvent {
	return metaEvent{
		ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, Time: e.Time.UTC().Format(time.RFC3339Nano), ContentType: e.ContentType,
	}
}

// meta is the context of a run but for its bodies, which are fetched when they are read.
func meta(c *picloud.Context) (string, error) {
	q := &c.Request
	m := metaContext{
		ExecutionID: c.ExecutionID, Attempt: c.Attempt, SDKVersion: c.SDKVersion, Event: newEvent(&c.Event),
		Request: metaRequest{
			Method: q.Method, Host: q.Host, Path: q.Path, Rest: q.Rest, Headers: q.Headers, Query: q.Query, Params: q.Params,
		},
	}
	if q.Headers == nil { // no request over HTTP
		m.Request.Headers, m.Request.Query, m.Request.Params = map[string][]string{}, map[string][]string{}, map[string]string{}
	}
	if batch := c.Batch(); batch != nil {
		m.Batch = make([]metaMessage, len(batch))
		for i := range batch {
			m.Batch[i] = metaMessage{ID: batch[i].ID, Attempt: batch[i].Attempt, Event: newEvent(&batch[i].Event)}
		}
	}
	b, err := json.Marshal(m)
	return string(b), err
}

// strict reads JSON that may hold nothing but what out has.
func strict(text string, out any) error {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	return d.Decode(out)
}
