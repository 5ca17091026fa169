package smtp_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	smtpsink "github.com/picloud/picloud/plugins/sink/smtp"
	"github.com/picloud/picloud/sdk/sink"
	"github.com/picloud/picloud/sdk/sink/sinktest"
)

// A mail server that goes on talking is listened to for so long, and no longer: what it says is kept in memory.
func TestEndlessAnswers(t *testing.T) {
	t.Parallel()
	lines := strings.Repeat("250-hello\r\n", 1<<12)
	for what, says := range map[string][2]string{ // at first, and from then on
		"greeting": {"", strings.ReplaceAll(lines, "250", "220")}, "one line": {"", strings.Repeat("hello", 1<<13)}, "hello": {"220 hello\r\n", lines},
		"message": {"220 hello\r\n250 hello\r\n", lines},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			said := make(chan int, 1)
			go func() {
				total := 0
				defer func() { said <- total }()
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer func() { _ = c.Close() }()
				_, err = c.Write([]byte(says[0]))
				for err == nil {
					var n int
					n, err = c.Write([]byte(says[1]))
					total += n
				}
			}()
			c := sinktest.Dial(t, smtpsink.New())
			host, port, _ := net.SplitHostPort(l.Addr().String())
			instance, err := c.Configure(t.Context(), sink.Config{
				JSON: fmt.Appendf(nil, `{"host": %q, "port": %s, "tls": "none", "from": "a@example.com", "to": "b@example.com"}`, host, port), Reach: sink.Reach{Any: true},
			})
			if err != nil {
				t.Fatal(err)
			}
			a := sinktest.Deliver(t, c, instance, &sink.Delivery{EventID: "e"})
			if a.Fault == nil || !strings.Contains(a.Fault.Message, "more than") {
				t.Errorf("%.300s", fmt.Sprint(a.Fault))
			}
			t.Logf("%d bytes in all, with the buffers of the system", <-said)
		})
	}
}
