package smtp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"mime"
	"mime/multipart"
	"net"
	"net/http/httptest"
	netmail "net/mail"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
	"go.uber.org/goleak"

	"github.com/picloud/picloud/plugins/sink/smtp"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/mail"
	"github.com/picloud/picloud/sdk/sink"
	"github.com/picloud/picloud/sdk/sink/sinktest"
)

// The test binary is also the plugin.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "child:sink" {
		sink.Serve(smtp.New())
		return
	}
	goleak.VerifyTestMain(m)
}

// received is a message that has arrived.
type received struct {
	from  string
	to    []string
	data  []byte
	user  string
	conn  int
	plain bool // without TLS
}

// server is a mail server.
type server struct {
	*gosmtp.Server
	address string
	roots   *x509.CertPool

	mu    sync.Mutex
	mode  sinktest.Mode
	let   chan struct{}
	got   []received
	conns int
	again map[string]bool // recipients that are refused for now
}

// newServer starts one that encrypts as tls says.
func newServer(tb testing.TB, how string) *server {
	s := &server{let: make(chan struct{}), again: map[string]bool{}}
	s.Server = gosmtp.NewServer(s)
	s.ErrorLog = log.New(io.Discard, "", 0)
	s.MaxMessageBytes, s.AllowInsecureAuth = 64<<20, true
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	if how != "none" {
		web := httptest.NewUnstartedServer(nil) // for its certificate
		web.StartTLS()
		tb.Cleanup(web.Close)
		s.TLSConfig = &tls.Config{Certificates: web.TLS.Certificates}
		s.roots = x509.NewCertPool()
		s.roots.AddCert(web.Certificate())
		if how == "tls" {
			l = tls.NewListener(l, s.TLSConfig)
		}
	}
	s.address = l.Addr().String()
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	tb.Cleanup(func() {
		s.Set(sinktest.Accept)
		_ = s.Close()
		<-done
	})
	return s
}

func (s *server) config(more string) []byte {
	host, port, _ := net.SplitHostPort(s.address)
	return fmt.Appendf(nil, `{"host": %q, "port": %s%s}`, host, port, more)
}

func (s *server) Config() []byte { return s.config(`, "tls": "none", "from": "picloud@example.com"`) }

func (s *server) Set(m sinktest.Mode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mode = m
	close(s.let)
	s.let = make(chan struct{})
}

func (s *server) all() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

func (s *server) Received() (list []sinktest.Received) {
	for _, r := range s.all() {
		m, err := netmail.ReadMessage(bytes.NewReader(r.data))
		if err != nil {
			continue
		}
		id, _, _ := strings.Cut(strings.Trim(m.Header.Get("Message-Id"), "<>"), "@")
		body, _ := io.ReadAll(m.Body)
		list = append(list, sinktest.Received{EventID: id, Data: body})
	}
	return list
}

// NewSession is part of gosmtp.Backend.
func (s *server) NewSession(c *gosmtp.Conn) (gosmtp.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns++
	_, encrypted := c.TLSConnectionState()
	return &session{server: s, received: received{conn: s.conns, plain: !encrypted}}, nil
}

type session struct {
	*server
	received
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "ada" || password != "hunter2" {
			return gosmtp.ErrAuthFailed
		}
		s.user = user
		return nil
	}), nil
}

func (s *session) Reset()        { s.from, s.to, s.data = "", nil, nil }
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *gosmtp.MailOptions) error {
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	s.mu.Lock()
	mode, let, again := s.mode, s.let, s.again[to]
	s.mu.Unlock()
	switch {
	case mode == sinktest.Refuse || strings.HasPrefix(to, "nobody@"):
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	case mode == sinktest.Busy || again:
		return &gosmtp.SMTPError{Code: 451, EnhancedCode: gosmtp.EnhancedCode{4, 3, 0}, Message: "later"}
	case mode == sinktest.Hang:
		<-let
		return &gosmtp.SMTPError{Code: 451, Message: "I slept"}
	}
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(r io.Reader) (err error) {
	if s.data, err = io.ReadAll(r); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, s.received)
	return nil
}

func TestConformance(t *testing.T) {
	t.Parallel()
	sinktest.Run(t, sinktest.Suite{
		Command: []string{os.Args[0], "child:sink"}, ContentType: mail.ContentType,
		New: func(tb testing.TB) sinktest.Receiver { return newServer(tb, "none") },
		Data: func(text string, size int) []byte {
			data, _ := json.Marshal(mail.Message{ // which can be encoded
				To: mail.Addresses{"ada@example.com"}, Subject: "s", Text: text + "\n" + strings.Repeat(strings.Repeat("x", 70)+"\n", size/71+1),
			})
			return data
		},
		Wrong: []string{
			`{}`, `{"host": 1}`, `{"host": "a b"}`, `{"host": "a", "port": 70000}`, `{"host": "a", "tls": "ssl"}`, `{"host": "a", "user": "u"}`,
			`{"host": "a", "password": "p"}`, `{"host": "a", "tls": "none", "user": "u", "password": "p"}`, `{"host": "a", "from": "x"}`,
			`{"host": "a", "to": "ada@example.com"}`, `{"host": "a", "from": "a@b.c", "to": "x"}`, `{"host": "a", "subject": "a\nb"}`,
		},
	})
}

