package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// NewTrial is a draft of a script and a request for it.
type NewTrial struct {
	Script    string            `json:"script,omitempty" maxLength:"63" example:"hello" doc:"Whose limits hold; that of the first file if absent. It need not be there"`
	Engine    string            `json:"engine,omitempty" maxLength:"63" example:"yaegi" doc:"Found by the extension of the first file if absent"`
	Files     []SourceFile      `json:"files" minItems:"1" maxItems:"100" doc:"The first is the entry point"`
	Params    map[string]string `json:"params,omitempty" doc:"What the parameters of a route would match"`
	TimeoutMS int64             `json:"timeout_ms,omitempty" minimum:"1" maximum:"60000" default:"30000" doc:"The run is stopped after this"`
	Request   NewInvocation     `json:"request,omitempty" doc:"What the script sees"`
}

// Trial is how a draft went.
type Trial struct {
	Status     int         `json:"status" example:"200" doc:"Of the script's answer; 0 where there is none"`
	Headers    []Header    `json:"headers"`
	Body       string      `json:"body" doc:"Empty where it is not text; see body_base64"`
	BodyBase64 []byte      `json:"body_base64,omitempty" doc:"The body where it is not UTF-8"`
	DurationMS float64     `json:"duration_ms" example:"1.5" doc:"Of the run, without loading"`
	Logs       []LogLine   `json:"logs"`
	Calls      []TrialCall `json:"calls" doc:"What the script asked of the platform; none of it was done"`
	Error      *TrialError `json:"error,omitempty" doc:"Why the run failed"`
}

// TrialCall is what a draft asked of the platform.
type TrialCall struct {
	Service   string          `json:"service" example:"queue.send"`
	Arguments json.RawMessage `json:"arguments"`
}

// TrialError is why a draft failed.
type TrialError struct {
	Kind         string `json:"kind" example:"script_error"`
	Message      string `json:"message"`
	Detail       string `json:"detail" doc:"Where in the source, if that is known"`
	RetryAfterMS int64  `json:"retry_after_ms,omitempty" doc:"What the script asked for"`
	Fatal        bool   `json:"fatal,omitempty" doc:"The script said that it is of no use to try again"`
}

func (a *api) registerTrials(doc huma.API) {
	register(a, doc, operation{
		id: "try-script", method: http.MethodPost, path: appPath + "/try", tag: "scripts", capability: auth.AppWriteScript,
		summary: "Run a script once without deploying it",
		text: "It is compiled with the app's modules and runs in a process of its own, under the same limits and in the same sandbox as if it " +
			"were deployed. What it asks of the platform is told here instead of done: it finds nothing stored, and what it writes is not kept.",
		maxBody: maxSourceBody + maxPayload*4/3,
	}, a.try)
}

func (a *api) try(ctx context.Context, in *struct {
	AppPath
	Body NewTrial
},
) (*body[Trial], error) {
	entry := in.Body.Files[0].Name
	name := in.Body.Script
	if name == "" {
		name = strings.TrimSuffix(path.Base(entry), path.Ext(entry))
	}
	engineName, err := a.engineOf(in.Body.Engine, entry)
	if err != nil {
		return nil, err
	}
	call, err := invocation(&in.Body.Request, by(ctx))
	if err != nil {
		return nil, err
	}
	b, err := a.draft(ctx, name, engineName, in.Body.Files)
	if err != nil {
		return nil, err
	}
	r, err := trialRequest(&call, in.Body.Params)
	if err != nil {
		return nil, err
	}
	seen := &trial{limits: b.Limits, out: Trial{Headers: []Header{}, Logs: []LogLine{}, Calls: []TrialCall{}}}
	r.Log, r.Call = seen.log, seen.call
	timeout := time.Duration(in.Body.TimeoutMS) * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, trialWait+timeout)
	defer cancel()
	loaded, took, err := a.Trials.Try(ctx, engineName, b, timeout, r, seen)
	failed := (*fault.Fault)(nil)
	switch {
	case errors.As(err, &failed) && failed.Kind == fault.Compile:
		return nil, compileProblem(failed.Message, loaded.Diagnostics)
	case errors.As(err, &failed) && failed.Kind == fault.Unavailable:
		return nil, err
	}
	return answer(seen.view(took, err)), nil
}

// trialWait bounds what comes before a run that is tried: its turn, and to be compiled.
const trialWait = time.Minute

// draft makes what an engine loads of files that are not deployed.
func (a *api) draft(ctx context.Context, name, engineName string, files []SourceFile) (b engine.Bundle, err error) {
	scripts, err := a.Versions.Scripts(ctx, app(ctx))
	if err != nil {
		return b, err
	}
	s := &saving{script: name, engine: engineName}
	if s.version, err = newVersion(files); err != nil {
		return b, err
	}
	owner, err := a.Apps.Get(ctx, app(ctx))
	if err != nil {
		return b, err
	}
	bounded := tenant.App{Limits: owner.Limits, Scripts: []tenant.Script{{}}}
	for i := range scripts {
		if scripts[i].Name == name {
			bounded.Scripts[0] = scripts[i]
		}
	}
	bounded.Bound(a.MaxLimits)
	b = engine.Bundle{Script: name, Files: s.version.Files, Limits: bounded.Scripts[0].Bounds.Engine()}
	b.Modules, err = a.modules(ctx, scripts, s)
	return b, err
}

