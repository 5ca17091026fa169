// Package smtp is the sink that hands e-mail to a mail server (RFC 5321): messages as sdk/mail has them, or any event as a text to
// addresses that its configuration names.
package smtp

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"
	gosmtp "github.com/wneessen/go-mail/smtp"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/mail"
	"github.com/picloud/picloud/sdk/sink"
)

// Ports of public mail servers.
var ports = []uint16{25, 465, 587, 2525}

const (
	dialTimeout = 10 * time.Second
	step        = 30 * time.Second // for each answer of the server, and for the whole of a message's data
	parallel    = 2                // connections
	maxText     = 64 << 10         // of an event that is sent as text
	maxSaid     = 128 << 10        // bytes from the server, for the connection and for each message: an answer to each recipient has 512
)

// How a connection is encrypted.
const (
	startTLS = "starttls" // after it has begun; a server that cannot is not used
	withTLS  = "tls"      // from its begin
	plain    = "none"
)

// Sink sends e-mail.
type Sink struct {
	roots *x509.CertPool // nil: those of the system
}

// New makes the sink.
func New() Sink { return Sink{} }

// Info is part of sink.Sink.
func (Sink) Info() sink.Info {
	return sink.Info{Name: "smtp", Version: "1", Secrets: []string{"password"}}
}

// config is what an instance is made of.
type config struct {
	Host     string `json:"host"`
	Port     int    `json:"port"` // 0: 587, or 465 with tls, or 25 with none
	User     string `json:"user"` // empty: nobody
	Password string `json:"password"`
	TLS      string `json:"tls"`  // empty: starttls
	From     string `json:"from"` // of messages that do not say
	// To makes every event a text to these addresses. Empty: events are messages.
	To      mail.Addresses `json:"to"`
	Subject string         `json:"subject"` // of those texts; empty: the type of the event
}

type instance struct {
	config
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	tls  *tls.Config
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, fault.Script, format, args...)
}

// Open is part of sink.Sink.
func (s Sink) Open(setting sink.Setting) (sink.Instance, error) {
	x := &instance{}
	d := json.NewDecoder(bytes.NewReader(setting.Config))
	d.DisallowUnknownFields()
	if err := d.Decode(&x.config); err != nil {
		return nil, invalid("the configuration cannot be read: %v", err)
	}
	if err := x.check(); err != nil {
		return nil, err
	}
	x.tls = &tls.Config{ServerName: x.Host, MinVersion: tls.VersionTLS12, RootCAs: s.roots}
	dialer := net.Dialer{Timeout: dialTimeout}
	x.dial = dialer.DialContext
	if setting.Guard != nil {
		guard := setting.Guard(ports...)
		x.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			d := dialer
			d.Control = guard.Control(address)
			conn, err := d.DialContext(ctx, network, address)
			if err != nil {
				return nil, errUnreachable // in the same words whatever there is inside
			}
			return conn, nil
		}
	}
	_, err := x.client(nil)
	if err != nil {
		return nil, invalid("host: %v", err)
	}
	return x, nil
}

// client makes what speaks SMTP over a connection.
func (x *instance) client(over net.Conn) (*gomail.Client, error) {
	policy := gomail.TLSMandatory
	if x.TLS != startTLS {
		policy = gomail.NoTLS
	}
	options := []gomail.Option{
		gomail.WithPort(x.Port), gomail.WithTimeout(step), gomail.WithTLSPolicy(policy), gomail.WithTLSConfig(x.tls), gomail.WithoutNoop(),
		gomail.WithDialContextFunc(func(context.Context, string, string) (net.Conn, error) { return over, nil }),
	}
	if x.User != "" {
		options = append(options, gomail.WithSMTPAuthCustom(&login{config: &x.config}))
	}
	return gomail.NewClient(x.Host, options...)
}

