// Package smtp is the source that listens for e-mail: it takes messages for its own addresses from other mail servers, and answers 250
// once a message is safe. It relays nothing.
package smtp

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
	"golang.org/x/net/netutil"

	"github.com/picloud/picloud/sdk/source"
)

// New makes the source.
func New() source.Source { return server{} }

type server struct{}

// config is that of an instance.
type config struct {
	Listen         string   `json:"listen"`     // host:port; the host may be empty
	Domains        []string `json:"domains"`    // all addresses of these are taken
	Recipients     []string `json:"recipients"` // and these
	MaxBytes       int64    `json:"max_bytes"`  // of a message; zero: defaultBytes
	TLSCertificate string   `json:"tls_certificate"`
	TLSKey         string   `json:"tls_key"` // both in PEM; empty: no STARTTLS
}

// Bounds of messages and sessions.
const (
	defaultBytes   = 1 << 20
	mostBytes      = 5 << 20 // what is made of it has to be a batch
	maxRecipients  = 100
	maxConnections = 200
	maxReading     = 8        // messages that are made sense of at one time, of an instance
	maxHeld        = 64 << 20 // bytes of messages that are in memory at one time, of an instance
	readLimit      = time.Minute
	messageLimit   = 10 * time.Minute // for all of a message, each part of which has readLimit
	takeLimit      = 4 * time.Minute  // senders wait for five, as RFC 5321 asks of them: section 4.5.3.2.6
)

func (server) Info() source.Info {
	return source.Info{Name: "smtp", Version: "1", Secrets: []string{"tls_key"}}
}

func (server) Check(text []byte) []source.Problem {
	_, _, problems := parse(text)
	return problems
}

