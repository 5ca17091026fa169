package tenant

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// The kinds of a trigger.
const (
	TriggerHTTP       = "http"        // how the requests of a route are delivered that nobody waits for
	TriggerDeadLetter = "dead_letter" // a dead letter goes to a script
	TriggerKV         = "kv"          // a change of a key
	TriggerDocs       = "docs"        // a change of a document
	TriggerFiles      = "files"       // a change of a file
	TriggerPubSub     = "pubsub"      // a message that was published
	TriggerCron       = "cron"        // a time that has come
	TriggerWebhook    = "webhook"     // a signed request of another service
	TriggerSource     = "source"      // an event of a source
	TriggerEmail      = "email"       // a message of e-mail that came in
	TriggerApp        = "app"         // the app was deployed, or a script of it or a delivery has failed
)

// The operations that change data.
const (
	OpCreate = "create"
	OpUpdate = "update"
	OpDelete = "delete"
)

// The events of a trigger of kind app.
const (
	EventDeployed = "deployed"
	EventFailed   = "failed"
)

// How the requests to a trigger of kind webhook, or of kind email, are signed, see core/webhook.
const (
	SignatureStandard = "standard" // Standard Webhooks
	SignatureGitHub   = "github"
	SignatureStripe   = "stripe"
	SignatureSlack    = "slack"
	SignatureHMAC     = "hmac" // of the body, in a header
	SignatureNone     = "none" // whoever knows the address may send

	DefaultSignatureHeader = "X-Signature" // of SignatureHMAC
)

// Trigger says that events like these go to that script or sink.
type Trigger struct {
	ID           uuid.UUID
	App          uuid.UUID
	Name         string
	Kind         string
	Script       uuid.UUID // where events go; or
	Sink         uuid.UUID
	Route        uuid.UUID // of kind http
	Filter       TriggerFilter
	Policy       Policy
	Enabled      bool
	RegisteredBy uuid.UUID

	Lane *Lane // of those that a Snapshot returns; nil: what they go to is not there
}

// TriggerFilter says which events a trigger takes. Empty fields take everything, but for those that a kind must have.
type TriggerFilter struct {
	Scripts []string `json:"scripts,omitempty"` // dead_letter, app: names of the scripts that failed, or have a new version
	Reasons []string `json:"reasons,omitempty"` // dead_letter: why they were given up

	Collection string   `json:"collection,omitempty"` // kv, docs, files: a name, "prefix*" or "*"
	Ops        []string `json:"ops,omitempty"`        // kv, docs, files: OpCreate and so on

	Topic string `json:"topic,omitempty"` // pubsub: a topic, "prefix.*" or "*"

	Schedule string `json:"schedule,omitempty"`  // cron: five or six fields, see core/cron
	TimeZone string `json:"time_zone,omitempty"` // cron: of the IANA database; empty: UTC

	Events []string `json:"events,omitempty"` // app: EventDeployed, EventFailed

	Source string `json:"source,omitempty"` // source: its name; empty: any
	Type   string `json:"type,omitempty"`   // source: what its events are called, "prefix.*" or "*"
	To     string `json:"to,omitempty"`     // email: an address, in which one star stands for any text

	Signature string `json:"signature,omitempty"` // webhook: SignatureStandard and so on; email: empty: it takes no requests
	Secret    string `json:"secret,omitempty"`    // webhook, email: name of the app's secret that holds the key, or a list of keys
	Header    string `json:"header,omitempty"`    // SignatureHMAC: has the signature; empty: DefaultSignatureHeader
	Algorithm string `json:"algorithm,omitempty"` // SignatureHMAC: "sha1", "sha256" or "sha512"; empty: sha256

	// When is an expression over the event in CEL, see core/trigger. Not of http and cron.
	When string `json:"when,omitempty"`
}

// Bounds of names and patterns.
const (
	MaxCollection = 255 // bytes
	MaxTopic      = 255 // bytes
)

