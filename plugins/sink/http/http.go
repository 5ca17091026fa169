// Package http is the sink that posts to a URL, signed as Standard Webhooks says (https://www.standardwebhooks.com), so that the
// receiver can tell that it comes from here and has not been changed, and knows an event that it has seen by its id.
package http

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"golang.org/x/net/http/httpguts"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/sink"
)

// Limits of a configuration and of what a receiver says.
const (
	maxURL      = 8 << 10
	maxKeys     = 10
	maxHeaders  = 64 << 10 // bytes of names and values, and of the answer's headers
	maxAnswer   = 64 << 10 // bytes of the answer's body that are read
	maxShown    = 1 << 10  // of which are shown in the log of a delivery that failed
	maxRetry    = 24 * time.Hour
	dialTimeout = 10 * time.Second
	parallel    = 64
	userAgent   = "PiCloud"
)

// Sink posts to URLs.
type Sink struct{}

// New makes the sink.
func New() Sink { return Sink{} }

// Info is part of sink.Sink.
func (Sink) Info() sink.Info { return sink.Info{Name: "http", Version: "1", Secrets: []string{"keys"}} }

// config is what an instance is made of.
type config struct {
	URL     string            `json:"url"`
	Method  string            `json:"method"`  // POST, PUT or PATCH; empty: POST
	Headers map[string]string `json:"headers"` // besides those that are signed
	// Keys are those of Standard Webhooks, "whsec_" and base64: one, or a list. What is sent is signed with each, so that a receiver
	// can have a new one while others still have the old one. Without any nothing is signed.
	Keys keys `json:"keys"`
}

type keys []string

// UnmarshalJSON reads a text or a list of texts.
func (k *keys) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*k = keys{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(k))
}

// instance posts to one URL.
type instance struct {
	config
	to      *url.URL
	headers http.Header
	signers []*webhooks.Webhook
	carrier *http.Transport // not a client, which would look for redirects to follow
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, fault.Script, format, args...)
}

// Open is part of sink.Sink.
func (Sink) Open(s sink.Setting) (sink.Instance, error) {
	x := &instance{headers: http.Header{}}
	d := json.NewDecoder(bytes.NewReader(s.Config))
	d.DisallowUnknownFields()
	if err := d.Decode(&x.config); err != nil {
		return nil, invalid("the configuration cannot be read: %v", err)
	}
	var err error
	if x.to, err = parseURL(x.URL); err != nil {
		return nil, err
	}
	switch x.Method {
	case "":
		x.Method = http.MethodPost
	case http.MethodPost, http.MethodPut, http.MethodPatch:
	default:
		return nil, invalid("method: %q is none of POST, PUT and PATCH", fault.Cut(x.Method, 100))
	}
	if err := x.setHeaders(); err != nil {
		return nil, err
	}
	if len(x.Keys) > maxKeys {
		return nil, invalid("keys: are %d, more than %d", len(x.Keys), maxKeys)
	}
	for i, key := range x.Keys {
		signer, err := newSigner(key)
		if err != nil {
			return nil, invalid("keys[%d]: %v", i, err)
		}
		x.signers = append(x.signers, signer)
	}
	x.carrier = transport(s)
	return x, nil
}

// Lengths of a key, in bytes, as Standard Webhooks has them.
const (
	leastKey = 24
	mostKey  = 64
)

func newSigner(key string) (*webhooks.Webhook, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(key, "whsec_"))
	if err != nil {
		return nil, errors.New("is not whsec_ and a key in base64")
	}
	if len(raw) < leastKey || len(raw) > mostKey {
		return nil, fmt.Errorf("has %d bytes: a key has %d to %d", len(raw), leastKey, mostKey)
	}
	return webhooks.NewWebhookRaw(raw)
}

// transport connects only where the guard lets it. It is asked about the address that is connected to, after names were resolved, so
// that nothing can change in between.
func transport(s sink.Setting) *http.Transport {
	t := &http.Transport{ // nothing is taken from the environment: a proxy there would be asked for addresses that nobody has checked
		DisableCompression: true, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: maxHeaders, TLSHandshakeTimeout: dialTimeout,
		MaxIdleConns: parallel, MaxIdleConnsPerHost: parallel, IdleConnTimeout: 30 * time.Second,
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	if s.Guard == nil {
		t.DialContext = dialer.DialContext
		return t
	}
	guard := s.Guard()
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		d := dialer
		d.Control = guard.Control(address)
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, errUnreachable // in the same words whatever there is inside
		}
		return conn, nil
	}
	return t
}

func parseURL(text string) (*url.URL, error) {
	to, err := url.Parse(text)
	switch {
	case text == "":
		return nil, invalid("url: is missing")
	case len(text) > maxURL:
		return nil, invalid("url: has %d bytes, more than %d", len(text), maxURL)
	case err != nil:
		return nil, invalid("url: it cannot be read as a URL")
	case to.Scheme != "http" && to.Scheme != "https":
		return nil, invalid("url: it has to begin with http:// or https://")
	case to.User != nil:
		return nil, invalid("url: it holds a user before the host: use the header Authorization instead")
	case to.Hostname() == "" || to.Opaque != "" || strings.ContainsAny(to.Hostname(), "%\x00") || strings.HasSuffix(to.Host, ":"):
		return nil, invalid("url: it names no host")
	}
	if port := to.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, invalid("url: there is no port %.20s", port)
		}
	}
	to.Fragment = ""
	return to, nil
}

// ownHeaders are set here, or by whoever makes the connection.
var ownHeaders = map[string]bool{
	"Connection": true, "Content-Length": true, "Content-Type": true, "Host": true, "Keep-Alive": true, "Proxy-Authenticate": true,
	"Proxy-Authorization": true, "Proxy-Connection": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"Webhook-Id": true, "Webhook-Timestamp": true, "Webhook-Signature": true,
}

