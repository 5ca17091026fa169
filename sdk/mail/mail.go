// Package mail is an e-mail as scripts write it, checked the same where it is accepted and where it is sent.
package mail

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	netmail "net/mail"
	"strings"
	"unicode/utf8"

	"github.com/picloud/picloud/sdk/fault"
)

// ContentType marks data that is a Message.
const ContentType = "application/vnd.picloud.email+json"

// Limits of a message.
const (
	MaxRecipients  = 100
	MaxAttachments = 50
	MaxSubject     = 998 // bytes: a line of RFC 5322
	maxName        = 255
	// MaxBytes bounds the message as JSON, attachments in base64: what an event can carry.
	MaxBytes = 6 << 20
)

// Addresses are one or more, each as RFC 5322 has them: "ada@example.com", "Ada <ada@example.com>". In JSON a text or a list of texts.
type Addresses []string

// UnmarshalJSON reads a text or a list.
func (a *Addresses) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '[' {
		return json.Unmarshal(data, (*[]string)(a))
	}
	var one string
	if err := json.Unmarshal(data, &one); err != nil {
		return errors.New("an address is a text, or a list of texts")
	}
	if *a = nil; one != "" {
		*a = Addresses{one}
	}
	return nil
}

// Attachment is a file that goes with a message.
type Attachment struct {
	Name        string `json:"name"`
	ContentType string `json:"content_type,omitempty"` // empty: by the end of the name
	Data        string `json:"data,omitempty"`         // as text, or
	DataBase64  []byte `json:"data_base64,omitempty"`
}

// Bytes is what the file holds.
func (a *Attachment) Bytes() []byte {
	if a.DataBase64 != nil {
		return a.DataBase64
	}
	return []byte(a.Data)
}

// Message is an e-mail. It has a text, an HTML page, or both, which say the same.
type Message struct {
	From        string       `json:"from,omitempty"` // empty: the server's own
	To          Addresses    `json:"to,omitempty"`
	CC          Addresses    `json:"cc,omitempty"`
	BCC         Addresses    `json:"bcc,omitempty"`
	ReplyTo     string       `json:"reply_to,omitempty"` // empty: none
	Subject     string       `json:"subject"`
	Text        string       `json:"text,omitempty"`
	HTML        string       `json:"html,omitempty"`
	Attachments []Attachment `json:"attachments,omitempty"`
}

// Parse reads a message strictly, and checks it.
func Parse(data []byte) (*Message, error) {
	var m Message
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("the message cannot be read: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the message")
	}
	return &m, m.Check()
}

// Check says what is wrong with a message: which field, and why.
func (m *Message) Check() error {
	n := 0
	for _, list := range []struct {
		field     string
		addresses Addresses
	}{{"from", one(m.From)}, {"reply_to", one(m.ReplyTo)}, {"to", m.To}, {"cc", m.CC}, {"bcc", m.BCC}} {
		for _, a := range list.addresses {
			if err := CheckAddress(a); err != nil {
				return fmt.Errorf("%s: %w", list.field, err)
			}
			n++
		}
	}
	n -= len(one(m.From)) + len(one(m.ReplyTo))
	switch {
	case len(m.To) == 0:
		return errors.New("to: is missing: an address, or a list of them")
	case n > MaxRecipients:
		return fmt.Errorf("to: with cc and bcc these are %d addresses, more than %d: send several messages", n, MaxRecipients)
	case m.Subject == "":
		return errors.New("subject: is missing")
	case len(m.Subject) > MaxSubject || !line(m.Subject):
		return fmt.Errorf("subject: is no line of text with at most %d bytes", MaxSubject)
	case m.Text == "" && m.HTML == "":
		return errors.New("text: is missing: give text, html or both")
	case !utf8.ValidString(m.Text) || !utf8.ValidString(m.HTML):
		return errors.New("text: or html is not UTF-8")
	case len(m.Attachments) > MaxAttachments:
		return fmt.Errorf("attachments: are %d, more than %d", len(m.Attachments), MaxAttachments)
	}
	for i := range m.Attachments {
		if err := m.Attachments[i].check(); err != nil {
			return fmt.Errorf("attachments[%d].%w", i, err)
		}
	}
	return nil
}

func (a *Attachment) check() error {
	switch {
	case a.Name == "":
		return errors.New("name: is missing")
	case len(a.Name) > maxName || !line(a.Name) || strings.ContainsAny(a.Name, `/\"`):
		return fmt.Errorf("name: %q is no name of a file with at most %d bytes", fault.Cut(a.Name, 100), maxName)
	case a.Data != "" && a.DataBase64 != nil:
		return errors.New("data: excludes data_base64")
	}
	if a.ContentType != "" {
		if _, _, err := mime.ParseMediaType(a.ContentType); err != nil || !line(a.ContentType) || len(a.ContentType) > maxName {
			return fmt.Errorf("content_type: %q is none, such as text/csv", fault.Cut(a.ContentType, 100))
		}
	}
	return nil
}

// CheckAddress says what is wrong with an address.
func CheckAddress(a string) error {
	parsed, err := netmail.ParseAddress(a)
	if err != nil || !line(a) || len(a) > 2*maxName || !utf8.ValidString(a) || !line(parsed.Address) || !line(parsed.Name) {
		return fmt.Errorf("%q is no address, such as ada@example.com or Ada <ada@example.com>", fault.Cut(a, 100))
	}
	return nil
}

// line reports whether s can stand in a header: it holds no end of a line, nor other control characters.
func line(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func one(a string) Addresses {
	if a == "" {
		return nil
	}
	return Addresses{a}
}