func trialRequest(call *Invocation, params map[string]string) (*engine.Request, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	e := event.Envelope{
		ID: id.String(), Source: "http", Type: "http.request", Time: time.Now(),
		HTTP: &event.HTTP{Method: call.Method, Path: call.Path, Query: call.Query, Headers: call.Headers},
	}
	for name, value := range params {
		e.HTTP.Params = append(e.HTTP.Params, event.Param{Name: name, Value: value})
	}
	envelope, err := e.Marshal()
	return &engine.Request{ExecutionID: id.String(), Attempt: 1, Envelope: envelope, Body: call.Body}, err
}

// trial watches the run of a draft: it takes its answer and logs, and stands for the platform. Safe for concurrent use.
type trial struct {
	limits engine.Limits

	mu     sync.Mutex
	out    Trial
	body   []byte
	logged int // bytes
	asked  int // bytes of arguments
}

// Head is part of engine.Reply.
func (t *trial) Head(h engine.Head) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.out.Status = h.Status
	for _, x := range h.Headers {
		t.out.Headers = append(t.out.Headers, Header{x.Name, x.Value})
	}
	return nil
}

// Write is part of engine.Reply.
func (t *trial) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.body)+len(p) > t.limits.BodyBytes {
		return 0, fault.New(fault.Limit, fault.Script, "the answer has more than %d bytes", t.limits.BodyBytes)
	}
	t.body = append(t.body, p...)
	return len(p), nil
}

func (t *trial) log(lines []engine.Log) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range lines {
		if t.logged += len(l.Message) + len(l.Data); len(t.out.Logs) > t.limits.LogLines || t.logged > 2*t.limits.LogBytes {
			return // the engine has said so
		}
		t.out.Logs = append(t.out.Logs, LogLine{Attempt: 1, Time: l.Time, Level: l.Level, Message: l.Message, Data: l.Data})
	}
}

// What is told of the calls of one run.
const (
	trialCalls    = 1000
	trialCallArgs = 4 << 20 // bytes of arguments together
)

// call answers as if what is asked for had been done.
func (t *trial) call(_ context.Context, service, method string, args []byte) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.asked += len(args); len(t.out.Calls) == trialCalls || t.asked > trialCallArgs {
		return nil, fault.New(fault.Limit, fault.Script, "a run that is tried makes at most %d calls, with %d bytes together", trialCalls, trialCallArgs)
	}
	name := service + "." + method
	var asked struct {
		Messages    []json.RawMessage `json:"messages"`
		By          *int64            `json:"by"`
		ID          string            `json:"id"`
		Data        json.RawMessage   `json:"data"`
		Name        string            `json:"name"`
		ContentType string            `json:"content_type"`
	}
	if err := json.Unmarshal(args, &asked); err != nil {
		return nil, fault.New(fault.Invalid, fault.Script, "the arguments cannot be read: %v", err)
	}
	t.out.Calls = append(t.out.Calls, TrialCall{Service: name, Arguments: args})
	id, now := cmp.Or(asked.ID, uuid.NewString()), time.Now().UTC()
	switch name {
	case "invoke.send":
		return json.Marshal(map[string]any{"id": id})
	case "queue.send":
		sent := []map[string]any{}
		for range asked.Messages {
			sent = append(sent, map[string]any{"id": uuid.New()})
		}
		return json.Marshal(map[string]any{"messages": sent})
	case "kv.increment":
		by := int64(1)
		if asked.By != nil {
			by = *asked.By
		}
		return json.Marshal(map[string]any{"value": by})
	case "docs.create":
		return json.Marshal(map[string]any{"id": id, "data": asked.Data, "version": 1, "created_at": now, "updated_at": now})
	case "files.create":
		return json.Marshal(map[string]any{
			"id": id, "name": asked.Name, "content_type": asked.ContentType, "size": 0, "sha256": "", "created_at": now, "updated_at": now,
		})
	}
	if answer, ok := trialAnswers[name]; ok {
		return []byte(answer), nil
	}
	return nil, fault.New(fault.Unavailable, fault.Script, "%s is not done in a run that is tried: deploy the script to do it", name)
}

// trialAnswers are what is answered where nothing is stored, and nothing is kept of what is written.
var trialAnswers = map[string]string{
	"kv.get": `{"version": 0}`, "kv.has": `{"found": false}`, "kv.set": `{"version": 1}`, "kv.delete": `{"deleted": false}`, "kv.list": `{"items": []}`,
	"docs.get": `{}`, "docs.delete": `{"deleted": false}`, "docs.find": `{"items": []}`, "docs.find_one": `{}`, "docs.list": `{"items": []}`,
	"docs.index": `{"state": "ready"}`,
	"files.get":  `{}`, "files.head": `{}`, "files.delete": `{"deleted": false}`, "files.list": `{"items": []}`,
	"pubsub.publish": `{"deliveries": 0}`,
	"secrets.get":    `{}`, "secrets.set": `{}`, "secrets.delete": `{"deleted": false}`, "secrets.list": `{"names": []}`,
}

// view says how the run went; err is why it failed.
func (t *trial) view(took time.Duration, err error) Trial {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.out
	out.DurationMS = float64(took.Microseconds()) / 1000
	out.Body, out.BodyBase64 = textOrBytes(t.body)
	if f := fault.From(err); f != nil {
		out.Error = &TrialError{
			Kind: string(f.Kind), Message: f.Message, Detail: f.Detail, RetryAfterMS: f.RetryAfter.Milliseconds(), Fatal: f.Fatal,
		}
	}
	return out
}
