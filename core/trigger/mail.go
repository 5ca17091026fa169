package trigger

import (
	"bytes"
	"encoding/json"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
)

// MailType is what sources call a message of e-mail. Triggers of kind email take such events, beside those of kind source.
const MailType = "email.received"

// Mail is the event of one message of e-mail. data is a JSON object with the addresses from, to and cc, subject, text, html, attachments,
// message_id and received_at, and recipients where the addresses that it was handed over for are known: those count, else to and cc.
func Mail(data json.RawMessage) (*Change, error) {
	var m struct {
		To         []string `json:"to"`
		CC         []string `json:"cc"`
		Recipients []string `json:"recipients"`
		Subject    string   `json:"subject"`
	}
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) || json.Unmarshal(data, &m) != nil {
		return nil, &tenant.Invalid{
			Field: "data", Message: `is no message of e-mail: an object whose to, cc and recipients are lists of texts, and whose subject is a text`,
		}
	}
	to := m.Recipients
	if len(to) == 0 {
		to = append(m.To, m.CC...)
	}
	return &Change{Kind: outbox.KindEmail, Topic: MailType, About: m.Subject, To: to, Data: data, ContentType: "application/json"}, nil
}