// pair is an instance in this process.
func pair(t *testing.T, s *server, config string) (*sink.Client, uint64) {
	t.Helper()
	c := sinktest.Dial(t, smtp.Trusting(s.roots))
	instance, err := c.Configure(t.Context(), sink.Config{JSON: s.config(config), Reach: sink.Reach{Allow: "127.0.0.0/8"}})
	if err != nil {
		t.Fatal(err)
	}
	return c, instance
}

func message(t *testing.T, m *mail.Message) *sink.Delivery {
	t.Helper()
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return &sink.Delivery{EventID: "e-1", Attempt: 1, Time: time.Unix(1_800_000_000, 0), Data: data}
}

// parts are those of a message that are no containers, by their types, decoded as mail programs do.
func parts(t *testing.T, head map[string][]string, body io.Reader, into map[string]string) {
	t.Helper()
	kind, params, err := mime.ParseMediaType(head["Content-Type"][0])
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(kind, "multipart/") {
		b, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		if d := head["Content-Disposition"]; len(d) > 0 {
			kind += " " + d[0]
		}
		into[kind] = string(b)
		return
	}
	for r := multipart.NewReader(body, params["boundary"]); ; {
		p, err := r.NextPart() // which decodes quoted-printable
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		parts(t, p.Header, p, into)
	}
}

// A message arrives with all that it has, and nothing that it has not.
func TestMessage(t *testing.T) {
	t.Parallel()
	s := newServer(t, "none")
	c, instance := pair(t, s, `, "tls": "none"`)
	a := sinktest.Deliver(t, c, instance, message(t, &mail.Message{
		From: "Bücher <shop@example.com>", To: mail.Addresses{"Ada Lovelace <ada@example.com>", "b@example.com"}, CC: mail.Addresses{"c@example.com"},
		BCC: mail.Addresses{"d@example.com"}, ReplyTo: "r@example.com", Subject: "Grüße ✓", Text: "hällo\n.\nend", HTML: "<p>hällo</p>",
		Attachments: []mail.Attachment{{Name: "ü.csv", ContentType: "text/csv", Data: "a,b"}, {Name: "raw.bin", DataBase64: []byte{0, 255}}},
	}))
	if a.Fault != nil || a.Status != 250 || len(a.Logs) == 0 {
		t.Fatalf("%+v", a)
	}
	got := s.all()
	if len(got) != 1 || got[0].from != "shop@example.com" || fmt.Sprint(got[0].to) != "[ada@example.com b@example.com c@example.com d@example.com]" {
		t.Fatalf("%+v", got)
	}
	if bytes.Contains(got[0].data, []byte("d@example.com")) {
		t.Error("the hidden recipient is seen")
	}
	m, err := netmail.ReadMessage(bytes.NewReader(got[0].data))
	if err != nil {
		t.Fatal(err)
	}
	decode := func(name string) string {
		text, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get(name))
		if err != nil {
			t.Error(err)
		}
		return text
	}
	date, err := m.Header.Date()
	if decode("Subject") != "Grüße ✓" || m.Header.Get("Message-Id") != "<e-1@example.com>" || m.Header.Get("Reply-To") != "<r@example.com>" ||
		!strings.HasPrefix(decode("From"), `"Bücher"`) && !strings.HasPrefix(decode("From"), "Bücher") || err != nil || !date.Equal(time.Unix(1_800_000_000, 0)) {
		t.Errorf("%v", m.Header)
	}
	found := map[string]string{}
	parts(t, m.Header, m.Body, found)
	if found["text/plain"] != "hällo\r\n.\r\nend" || found["text/html"] != "<p>hällo</p>" || len(found) != 4 {
		t.Errorf("%q", found)
	}
	for kind, data := range found {
		if strings.Contains(kind, "attachment") && strings.HasPrefix(kind, "text/csv") && strings.TrimSpace(data) != "YSxi" {
			t.Errorf("%s: %q", kind, data)
		}
	}
}

