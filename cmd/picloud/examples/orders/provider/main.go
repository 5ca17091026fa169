// Command provider plays a payment provider, at localhost:9000. It fails at the first call for each order, refuses more than 1,000.00,
// and can be closed and opened: PUT /open with false or true.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
)

type provider struct {
	mu     sync.Mutex
	closed bool
	calls  map[string]int // by the order
}

func main() {
	listen := flag.String("listen", "localhost:9000", "`address` to listen at")
	flag.Parse()
	p := &provider{calls: map[string]int{}}
	http.HandleFunc("POST /pay", p.pay)
	http.HandleFunc("PUT /open", p.open)
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("http://%s\n", l.Addr())
	log.Fatal(http.Serve(l, nil))
}

func (p *provider) open(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 10))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = strings.TrimSpace(string(body)) != "true"
}

func (p *provider) pay(w http.ResponseWriter, r *http.Request) {
	var in struct{ Cents int }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	key := r.Header.Get("Idempotency-Key")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[key]++
	switch {
	case in.Cents > 100_000:
		http.Error(w, "refused", http.StatusPaymentRequired)
	case p.closed || p.calls[key] == 1:
		http.Error(w, "later", http.StatusServiceUnavailable)
	default:
		_ = json.NewEncoder(w).Encode(map[string]string{"receipt": "r-" + key})
	}
}
