// partner plays the partner who is told of payments: it takes signed requests at POST /payments, and says at GET / what it has taken.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
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

const key = "cGljbG91ZCBleGFtcGxlIGtleSwgbm90IHNlY3JldA==" // that of payments.key

func main() {
	address := flag.String("listen", "localhost:9000", "`address` to listen at")
	flag.Parse()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, handler()))
}

func handler() http.Handler {
	var mu sync.Mutex
	taken := []json.RawMessage{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /payments", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !signed(r.Header, body) {
			http.Error(w, "the signature is wrong", http.StatusUnauthorized)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		taken = append(taken, body)
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(w).Encode(taken)
	})
	return mux
}

// signed checks as https://www.standardwebhooks.com says, but for the age.
func signed(h http.Header, body []byte) bool {
	secret, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.%s", h.Get("Webhook-Id"), h.Get("Webhook-Timestamp"), body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, one := range strings.Fields(h.Get("Webhook-Signature")) {
		if hmac.Equal([]byte(one), []byte(want)) {
			return true
		}
	}
	return false
}
