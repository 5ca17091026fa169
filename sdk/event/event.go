// Package event is the envelope of an event: the immutable fact that a source reports and a script receives.
// It is the first thing on the line: whoever accepts an event encodes it once, and the bytes travel unchanged through
// the outbox to the engine.
package event

import "time"

// Envelope is everything about an event but its data. Text in HTTP is as the caller sent it: it may hold any byte.
type Envelope struct {
	ID      string    // the fact; stable over deliveries and attempts
	Source  string    // who reports it, such as "http" or "cron"
	Type    string    // what happened, such as "http.request"
	Subject string    // what it is about; may be empty
	Time    time.Time // when it was accepted
	// ContentType describes the data; empty where the source did not say.
	ContentType string
	TraceParent string // W3C trace context; empty where the caller sent none
	HTTP        *HTTP  // set where the event is an HTTP request
}

// HTTP is the head of a request as the public listener took it in.
type HTTP struct {
	Method     string
	Host       string
	Path       string // decoded
	Query      string // raw, without "?"
	RemoteAddr string
	Headers    []Header // names in canonical form; values of one name in the order of arrival
	Params     []Param  // of the route, in the order of the pattern
	Rest       string   // what {rest...} matched, without a leading slash
}

// Header is one header line.
type Header struct{ Name, Value string }

// Param is one path parameter of a route.
type Param struct{ Name, Value string }
