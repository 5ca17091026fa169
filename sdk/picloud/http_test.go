package picloud_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
)

func TestHTTP(t *testing.T) {
	t.Parallel()
	h := &host{answer: `{"status":404,"headers":{"X-A":["1","2"]},"body":"{\"a\":1}"}`}
	web := newContext(h).HTTP
	headers := picloud.Headers{"X-B": {"3"}}
	for _, x := range []struct {
		do   func() (*picloud.HTTPResponse, error)
		want string
	}{
		{func() (*picloud.HTTPResponse, error) { return web.Get("u") }, `map[url:u]`},
		{func() (*picloud.HTTPResponse, error) { return web.Head("u") }, `map[method:HEAD url:u]`},
		{func() (*picloud.HTTPResponse, error) { return web.Delete("u") }, `map[method:DELETE url:u]`},
		{func() (*picloud.HTTPResponse, error) { return web.Post("u", "text") }, `map[body:text method:POST url:u]`},
		{func() (*picloud.HTTPResponse, error) { return web.Put("u", []byte("\xff")) }, `map[body_base64:/w== method:PUT url:u]`},
		{func() (*picloud.HTTPResponse, error) { return web.Patch("u", "\xff") }, `map[body_base64:/w== method:PATCH url:u]`},
		{
			func() (*picloud.HTTPResponse, error) { return web.Post("u", map[string]int{"n": 1}) },
			`map[body:{"n":1} headers:map[Content-Type:[application/json]] method:POST url:u]`,
		},
		{
			func() (*picloud.HTTPResponse, error) {
				return web.Do(&picloud.HTTPRequest{Method: "PUT", URL: "u", Headers: headers, Body: []int{1}, Timeout: time.Microsecond})
			},
			`map[body:[1] headers:map[Content-Type:[application/json] X-B:[3]] method:PUT timeout_ms:1 url:u]`,
		},
	} {
		answer, err := x.do()
		if got := fmt.Sprint(h.args); err != nil || got != x.want || h.called != "http.request" {
			t.Errorf("%s %s, %v\nwant %s", h.called, got, err, x.want)
			continue
		}
		var body struct{ A int }
		if answer.Status != 404 || answer.OK() || answer.Headers.Get("x-a") != "1" || answer.Text() != `{"a":1}` || answer.JSON(&body) != nil || body.A != 1 {
			t.Errorf("%+v", answer)
		}
	}
	if len(headers) != 1 {
		t.Errorf("the script's headers were changed: %v", headers)
	}
	h.answer = `{"status":200,"body_base64":"/w=="}`
	if answer, err := web.Get("u"); err != nil || !answer.OK() || answer.Text() != "\xff" || answer.JSON(nil) == nil {
		t.Errorf("%+v, %v", answer, err)
	}
	h.err = fault.New(fault.Unavailable, fault.Script, "no")
	if _, err := web.Get("u"); picloud.Code(err) != picloud.Unavailable {
		t.Errorf("%v", err)
	}
	h.called = ""
	for _, r := range []*picloud.HTTPRequest{nil, {Body: func() {}}} {
		if _, err := web.Do(r); picloud.Code(err) != picloud.InvalidArgument || h.called != "" {
			t.Errorf("%v", err)
		}
	}
}
