package outbound_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/picloud/picloud/core/outbound"
	"github.com/picloud/picloud/sdk/fault"
)

// What is no plain address of a host is refused before anything is dialed.
func TestURLs(t *testing.T) {
	t.Parallel()
	c := client(t, "")
	for _, url := range []string{
		"", "example.com", "//example.com", "/path", "http:", "http:/", "http:///", "http://", "http:example.com", "http:/example.com",
		"file:///etc/passwd", "gopher://example.com/", "ftp://example.com/", "unix:///run/x", "data:text/plain,x", "javascript:1",
		"ws://example.com/", "ldap://example.com/", "dict://example.com/", "jar:http://example.com/", "HTTPX://example.com",
		"http://user@example.com/", "http://user:password@example.com/", "http://example.com@127.0.0.1/", "http://@example.com/",
		"http://:@example.com/", "http://example.com:80@127.0.0.1:80/", "http://example.com%40127.0.0.1/", "http://example.com%2f@x/",
		`http://example.com\@127.0.0.1/`, `http://example.com\.x/`, `http:\\example.com/`, "http://exa mple.com/", "http://example.com\t/",
		"http://example.com\r\nX: y/", "http://example.com/\n", "http://example\x00.com/", "http://[::1/", "http://[::1]x/",
		"http://example.com:/", "http://example.com:port/", "http://example.com:-1/", "http://:80/", "http://%00/", "http://[fe80::1%25eth0]/",
		"http://127.0.0.1%2f.example.com/", "http://%31%32%37.0.0.1%", "://x", "http://example.com:80:80/",
	} {
		_, err := get(t, c, url)
		refused(t, url, err, fault.Invalid, "url: ")
	}
	_, err := get(t, c, "http://example.com/"+strings.Repeat("a", outbound.MaxURL))
	refused(t, "a long one", err, fault.Limit, "more than 8192")
}

// Nothing that a script says can become a header or a request of its own.
func TestInjection(t *testing.T) {
	t.Parallel()
	var dialed atomic.Int64
	address := serve(t, func(http.ResponseWriter, *http.Request) { dialed.Add(1) })
	c := client(t, address)
	header := func(name, value string) *outbound.Request {
		return &outbound.Request{Method: "GET", Headers: http.Header{name: {value}}}
	}
	for what, r := range map[string]*outbound.Request{
		"value CRLF":        header("X-A", "a\r\nX-B: b"),
		"value LF":          header("X-A", "a\nb"),
		"value CR":          header("X-A", "a\rb"),
		"value NUL":         header("X-A", "a\x00b"),
		"value DEL":         header("X-A", "a\x7fb"),
		"name CRLF":         header("X-A\r\nX-B", "b"),
		"name colon":        header("X-A: b\r\nX", "b"),
		"name space":        header("X A", "b"),
		"name empty":        header("", "b"),
		"name not ASCII":    header("X-É", "b"),
		"host":              header("host", "inside.example"),
		"length":            header("Content-Length", "3"),
		"chunks":            header("transfer-encoding", "chunked"),
		"upgrade":           header("Upgrade", "websocket"),
		"connection":        header("connection", "upgrade"),
		"proxy credentials": header("Proxy-Authorization", "x"),
		"trailer":           header("Trailer", "x"),
		"method CRLF":       {Method: "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET"},
		"method space":      {Method: "GET "},
		"method empty":      {Method: ""},
		"CONNECT":           {Method: "CONNECT"},
		"trace":             {Method: "trace"},
		"negative time":     {Method: "GET", Timeout: -1},
		"long time":         {Method: "GET", Timeout: outbound.MaxTimeout + 1},
	} {
		r.URL = "http://" + address + "/"
		_, err := c.Do(t.Context(), app, r)
		refused(t, what, err, fault.Invalid, "")
	}
	for what, r := range map[string]*outbound.Request{
		"headers": header("X-A", strings.Repeat("a", outbound.MaxHeaders-len("X-A")+1)),
		"body":    {Method: "POST", Body: make([]byte, outbound.MaxBody+1)},
	} {
		r.URL = "http://" + address + "/"
		_, err := c.Do(t.Context(), app, r)
		refused(t, what, err, fault.Limit, "more than")
	}
	if dialed.Load() > 0 {
		t.Errorf("%d came through", dialed.Load())
	}
	for what, r := range map[string]*outbound.Request{
		"headers": header("X-A", strings.Repeat("a", outbound.MaxHeaders-len("X-A"))),
		"body":    {Method: "POST", Body: make([]byte, outbound.MaxBody)},
		"time":    {Method: "PROPFIND", Timeout: outbound.MaxTimeout},
	} {
		r.URL = "http://" + address + "/"
		if _, err := c.Do(t.Context(), app, r); err != nil {
			t.Errorf("%s at the limit: %v", what, err)
		}
	}
	url := "http://" + address + "/"
	if _, err := get(t, c, url+strings.Repeat("a", outbound.MaxURL-len(url))); err != nil {
		t.Errorf("a URL at the limit: %v", err)
	}
	_, err := get(t, c, url+strings.Repeat("a", outbound.MaxURL-len(url)+1))
	refused(t, "a URL beyond it", err, fault.Limit, "more than 8192")
}

