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

func (p problem) write(w http.ResponseWriter) {
	body := map[string]any{
		"type": "urn:picloud:problem:" + p.Kind, "title": http.StatusText(p.Status), "status": p.Status, "detail": p.Detail,
	}
	if p.Execution != uuid.Nil {
		body["execution_id"] = p.Execution
	}
	if p.RetryAfter > 0 {
		seconds := (p.RetryAfter + time.Second - 1) / time.Second
		w.Header().Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	writeJSON(w, p.Status, body)
}

// writeJSON writes a JSON answer, keeping a content type that is set already.
func writeJSON(w http.ResponseWriter, status int, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(encoded, '\n')) // a caller that is gone needs no answer
}
