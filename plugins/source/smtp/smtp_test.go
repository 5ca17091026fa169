package smtp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/picloud/picloud/sdk/source"
	"github.com/picloud/picloud/sdk/source/sourcetest"
)

// The test binary is also the source.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "child:source" {
		source.Serve(New())
		return
	}
	goleak.VerifyTestMain(m)
}

// sender is a mail server that has mail for the source, and tries again until it is taken.
type sender struct {
	address string
	ctx     context.Context
	running *sync.WaitGroup
	turn    chan struct{} // connections at one time

	mu    sync.Mutex
	mode  sourcetest.Mode
	quiet net.Conn
}

func newSender(tb testing.TB) *sender {
	s := &sender{address: sourcetest.Address(tb), ctx: tb.Context(), running: &sync.WaitGroup{}, turn: make(chan struct{}, 20)}
	tb.Cleanup(func() { s.Set(sourcetest.Normal); s.running.Wait() })
	return s
}

func (s *sender) Config() []byte {
	return fmt.Appendf(nil, `{"listen": %q, "domains": ["example.com"]}`, s.address)
}

func (s *sender) Set(m sourcetest.Mode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mode = m
	if s.quiet != nil {
		_ = s.quiet.Close()
		s.quiet = nil
	}
	if m == sourcetest.Normal {
		return
	}
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		return // it is not there
	}
	if m == sourcetest.Garbage {
		_, _ = c.Write([]byte("\x00\xff GARBAGE\r\nDATA\r\nRCPT TO:<<<>\r\n" + strings.Repeat("x", 5000)))
	}
	s.quiet = c
}

func (s *sender) Happen(texts ...string) {
	for _, text := range texts {
		s.running.Go(func() {
			for s.ctx.Err() == nil {
				s.turn <- struct{}{}
				err := smtp.SendMail(s.address, nil, "a@sender.example", []string{"b@example.com"},
					[]byte("Message-ID: <"+text+"@sender.example>\r\nSubject: test\r\n\r\n"+text+"\r\n"))
				<-s.turn
				if err == nil {
					return
				}
				select { // as a mail server does, for longer
				case <-time.After(10 * time.Millisecond):
				case <-s.ctx.Done():
				}
			}
		})
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sourcetest.Run(t, sourcetest.Suite{
		Command: []string{self, "child:source"}, New: func(tb testing.TB) sourcetest.Feed { return newSender(tb) },
		Wrong: []string{
			`{"listen": "127.0.0.1:0"}`, `{"listen": "x", "domains": ["a"]}`, `{"listen": "127.0.0.1:0", "domains": ["*"]}`,
			`{"listen": "127.0.0.1:0", "recipients": ["x"]}`, `{"listen": "127.0.0.1:0", "domains": ["a"], "max_bytes": 5242881}`,
			`{"listen": "127.0.0.1:0", "domains": ["a"], "tls_certificate": "x"}`,
		},
	})
}

// host takes what the source emits, as it is told to.
type host struct {
	mu     sync.Mutex
	err    error
	events []source.Event
}

func (h *host) Offer(_ context.Context, b source.Batch) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.events = append(h.events, b.Events...)
	}
	return h.err
}
func (h *host) Emit(ctx context.Context, b source.Batch) error { return h.Offer(ctx, b) }
func (h *host) Log(string, string, ...any)                     {}

