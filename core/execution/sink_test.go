package execution

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/sdk/event"
)

// What a trigger brings to a sink is as large as it was, but for what tells of it.
func TestDeliveryKeepsItsSize(t *testing.T) {
	t.Parallel()
	env, err := (&event.Envelope{ID: "e", Type: "webhook.request", Source: "webhook", Time: time.Now(), Subject: "<a&b>"}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("<&>", 1000)
	for payload, want := range map[string]string{
		`{"page":"` + text + `"}`: `"data":{"page":"` + text + `"}}`,
		text:                      `"data":"` + text + `"}`,
		"\xff":                    `"data_base64":"/w=="}`,
		"":                        `"subject":"<a&b>"}`,
	} {
		d, err := delivery(&outbox.Entry{EventID: uuid.New(), Trigger: uuid.New(), Envelope: env, Payload: []byte(payload)})
		if err != nil || !strings.HasSuffix(string(d.Data), want) {
			t.Errorf("%.40q: %.200s, %v", payload, d.Data, err)
		}
	}
}
