package stdlib

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"
)

func base64Encode(args []any) (any, error) {
	if args[1].(bool) {
		return base64.RawURLEncoding.EncodeToString(args[0].([]byte)), nil
	}
	return base64.StdEncoding.EncodeToString(args[0].([]byte)), nil
}

// base64Decode takes either alphabet as it is asked, with its padding or without any, and nothing else: line ends are for those
// who know why they are there.
func base64Decode(args []any) (any, error) {
	text, encoding := args[0].(string), base64.StdEncoding
	if args[1].(bool) {
		encoding = base64.URLEncoding
	}
	if at := strings.IndexAny(text, "\r\n"); at >= 0 {
		return nil, base64.CorruptInputError(at)
	}
	if !strings.HasSuffix(text, "=") {
		encoding = encoding.WithPadding(base64.NoPadding)
	}
	return encoding.DecodeString(text)
}

func hexEncode(args []any) (any, error) { return hex.EncodeToString(args[0].([]byte)), nil }

func hexDecode(args []any) (any, error) {
	b, err := hex.DecodeString(args[0].(string))
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "encoding/hex: "))
	}
	return b, nil
}

// urlEncode escapes all but what RFC 3986 calls unreserved.
func urlEncode(args []any) (any, error) {
	text := strings.ReplaceAll(url.QueryEscape(args[0].(string)), "+", "%20")
	if len(text) > MaxOutput {
		return nil, tooMuch()
	}
	return text, nil
}

func urlDecode(args []any) (any, error) {
	text, err := url.PathUnescape(args[0].(string))
	if err != nil {
		return nil, err
	}
	if !utf8.ValidString(text) {
		return nil, errors.New("what is escaped is not UTF-8")
	}
	return text, nil
}

// maxURL bounds addresses, in bytes, as those are that requests go to.
const maxURL = 8 << 10

func urlParse(args []any) (any, error) {
	u, err := parse(args[0].(string))
	if err != nil {
		return nil, err
	}
	return partsOf(u), nil
}

func urlResolve(args []any) (any, error) {
	base, err := parse(args[0].(string))
	if err != nil {
		return nil, err
	}
	u, err := parse(args[1].(string))
	if err != nil {
		return nil, err
	}
	return base.ResolveReference(u).String(), nil
}

func parse(text string) (*url.URL, error) {
	if len(text) > maxURL {
		return nil, fmt.Errorf("the address has more than %d bytes", maxURL)
	}
	u, err := url.Parse(text)
	if err != nil {
		var wrong *url.Error
		if errors.As(err, &wrong) {
			err = wrong.Err // without the address, which may hold a password
		}
		return nil, err
	}
	return u, nil
}

// partsOf are the parts of an address as they are written, but for user and password.
func partsOf(u *url.URL) map[string]any {
	password, _ := u.User.Password()
	path := u.EscapedPath()
	if u.Opaque != "" {
		path = u.Opaque
	}
	return map[string]any{
		"scheme": u.Scheme, "user": u.User.Username(), "password": password, "host": u.Host, "hostname": u.Hostname(), "port": u.Port(),
		"path": path, "query": u.RawQuery, "fragment": u.EscapedFragment(),
	}
}

func urlQuery(args []any) (any, error) {
	text := url.Values(args[0].(map[string][]string)).Encode()
	if len(text) > MaxOutput {
		return nil, tooMuch()
	}
	return text, nil
}

// maxQuery bounds how many fields are read of a query, as many as Go's reader takes.
const maxQuery = 10_000

func urlParseQuery(args []any) (any, error) {
	text := args[0].(string)
	if strings.Count(text, "&") >= maxQuery {
		return nil, fmt.Errorf("there are more than %d fields", maxQuery)
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, err
	}
	return map[string][]string(values), nil
}
