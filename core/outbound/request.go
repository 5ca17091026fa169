package outbound

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/picloud/picloud/sdk/fault"
)

// ownHeaders are set by whoever makes the connection, and by nobody else.
var ownHeaders = map[string]bool{
	"Connection": true, "Content-Length": true, "Host": true, "Keep-Alive": true, "Proxy-Authenticate": true,
	"Proxy-Authorization": true, "Proxy-Connection": true, "Te": true, "Trailer": true, "Transfer-Encoding": true,
	"Upgrade": true,
}

// ownEncoding is what is asked for where the script says nothing of it.
const ownEncoding = "gzip"

const userAgent = "PiCloud"

// check makes the request, or says what is wrong with it. Nothing is mended silently, and nothing is dialed before.
func (in *Request) check() (*http.Request, error) {
	if in.Timeout < 0 || in.Timeout > MaxTimeout {
		return nil, invalid("timeout: %s is not between 0s and %s", in.Timeout, MaxTimeout)
	}
	if len(in.Body) > MaxBody {
		return nil, tooMuch("the body has %d bytes, more than %d", len(in.Body), MaxBody)
	}
	if err := checkMethod(in.Method); err != nil {
		return nil, err
	}
	to, err := parseURL(in.URL)
	if err != nil {
		return nil, err
	}
	r := &http.Request{Method: in.Method, URL: to, Host: to.Host, Header: http.Header{}}
	size := 0
	for name, values := range in.Headers {
		canonical := http.CanonicalHeaderKey(name)
		if !httpguts.ValidHeaderFieldName(name) {
			return nil, invalid("headers: %q is no name of a header", fault.Cut(name, 100))
		}
		if ownHeaders[canonical] {
			return nil, invalid("headers: %s is not a script's to say: it follows from the URL, the body and the connection", canonical)
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return nil, invalid("headers: the value of %s holds characters that HTTP does not allow", canonical)
			}
			size += len(name) + len(v)
		}
		r.Header[canonical] = append(r.Header[canonical], values...)
	}
	if size > MaxHeaders {
		return nil, tooMuch("the headers have %d bytes, more than %d", size, MaxHeaders)
	}
	for name, value := range map[string]string{"User-Agent": userAgent, "Accept-Encoding": ownEncoding} {
		if r.Header[name] == nil {
			r.Header.Set(name, value)
		}
	}
	if len(in.Body) > 0 {
		// As http.NewRequest sets them, so that a redirect that keeps the method can send the body again.
		body, err := http.NewRequest(in.Method, "", bytes.NewReader(in.Body))
		if err != nil {
			return nil, invalid("%v", err)
		}
		r.Body, r.GetBody, r.ContentLength = body.Body, body.GetBody, body.ContentLength
	}
	return r, nil
}

func checkMethod(method string) error {
	switch {
	case !httpguts.ValidHeaderFieldName(method): // a token, as names are
		return invalid("method: %q is no method of HTTP", fault.Cut(method, 100))
	case strings.EqualFold(method, http.MethodConnect) || strings.EqualFold(method, http.MethodTrace):
		return invalid("method: %s is not offered", method)
	}
	return nil
}

// parseURL reads an address once: the request is made from what was read here, so that nobody reads it differently.
func parseURL(text string) (*url.URL, error) {
	if len(text) > MaxURL {
		return nil, tooMuch("the URL has %d bytes, more than %d", len(text), MaxURL)
	}
	to, err := url.Parse(text)
	if err != nil {
		return nil, invalid("url: it cannot be read as a URL")
	}
	return to, checkURL(to)
}

func checkURL(to *url.URL) error {
	switch {
	case to.Scheme != "http" && to.Scheme != "https":
		return invalid("url: it has to begin with http:// or https://")
	case to.User != nil:
		return invalid("url: it holds a user before the host: send the header Authorization instead")
	case to.Hostname() == "" || to.Opaque != "":
		return invalid("url: it names no host")
	case strings.ContainsAny(to.Hostname(), "%\x00"):
		return invalid("url: its host cannot be one")
	case strings.HasSuffix(to.Host, ":"):
		return invalid("url: its port is missing")
	}
	return nil
}

// followed are the headers that go on to another host: those that say what is sent and wanted, not who asks.
var followed = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Accept-Language": true, "Cache-Control": true, "Content-Encoding": true,
	"Content-Language": true, "Content-Type": true, "Range": true, "User-Agent": true,
}

// checkRedirect says whether a redirect is followed. Its address is checked when it is connected to, as any other.
func checkRedirect(next *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return tooMuch("the answer is a redirect again, after %d", maxRedirects)
	}
	if err := checkURL(next.URL); err != nil {
		return fault.New(fault.Invalid, fault.Script, "the answer is a redirect to what is no URL of http or https, or one with a user")
	}
	// Once it has left the host, what the script wrote for that host stays behind, also on the way back.
	for _, step := range append(via[1:len(via):len(via)], next) {
		if !sameHost(via[0].URL, step.URL) {
			for name := range next.Header {
				if !followed[name] {
					delete(next.Header, name)
				}
			}
			break
		}
	}
	return nil
}

// sameHost reports whether what was sent to a may go to b: the same host and port, or from port 80 to TLS of that host.
func sameHost(a, b *url.URL) bool {
	if !strings.EqualFold(a.Hostname(), b.Hostname()) {
		return false
	}
	if a.Scheme == b.Scheme {
		return port(a) == port(b)
	}
	return a.Scheme == "http" && port(a) == "80" && port(b) == "443"
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// isTLS reports whether err is about TLS, not about what it carries.
func isTLS(err error) bool {
	var (
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		alert       tls.AlertError
		hostname    x509.HostnameError
	)
	return errors.As(err, &certificate) || errors.As(err, &record) || errors.As(err, &alert) || errors.As(err, &hostname)
}
