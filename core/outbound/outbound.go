// Package outbound makes the HTTP requests that scripts ask for. Neither who asks nor who answers is trusted: it connects
// to no address inside, whatever a name resolves to or a redirect says, and takes no more than it has room for. It stands
// behind core/service; nothing else of the platform dials for a script.
package outbound

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/guard"
)

// The limits of one request.
const (
	MaxURL         = 8 << 10  // bytes
	MaxHeaders     = 64 << 10 // bytes of names and values, of the request and of its answer each
	MaxBody        = 10 << 20 // bytes of a body, of the request and of its answer each, the latter after decompression
	DefaultTimeout = 30 * time.Second
	MaxTimeout     = 5 * time.Minute

	maxRedirects = 5
	dialTimeout  = 10 * time.Second
)

// Client makes requests. Its methods are safe for concurrent use.
type Client struct {
	guard    *guard.Guard
	dialer   net.Dialer
	carrier  *http.Transport
	client   *http.Client
	capacity *capacity
}

// New makes a client that reaches what cfg lets it. Close ends what it keeps.
func New(cfg guard.Config) *Client {
	c := &Client{guard: guard.New(cfg), dialer: net.Dialer{Timeout: dialTimeout}, capacity: newCapacity()}
	// Nothing is taken from the environment: a proxy there would be asked for addresses that nobody has checked.
	c.carrier = &http.Transport{
		DialContext:            c.dial,
		DisableCompression:     true, // body.go does it, with limits
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: MaxHeaders,
		TLSHandshakeTimeout:    dialTimeout,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        30 * time.Second,
	}
	c.client = &http.Client{Transport: c.carrier, CheckRedirect: checkRedirect}
	return c
}

// Close ends connections that are kept for later requests.
func (c *Client) Close() { c.carrier.CloseIdleConnections() }

// Request is what a script asks for.
type Request struct {
	Method  string
	URL     string
	Headers http.Header // in any case
	Body    []byte
	Timeout time.Duration // of everything together; zero: DefaultTimeout
}

// Response is what came back, whatever its status. It takes room of the node until it is closed.
type Response struct {
	Status  int
	Headers http.Header
	Body    []byte // decompressed, where the request did not ask for a compression of its own

	held func()
}

// Close gives the room of the body back.
func (r *Response) Close() {
	if r.held != nil {
		r.held()
	}
}

// Do makes a request for app, whose answer has to be closed. Errors are faults, or the cause of ctx's end. They name a category and never an address, and
// are the same for every host that scripts may not reach and for one that does not exist or answer.
func (c *Client) Do(ctx context.Context, app uuid.UUID, in *Request) (*Response, error) {
	r, err := in.check()
	if err != nil {
		return nil, err
	}
	timeout := in.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	release, err := c.capacity.enter(limited, app)
	if err == nil {
		defer release()
		var out *Response
		if out, err = c.do(r.WithContext(limited)); err == nil {
			return out, nil
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case limited.Err() != nil:
		return nil, fault.New(fault.Deadline, fault.Script, "the request did not end within %s", timeout)
	}
	return nil, explain(err)
}

func (c *Client) do(r *http.Request) (*Response, error) {
	answer, err := c.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()              // it was read as far as it matters
	if answer.StatusCode == http.StatusSwitchingProtocols { // nobody asked for it
		return nil, errBroken
	}
	out := &Response{Status: answer.StatusCode, Headers: answer.Header}
	out.Body, out.held, err = c.read(answer, r.Header.Get("Accept-Encoding") == ownEncoding)
	return out, err
}

// dial connects to host:port, where the guard lets it. It is asked about the address that is connected to, after names
// were resolved, so that nothing can change in between.
func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := c.dialer
	d.Control = c.guard.Control(address)
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, errUnreachable
	}
	return conn, nil
}

var (
	errUnreachable = fault.New(fault.Unavailable, fault.Script, "the host cannot be reached: it does not exist, does not answer, or is none "+
		"that scripts may reach, which are public addresses at the ports 80 and 443, and what the setting http_allow names")
	errTLS = fault.New(fault.Unavailable, fault.Script, "there is no TLS connection to the host: its certificate is not valid for it, "+
		"or it does not speak TLS")
	errBroken = fault.New(fault.Unavailable, fault.Script, "the connection ended before the answer, or what came is no answer in HTTP "+
		"with at most %d bytes of headers", MaxHeaders)
)

// explain is what a script is told of an error. What it says itself is for nobody: it holds addresses.
func explain(err error) error {
	if f := (*fault.Fault)(nil); errors.As(err, &f) {
		return f
	}
	if isTLS(err) {
		return errTLS
	}
	return errBroken
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, fault.Script, format, args...)
}

func tooMuch(format string, args ...any) error {
	return fault.New(fault.Limit, fault.Script, format, args...)
}
