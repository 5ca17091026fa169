package outbound_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/picloud/picloud/sdk/guard"
)

// Addresses that are inside, in whatever form, are never connected to.
func TestInside(t *testing.T) {
	t.Parallel()
	c := client(t, "")
	for _, address := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255", "127.0.0.1",
		"127.1.2.3", "127.255.255.255", "168.63.129.16", "169.254.0.1", "169.254.169.254", "169.254.170.2", "172.16.0.1",
		"172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.1",
		"192.168.255.255", "192.175.48.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1",
		"239.255.255.250", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::127.0.0.1", "::10.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
		"::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:7f00:1::",
		"2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1", "2002:a9fe:a9fe::", "2620:4f:8000::1",
		"3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fdff::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1",
		"2606:4700::1111%eth0", "4000::1",
	} {
		network := "tcp6"
		if !strings.Contains(address, ":") {
			network = "tcp4"
		}
		for _, port := range []string{"80", "443"} {
			if c.Connects("example.com:"+port, network, net.JoinHostPort(address, port)) {
				t.Errorf("%s at port %s is connected to", address, port)
			}
		}
	}
	for _, address := range []string{"1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.1", "198.17.255.255", "198.20.0.1"} {
		if !c.Connects("example.com:443", "tcp4", address+":443") || c.Connects("example.com:22", "tcp4", address+":22") {
			t.Errorf("%s, which is public", address)
		}
	}
	for _, address := range []string{"2606:4700::1111", "2a00:1450::1", "::ffff:1.1.1.1"} {
		if !c.Connects("example.com:443", "tcp6", "["+address+"]:443") || c.Connects("example.com:22", "tcp6", "["+address+"]:22") {
			t.Errorf("%s, which is public", address)
		}
	}
	for _, network := range []string{"udp4", "unix", "ip4"} {
		if c.Connects("example.com:443", network, "1.1.1.1:443") {
			t.Errorf("by %s", network)
		}
	}
}

// What the list names is reached, and nothing beside it. What the node listens on never is.
func TestAllowed(t *testing.T) {
	t.Parallel()
	c := client(t, " 127.0.0.1:9000, 10.1.0.0/16,Internal.Example:8443,[fd00::1]:80,fd01::/64,", "[::]:8080", "127.0.0.1:9001", "10.1.0.1:8081")
	for _, x := range []struct {
		asked, network, address string
		want                    bool
	}{
		{"127.0.0.1:9000", "tcp4", "127.0.0.1:9000", true},
		{"localhost:9000", "tcp4", "127.0.0.1:9000", true},
		{"x:9000", "tcp6", "[::ffff:127.0.0.1]:9000", true},
		{"127.0.0.1:80", "tcp4", "127.0.0.1:80", false},
		{"127.0.0.2:9000", "tcp4", "127.0.0.2:9000", false},
		{"x:1", "tcp4", "10.1.0.0:1", true},
		{"x:65535", "tcp4", "10.1.255.255:65535", true},
		{"x:80", "tcp4", "10.2.0.0:80", false},
		{"x:80", "tcp4", "10.0.255.255:80", false},
		{"internal.example:8443", "tcp4", "192.168.1.1:8443", true},
		{"INTERNAL.example.:8443", "tcp6", "[fd02::1]:8443", true},
		{"internal.example:443", "tcp4", "192.168.1.1:443", false},
		{"a.internal.example:8443", "tcp4", "192.168.1.1:8443", false},
		{"x:80", "tcp6", "[fd00::1]:80", true},
		{"x:80", "tcp6", "[fd00::1%eth0]:80", false},
		{"x:81", "tcp6", "[fd01::ffff]:81", true},
		{"x:80", "tcp6", "[fd01:0:0:1::]:80", false},
		{"x:8081", "tcp4", "10.1.0.1:8081", false},
		{"x:8082", "tcp4", "10.1.0.1:8082", true},
	} {
		if c.Connects(x.asked, x.network, x.address) != x.want {
			t.Errorf("%s for %s: %v", x.address, x.asked, !x.want)
		}
	}
	own := client(t, "127.0.0.0/8,internal.example:8080,internal.example:9001", "[::]:8080", "127.0.0.1:9001")
	for _, address := range []string{"127.0.0.1:8080", "127.0.0.2:8080", "127.0.0.1:9001"} {
		if own.Connects("internal.example:"+address[len(address)-4:], "tcp4", address) {
			t.Errorf("%s, which the node listens on", address)
		}
	}
	if !own.Connects("x:9001", "tcp4", "127.0.0.2:9001") {
		t.Error("127.0.0.2:9001 is not the node's")
	}
	for _, list := range []string{"localhost", "http://localhost:80", "127.0.0.1:0", "127.0.0.1:65536", ":80", "10.0.0.0/33", "10.0.0.0/8:80", "a:b"} {
		if _, err := guard.ParseAllowed(list); err == nil {
			t.Errorf("%q is allowed", list)
		}
	}
}