// Validate says what is wrong with the filter of a trigger of that kind, as an *Invalid whose field is within the filter.
// Expressions and schedules are not looked into.
func (f *TriggerFilter) Validate(kind string) error {
	data := kind == TriggerKV || kind == TriggerDocs || kind == TriggerFiles
	for _, field := range []struct {
		name string
		set  bool
		has  bool
		of   string
	}{
		{"scripts", len(f.Scripts) > 0, kind == TriggerDeadLetter || kind == TriggerApp, "dead_letter and app"},
		{"events", len(f.Events) > 0, kind == TriggerApp, "app"},
		{"reasons", len(f.Reasons) > 0, kind == TriggerDeadLetter, "dead_letter"},
		{"collection", f.Collection != "", data, "kv, docs and files"},
		{"ops", len(f.Ops) > 0, data, "kv, docs and files"},
		{"topic", f.Topic != "", kind == TriggerPubSub, "pubsub"},
		{"schedule", f.Schedule != "", kind == TriggerCron, "cron"},
		{"time_zone", f.TimeZone != "", kind == TriggerCron, "cron"},
		{"source", f.Source != "", kind == TriggerSource, "source"},
		{"type", f.Type != "", kind == TriggerSource, "source"},
		{"to", f.To != "", kind == TriggerEmail, "email"},
		{"signature", f.Signature != "", kind == TriggerWebhook || kind == TriggerEmail, "webhook and email"},
		{"secret", f.Secret != "", kind == TriggerWebhook || kind == TriggerEmail, "webhook and email"},
		{"header", f.Header != "", kind == TriggerWebhook || kind == TriggerEmail, "webhook and email"},
		{"algorithm", f.Algorithm != "", kind == TriggerWebhook || kind == TriggerEmail, "webhook and email"},
		{"when", f.When != "", kind != TriggerHTTP && kind != TriggerCron, "dead_letter, kv, docs, files, pubsub, webhook, source, email and app"},
	} {
		if field.set && !field.has {
			return &Invalid{Field: field.name, Message: "is for triggers of kind " + field.of}
		}
	}
	for _, op := range f.Ops {
		if !slices.Contains([]string{OpCreate, OpUpdate, OpDelete}, op) {
			return &Invalid{Field: "ops", Message: fmt.Sprintf("%q is none of create, update and delete", op)}
		}
	}
	for _, event := range f.Events {
		if event != EventDeployed && event != EventFailed {
			return &Invalid{Field: "events", Message: fmt.Sprintf("%q is none of deployed and failed", event)}
		}
	}
	switch {
	case data:
		return checkCollectionPattern(f.Collection)
	case kind == TriggerPubSub:
		return checkTopicPattern(f.Topic)
	case kind == TriggerCron && f.Schedule == "":
		return &Invalid{Field: "schedule", Message: `is missing: give one such as "0 9 * * *"`}
	case kind == TriggerWebhook:
		return f.checkSignature()
	case kind == TriggerSource:
		return f.checkSource()
	case kind == TriggerEmail && (len(f.To) > MaxTopic || strings.Count(f.To, "*") > 1 || f.To != "" && !strings.ContainsAny(f.To, "@*")):
		return &Invalid{Field: "to", Message: fmt.Sprintf(`%.100q is not a pattern: an address of up to %d bytes with one star at most, as in "*@example.com"`, f.To, MaxTopic)}
	case kind == TriggerEmail && f.Signature+f.Secret+f.Header+f.Algorithm != "":
		return f.checkSignature()
	}
	return nil
}

func (f *TriggerFilter) checkSignature() error {
	signatures := []string{SignatureStandard, SignatureGitHub, SignatureStripe, SignatureSlack, SignatureHMAC, SignatureNone}
	switch {
	case !slices.Contains(signatures, f.Signature):
		return &Invalid{Field: "signature", Message: fmt.Sprintf("%q is none of %s", f.Signature, strings.Join(signatures, ", "))}
	case f.Signature == SignatureNone && f.Secret != "":
		return &Invalid{Field: "secret", Message: "is not used where nothing is signed: name how requests are signed, or leave it out"}
	case f.Signature != SignatureNone && f.Secret == "":
		return &Invalid{Field: "secret", Message: "is missing: name the secret of the app that holds the key"}
	case f.Signature != SignatureHMAC && f.Header+f.Algorithm != "":
		return &Invalid{Field: "header", Message: "and algorithm are for the signature hmac"}
	case !slices.Contains([]string{"", "sha1", "sha256", "sha512"}, f.Algorithm):
		return &Invalid{Field: "algorithm", Message: fmt.Sprintf("%q is none of sha1, sha256, sha512", f.Algorithm)}
	case f.Header != "" && (len(f.Header) > 100 || strings.Trim(f.Header, headerLetters) != ""):
		return &Invalid{Field: "header", Message: fmt.Sprintf("%.100q is no name of a header", f.Header)}
	}
	return nil
}

