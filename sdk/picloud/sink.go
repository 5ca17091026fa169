package picloud

import (
	"encoding/json"
	"unicode/utf8"
)

// Sink is where events leave the platform: a URL, a mail server, or what a plugin reaches.
type Sink struct {
	name    string
	runtime Runtime
}

// Sink names a sink of the app. It asks nobody; a sink that does not exist is noticed when something is sent.
func (c *Context) Sink(name string) *Sink { return &Sink{name, c.runtime} }

// Send has a message delivered to the sink and returns the id of the execution that delivers it, once the message is safe. A string is
// sent as text, anything else as what it is as JSON, at most 1 MiB. What does not take it is tried again, as the sink says.
func (s *Sink) Send(v any, opts ...*Delivery) (id string, err error) { return s.SendAs("", v, opts...) }

// SendAs is Send for a message that says what it is: a word such as "order.paid".
func (s *Sink) SendAs(kind string, v any, opts ...*Delivery) (id string, err error) {
	o, err := one(opts)
	if err != nil {
		return "", err
	}
	message, err := s.runtime.JSON(v)
	if err != nil {
		return "", &Error{Code: InvalidArgument, Message: "the message cannot be sent: " + err.Error()}
	}
	var answer struct{ ID string }
	err = call(s.runtime, "sink", "send", struct {
		Sink    string          `json:"sink"`
		Message json.RawMessage `json:"message"`
		Type    string          `json:"type,omitempty"`
		*delivery
	}{s.name, message, kind, o.wire()}, &answer)
	return answer.ID, err
}

// Email is a message for Context.SendEmail. It has a text, an HTML page, or both, which say the same. Addresses are as in
// "ada@example.com" and "Ada <ada@example.com>".
type Email struct {
	From        string // empty: the server's own
	To, CC, BCC []string
	ReplyTo     string
	Subject     string
	Text, HTML  string
	Attachments []Attachment
}

// Attachment is a file that goes with an Email.
type Attachment struct {
	Name        string
	ContentType string // empty: by the end of the name
	Data        []byte
}

// SendEmail has a message sent by the server's mail server and returns the id of the execution that sends it, once the message is safe.
// With its attachments in base64 it has at most 6 MiB. Where e-mail is not configured the error is Unavailable.
func (c *Context) SendEmail(m *Email, opts ...*Delivery) (id string, err error) {
	if m == nil {
		return "", &Error{Code: InvalidArgument, Message: "there is no message"}
	}
	o, err := one(opts)
	if err != nil {
		return "", err
	}
	type attachment struct {
		Name        string `json:"name"`
		ContentType string `json:"content_type,omitempty"`
		Data        string `json:"data,omitempty"`
		DataBase64  []byte `json:"data_base64,omitempty"`
	}
	var files []attachment
	for _, a := range m.Attachments {
		f := attachment{Name: a.Name, ContentType: a.ContentType}
		if utf8.Valid(a.Data) {
			f.Data = string(a.Data)
		} else {
			f.DataBase64 = a.Data
		}
		files = append(files, f)
	}
	var answer struct{ ID string }
	err = call(c.runtime, "email", "send", struct {
		From        string       `json:"from,omitempty"`
		To          []string     `json:"to,omitempty"`
		CC          []string     `json:"cc,omitempty"`
		BCC         []string     `json:"bcc,omitempty"`
		ReplyTo     string       `json:"reply_to,omitempty"`
		Subject     string       `json:"subject,omitempty"`
		Text        string       `json:"text,omitempty"`
		HTML        string       `json:"html,omitempty"`
		Attachments []attachment `json:"attachments,omitempty"`
		*delivery
	}{m.From, m.To, m.CC, m.BCC, m.ReplyTo, m.Subject, m.Text, m.HTML, files, o.wire()}, &answer)
	return answer.ID, err
}