// A connection is encrypted as the configuration says, or there is none; the password is right, or nothing is sent.
func TestConnections(t *testing.T) {
	t.Parallel()
	hello := &mail.Message{From: "a@example.com", To: mail.Addresses{"b@example.com"}, Subject: "s", Text: "t"}
	for _, x := range []struct {
		server, config string
		fails          string // what the error says; empty: it is sent
		user           string
	}{
		{"starttls", ``, "", ""},
		{"starttls", `, "user": "ada", "password": "hunter2"`, "", "ada"},
		{"starttls", `, "user": "ada", "password": "wrong"`, "there is no connection", ""},
		{"tls", `, "tls": "tls", "user": "ada", "password": "hunter2"`, "", "ada"},
		{"none", `, "tls": "none", "user": "ada", "password": "hunter2"`, "", "ada"}, // to this machine
		{"none", `, "tls": "starttls"`, "STARTTLS", ""},
		{"none", `, "tls": "tls"`, "there is no connection", ""},
	} {
		s := newServer(t, x.server)
		c, instance := pair(t, s, x.config)
		a := sinktest.Deliver(t, c, instance, message(t, hello))
		got := s.all()
		switch {
		case x.fails == "" && (a.Fault != nil || len(got) != 1 || got[0].user != x.user || got[0].plain != (x.server == "none")):
			t.Errorf("%s%s: %+v %+v", x.server, x.config, a.Fault, got)
		case x.fails != "" && (a.Fault == nil || a.Fault.Fatal || a.Fault.Kind == fault.Invalid || !strings.Contains(a.Fault.Message, x.fails) || len(got) > 0):
			t.Errorf("%s%s: %+v %d", x.server, x.config, a.Fault, len(got))
		}
	}
	s := newServer(t, "starttls")
	s.roots = nil // nobody trusts it
	c, instance := pair(t, s, ``)
	if a := sinktest.Deliver(t, c, instance, message(t, hello)); a.Fault == nil || len(s.all()) > 0 {
		t.Error("a certificate that nobody has signed is taken")
	}
}

// A batch has one connection, and a message that is refused in it does not keep the others from being sent.
func TestOneConnectionForABatch(t *testing.T) {
	t.Parallel()
	s := newServer(t, "none")
	s.again["later@example.com"] = true
	c, instance := pair(t, s, `, "tls": "none", "from": "a@example.com"`)
	const n = 40
	s.Set(sinktest.Hang)
	var all sync.WaitGroup
	answers := make([]sink.Answer, n)
	for i := range n {
		to := fmt.Sprintf("u%d@example.com", i)
		switch i % 10 {
		case 3:
			to = "nobody@example.com"
		case 7:
			to = "later@example.com"
		}
		d := message(t, &mail.Message{To: mail.Addresses{to}, Subject: "s", Text: "t"})
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			answers[i] = c.Deliver(ctx, instance, d)
		})
	}
	s.Set(sinktest.Accept)
	all.Wait()
	for i, a := range answers {
		switch i % 10 {
		case 3:
			if a.Status != 550 || a.Fault == nil || a.Fault.Kind != fault.Invalid {
				t.Errorf("%d: %+v", i, a)
			}
		case 7:
			if a.Status != 451 || a.Fault == nil || a.Fault.Kind == fault.Invalid {
				t.Errorf("%d: %+v", i, a)
			}
		default:
			if a.Fault != nil && a.Status != 451 { // one slept
				t.Errorf("%d: %+v", i, a.Fault)
			}
		}
	}
	if s.mu.Lock(); s.conns > n/2 {
		t.Errorf("%d connections for %d messages", s.conns, n)
	}
	s.mu.Unlock()
}

// With addresses in its configuration a sink tells of any event.
func TestTellsOfEvents(t *testing.T) {
	t.Parallel()
	s := newServer(t, "none")
	c, instance := pair(t, s, `, "tls": "none", "from": "a@example.com", "to": ["b@example.com", "c@example.com"]`)
	for _, d := range []*sink.Delivery{
		{EventID: "1", Type: "kv.update", Data: []byte(`{"a":1}`)},
		{EventID: "2", Type: "a\nb", Data: []byte{0xff}},
		{EventID: "3"},
		{EventID: "4", Data: []byte(strings.Repeat("x", 1<<20))},
	} {
		if a := sinktest.Deliver(t, c, instance, d); a.Fault != nil {
			t.Errorf("%s: %+v", d.EventID, a.Fault)
		}
	}
	got := s.all()
	if len(got) != 4 || len(got[0].to) != 2 || !bytes.Contains(got[0].data, []byte("Subject: kv.update\r\n")) || len(got[3].data) > 100<<10 {
		t.Errorf("%d messages", len(got))
	}
}

// Inside is out of reach, unless the configuration is the node owner's.
func TestInside(t *testing.T) {
	t.Parallel()
	s := newServer(t, "none")
	c := sinktest.Dial(t, smtp.New())
	hello := message(t, &mail.Message{To: mail.Addresses{"b@example.com"}, Subject: "s", Text: "t"})
	for any, reached := range map[bool]bool{false: false, true: true} {
		instance, err := c.Configure(t.Context(), sink.Config{JSON: s.Config(), Reach: sink.Reach{Any: any}})
		if err != nil {
			t.Fatal(err)
		}
		if a := sinktest.Deliver(t, c, instance, hello); (a.Fault == nil) != reached {
			t.Errorf("%v: %+v", any, a.Fault)
		}
	}
}
