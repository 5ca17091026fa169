package main

import (
	"net/url"
	"strings"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	encoded := strings.ReplaceAll(url.QueryEscape("a b&c/ü~"), "+", "%20")
	decoded, err := url.PathUnescape("a%20b%26c%2F%C3%BC~")
	if err != nil {
		return nil, err
	}
	u, err := url.Parse("https://ada:s%20x@example.com:8443/a%20b/c?q=1&q=2#top")
	if err != nil {
		return nil, err
	}
	password, _ := u.User.Password()
	base, err := url.Parse("https://example.com/a/b?x")
	if err != nil {
		return nil, err
	}
	other, err := url.Parse("../c")
	if err != nil {
		return nil, err
	}
	fields, err := url.ParseQuery("q=a+b&q=%C3%BC")
	return []any{
		encoded, decoded,
		[]string{u.Scheme, u.User.Username(), password, u.Hostname(), u.Port(), u.EscapedPath(), u.RawQuery, u.Fragment},
		base.ResolveReference(other).String(), url.Values{"b": {"1", "2"}, "a": {"x y"}}.Encode(), fields["q"],
	}, err
}
