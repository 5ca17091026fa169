package tenant

import (
	"errors"
	"strings"
	"testing"
)

func TestTriggerFilter(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", MaxCollection)
	for _, c := range []struct {
		kind  string
		f     TriggerFilter
		field string // what is wrong; empty: nothing
	}{
		{TriggerKV, TriggerFilter{Collection: "users"}, ""},
		{TriggerDocs, TriggerFilter{Collection: "users*", Ops: []string{"create", "update", "delete"}}, ""},
		{TriggerFiles, TriggerFilter{Collection: "*", When: "true"}, ""},
		{TriggerKV, TriggerFilter{Collection: long}, ""},
		{TriggerKV, TriggerFilter{Collection: long + "x"}, "collection"},
		{TriggerKV, TriggerFilter{}, "collection"},
		{TriggerKV, TriggerFilter{Collection: "a*b"}, "collection"},
		{TriggerKV, TriggerFilter{Collection: "**"}, "collection"},
		{TriggerKV, TriggerFilter{Collection: "*a"}, "collection"},
		{TriggerKV, TriggerFilter{Collection: "a", Ops: []string{"insert"}}, "ops"},
		{TriggerKV, TriggerFilter{Collection: "a", Topic: "x"}, "topic"},
		{TriggerKV, TriggerFilter{Collection: "a", Scripts: []string{"x"}}, "scripts"},
		{TriggerPubSub, TriggerFilter{Topic: "user.created"}, ""},
		{TriggerPubSub, TriggerFilter{Topic: "user.*"}, ""},
		{TriggerPubSub, TriggerFilter{Topic: "a.b.c.*"}, ""},
		{TriggerPubSub, TriggerFilter{Topic: "*"}, ""},
		{TriggerPubSub, TriggerFilter{Topic: long}, ""},
		{TriggerPubSub, TriggerFilter{Topic: long + "x"}, "topic"},
		{TriggerPubSub, TriggerFilter{Topic: "*.created"}, "topic"},
		{TriggerPubSub, TriggerFilter{Topic: "**"}, "topic"},
		{TriggerPubSub, TriggerFilter{Topic: "a.*.b"}, "topic"},
		{TriggerPubSub, TriggerFilter{Topic: "user.*x"}, "topic"},
		{TriggerPubSub, TriggerFilter{Topic: "user*"}, "topic"},
		{TriggerPubSub, TriggerFilter{Topic: "*user"}, "topic"},
		{TriggerPubSub, TriggerFilter{Topic: ".*"}, "topic"},
		{TriggerPubSub, TriggerFilter{Topic: "*.*"}, "topic"},
		{TriggerPubSub, TriggerFilter{Topic: "a..*"}, "topic"},
		{TriggerPubSub, TriggerFilter{Topic: "a b"}, "topic"},
		{TriggerPubSub, TriggerFilter{}, "topic"},
		{TriggerPubSub, TriggerFilter{Topic: "a", Ops: []string{"create"}}, "ops"},
		{TriggerCron, TriggerFilter{Schedule: "* * * * *", TimeZone: "UTC"}, ""},
		{TriggerCron, TriggerFilter{TimeZone: "UTC"}, "schedule"},
		{TriggerCron, TriggerFilter{Schedule: "* * * * *", When: "true"}, "when"},
		{TriggerDeadLetter, TriggerFilter{When: "true"}, ""},
		{TriggerApp, TriggerFilter{}, ""},
		{TriggerApp, TriggerFilter{Events: []string{"deployed", "failed"}, Scripts: []string{"x"}, When: "true"}, ""},
		{TriggerApp, TriggerFilter{Events: []string{"deleted"}}, "events"},
		{TriggerKV, TriggerFilter{Collection: "a", Events: []string{"failed"}}, "events"},
		{TriggerWebhook, TriggerFilter{Signature: "github", Secret: "K", When: "true"}, ""},
		{TriggerWebhook, TriggerFilter{Signature: "hmac", Secret: "K", Header: "X-Sig_1", Algorithm: "sha512"}, ""},
		{TriggerWebhook, TriggerFilter{Signature: "none"}, ""},
		{TriggerEmail, TriggerFilter{To: "*@example.com", Signature: "hmac", Secret: "K"}, ""},
		{TriggerEmail, TriggerFilter{Secret: "K"}, "signature"},
		{TriggerEmail, TriggerFilter{Signature: "hmac"}, "secret"},
		{TriggerWebhook, TriggerFilter{Secret: "K"}, "signature"},
		{TriggerWebhook, TriggerFilter{Signature: "md5", Secret: "K"}, "signature"},
		{TriggerWebhook, TriggerFilter{Signature: "github"}, "secret"},
		{TriggerWebhook, TriggerFilter{Signature: "none", Secret: "K"}, "secret"},
		{TriggerWebhook, TriggerFilter{Signature: "github", Secret: "K", Header: "X"}, "header"},
		{TriggerWebhook, TriggerFilter{Signature: "github", Secret: "K", Algorithm: "sha1"}, "header"},
		{TriggerWebhook, TriggerFilter{Signature: "hmac", Secret: "K", Header: "a b"}, "header"},
		{TriggerWebhook, TriggerFilter{Signature: "hmac", Secret: "K", Header: strings.Repeat("x", 101)}, "header"},
		{TriggerWebhook, TriggerFilter{Signature: "hmac", Secret: "K", Algorithm: "md5"}, "algorithm"},
		{TriggerKV, TriggerFilter{Collection: "a", Signature: "github"}, "signature"},
		{TriggerSource, TriggerFilter{}, ""},
		{TriggerSource, TriggerFilter{Source: "post", Type: "order.*", When: "true"}, ""},
		{TriggerSource, TriggerFilter{Source: "Post!"}, "source"},
		{TriggerSource, TriggerFilter{Type: "a*b"}, "type"},
		{TriggerSource, TriggerFilter{To: "a@b"}, "to"},
		{TriggerEmail, TriggerFilter{To: "*@example.com", When: "true"}, ""},
		{TriggerEmail, TriggerFilter{To: "*@*"}, "to"},
		{TriggerEmail, TriggerFilter{To: "post"}, "to"},
		{TriggerEmail, TriggerFilter{To: "post*"}, ""},
		{TriggerEmail, TriggerFilter{To: "@" + long[1:]}, ""},
		{TriggerEmail, TriggerFilter{To: "@" + long}, "to"},
		{TriggerEmail, TriggerFilter{Source: "post"}, "source"},
		{TriggerHTTP, TriggerFilter{}, ""},
		{TriggerHTTP, TriggerFilter{When: "true"}, "when"},
		{TriggerHTTP, TriggerFilter{Schedule: "* * * * *"}, "schedule"},
		{TriggerDeadLetter, TriggerFilter{Scripts: []string{"x"}, Reasons: []string{"fatal"}}, ""},
		{TriggerDeadLetter, TriggerFilter{Collection: "x"}, "collection"},
	} {
		err := c.f.Validate(c.kind)
		var wrong *Invalid
		if errors.As(err, &wrong) != (c.field != "") || wrong != nil && wrong.Field != c.field {
			t.Errorf("%s %+v: %v, want %q", c.kind, c.f, err, c.field)
		}
	}
}

func TestTakesMail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		to, address string
		takes       bool
	}{
		{"", "a@b.example", true},
		{"a@b.example", "A@B.example", true},
		{"a@b.example", "aa@b.example", false},
		{"*@b.example", "x@b.example", true},
		{"*@b.example", "x@b.example.org", false},
		{"orders+*@b.example", "orders+1@b.example", true},
		{"a*a", "a", false},
		{"*", "x", true},
	} {
		f := TriggerFilter{To: c.to}
		if f.TakesMail([]string{"other@c.example", c.address}) != c.takes && c.to != "" {
			t.Errorf("%q and %q", c.to, c.address)
		}
	}
}

func TestCheckTopic(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a", "user.created", "größe.neu", "a-b_c:d/e", strings.Repeat("x", MaxTopic)} {
		if err := CheckTopic(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", ".", "a.", ".a", "a..b", "a.*", "*", "a b", "a\n", "a\x00", "\xff", strings.Repeat("x", MaxTopic+1)} {
		if CheckTopic(bad) == nil {
			t.Errorf("%q passes", bad)
		}
	}
}
