package mail_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/picloud/picloud/sdk/mail"
)

func TestParse(t *testing.T) {
	t.Parallel()
	many := func(n int) string {
		list, _ := json.Marshal(strings.Split(strings.TrimSuffix(strings.Repeat("a@b.c ", n), " "), " "))
		return string(list)
	}
	files := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(`{"name":"a"},`, n), ",") + "]"
	}
	for text, want := range map[string]string{ // what the error says; empty: it is right
		`{"to":"ada@example.com","subject":"s","text":"t"}`:                                                             "",
		`{"to":["Ada <ada@example.com>","b@c.d"],"cc":"c@d.e","bcc":[],"from":"x@y.z","subject":"ü","html":"<p>"}`:      "",
		`{"to":"a@b.c","subject":"s","text":"t\r\nu","reply_to":"r@s.t"}`:                                               "",
		`{"to":"a@b.c","subject":"s","text":"t","attachments":[{"name":"a.csv","content_type":"text/csv","data":"1"}]}`: "",
		`{"to":` + many(100) + `,"subject":"s","text":"t"}`:                                                             "",
		`{"to":` + many(101) + `,"subject":"s","text":"t"}`:                                                             "101 addresses",
		`{"to":` + many(60) + `,"bcc":` + many(41) + `,"subject":"s","text":"t"}`:                                       "101 addresses",
		`{"to":"a@b.c","subject":"s","text":"t","attachments":` + files(50) + `}`:                                       "",
		`{"to":"a@b.c","subject":"s","text":"t","attachments":` + files(51) + `}`:                                       "are 51",
		`{"to":"a@b.c","subject":"` + strings.Repeat("x", 998) + `","text":"t"}`:                                        "",
		`{"to":"a@b.c","subject":"` + strings.Repeat("x", 999) + `","text":"t"}`:                                        "subject",

		`{"subject":"s","text":"t"}`:                                                                           "to: is missing",
		`{"to":"","subject":"s","text":"t"}`:                                                                   "to: is missing",
		`{"to":"a@b.c","text":"t"}`:                                                                            "subject: is missing",
		`{"to":"a@b.c","subject":"s"}`:                                                                         "text: is missing",
		`{"to":"ada","subject":"s","text":"t"}`:                                                                "to: \"ada\" is no address",
		`{"to":"a@b.c, d@e.f","subject":"s","text":"t"}`:                                                       "is no address",
		`{"to":"a@b.c\r\nBcc: x@y.z","subject":"s","text":"t"}`:                                                "is no address",
		`{"to":"\"a\r\nb\"@b.c","subject":"s","text":"t"}`:                                                     "is no address",
		`{"to":"=?utf-8?q?a=0D=0Ab?= <a@b.c>","subject":"s","text":"t"}`:                                       "is no address",
		`{"to":"a@b.c","from":"x","subject":"s","text":"t"}`:                                                   "from: ",
		`{"to":"a@b.c","reply_to":"x","subject":"s","text":"t"}`:                                               "reply_to: ",
		`{"to":"a@b.c","cc":["x"],"subject":"s","text":"t"}`:                                                   "cc: ",
		`{"to":"a@b.c","bcc":["x"],"subject":"s","text":"t"}`:                                                  "bcc: ",
		`{"to":"a@b.c","subject":"s\nX: y","text":"t"}`:                                                        "subject: ",
		`{"to":7,"subject":"s","text":"t"}`:                                                                    "a text, or a list",
		`{"to":"a@b.c","subject":"s","text":"t","x":1}`:                                                        "unknown field",
		`{"to":"a@b.c","subject":"s","text":"t"} 1`:                                                            "something follows",
		`{"to":"a@b.c","subject":"s","text":"t","attachments":[{"data":"x"}]}`:                                 "attachments[0].name",
		`{"to":"a@b.c","subject":"s","text":"t","attachments":[{"name":"../a"}]}`:                              "attachments[0].name",
		`{"to":"a@b.c","subject":"s","text":"t","attachments":[{"name":"a\""}]}`:                               "attachments[0].name",
		`{"to":"a@b.c","subject":"s","text":"t","attachments":[{"name":"a","content_type":"x y"}]}`:            "content_type",
		`{"to":"a@b.c","subject":"s","text":"t","attachments":[{"name":"a","data":"x","data_base64":"eA=="}]}`: "excludes",
		`null`: "to: is missing",
		`{`:    "cannot be read",
	} {
		_, err := mail.Parse([]byte(text))
		switch {
		case want == "" && err != nil:
			t.Errorf("%.200s: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%.200s: %v, not %q", text, err, want)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	m := mail.Message{
		From: "a@b.c", To: mail.Addresses{"d@e.f"}, CC: mail.Addresses{"g@h.i"}, BCC: mail.Addresses{"j@k.l"}, ReplyTo: "m@n.o", Subject: "s",
		Text: "t", HTML: "h", Attachments: []mail.Attachment{{Name: "n", ContentType: "text/plain", DataBase64: []byte{0, 255}}},
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := mail.Parse(text)
	if err != nil || !reflect.DeepEqual(*got, m) || string(got.Attachments[0].Bytes()) != "\x00\xff" {
		t.Errorf("%+v, %v", got, err)
	}
}
