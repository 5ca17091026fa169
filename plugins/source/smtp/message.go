package smtp

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // those that mail is written in
	"github.com/emersion/go-message/mail"

	"github.com/picloud/picloud/sdk/source"
)

// Bounds of what a message is made of.
const (
	maxDepth  = 10
	maxParts  = 100
	maxHeader = 64 << 10 // bytes, of each part
)

// received is what a script is given of a message.
type received struct {
	From        string       `json:"from"`
	To          []string     `json:"to"`
	CC          []string     `json:"cc"`
	Subject     string       `json:"subject"`
	Text        string       `json:"text"`
	HTML        string       `json:"html"`
	Attachments []attachment `json:"attachments"`
	MessageID   string       `json:"message_id"`
	ReceivedAt  time.Time    `json:"received_at"`
	Recipients  []string     `json:"recipients"` // that it was handed over for, among them those of a blind copy
}

type attachment struct {
	Name        string `json:"name"`
	ContentType string `json:"content_type"`
	Data        []byte `json:"data_base64"`
}

// read makes an event of a message. Its id is the same for the same message to the same recipients.
func read(from string, to []string, raw []byte, now time.Time) (source.Event, error) {
	sum := sha256.New()
	for _, part := range append([]string{from}, to...) {
		_, _ = fmt.Fprintf(sum, "%d:%s", len(part), part) // a hash takes everything
	}
	_, _ = sum.Write(raw)
	entity, err := message.ReadWithOptions(bytes.NewReader(raw), &message.ReadOptions{MaxHeaderBytes: maxHeader})
	if err != nil && !message.IsUnknownCharset(err) && !message.IsUnknownEncoding(err) {
		return source.Event{}, err
	}
	header := mail.Header{Header: entity.Header}
	m := received{
		From: from, To: addresses(&header, "To"), CC: addresses(&header, "Cc"), Attachments: []attachment{}, ReceivedAt: now.UTC(), Recipients: to,
	}
	if sender := addresses(&header, "From"); len(sender) > 0 {
		m.From = sender[0]
	}
	if m.Subject, err = header.Subject(); err != nil {
		m.Subject = header.Get("Subject")
	}
	if m.MessageID, err = header.MessageID(); err != nil {
		m.MessageID = ""
	}
	parts := 0
	if err := m.add(entity, 1, &parts); err != nil {
		return source.Event{}, err
	}
	var data bytes.Buffer
	encoder := json.NewEncoder(&data)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(&m); err != nil {
		return source.Event{}, err
	}
	subject := strings.ToValidUTF8(m.Subject, "\uFFFD")
	if len(subject) > source.MaxSubject {
		subject = strings.ToValidUTF8(subject[:source.MaxSubject], "")
	}
	return source.Event{
		ID: hex.EncodeToString(sum.Sum(nil)), Type: "email.received", Time: now, Subject: subject, ContentType: "application/json",
		Data: bytes.TrimSuffix(data.Bytes(), []byte("\n")),
	}, nil
}

// addresses are those of a header field, without names. One that cannot be read has none.
func addresses(h *mail.Header, field string) []string {
	found := []string{}
	list, err := h.AddressList(field)
	if err != nil {
		return found
	}
	for _, a := range list {
		found = append(found, a.Address)
	}
	return found
}

// add takes what an entity holds, and those within it.
func (m *received) add(e *message.Entity, depth int, parts *int) error {
	if *parts++; *parts > maxParts || depth > maxDepth {
		return fmt.Errorf("it has more than %d parts, or %d within one another", maxParts, maxDepth)
	}
	if within := e.MultipartReader(); within != nil {
		for {
			part, err := within.NextPart()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil && !message.IsUnknownCharset(err) && !message.IsUnknownEncoding(err) {
				return err
			}
			if err := m.add(part, depth+1, parts); err != nil {
				return err
			}
		}
	}
	media, parameters, err := e.Header.ContentType()
	if err != nil {
		media = "application/octet-stream"
	}
	disposition, more, _ := e.Header.ContentDisposition() // what cannot be read is none
	body, err := io.ReadAll(e.Body)
	if err != nil {
		return err
	}
	name := more["filename"]
	if name == "" {
		name = parameters["name"]
	}
	attached := strings.EqualFold(disposition, "attachment") || name != ""
	switch {
	case !attached && media == "text/plain" && m.Text == "":
		m.Text = string(body)
	case !attached && media == "text/html" && m.HTML == "":
		m.HTML = string(body)
	default:
		m.Attachments = append(m.Attachments, attachment{Name: name, ContentType: media, Data: body})
	}
	return nil
}
