package webhook_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/webhook"
)

// request is one that a service has signed.
type request struct {
	filter  tenant.TriggerFilter
	key     string
	headers map[string]string
	body    string
	at      int64 // when it was signed; 0: its scheme signs no time
	want    webhook.Delivery
}

// requests are the examples in the documents of each scheme, and some of our own.
func requests() map[string]request {
	mac1 := hmac.New(sha1.New, []byte("k"))
	mac1.Write([]byte("body"))
	mac512 := hmac.New(sha512.New, []byte("k"))
	mac512.Write([]byte("body"))
	return map[string]request{
		"standard": {
			filter: tenant.TriggerFilter{Signature: tenant.SignatureStandard}, key: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
			headers: map[string]string{
				"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330",
				"webhook-signature": "v1a,xyz v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
			},
			body: `{"test": 2432232314}`, at: 1614265330, want: webhook.Delivery{ID: "msg_p5jXN8AQM9LWM0D4loKWxJek"},
		},
		"github": {
			filter: tenant.TriggerFilter{Signature: tenant.SignatureGitHub}, key: "It's a Secret to Everybody",
			headers: map[string]string{
				"X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
				"X-GitHub-Event":      "push", "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
			},
			body: "Hello, World!", want: webhook.Delivery{ID: "72d3162e-cc78-11e3-81ab-4c9367dc0958", Event: "push"},
		},
		"slack": {
			filter: tenant.TriggerFilter{Signature: tenant.SignatureSlack}, key: "8f742231b10e8888abcd99yyyzzz85a5",
			headers: map[string]string{
				"X-Slack-Request-Timestamp": "1531420618",
				"X-Slack-Signature":         "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
			},
			body: "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar" +
				"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com" +
				"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
			at: 1531420618,
		},
		"stripe": {
			filter: tenant.TriggerFilter{Signature: tenant.SignatureStripe}, key: "whsec_test_secret",
			headers: map[string]string{"Stripe-Signature": "t=1492774577,v1=00," + // one of another key
				"v1=" + hex.EncodeToString(sum("whsec_test_secret", `1492774577.{"id":"evt_1","type":"invoice.paid"}`)) + ",v0=11"},
			body: `{"id":"evt_1","type":"invoice.paid"}`, at: 1492774577, want: webhook.Delivery{ID: "evt_1", Event: "invoice.paid"},
		},
		"hmac": {
			filter: tenant.TriggerFilter{Signature: tenant.SignatureHMAC}, key: "k",
			headers: map[string]string{"X-Signature": "sha256=" + hex.EncodeToString(sum("k", `{"type":"x"}`))},
			body:    `{"type":"x"}`, want: webhook.Delivery{Event: "x"},
		},
		"hmac in base64": {
			filter: tenant.TriggerFilter{Signature: tenant.SignatureHMAC, Header: "X-Sig", Algorithm: "sha512"}, key: "k",
			headers: map[string]string{"X-Sig": base64.StdEncoding.EncodeToString(mac512.Sum(nil))}, body: "body",
		},
		"hmac with sha1": {
			filter: tenant.TriggerFilter{Signature: tenant.SignatureHMAC, Algorithm: "sha1"}, key: "k",
			headers: map[string]string{"X-Signature": hex.EncodeToString(mac1.Sum(nil))}, body: "body",
		},
	}
}

func sum(key, text string) []byte {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

func (r request) header() http.Header {
	h := http.Header{}
	for name, value := range r.headers {
		h.Set(name, value)
	}
	return h
}

func (r request) verify(at time.Time, keys ...string) (webhook.Delivery, error) {
	return webhook.Verify(&r.filter, keys, r.header(), []byte(r.body), at)
}

func (r request) signedAt() time.Time {
	if r.at == 0 {
		return time.Now()
	}
	return time.Unix(r.at, 0)
}

func TestVerify(t *testing.T) {
	t.Parallel()
	for name, r := range requests() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := r.verify(r.signedAt(), "b3RoZXI=", r.key); err != nil || got != r.want {
				t.Errorf("%+v, %v", got, err)
			}
			refused := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, webhook.ErrSignature) {
					t.Errorf("%s: %v", what, err)
				}
			}
			_, err := r.verify(r.signedAt(), "b3RoZXI=")
			refused("another key", err)
			_, err = r.verify(r.signedAt())
			refused("no key", err)
			again := r
			again.body += " "
			_, err = again.verify(r.signedAt(), r.key)
			refused("another body", err)
			for header := range r.headers {
				less := r
				less.headers = map[string]string{}
				for other, value := range r.headers {
					if other != header {
						less.headers[other] = value
					}
				}
				if strings.HasPrefix(header, "X-GitHub") {
					continue // these are not signed
				}
				_, err := less.verify(r.signedAt(), r.key)
				refused("without "+header, err)
			}
			if r.at == 0 {
				return
			}
			for _, age := range []time.Duration{webhook.Tolerance, -webhook.Tolerance} {
				if _, err := r.verify(r.signedAt().Add(age), r.key); err != nil {
					t.Errorf("at the edge of its time: %v", err)
				}
			}
			for _, age := range []time.Duration{webhook.Tolerance + time.Second, -webhook.Tolerance - time.Second} {
				_, err := r.verify(r.signedAt().Add(age), r.key)
				refused("out of its time", err)
			}
		})
	}
}

