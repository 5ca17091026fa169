// Package webhook tells whether a request comes from whom it should: it checks the signatures with which services sign what
// they send, and reads from it what they call the event and how they number it. It stands beside core/ingress. Pure
// functions, no I/O.
package webhook

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // some services sign with it still, and its HMAC is not broken
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/picloud/picloud/core/tenant"
)

// Tolerance is how far from now the time of a signature may be, where the scheme signs one.
const Tolerance = 5 * time.Minute

// ErrSignature says that a request is not signed as it must be. Why is not told to the sender.
var ErrSignature = errors.New("the signature is missing or wrong")

// Delivery is what the sender says of a request.
type Delivery struct {
	ID    string // the same when it is sent again; empty: the sender does not say
	Event string // such as "push" or "invoice.paid"; empty: the sender does not say
	// Challenge is to be answered as it is: the sender asks whether somebody is there.
	Challenge string
}

// maxKeys is how many keys a secret may hold: each of them is tried.
const maxKeys = 10

// Keys reads the keys of a secret: a text, or a list of them, of which each is good while keys are exchanged.
func Keys(f *tenant.TriggerFilter, secret json.RawMessage) ([]string, error) {
	var one string
	var all []string
	if json.Unmarshal(secret, &one) == nil {
		all = []string{one}
	} else if json.Unmarshal(secret, &all) != nil || len(all) == 0 || len(all) > maxKeys {
		return nil, fmt.Errorf("it is neither a text nor a list of 1 to %d texts", maxKeys)
	}
	for _, key := range all {
		if key == "" {
			return nil, errors.New("it holds an empty key")
		}
		if f.Signature != tenant.SignatureStandard {
			continue
		}
		if _, err := standard.NewWebhook(key); err != nil {
			return nil, errors.New("it is no key of Standard Webhooks: whsec_ and base64")
		}
	}
	return all, nil
}

// Verify checks a request by the scheme that a trigger's filter names, with any of keys, and reads what its sender says. The
// error wraps ErrSignature.
func Verify(f *tenant.TriggerFilter, keys []string, h http.Header, body []byte, now time.Time) (Delivery, error) {
	s, ok := schemes[f.Signature]
	if !ok {
		return Delivery{}, fmt.Errorf("%w: there is no scheme %q", ErrSignature, f.Signature)
	}
	if f.Signature == tenant.SignatureNone {
		return Delivery{}, nil
	}
	for _, key := range keys {
		if s.signed(f, key, h, body, now) {
			return s.delivery(h, body), nil
		}
	}
	return Delivery{}, ErrSignature
}

// scheme is one way of signing.
type scheme struct {
	signed   func(f *tenant.TriggerFilter, key string, h http.Header, body []byte, now time.Time) bool
	delivery func(h http.Header, body []byte) Delivery
}

var schemes = map[string]scheme{
	tenant.SignatureStandard: {signedStandard, func(h http.Header, body []byte) Delivery {
		return Delivery{ID: h.Get(standard.HeaderWebhookID), Event: member(body, "type")}
	}},
	tenant.SignatureGitHub: {signedGitHub, func(h http.Header, _ []byte) Delivery {
		return Delivery{ID: h.Get("X-GitHub-Delivery"), Event: h.Get("X-GitHub-Event")}
	}},
	tenant.SignatureStripe: {signedStripe, func(_ http.Header, body []byte) Delivery {
		return Delivery{ID: member(body, "id"), Event: member(body, "type")}
	}},
	tenant.SignatureSlack: {signedSlack, func(_ http.Header, body []byte) Delivery {
		d := Delivery{ID: member(body, "event_id"), Event: member(body, "type")}
		if d.Event == "url_verification" {
			d.Challenge = member(body, "challenge")
		}
		return d
	}},
	tenant.SignatureHMAC: {signedHMAC, func(_ http.Header, body []byte) Delivery { return Delivery{Event: member(body, "type")} }},
	tenant.SignatureNone: {},
}

// member is a text in the JSON object that a body is, or nothing.
func member(body []byte, name string) string {
	var members map[string]json.RawMessage
	var text string
	if json.Unmarshal(body, &members) != nil || json.Unmarshal(members[name], &text) != nil {
		return ""
	}
	return text
}

// signedStandard: https://www.standardwebhooks.com.
func signedStandard(_ *tenant.TriggerFilter, key string, h http.Header, body []byte, now time.Time) bool {
	hook, err := standard.NewWebhook(key)
	// With a dot in the id, the end of one signed text could pass for the beginning of another body.
	if err != nil || !fresh(h.Get(standard.HeaderWebhookTimestamp), now) || strings.Contains(h.Get(standard.HeaderWebhookID), ".") {
		return false
	}
	return hook.VerifyIgnoringTimestamp(body, h) == nil
}

// signedGitHub: X-Hub-Signature-256 is the HMAC of the body.
func signedGitHub(_ *tenant.TriggerFilter, key string, h http.Header, body []byte, _ time.Time) bool {
	return same(sha256.New, key, strings.TrimPrefix(h.Get("X-Hub-Signature-256"), "sha256="), body)
}

// signedStripe: Stripe-Signature has the time and one or more signatures of "time.body".
func signedStripe(_ *tenant.TriggerFilter, key string, h http.Header, body []byte, now time.Time) bool {
	var at string
	var signatures []string
	for part := range strings.SplitSeq(h.Get("Stripe-Signature"), ",") {
		switch name, value, _ := strings.Cut(strings.TrimSpace(part), "="); name {
		case "t":
			at = value
		case "v1":
			signatures = append(signatures, value)
		}
	}
	if !fresh(at, now) || len(signatures) > 10 {
		return false
	}
	for _, signature := range signatures {
		if same(sha256.New, key, signature, []byte(at), []byte("."), body) {
			return true
		}
	}
	return false
}

// signedSlack: X-Slack-Signature is the HMAC of "v0:time:body".
func signedSlack(_ *tenant.TriggerFilter, key string, h http.Header, body []byte, now time.Time) bool {
	at := h.Get("X-Slack-Request-Timestamp")
	signature, is := strings.CutPrefix(h.Get("X-Slack-Signature"), "v0=")
	return is && fresh(at, now) && same(sha256.New, key, signature, []byte("v0:"+at+":"), body)
}

// signedHMAC: a header has the HMAC of the body, in hexadecimal or base64, after the name of the algorithm or not.
func signedHMAC(f *tenant.TriggerFilter, key string, h http.Header, body []byte, _ time.Time) bool {
	algorithm, digest := "sha256", sha256.New
	switch f.Algorithm {
	case "sha1":
		algorithm, digest = "sha1", sha1.New
	case "sha512":
		algorithm, digest = "sha512", sha512.New
	}
	header := f.Header
	if header == "" {
		header = tenant.DefaultSignatureHeader
	}
	return same(digest, key, strings.TrimPrefix(h.Get(header), algorithm+"="), body)
}

// same compares a signature with that of parts, in constant time.
func same(digest func() hash.Hash, key, signature string, parts ...[]byte) bool {
	mac := hmac.New(digest, []byte(key))
	for _, part := range parts {
		mac.Write(part)
	}
	given, err := hex.DecodeString(signature)
	if err != nil {
		given, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(signature, "="))
	}
	return err == nil && hmac.Equal(given, mac.Sum(nil))
}

// fresh reports whether a time in seconds is about now.
func fresh(seconds string, now time.Time) bool {
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return false
	}
	age := now.Sub(time.Unix(n, 0))
	return -Tolerance <= age && age <= Tolerance
}