func (h *host) answer(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

// serve runs the source and returns its address.
func serve(t *testing.T, h *host, more string) string {
	s := newSender(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	config := fmt.Sprintf(`{"listen": %q, "domains": ["example.com"], "recipients": ["One@other.example"]%s}`, s.address, more)
	go func() { done <- New().Run(ctx, source.Setting{Config: []byte(config)}, h) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for { // until it listens
		if c, err := net.Dial("tcp", s.address); err == nil {
			_ = c.Close()
			return s.address
		}
		select {
		case err := <-done:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
}

func code(err error) int {
	answer := (*textproto.Error)(nil)
	if errors.As(err, &answer) {
		return answer.Code
	}
	if err != nil {
		return -1
	}
	return 250
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	h := &host{}
	address := serve(t, h, `, "max_bytes": 2000`)
	send := func(want int, to, message string) {
		t.Helper()
		if got := code(smtp.SendMail(address, nil, "a@sender.example", []string{to}, []byte(message))); got != want {
			t.Errorf("to %s: %d, want %d", to, got, want)
		}
	}
	mail := "From: A <a@sender.example>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nhello\r\n"
	send(250, "b@example.com", mail)
	send(250, "B@EXAMPLE.com", mail)
	send(250, "one@other.example", mail)
	for _, foreign := range []string{"two@other.example", "b@example.org", "b@sub.example.com", "b%example.org@example.net"} {
		send(550, foreign, mail)
	}
	head := "Subject: x\r\n\r\n"
	fits := head + strings.Repeat("x", 1000) + "\r\n"
	fits += strings.Repeat("y", 2000-len(fits)-2) + "\r\n"
	send(250, "b@example.com", fits)
	send(552, "b@example.com", fits+"z\r\n")
	h.answer(&source.Refused{After: time.Second, Reason: "too much\r\nwaits"})
	send(451, "b@example.com", mail)
	h.answer(errors.New("gone"))
	send(451, "b@example.com", mail)
	h.answer(nil)

	c, err := smtp.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Mail("a@sender.example"); err != nil {
		t.Error(err)
	}
	for i := range maxRecipients + 1 {
		if err := c.Rcpt(fmt.Sprintf("r%d@example.com", i)); (err == nil) != (i < maxRecipients) {
			t.Errorf("recipient %d: %v", i, err)
		}
	}
	_ = c.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.events) != 4 || h.events[0].Subject != "Grüße" || h.events[0].ID == h.events[1].ID {
		t.Errorf("%+v", h.events)
	}
}

// A message in chunks (RFC 3030) is taken when it is there as a whole.
func TestChunks(t *testing.T) {
	t.Parallel()
	h := &host{}
	address := serve(t, h, "")
	for chunk, whole := range map[string]bool{"BDAT 6\r\nSubjecBDAT 10 LAST\r\nt: a\r\n\r\nhi": true, "BDAT 17 LAST\r\nSubject: a\r\n\r\nhi": false, "BDAT 6\r\nSubjec": false} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("EHLO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<b@example.com>\r\n" + chunk)); err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).CloseWrite() // the sender is gone
		answers, err := io.ReadAll(c)     // until the source has noticed
		if _ = c.Close(); err != nil || strings.Contains(string(answers), "queued") != whole {
			t.Errorf("%q: %s, %v", chunk, answers, err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.events) != 1 || h.events[0].Subject != "a" {
		t.Errorf("%+v", h.events)
	}
}

// A message that does not come to its end is no reason for its sender to give it up.
func TestIncomplete(t *testing.T) {
	t.Parallel()
	c, err := net.Dial("tcp", serve(t, &host{}, ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("EHLO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubject: x\r\n")); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	answers, err := io.ReadAll(c)
	if _ = c.Close(); err != nil || !strings.Contains(string(answers), "\r\n451 ") || strings.Contains(string(answers), "\r\n554 ") {
		t.Errorf("%s, %v", answers, err)
	}
}

// Who sends slowly keeps nobody else from sending.
func TestSlowSenders(t *testing.T) {
	t.Parallel()
	h := &host{}
	address := serve(t, h, "")
	for range maxReading + 1 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := c.Write([]byte("EHLO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")); err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewReader(c); ; { // until the message is waited for
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(line, "354 ") {
				break
			}
		}
	}
	if err := smtp.SendMail(address, nil, "a@sender.example", []string{"b@example.com"}, []byte("Subject: x\r\n\r\nx\r\n")); err != nil {
		t.Error(err)
	}
}

// Messages that are read hold so much memory together, and no more.
func TestHeld(t *testing.T) {
	t.Parallel()
	var all atomic.Int64
	all.Store(maxHeld - 10)
	fits := &counted{Reader: strings.NewReader("0123456789"), all: &all}
	if _, err := io.ReadAll(fits); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(&counted{Reader: strings.NewReader("0"), all: &all}); err == nil {
		t.Error("one more byte is held")
	}
	if fits.free(); all.Load() != maxHeld-9 {
		t.Errorf("%d bytes are held", all.Load())
	}
}

func mailed(t *testing.T, raw string) (received, source.Event) {
	t.Helper()
	e, err := read("env@x.example", []string{"r@example.com"}, []byte(strings.ReplaceAll(raw, "\n", "\r\n")), time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	var m received
	if err := json.Unmarshal(e.Data, &m); err != nil {
		t.Fatal(err)
	}
	return m, e
}

func TestMessage(t *testing.T) {
	t.Parallel()
	m, e := mailed(t, `From: "Ada" <ada@x.example>
To: b@example.com, "C, D" <c@example.com>
Cc: d@example.com
Subject: =?iso-8859-1?q?K=E4se?=
Message-ID: <1@x.example>
Content-Type: multipart/mixed; boundary=o

--o
Content-Type: multipart/alternative; boundary=i

--i
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

K=E4se
--i
Content-Type: text/html

<b>K</b>
--i--
--o
Content-Type: application/pdf; name="a.pdf"
Content-Disposition: attachment; filename="b.pdf"
Content-Transfer-Encoding: base64

AAEC
--o--
`)
	if m.From != "ada@x.example" || !slices.Equal(m.To, []string{"b@example.com", "c@example.com"}) || !slices.Equal(m.CC, []string{"d@example.com"}) ||
		m.Subject != "Käse" || m.MessageID != "1@x.example" || strings.TrimSpace(m.Text) != "Käse" || strings.TrimSpace(m.HTML) != "<b>K</b>" ||
		!slices.Equal(m.Recipients, []string{"r@example.com"}) || !m.ReceivedAt.Equal(time.Unix(1, 0)) {
		t.Errorf("%+v", m)
	}
	if len(m.Attachments) != 1 || m.Attachments[0].Name != "b.pdf" || string(m.Attachments[0].Data) != "\x00\x01\x02" || m.Attachments[0].ContentType != "application/pdf" {
		t.Errorf("%+v", m.Attachments)
	}
	if e.Type != "email.received" || e.Subject != "Käse" || !json.Valid(e.Data) {
		t.Errorf("%+v", e)
	}
	if m, _ := mailed(t, "Subject: x\nContent-Type: text/plain; charset=nobody-knows\n\nhi\n"); m.From != "env@x.example" || !strings.Contains(m.Text, "hi") {
		t.Errorf("%+v", m)
	}
}

// What is made to hurt is refused, and costs little.
func TestHostile(t *testing.T) {
	t.Parallel()
	nested := func(depth int) string {
		var b strings.Builder
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b0\r\n\r\n")
		for i := range depth - 2 {
			fmt.Fprintf(&b, "--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n", i, i+1)
		}
		fmt.Fprintf(&b, "--b%d\r\n\r\nx\r\n", depth-2)
		for i := depth - 2; i >= 0; i-- {
			fmt.Fprintf(&b, "--b%d--\r\n", i)
		}
		return b.String()
	}
	parts := func(n int) string {
		return "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", n-1) + "--b--\r\n"
	}
	for what, c := range map[string]struct{ good, bad string }{
		"depth":  {nested(maxDepth), nested(maxDepth + 1)},
		"parts":  {parts(maxParts), parts(maxParts + 1)},
		"header": {"Subject: x\r\n\r\n", "Subject: " + strings.Repeat("x", maxHeader) + "\r\n\r\n"},
		"deep":   {"\r\n", nested(5000)},
	} {
		if _, err := read("", nil, []byte(c.good), time.Now()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := read("", nil, []byte(c.bad), time.Now()); err == nil {
			t.Errorf("%s: one too many is read", what)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := read("a", []string{"b"}, raw, time.Unix(1, 0))
		if err != nil {
			return
		}
		b := source.Batch{Events: []source.Event{e}}
		if err := b.Validate(); err != nil && len(raw) < 1<<16 || !json.Valid(e.Data) {
			t.Errorf("%v: %q", err, raw)
		}
	})
}
