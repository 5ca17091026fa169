package tenant_test

import (
	"strings"
	"testing"

	"github.com/picloud/picloud/core/tenant"
)

func TestParsePatternShape(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		"/":                 "/",
		"/a":                "/a",
		"/a/":               "/a/",
		"/users/{id}":       "/users/{}",
		"/users/{user_id}":  "/users/{}",
		"/users/{id}/":      "/users/{}/",
		"/files/{rest...}":  "/files/{...}",
		"/{a}/x/{b...}":     "/{}/x/{...}",
		"/über/straße":      "/über/straße",
		"/100%":             "/100%",
		"/.well-known/acme": "/.well-known/acme",
		"/.picloudy":        "/.picloudy",
	} {
		p, err := tenant.ParsePattern(pattern)
		if err != nil {
			t.Errorf("ParsePattern(%q): %v", pattern, err)
			continue
		}
		if p.Shape() != want || p.String() != pattern {
			t.Errorf("ParsePattern(%q): shape %q, text %q; want shape %q", pattern, p.Shape(), p.String(), want)
		}
	}
}

func TestParsePatternRefuses(t *testing.T) {
	t.Parallel()
	for pattern, reason := range map[string]string{
		"":                              "begin with a slash",
		"users":                         "begin with a slash",
		"//a":                           "empty segment",
		"/a//b":                         "empty segment",
		"/a/../b":                       "clients resolve",
		"/.":                            "clients resolve",
		"/{id":                          "whole segment",
		"/x{id}":                        "whole segment",
		"/{}":                           "not a parameter",
		"/{1a}":                         "not a parameter",
		"/{a b}":                        "not a parameter",
		"/{...}":                        "not a parameter",
		"/{rest...}/x":                  "last segment",
		"/{a}/{a}":                      "used twice",
		"/{a}/{a...}":                   "used twice",
		"/files/*":                      "{name...}",
		"/a?b=c":                        "path only",
		"/a#b":                          "path only",
		"/a%20b":                        "decoded",
		"/a\x00":                        "control character",
		"/a\xff":                        "not UTF-8",
		"/.picloud":                     "belongs to the platform",
		"/.picloud/results/x":           "belongs to the platform",
		"/" + strings.Repeat("a", 2000): "longer than",
		"/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}/{j}/{k}/{l}/{m}/{n}/{o}/{p}/{q}": "more than 16",
	} {
		_, err := tenant.ParsePattern(pattern)
		if err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("ParsePattern(%.40q) = %v; want an error with %q", pattern, err, reason)
		}
	}
}

func FuzzParsePattern(f *testing.F) {
	for _, s := range []string{"/", "/a/{b}/{c...}", "/{", "/%41", "/.picloud/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := tenant.ParsePattern(s)
		if err != nil {
			return
		}
		again, err := tenant.ParsePattern(p.String())
		if err != nil || again.Shape() != p.Shape() {
			t.Fatalf("%q does not parse twice alike: %v", s, err)
		}
	})
}

func TestHosts(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Example.COM":   "example.com",
		"example.com.":  "example.com",
		"localhost":     "localhost",
		"127.0.0.1":     "127.0.0.1",
		"[::1]":         "::1",
		"::1":           "::1",
		"[0:0::1]":      "::1",
		"*.Example.com": "*.example.com",
		"*":             "*",
		"_dmarc.x.org":  "_dmarc.x.org",
	} {
		if got, err := tenant.ParseHost(in); err != nil || got != want {
			t.Errorf("ParseHost(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", ".", "*.", "a..b", "http://a", "a:80", "[::1]:80", "a/b", "*a.com", "a.*.com", "1.2.3", "[1.2.3.4]",
		"[fe80::1%eth0]", "fe80::1%eth0", "ä.example", "\u212aelvin.example", "\u0130.example", strings.Repeat("a.", 130) + "com",
	} {
		if got, err := tenant.ParseHost(in); err == nil {
			t.Errorf("ParseHost(%q) = %q; want an error", in, got)
		}
	}
	for in, want := range map[string]string{
		"Example.com:8080": "example.com", "example.com.": "example.com", "[::1]:80": "::1", "[::1]": "::1", "::1": "::1",
		"[0::0:1]": "::1", "127.0.0.1:1": "127.0.0.1", "": "", ":80": "", "[": "[", "]": "]", "[]": "", "\u212a.Example": "\u212a.example",
	} {
		if got := tenant.NormalizeHost(in); got != want {
			t.Errorf("NormalizeHost(%q) = %q; want %q", in, got, want)
		}
	}
}

func FuzzHosts(f *testing.F) {
	for _, s := range []string{"a.b", "[::1]:80", "*.x", "A.", "%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, err := tenant.ParseHost(s)
		if err != nil {
			return
		}
		if again := tenant.NormalizeHost(host); again != host {
			t.Fatalf("a request for the claimed host %q is looked up as %q", host, again)
		}
	})
}

func TestNames(t *testing.T) {
	t.Parallel()
	id := "0190f5e4-7b1c-7def-8abc-0123456789ab"
	for _, s := range []string{"a", "a-b", "0", strings.Repeat("a", 63)} {
		if err := tenant.CheckSlug(s); err != nil {
			t.Error(err)
		}
		if err := tenant.CheckName(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"", "A", "-a", "a-", "a.b", "a b", id, strings.ReplaceAll(id, "-", ""), strings.Repeat("a", 64)} {
		if tenant.CheckSlug(s) == nil || tenant.CheckSlug("x--y") == nil {
			t.Errorf("slug %q is taken", s)
		}
		if tenant.CheckName(s) == nil {
			t.Errorf("name %q is taken", s)
		}
	}
	for in, want := range map[string]string{"": "ANY", "any": "ANY", "get": "GET", "M-SEARCH": "M-SEARCH"} {
		if got, err := tenant.ParseMethod(in); err != nil || got != want {
			t.Errorf("ParseMethod(%q) = %q, %v", in, got, err)
		}
	}
	if _, err := tenant.ParseMethod("GE T"); err == nil {
		t.Error("a method with a space is taken")
	}
}
