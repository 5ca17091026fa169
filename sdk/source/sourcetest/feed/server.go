package feed

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"

	"github.com/picloud/picloud/sdk/source/sourcetest"
)

// Server has a list of items. It is a sourcetest.Feed.
type Server struct {
	URL string

	mu      sync.Mutex
	mode    sourcetest.Mode
	items   []Item
	changed chan struct{} // closed when something is there that was not
}

// NewServer serves an empty list until the test ends.
func NewServer(tb testing.TB) *Server {
	s := &Server{changed: make(chan struct{})}
	server := httptest.NewServer(s)
	tb.Cleanup(server.CloseClientConnections) // before Close, which waits for them
	tb.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	s.URL = server.URL
	return s
}

// Config is a configuration that follows the list.
func (s *Server) Config() []byte { return fmt.Appendf(nil, `{"url": %q, "batch": 10}`, s.URL) }

// Happen adds an item for each text.
func (s *Server) Happen(texts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range texts {
		data, _ := json.Marshal(text) // a string can be encoded
		s.items = append(s.items, Item{ID: fmt.Sprintf("item-%d", len(s.items)+1), Data: data})
	}
	s.tell()
}

// Set changes how the server answers.
func (s *Server) Set(m sourcetest.Mode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mode = m
	s.tell()
}

func (s *Server) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	after, err := strconv.Atoi(r.FormValue("after"))
	limit, bad := strconv.Atoi(r.FormValue("limit"))
	if err != nil || bad != nil || after < 0 || limit < 1 {
		http.Error(w, "after and limit are numbers", http.StatusBadRequest)
		return
	}
	for {
		s.mu.Lock()
		mode, items, changed := s.mode, s.items[min(after, len(s.items)):], s.changed
		s.mu.Unlock()
		switch {
		case mode == sourcetest.Garbage:
			_, _ = w.Write([]byte("\x00\xff[{")) // whoever reads it may have gone
			return
		case mode == sourcetest.Normal && len(items) > 0:
			_ = json.NewEncoder(w).Encode(items[:min(limit, len(items))]) // the same
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}
