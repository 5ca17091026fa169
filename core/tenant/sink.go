package tenant

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Sink is where events of an app leave the platform: a configuration of a plugin of that kind.
type Sink struct {
	ID          uuid.UUID
	App         uuid.UUID // nil: it is the node owner's, see EmailSink
	Name        string
	Kind        string          // "http": the plugin is sink/http
	Version     int             // counts changes of the configuration, from 1
	Config      json.RawMessage // an object, with references to secrets of the app: see SecretRef
	Timeout     time.Duration   // of one attempt
	MaxAttempts int
	Policy      Policy
}

// Bounds of sinks.
const (
	MaxSinkConfig       = 64 << 10 // bytes
	MaxSinksPerApp      = 1000
	DefaultSinkAttempts = 8
)

// EmailSink takes the messages that scripts of all apps send by e-mail. Its configuration is the node's. It is a sink of no app, but
// each app's messages have a lane of their own: see EmailLane.
var EmailSink = uuid.MustParse("00000000-0000-8000-8000-656d61696c00")

// EmailName is what it is called.
const EmailName = "email"

// EmailLane is the lane of the messages of an app.
func EmailLane(app uuid.UUID) uuid.UUID { return uuid.NewSHA1(app, []byte(EmailName)) }

// SecretRef is a reference to a secret of the app, in a configuration: {"secret": "NAME"}.
const SecretRef = "secret"

// SinkRecord is a sink as its owner sees it.
type SinkRecord struct {
	Sink
	Paused    bool // itself or its app
	CreatedAt time.Time
	UpdatedAt time.Time
}

// SinkUpdate is what may change in a sink; nil leaves it.
type SinkUpdate struct {
	Config      json.RawMessage `json:"config,omitempty"`
	TimeoutMS   *int            `json:"timeout_ms,omitempty"`
	MaxAttempts *int            `json:"max_attempts,omitempty"`
	Policy      *Policy         `json:"policy,omitempty"`
}

// emailLane is that of an app.
func emailLane(app *App) *Lane {
	return &Lane{
		ID: EmailLane(app.ID), App: app.ID, Name: "e-mail of " + app.Slug, Weight: app.Weight, Sink: &Sink{
			ID: EmailSink, Name: EmailName, Kind: "smtp", Version: 1, Timeout: time.Minute, MaxAttempts: DefaultSinkAttempts,
		},
	}
}

// SecretRefs returns the names of the secrets that a configuration refers to, each once; or says, as an *Invalid, what is wrong with
// the configuration. secret are the fields of it that hold secrets, which have to be references, or lists of such.
func SecretRefs(config json.RawMessage, secret []string) (names []string, err error) {
	var fields map[string]any
	if len(config) > MaxSinkConfig {
		return nil, &Invalid{Field: "config", Message: fmt.Sprintf("has %d bytes, more than %d", len(config), MaxSinkConfig)}
	}
	if err := json.Unmarshal(config, &fields); err != nil || fields == nil {
		return nil, &Invalid{Field: "config", Message: "is no JSON object"}
	}
	seen := map[string]bool{}
	WalkSecrets(fields, func(name string) any {
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
		return nil
	})
	for _, field := range secret {
		value, given := fields[field]
		list, isList := value.([]any)
		if !isList {
			list = []any{value}
		}
		for _, x := range list {
			if given && refOf(x) == "" && x != nil {
				return nil, &Invalid{Field: "config." + field, Message: fmt.Sprintf(
					`holds a secret, which is not stored here: set it with "picloud secrets set NAME" and write {%q: "NAME"}`, SecretRef)}
			}
		}
	}
	return names, nil
}

// WalkSecrets goes through a value as encoding/json makes it, and returns it with what value says in place of each reference. Maps and
// lists are changed.
func WalkSecrets(v any, value func(name string) any) any {
	if name := refOf(v); name != "" {
		return value(name)
	}
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			v[k] = WalkSecrets(x, value)
		}
	case []any:
		for i, x := range v {
			v[i] = WalkSecrets(x, value)
		}
	}
	return v
}

// refOf is the name in a reference, or nothing.
func refOf(v any) string {
	fields, ok := v.(map[string]any)
	if !ok || len(fields) != 1 {
		return ""
	}
	name, _ := fields[SecretRef].(string)
	return name
}