func (f *TriggerFilter) checkSource() error {
	if f.Source != "" {
		if err := CheckName(f.Source); err != nil {
			return &Invalid{Field: "source", Message: err.Error()}
		}
	}
	if f.Type == "" {
		return nil
	}
	err := checkTopicPattern(f.Type)
	if wrong := (*Invalid)(nil); errors.As(err, &wrong) {
		return &Invalid{Field: "type", Message: wrong.Message}
	}
	return err
}

const headerLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

func checkCollectionPattern(p string) error {
	name, _ := strings.CutSuffix(p, "*")
	switch {
	case p == "":
		return &Invalid{Field: "collection", Message: `is missing: name one, or "prefix*", or "*" for all`}
	case strings.Contains(name, "*"):
		return &Invalid{Field: "collection", Message: fmt.Sprintf(`%q has a star elsewhere than at its end: name one collection, or "prefix*", or "*"`, p)}
	case len(p) > MaxCollection:
		return &Invalid{Field: "collection", Message: fmt.Sprintf("is longer than %d bytes", MaxCollection)}
	}
	return nil
}

func checkTopicPattern(p string) error {
	name, _ := strings.CutSuffix(p, ".*")
	switch {
	case p == "":
		return &Invalid{Field: "topic", Message: `is missing: name one, or "prefix.*", or "*" for all`}
	case p == "*":
		return nil
	case strings.Contains(name, "*"):
		return &Invalid{Field: "topic", Message: fmt.Sprintf(`%q is not a pattern: a star stands alone, or for all that follows a dot, as in "user.*"`, p)}
	case len(p) > MaxTopic:
		return &Invalid{Field: "topic", Message: fmt.Sprintf("is longer than %d bytes", MaxTopic)}
	}
	return CheckTopic(name)
}

// CheckTopic says what is wrong with the topic of a message, as an *Invalid of the field topic. A topic is words divided by
// dots; a word is any text but stars, spaces and control characters.
func CheckTopic(topic string) error {
	odd := func(r rune) bool { return r == '*' || unicode.IsSpace(r) || unicode.IsControl(r) }
	switch {
	case topic == "":
		return &Invalid{Field: "topic", Message: "is empty"}
	case len(topic) > MaxTopic:
		return &Invalid{Field: "topic", Message: fmt.Sprintf("is longer than %d bytes", MaxTopic)}
	case !utf8.ValidString(topic) || strings.ContainsFunc(topic, odd):
		return &Invalid{Field: "topic", Message: fmt.Sprintf("%q holds a star, a space or a control character", topic)}
	case slices.Contains(strings.Split(topic, "."), ""):
		return &Invalid{Field: "topic", Message: fmt.Sprintf("%q has a dot at its end or two in a row", topic)}
	}
	return nil
}

// TakesCollection reports whether the filter takes changes of a collection by op.
func (f *TriggerFilter) TakesCollection(collection, op string) bool {
	if len(f.Ops) > 0 && !slices.Contains(f.Ops, op) {
		return false
	}
	prefix, open := strings.CutSuffix(f.Collection, "*")
	return open && strings.HasPrefix(collection, prefix) || f.Collection == collection
}

// TakesEvent reports whether the filter takes an event of the app that is about scripts.
func (f *TriggerFilter) TakesEvent(event string, scripts []string) bool {
	if len(f.Events) > 0 && !slices.Contains(f.Events, event) {
		return false
	}
	return len(f.Scripts) == 0 || slices.ContainsFunc(scripts, func(name string) bool { return slices.Contains(f.Scripts, name) })
}

// TakesSource reports whether the filter takes events of a type from a source.
func (f *TriggerFilter) TakesSource(source, event string) bool {
	return (f.Source == "" || f.Source == source) && (f.Type == "" || takesTopic(f.Type, event))
}

// TakesMail reports whether the filter takes mail to one of these addresses.
func (f *TriggerFilter) TakesMail(to []string) bool {
	if f.To == "" {
		return true
	}
	before, after, open := strings.Cut(strings.ToLower(f.To), "*")
	return slices.ContainsFunc(to, func(address string) bool {
		address = strings.ToLower(address)
		if !open {
			return address == before
		}
		return len(address) >= len(before)+len(after) && strings.HasPrefix(address, before) && strings.HasSuffix(address, after)
	})
}

// TakesTopic reports whether the filter takes messages of a topic. "user.*" takes all that begins with "user.".
func (f *TriggerFilter) TakesTopic(topic string) bool { return takesTopic(f.Topic, topic) }

func takesTopic(pattern, topic string) bool {
	prefix, open := strings.CutSuffix(pattern, "*")
	return open && strings.HasPrefix(topic, prefix) || pattern == topic
}
