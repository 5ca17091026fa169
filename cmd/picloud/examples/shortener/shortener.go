package main

import (
	"crypto/sha256"
	"encoding/base64"
	"net/url"

	"github.com/picloud/picloud/sdk/picloud"
)

// Handle makes short addresses (POST /links), leads from them to the long ones (GET /l/{code}), and says how often it did
// (GET /links/{code}).
func Handle(ctx *picloud.Context) (any, error) {
	links, visits := ctx.KV("links"), ctx.KV("visits")
	code := ctx.Request.Param("code")
	if code == "" {
		return shorten(ctx, links)
	}
	var long string
	found, err := links.Get(code, &long)
	if err != nil {
		return nil, err
	}
	if !found {
		return picloud.Response{Status: 404, Body: map[string]string{"error": "there is no such link"}}, nil
	}
	if ctx.Request.Path == "/l/"+code {
		_, err := visits.Increment(code, 1)
		return picloud.Response{Status: 302, Headers: picloud.Headers{"Location": {long}}}, err
	}
	var count int
	_, err = visits.Get(code, &count)
	return map[string]any{"url": long, "visits": count}, err
}

func shorten(ctx *picloud.Context, links *picloud.KV) (any, error) {
	var in struct{ URL string }
	if err := ctx.Request.JSON(&in); err != nil {
		return picloud.Response{Status: 400, Body: map[string]string{"error": err.Error()}}, nil
	}
	if u, err := url.Parse(in.URL); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return picloud.Response{Status: 400, Body: map[string]string{"error": "url is no address such as https://example.com"}}, nil
	}
	sum := sha256.Sum256([]byte(in.URL))
	code := base64.RawURLEncoding.EncodeToString(sum[:])[:8] // the same address has the same code
	_, err := links.Set(code, in.URL)
	return picloud.Response{Status: 201, Body: map[string]string{"short": "/l/" + code, "code": code}}, err
}
