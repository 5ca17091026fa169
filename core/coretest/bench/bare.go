//go:build linux

package main

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"slices"
)

// serveBare is what PiCloud is compared with: the same answers from net/http and nothing else, in a process of its own.
func serveBare(address string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]string{"message": "hello"})
	})
	mux.HandleFunc("POST /orders", bareOrders)
	return http.ListenAndServe(address, mux)
}

type orderLine struct {
	Item  string  `json:"item"`
	Count int     `json:"count"`
	Price float64 `json:"price"`
}

// bareOrders does what orders.go.txt does.
func bareOrders(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var order struct {
		Lines []orderLine `json:"lines"`
	}
	if err := json.Unmarshal(body, &order); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	slices.SortFunc(order.Lines, func(a, b orderLine) int { return cmp.Compare(b.Price, a.Price) })
	total := 0.0
	for _, l := range order.Lines {
		total += l.Price * float64(l.Count)
	}
	answer(w, map[string]any{"lines": order.Lines, "total": total})
}

func answer(w http.ResponseWriter, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data) // the caller may be gone
}