// A signed text cannot be cut in another place: id.time.body.
func TestIDWithDots(t *testing.T) {
	t.Parallel()
	key := "whsec_" + base64.StdEncoding.EncodeToString([]byte("key of a webhook, some bytes"))
	now := time.Now()
	r := request{
		filter: tenant.TriggerFilter{Signature: tenant.SignatureStandard}, body: "forged",
		headers: map[string]string{"webhook-id": fmt.Sprintf("m.%d", now.Unix()), "webhook-timestamp": fmt.Sprint(now.Unix())},
	}
	text := r.headers["webhook-id"] + "." + r.headers["webhook-timestamp"] + ".forged" // m, its time, and the body "time.forged"
	r.headers["webhook-signature"] = "v1," + base64.StdEncoding.EncodeToString(sum("key of a webhook, some bytes", text))
	if _, err := r.verify(now, key); !errors.Is(err, webhook.ErrSignature) {
		t.Error(err)
	}
}

func TestChallenge(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := request{filter: tenant.TriggerFilter{Signature: tenant.SignatureSlack}, body: `{"type":"url_verification","challenge":"abc"}`}
	r.headers = map[string]string{
		"X-Slack-Request-Timestamp": fmt.Sprint(now.Unix()),
		"X-Slack-Signature":         "v0=" + hex.EncodeToString(sum("k", fmt.Sprintf("v0:%d:%s", now.Unix(), r.body))),
	}
	if d, err := r.verify(now, "k"); err != nil || d.Challenge != "abc" {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestUnsigned(t *testing.T) {
	t.Parallel()
	for signature, want := range map[string]bool{tenant.SignatureNone: true, "": false, "other": false} {
		_, err := webhook.Verify(&tenant.TriggerFilter{Signature: signature}, nil, nil, nil, time.Now())
		if (err == nil) != want {
			t.Errorf("%q: %v", signature, err)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	ten, _ := json.Marshal(strings.Split("a,b,c,d,e,f,g,h,i,j", ","))
	eleven, _ := json.Marshal(strings.Split("a,b,c,d,e,f,g,h,i,j,k", ","))
	for _, c := range []struct {
		signature, secret string
		keys              int
	}{
		{tenant.SignatureHMAC, `"a"`, 1},
		{tenant.SignatureHMAC, `["a", "b"]`, 2},
		{tenant.SignatureHMAC, string(ten), 10},
		{tenant.SignatureHMAC, string(eleven), 0},
		{tenant.SignatureHMAC, `""`, 0},
		{tenant.SignatureHMAC, `["a", ""]`, 0},
		{tenant.SignatureHMAC, `[]`, 0},
		{tenant.SignatureHMAC, `7`, 0},
		{tenant.SignatureHMAC, `{"a": "b"}`, 0},
		{tenant.SignatureStandard, `"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"`, 1},
		{tenant.SignatureStandard, `"no base64!"`, 0},
	} {
		keys, err := webhook.Keys(&tenant.TriggerFilter{Signature: c.signature}, json.RawMessage(c.secret))
		if len(keys) != c.keys || (err == nil) != (c.keys > 0) {
			t.Errorf("%s: %d keys, %v", c.secret, len(keys), err)
		}
	}
}

// Whatever comes, it is refused or was signed.
func FuzzVerify(f *testing.F) {
	f.Add("standard", "webhook-signature", "v1,x", []byte("{}"))
	f.Add("stripe", "Stripe-Signature", "t=1,v1=,v1", []byte(`{"id": 1}`))
	f.Add("slack", "X-Slack-Signature", "v0=zz", []byte("a=b"))
	f.Fuzz(func(t *testing.T, signature, header, value string, body []byte) {
		h := http.Header{"Webhook-Id": {"a"}, "Webhook-Timestamp": {"0"}, "X-Slack-Request-Timestamp": {"0"}}
		h.Set(header, value)
		_, err := webhook.Verify(&tenant.TriggerFilter{Signature: signature}, []string{"a2V5"}, h, body, time.Unix(0, 0))
		if err == nil && signature != tenant.SignatureNone {
			t.Errorf("%s: %s of %q passes", signature, value, body)
		}
	})
}