func (c *config) check() error {
	if c.TLS == "" {
		c.TLS = startTLS
	}
	if c.Port == 0 {
		c.Port = map[string]int{startTLS: 587, withTLS: 465, plain: 25}[c.TLS]
	}
	switch {
	case c.Host == "":
		return invalid("host: is missing: the mail server")
	case len(c.Host) > 253 || strings.ContainsAny(c.Host, " /@%\r\n\x00"):
		return invalid("host: %q is no host", fault.Cut(c.Host, 100))
	case !slices.Contains([]string{startTLS, withTLS, plain}, c.TLS):
		return invalid("tls: %q is none of starttls, tls and none", fault.Cut(c.TLS, 100))
	case c.Port < 1 || c.Port > 65535:
		return invalid("port: %d is none", c.Port)
	case (c.User == "") != (c.Password == ""):
		return invalid("user: and password belong together")
	case c.User != "" && c.TLS == plain && !local(c.Host):
		return invalid("tls: a password is not sent without")
	case strings.ContainsAny(c.Subject, "\r\n\x00") || len(c.Subject) > mail.MaxSubject:
		return invalid("subject: is no line of text with at most %d bytes", mail.MaxSubject)
	case len(c.To) > mail.MaxRecipients:
		return invalid("to: are %d addresses, more than %d", len(c.To), mail.MaxRecipients)
	case len(c.To) > 0 && c.From == "":
		return invalid("from: is missing")
	}
	for _, a := range append(c.To[:len(c.To):len(c.To)], c.From) {
		if a == "" {
			continue
		}
		if err := mail.CheckAddress(a); err != nil {
			return invalid("from or to: %v", err)
		}
	}
	return nil
}

func local(host string) bool { return host == "localhost" || host == "127.0.0.1" || host == "::1" }

// login says who we are, in the way that the server offers.
type login struct {
	*config
	gosmtp.Auth
}

// Start is part of gosmtp.Auth.
func (l *login) Start(server *gosmtp.ServerInfo) (string, []byte, error) {
	switch {
	case slices.Contains(server.Auth, "PLAIN"):
		l.Auth = gosmtp.PlainAuth("", l.User, l.Password, server.Name, false)
	case slices.Contains(server.Auth, "LOGIN"):
		l.Auth = gosmtp.LoginAuth(l.User, l.Password, server.Name, false)
	default:
		return "", nil, errors.New("the server offers neither PLAIN nor LOGIN")
	}
	return l.Auth.Start(server)
}

// Bounds is part of sink.Instance: a connection is for up to so many messages.
func (*instance) Bounds() (int, int) { return sink.MaxBatch, parallel }

// Close is part of sink.Instance.
func (*instance) Close() {}

var errUnreachable = fault.New(fault.ScriptError, fault.Script, "the mail server cannot be reached: it does not exist, does not answer, or is "+
	"none that sinks may reach, which are public addresses at the ports 25, 465, 587 and 2525, and what the setting http_allow names")