func parse(text []byte) (c config, cert *tls.Certificate, problems []source.Problem) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil || !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return c, nil, []source.Problem{{Message: fmt.Sprintf("is no object with listen, domains, recipients, max_bytes, tls_certificate and tls_key: %v", err)}}
	}
	wrong := func(field, format string, args ...any) {
		problems = append(problems, source.Problem{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	if _, port, err := net.SplitHostPort(c.Listen); err != nil || port == "" {
		wrong("listen", `is no address and port, such as "0.0.0.0:2525"`)
	}
	if len(c.Domains)+len(c.Recipients) == 0 {
		wrong("domains", "and recipients are both missing: say whose mail is taken")
	}
	for i, domain := range c.Domains {
		if domain == "" || strings.ContainsAny(domain, "@* ") {
			wrong("domains", "%.100q is no domain", domain)
		}
		c.Domains[i] = strings.ToLower(domain)
	}
	for i, address := range c.Recipients {
		if local, domain, ok := strings.Cut(address, "@"); !ok || local == "" || domain == "" {
			wrong("recipients", "%.100q is no address", address)
		}
		c.Recipients[i] = strings.ToLower(address)
	}
	if c.MaxBytes < 0 || c.MaxBytes > mostBytes {
		wrong("max_bytes", "is not between 1 and %d", mostBytes)
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = defaultBytes
	}
	if c.TLSCertificate+c.TLSKey != "" {
		pair, err := tls.X509KeyPair([]byte(c.TLSCertificate), []byte(c.TLSKey))
		if err != nil {
			wrong("tls_certificate", "and tls_key are no pair in PEM: %v", err)
		}
		cert = &pair
	}
	return c, cert, problems
}

// Run listens until ctx ends.
func (server) Run(ctx context.Context, s source.Setting, out source.Emitter) error {
	c, cert, problems := parse(s.Config)
	if len(problems) > 0 {
		return fmt.Errorf("%s %s", problems[0].Field, problems[0].Message)
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	x := smtp.NewServer(&backend{ctx: ctx, config: c, out: out, reading: make(chan struct{}, maxReading)})
	x.Domain = "picloud"
	if len(c.Domains) > 0 {
		x.Domain = c.Domains[0]
	}
	x.MaxMessageBytes, x.MaxRecipients, x.MaxLineLength = c.MaxBytes+1, maxRecipients, 2000 // the library takes less than its limit
	x.ReadTimeout, x.WriteTimeout = readLimit, readLimit
	x.ErrorLog = quiet{}
	if cert != nil {
		x.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
	}
	stop := context.AfterFunc(ctx, func() { _ = x.Close() })
	defer stop()
	if err := x.Serve(watching{netutil.LimitListener(listener, maxConnections)}); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// quiet drops what clients do wrong.
type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

type backend struct {
	ctx     context.Context
	config  config
	out     source.Emitter
	reading chan struct{}
	held    atomic.Int64 // bytes
}

func (b *backend) NewSession(c *smtp.Conn) (smtp.Session, error) {
	conn := c.Conn()
	if over, is := conn.(*tls.Conn); is {
		conn = over.NetConn()
	}
	return &session{backend: b, conn: conn.(*watched)}, nil
}

// watching notes of its connections when their sender is gone.
type watching struct{ net.Listener }

func (w watching) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watched{Conn: c}, nil
}

type watched struct {
	net.Conn
	gone  atomic.Bool  // nothing more can be read
	until atomic.Int64 // when the message that is read has to be there, in nanoseconds; zero: none is
}

// Read waits for readLimit while a message is read: the library gives all of it no longer than that. What comes after a time that was
// too long is no command, as the library would have it, but more of the message.
func (w *watched) Read(p []byte) (int, error) {
	if w.gone.Load() {
		return 0, io.EOF
	}
	if until := w.until.Load(); until != 0 {
		next := time.Now().Add(readLimit)
		if last := time.Unix(0, until); last.Before(next) {
			next = last
		}
		_ = w.SetReadDeadline(next) // a connection that is closed says so below
	}
	n, err := w.Conn.Read(p)
	if err != nil {
		w.gone.Store(true)
	}
	return n, err
}

// session is one connection.
type session struct {
	*backend
	conn *watched
	from string
	to   []string
}

func (s *session) Reset()        { s.from, s.to = "", nil }
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if !s.config.takes(to) {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "no mail is taken for this address"}
	}
	s.to = append(s.to, to)
	return nil
}

func (c *config) takes(address string) bool {
	address = strings.ToLower(address)
	for _, r := range c.Recipients {
		if r == address {
			return true
		}
	}
	at := strings.LastIndexByte(address, '@')
	for _, d := range c.Domains {
		if at > 0 && address[at+1:] == d {
			return true
		}
	}
	return false
}

// Data answers once the message is safe. Where that is not known it is not answered with 250: the sender sends it again, and it is known
// by its id.
func (s *session) Data(r io.Reader) error {
	in := &counted{Reader: r, all: &s.held}
	defer in.free()
	s.conn.until.Store(time.Now().Add(messageLimit).UnixNano())
	raw, err := io.ReadAll(in)
	s.conn.until.Store(0)
	switch {
	case s.conn.gone.Load(): // the library takes the rest of a chunk (BDAT) that never came for the end of it
		return again("the message is not complete")
	case err != nil:
		return err // too large, or too much at one time
	}
	ctx, cancel := context.WithTimeout(s.ctx, takeLimit)
	defer cancel()
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return again("the server is stopping, or busy")
	}
	e, err := read(s.from, s.to, raw, time.Now())
	if err != nil {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "the message cannot be read: " + oneLine(err.Error())}
	}
	batch := source.Batch{Events: []source.Event{e}}
	if batch.Validate() != nil {
		return &smtp.SMTPError{Code: 552, EnhancedCode: smtp.EnhancedCode{5, 3, 4}, Message: "the message is too large"}
	}
	refused := (*source.Refused)(nil)
	switch err := s.out.Offer(ctx, batch); {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return again(oneLine(refused.Reason))
	default:
		return again("it is not known whether the message is safe")
	}
}

// counted reads what is counted among all that is held, until it is freed.
type counted struct {
	io.Reader

	all  *atomic.Int64
	mine int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.mine += int64(n)
	if c.all.Add(int64(n)) > maxHeld {
		return n, again("too much mail comes in at one time")
	}
	return n, err
}

func (c *counted) free() { c.all.Add(-c.mine) }

func again(why string) error {
	return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "try again later: " + why}
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), 200)])
}
