package picloud_test

import (
	"encoding/json"
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
		want string // the method and its arguments
	}{
		{func() (*picloud.HTTPResponse, error) { return web.Get("u") }, `get map[url:u]`},
		{func() (*picloud.HTTPResponse, error) { return web.Head("u") }, `head map[url:u]`},
		{func() (*picloud.HTTPResponse, error) { return web.Delete("u") }, `delete map[url:u]`},
		{func() (*picloud.HTTPResponse, error) { return web.Post("u", "text") }, `post map[body:text url:u]`},
		{func() (*picloud.HTTPResponse, error) { return web.Put("u", []byte("\xff")) }, `put map[body_base64:/w== url:u]`},
		{func() (*picloud.HTTPResponse, error) { return web.Patch("u", "\xff") }, `patch map[body_base64:/w== url:u]`},
		{
			func() (*picloud.HTTPResponse, error) { return web.Post("u", map[string]int{"n": 1}) },
			`post map[body:map[n:1] url:u]`,
		},
		{
			func() (*picloud.HTTPResponse, error) {
				return web.Do(&picloud.HTTPRequest{Method: "PUT", URL: "u", Headers: headers, Body: []int{1}, Timeout: time.Microsecond})
			},
			`request map[body:[1] headers:map[X-B:[3]] method:PUT timeout_ms:1 url:u]`,
		},
		{
			func() (*picloud.HTTPResponse, error) {
				return web.Do(&picloud.HTTPRequest{URL: "u", Headers: headers, Body: json.RawMessage(`"quoted"`)})
			},
			`request map[body:"quoted" headers:map[Content-Type:[application/json] X-B:[3]] url:u]`,
		},
		{func() (*picloud.HTTPResponse, error) { return web.Post("u", (*int)(nil)) }, `post map[body:null headers:map[Content-Type:[application/json]] url:u]`},
	} {
		answer, err := x.do()
		if got := fmt.Sprint(h.called, " ", h.args); err != nil || got != "http."+x.want {
			t.Errorf("%s, %v\nwant http.%s", got, err, x.want)
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