// bounded is a connection of which so much may be read: what a server says is kept in memory until its answer ends.
type bounded struct {
	net.Conn
	left int // bytes
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, fmt.Errorf("the server said more than %d bytes", maxSaid)
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// connection is one to the server.
type connection struct {
	raw    *bounded // who closes it ends whatever is waited for
	client *gomail.Client
	smtp   *gosmtp.Client
}

func (c *connection) close() { _ = c.raw.Close() } // it is of no more use

// Deliver is part of sink.Instance.
func (x *instance) Deliver(items []*sink.Item) {
	var c *connection
	for _, i := range items {
		message, err := x.message(i)
		if err != nil {
			i.Answer(0, invalid("%v", err))
			continue
		}
		if c == nil {
			if c, err = x.connect(i.Context()); err != nil {
				i.Answer(0, explain(i.Context(), err))
				continue
			}
		}
		if !x.send(c, i, message) {
			c.close()
			c = nil
		}
	}
	if c != nil {
		_ = c.client.CloseWithSMTPClient(c.smtp) // politely
		c.close()
	}
}

// connect opens a connection and says who we are.
func (x *instance) connect(ctx context.Context) (*connection, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	address := net.JoinHostPort(x.Host, strconv.Itoa(x.Port))
	dialled, err := x.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	raw := &bounded{dialled, maxSaid}
	given := net.Conn(raw)
	if x.TLS == withTLS {
		given = tls.Client(raw, x.tls)
	}
	c := &connection{raw: raw}
	stop := context.AfterFunc(ctx, c.close)
	defer stop()
	if c.client, err = x.client(given); err == nil {
		c.smtp, err = c.client.DialToSMTPClientWithContext(ctx)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// send hands one message over, and reports whether the connection is good for another.
func (x *instance) send(c *connection, i *sink.Item, m *gomail.Msg) (good bool) {
	stop := context.AfterFunc(i.Context(), c.close)
	c.raw.left = maxSaid
	began := time.Now()
	err := c.client.SendWithSMTPClient(c.smtp, m)
	good = stop() // before the answer, which ends the context
	var failed *gomail.SendError
	errors.As(err, &failed)
	switch code := failed.ErrorCode(); {
	case m.IsDelivered(): // also where what followed failed
		i.Log("info", "%s took it in %d ms: %s", x.Host, time.Since(began).Milliseconds(), strings.TrimSpace(m.ServerResponse()))
		i.Answer(250, nil)
		return good && err == nil
	case code >= 500:
		i.Log("info", "%s refused it: %v", x.Host, failed)
		i.Answer(code, invalid("the mail server refuses it for good: %v", failed))
		return good
	case code >= 400:
		i.Log("info", "%s did not take it: %v", x.Host, failed)
		i.Answer(code, fault.New(fault.ScriptError, fault.Script, "the mail server does not take it now: %v", failed))
		return good && code != 421 // which closes
	}
	i.Answer(0, explain(i.Context(), err))
	return false
}

// explain is what is told of a connection that failed.
func explain(ctx context.Context, err error) error {
	var f *fault.Fault
	switch {
	case ctx.Err() != nil:
		return fault.New(fault.Deadline, fault.Script, "the mail server did not answer in time")
	case errors.As(err, &f):
		return f
	}
	return fault.New(fault.ScriptError, fault.Script, "there is no connection to the mail server: %v", err)
}

// message makes what is sent of an item. Its Message-ID is the event's in every attempt, so that mail programs know what they have seen.
func (x *instance) message(i *sink.Item) (*gomail.Msg, error) {
	m, err := x.parsed(i)
	if err != nil {
		return nil, err
	}
	if m.From == "" {
		if m.From = x.From; m.From == "" {
			return nil, errors.New("from: is missing, and the sink has none")
		}
	}
	out := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	from, err := netmail.ParseAddress(m.From)
	if err != nil {
		return nil, err
	}
	out.FromMailAddress(from)
	if err := errors.Join(out.To(m.To...), out.Cc(m.CC...), out.Bcc(m.BCC...)); err != nil {
		return nil, err
	}
	if m.ReplyTo != "" {
		if err := out.ReplyTo(m.ReplyTo); err != nil {
			return nil, err
		}
	}
	out.Subject(m.Subject)
	out.SetDateWithValue(i.Time)
	out.SetMessageIDWithValue(clean(i.EventID) + from.Address[strings.LastIndexByte(from.Address, '@'):])
	switch {
	case m.HTML == "":
		out.SetBodyString(gomail.TypeTextPlain, m.Text)
	case m.Text == "":
		out.SetBodyString(gomail.TypeTextHTML, m.HTML)
	default:
		out.SetBodyString(gomail.TypeTextPlain, m.Text)
		out.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	}
	for n := range m.Attachments {
		a := &m.Attachments[n]
		var options []gomail.FileOption
		if a.ContentType != "" {
			options = append(options, gomail.WithFileContentType(gomail.ContentType(a.ContentType)))
		}
		out.AttachReadSeeker(a.Name, bytes.NewReader(a.Bytes()), options...)
	}
	return out, nil
}

// clean makes an id what may stand before an @.
func clean(id string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, id)
}

// parsed is the message that an item is, or that tells of it.
func (x *instance) parsed(i *sink.Item) (*mail.Message, error) {
	if len(x.To) == 0 {
		return mail.Parse(i.Data)
	}
	m := &mail.Message{To: x.To, Subject: x.Subject, Text: text(i.Data)}
	if m.Subject == "" {
		m.Subject = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f || r == utf8.RuneError {
				return ' '
			}
			return r
		}, i.Type[:min(len(i.Type), mail.MaxSubject)])
	}
	if strings.TrimSpace(m.Subject) == "" {
		m.Subject = "event"
	}
	return m, m.Check()
}

// text shows data to people.
func text(data []byte) string {
	var b bytes.Buffer
	switch {
	case len(data) == 0:
		return "(no data)"
	case !utf8.Valid(data):
		return fmt.Sprintf("(%d bytes)", len(data))
	case len(data) <= maxText && json.Indent(&b, data, "", "  ") == nil:
		return b.String()
	case len(data) > maxText:
		return strings.ToValidUTF8(string(data[:maxText]), "") + "\n…"
	}
	return string(data)
}