// Numbers that some resolvers take for addresses lead nowhere, whoever resolves them.
func TestNumbers(t *testing.T) {
	t.Parallel()
	port := strings.TrimPrefix(serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("inside")) }), "127.0.0.1:")
	want := unreachable(t).Error()
	c := client(t, "192.0.2.1:"+port) // the port is none that would be refused
	for _, host := range []string{
		"2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "127.1", "127.0.1", "0", "0x0", "127.0.0.1", "127.0.0.1.",
		"[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:1]", "[::127.0.0.1]", "localhost", "LOCALHOST", "localhost.",
		"127。0。0。1", "１２７.0.0.1", "①②⑦.0.0.1", "127.0.0.1.nip.invalid",
	} {
		answer, err := get(t, c, "http://"+host+":"+port+"/")
		if err == nil || err.Error() != want {
			t.Errorf("%s: %+v, %v", host, answer, err)
		}
	}
}

// The same with the resolver of the C library, where the program has one.
func TestNumbersWithTheOtherResolver(t *testing.T) {
	t.Parallel()
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNumbers$")
	command.Env = append(os.Environ(), "GODEBUG=netdns=cgo")
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// names is a name server that answers as a test says, for each question anew.
func names(t *testing.T, answers func(n int64) []string) *net.Resolver {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	var asked atomic.Int64
	go func() {
		defer close(done)
		for {
			buffer := make([]byte, 1500)
			n, from, err := l.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
				for _, a := range answers(asked.Add(1)) {
					if strings.HasSuffix(a, ".") {
						name := dnsmessage.MustNewName(a)
						m.Answers = append(m.Answers, dnsmessage.Resource{
							Header: dnsmessage.ResourceHeader{Name: q.Name, Type: dnsmessage.TypeCNAME, Class: q.Class},
							Body:   &dnsmessage.CNAMEResource{CNAME: name},
						})
						head.Name = name
						continue
					}
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: [4]byte(net.ParseIP(a).To4())}})
				}
			}
			if b, err := m.Pack(); err == nil {
				_, _ = l.WriteTo(b, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", l.LocalAddr().String())
	}}
}

// pair listens at one port of two addresses, 127.0.0.1 and 127.0.0.2.
func pair(t *testing.T) (one, two net.Listener) {
	t.Helper()
	for range 100 {
		var err error
		if one, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if two, err = net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", one.Addr().(*net.TCPAddr).Port)); err == nil {
			return one, two
		}
		_ = one.Close() // somebody has the port at the other address
	}
	t.Fatal("no port is free at both addresses")
	return nil, nil
}

// A name that leads outside at one time and inside at another, or to both, leads outside or nowhere. 127.0.0.2 stands for
// what is outside.
func TestNamesThatChange(t *testing.T) {
	t.Parallel()
	inside, outside := pair(t)
	port := inside.Addr().(*net.TCPAddr).Port
	var hits atomic.Int64
	say := func(l net.Listener, text string, hit func()) {
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			hit()
			w.Header().Set("Connection", "close")
			_, _ = w.Write([]byte(text))
		})}
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close(); <-done })
	}
	say(inside, "inside", func() { hits.Add(1) })
	say(outside, "outside", func() {})
	for what, x := range map[string]struct {
		answers func(n int64) []string
		reached func(n int) bool // whether the request n leads anywhere
	}{
		"in turns": {func(n int64) []string { return []string{[]string{"127.0.0.2", "127.0.0.1"}[(n-1)%2]} }, func(n int) bool { return n%2 == 0 }},
		"both":     {func(int64) []string { return []string{"127.0.0.1", "127.0.0.2"} }, func(int) bool { return true }},
		"an alias": {func(int64) []string { return []string{"inside.example.", "127.0.0.1"} }, func(int) bool { return false }},
		"only in":  {func(int64) []string { return []string{"127.0.0.1"} }, func(int) bool { return false }},
	} {
		c := client(t, "127.0.0.2/32")
		c.Resolve(names(t, x.answers))
		for n := range 6 {
			answer, err := get(t, c, fmt.Sprintf("http://changes.example:%d/", port))
			if (err == nil) != x.reached(n) || err == nil && string(answer.Body) != "outside" {
				t.Errorf("%s, request %d: %+v, %v", what, n, answer, err)
			}
		}
	}
	if hits.Load() > 0 {
		t.Errorf("%d requests came inside", hits.Load())
	}
}
