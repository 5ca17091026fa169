package ingress

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// problem is an error for a caller of the public listener, as RFC 9457 has it.
type problem struct {
	Status     int
	Kind       string // a stable word
	Detail     string
	Execution  uuid.UUID
	RetryAfter time.Duration
}

func (p problem) write(w http.ResponseWriter) { p.response().write(w) }

func (p problem) response() response {
	body := map[string]any{
		"type": "urn:picloud:problem:" + p.Kind, "title": http.StatusText(p.Status), "status": p.Status, "detail": p.Detail,
	}
	if p.Execution != uuid.Nil {
		body["execution_id"] = p.Execution
	}
	out := response{status: p.Status, header: http.Header{}}
	if p.RetryAfter > 0 {
		seconds := (p.RetryAfter + time.Second - 1) / time.Second
		out.header.Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	out.header.Set("Content-Type", "application/problem+json")
	out.encode(body)
	return out
}

// writeJSON writes a JSON answer.
func writeJSON(w http.ResponseWriter, status int, body any) {
	out := response{status: status, header: http.Header{"Content-Type": {"application/json"}}}
	out.encode(body)
	out.write(w)
}

// encode sets the body, which is made of what always can be encoded.
func (a *response) encode(body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		a.status, encoded = http.StatusInternalServerError, []byte("{}")
	}
	a.header.Set("X-Content-Type-Options", "nosniff")
	a.body = append(encoded, '\n')
}