func (x *instance) setHeaders() error {
	size := 0
	for name, value := range x.Headers {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			return invalid("headers: %q is no name of a header", fault.Cut(name, 100))
		case ownHeaders[canonical]:
			return invalid("headers: %s is set by the sink", canonical)
		case !httpguts.ValidHeaderFieldValue(value):
			return invalid("headers: the value of %s holds characters that HTTP does not allow", canonical)
		}
		size += len(name) + len(value)
		x.headers.Set(canonical, value)
	}
	if size > maxHeaders {
		return invalid("headers: have %d bytes, more than %d", size, maxHeaders)
	}
	return nil
}

// Bounds is part of sink.Instance: one request is one event.
func (*instance) Bounds() (int, int) { return 1, parallel }

// Close is part of sink.Instance.
func (x *instance) Close() { x.carrier.CloseIdleConnections() }

// Deliver is part of sink.Instance.
func (x *instance) Deliver(items []*sink.Item) {
	for _, i := range items {
		status, err := x.post(i)
		i.Answer(status, err)
	}
}

var (
	errUnreachable = fault.New(fault.ScriptError, fault.Script, "the host cannot be reached: it does not exist, does not answer, or is none "+
		"that sinks may reach, which are public addresses at the ports 80 and 443, and what the setting http_allow names")
	errTLS = fault.New(fault.ScriptError, fault.Script, "there is no TLS connection to the host: its certificate is not valid for it, it does "+
		"not know its name or wants a certificate, or it does not speak TLS 1.2 or later")
	errBroken = fault.New(fault.ScriptError, fault.Script, "the connection ended before the answer, or what came is no answer in HTTP with at "+
		"most %d bytes of headers", maxHeaders)
)

// post makes one attempt.
func (x *instance) post(i *sink.Item) (int, error) {
	r := x.request(i)
	began := time.Now()
	answer, err := x.carrier.RoundTrip(r)
	if err != nil {
		return 0, explain(i.Context(), err)
	}
	defer func() { _ = answer.Body.Close() }() // it was read as far as it matters
	said, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	i.Log("info", "%s %s answered %s in %d ms", x.Method, x.to.Redacted(), answer.Status, time.Since(began).Milliseconds())
	if answer.StatusCode/100 != 2 && len(said) > 0 {
		i.Log("info", "it said: %s", fault.Cut(strings.ToValidUTF8(string(said), "�"), maxShown))
	}
	return answer.StatusCode, verdict(answer, time.Now())
}

// request makes the request of an item. Its signature is of this attempt.
func (x *instance) request(i *sink.Item) *http.Request {
	r := (&http.Request{
		Method: x.Method, URL: x.to, Host: x.to.Host, Header: x.headers.Clone(), ContentLength: int64(len(i.Data)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(i.Data)), nil },
	}).WithContext(i.Context())
	r.Body, _ = r.GetBody() // cannot fail
	set := func(name, value string) {
		if httpguts.ValidHeaderFieldValue(value) && value != "" {
			r.Header.Set(name, value)
		}
	}
	for _, h := range i.Headers {
		if r.Header[http.CanonicalHeaderKey(h.Name)] == nil && httpguts.ValidHeaderFieldName(h.Name) {
			set(h.Name, h.Value)
		}
	}
	if r.Header["User-Agent"] == nil {
		r.Header.Set("User-Agent", userAgent)
	}
	r.Header.Set("Content-Type", "application/octet-stream")
	set("Content-Type", i.ContentType)
	id, now := clean(i.EventID), time.Now()
	set(webhooks.HeaderWebhookID, id)
	set(webhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	var signatures []string
	for _, s := range x.signers {
		if signature, err := s.Sign(id, now, i.Data); err == nil {
			signatures = append(signatures, signature)
		}
	}
	set(webhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return r
}

// clean makes an id one that a header can hold.
func clean(id string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return '_'
		}
		return r
	}, id)
}

// verdict says what an answer means: see the table in sdk/README.md.
func verdict(answer *http.Response, now time.Time) error {
	code := answer.StatusCode
	switch {
	case code/100 == 2:
		return nil
	case code/100 == 4 && code != http.StatusRequestTimeout && code != http.StatusTooEarly && code != http.StatusTooManyRequests:
		return fault.New(fault.Invalid, fault.Script, "the receiver refuses it for good: %s", answer.Status)
	}
	f := fault.New(fault.ScriptError, fault.Script, "the receiver did not take it: %s", answer.Status)
	if code/100 == 3 {
		f.Message = "the receiver redirects, which is not followed: " + answer.Status
	}
	f.RetryAfter = retryAfter(answer.Header.Get("Retry-After"), now)
	return f
}

// retryAfter reads the header: seconds, or a time. Zero: it says nothing that counts.
func retryAfter(value string, now time.Time) time.Duration {
	if n, err := strconv.ParseInt(value, 10, 64); err == nil && n > 0 {
		return min(time.Duration(min(n, int64(maxRetry/time.Second)))*time.Second, maxRetry)
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return min(at.Sub(now), maxRetry)
	}
	return 0
}

// explain is what is told of an error. What it says itself is for nobody: it holds addresses.
func explain(ctx context.Context, err error) error {
	var f *fault.Fault
	switch {
	case ctx.Err() != nil:
		return fault.New(fault.Deadline, fault.Script, "the receiver did not answer in time")
	case errors.As(err, &f):
		return f
	case strings.Contains(err.Error(), "tls: "): // most of these have no type of their own
		return errTLS
	}
	return errBroken
}
