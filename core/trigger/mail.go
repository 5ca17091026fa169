package trigger

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

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
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, &tenant.Invalid{Field: "data", Message: fmt.Sprintf("is no message of e-mail: %v", err)}
	}
	to := m.Recipients
	if len(to) == 0 {
		to = append(m.To, m.CC...)
	}
	return &Change{Kind: outbox.KindEmail, Topic: MailType, About: m.Subject, To: to, Data: data, ContentType: "application/json"}, nil
}

// Entries makes the entries that bring an event from outside to all triggers of app that take it. unfit says of triggers why their policy
// cannot be applied to it, each as a *tenant.Invalid; they get nothing.
func Entries(s *tenant.Snapshot, app uuid.UUID, c *Change, failing UnfitFunc) (entries []*outbox.Entry, unfit []error, err error) {
	for _, t := range Match(s, app, c, failing) {
		e, err := Caused(t, c, nil)
		if invalid := (*tenant.Invalid)(nil); errors.As(err, &invalid) {
			unfit = append(unfit, fmt.Errorf("the trigger %q: %w", t.Name, err))
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		entries = append(entries, e)
	}
	return entries, unfit, nil
}