// What is sent arrives, and what comes back too, whatever its status.
func TestRequest(t *testing.T) {
	t.Parallel()
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, 100)
		n, _ := r.Body.Read(body)
		w.Header()["X-Two"] = []string{"a", "b"}
		w.Header().Set("X-Seen", strings.Join([]string{
			r.Method, r.URL.String(), r.Header.Get("X-A"), r.Header.Get("User-Agent"), r.Header.Get("Accept-Encoding"), string(body[:n]),
		}, "|"))
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte("\x00\xff"))
	})
	c := client(t, address)
	answer, err := c.Do(t.Context(), app, &outbound.Request{
		Method: "PUT", URL: "http://" + address + "/a%2Fb?q=1#fragment", Headers: http.Header{"x-a": {"1"}}, Body: []byte("body"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if answer.Status != 418 || string(answer.Body) != "\x00\xff" || len(answer.Headers["X-Two"]) != 2 ||
		answer.Headers.Get("X-Seen") != "PUT|/a%2Fb?q=1|1|PiCloud|gzip|body" {
		t.Errorf("%+v", answer)
	}
}

// The environment of the node says nothing about where requests of scripts go.
func TestNoProxy(t *testing.T) {
	proxy := serve(t, func(w http.ResponseWriter, _ *http.Request) { t.Error("the proxy was asked"); w.WriteHeader(502) })
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		t.Setenv(name, "http://"+proxy)
	}
	c := client(t, proxy+",direct.example:80")
	c.Resolve(names(t, func(int64) []string { return nil }))
	_, err := get(t, c, "http://direct.example/")
	refused(t, "by a proxy", err, fault.Unavailable, "cannot be reached")
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	var last atomic.Pointer[http.Header]
	other := serve(t, func(w http.ResponseWriter, r *http.Request) {
		h := r.Header.Clone()
		h.Set("Seen-Method", r.Method)
		last.Store(&h)
		if back := r.URL.Query().Get("back"); back != "" {
			http.Redirect(w, r, back, http.StatusTemporaryRedirect)
		}
	})
	hidden := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a redirect led inside") })
	here := serve(t, func(w http.ResponseWriter, r *http.Request) {
		h := r.Header.Clone()
		last.Store(&h)
		n, to := len(r.URL.Query().Get("n")), r.URL.Query().Get("to")
		switch {
		case n > 0:
			http.Redirect(w, r, "/?n="+strings.Repeat("x", n-1), http.StatusFound)
		case to != "":
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	})
	c := client(t, here+","+other)
	ask := func(query string) (*outbound.Response, error) {
		return c.Do(t.Context(), app, &outbound.Request{
			Method: "POST", URL: "http://" + here + "/?" + query, Body: []byte("x"), Headers: http.Header{
				"Authorization": {"secret"}, "Cookie": {"secret"}, "X-Api-Key": {"secret"}, "Accept": {"text/html"},
			},
		})
	}
	if _, err := ask("n=xxxxx"); err != nil || last.Load().Get("Authorization") != "secret" {
		t.Errorf("five redirects: %v, %v", err, last.Load())
	}
	_, err := ask("n=xxxxxx")
	refused(t, "six redirects", err, fault.Limit, "after 5")
	if _, err := ask("to=http://" + other + "/"); err != nil {
		t.Error(err)
	}
	back := "to=" + strings.ReplaceAll("http://"+other+"/?back=http://"+here+"/", "?", "%3f")
	check := func(what string) {
		t.Helper()
		for name, values := range *last.Load() {
			if strings.Contains(strings.Join(values, ""), "secret") || name == "Referer" {
				t.Errorf("%s: %s follows to another host", what, name)
			}
		}
		if last.Load().Get("Accept") != "text/html" {
			t.Errorf("%s: %v", what, last.Load())
		}
	}
	check("another host")
	if _, err := ask(back); err != nil {
		t.Error(err)
	}
	check("and back")
	for _, to := range []string{"http://" + hidden + "/", "http://127.0.0.1:22/", "http://localhost/", "http://[::1]/", "http://169.254.169.254/latest/"} {
		_, err := ask("to=" + to)
		refused(t, to, err, fault.Unavailable, "cannot be reached")
	}
	for _, to := range []string{"file:///etc/passwd", "gopher://x/", "http://user:password@" + here + "/", "ftp://" + here} {
		_, err := ask("to=" + to)
		refused(t, to, err, fault.Invalid, "redirect")
	}
}

// The run's end is the request's, and its cause is what comes back.
func TestEnd(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	})
	defer close(stop)
	c := client(t, address)
	_, err := c.Do(t.Context(), app, &outbound.Request{Method: "GET", URL: "http://" + address, Timeout: 20 * time.Millisecond})
	refused(t, "its own time", err, fault.Deadline, "within 20ms")
}
