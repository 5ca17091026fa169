// Package service is what the platform lets a running script do. Each call is judged by the run that it belongs to, never
// by what an engine says of itself. It stands between core/execution, which passes the calls of engines on, and
// core/outbox.
//
// A service has one file, with a function for each of its methods, and its lines in the table methods. What arguments and
// results look like is the contract with engines, in sdk/proto/engine/v1 (message Call).
package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/files"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
	"github.com/picloud/picloud/sdk/fault"
)

// methods are all that scripts can call.
var methods = map[string]func(c *call, ctx context.Context, args []byte) (any, error){
	"http.delete":  httpMethod(http.MethodDelete),
	"http.get":     httpMethod(http.MethodGet),
	"http.head":    httpMethod(http.MethodHead),
	"http.patch":   httpMethod(http.MethodPatch),
	"http.post":    httpMethod(http.MethodPost),
	"http.put":     httpMethod(http.MethodPut),
	"http.request": httpMethod(""),

	"invoke.call": (*call).invokeCall,
	"invoke.send": (*call).invokeSend,
	"queue.send":  (*call).queueSend,
	"queue.depth": (*call).queueDepth,
	"queue.purge": (*call).queuePurge,

	"sink.send":  (*call).sinkSend,
	"email.send": (*call).emailSend,

	"pubsub.publish":           (*call).pubsubPublish,
	"pubsub.publish_ephemeral": (*call).pubsubPublishEphemeral,

	"kv.get": (*call).kvGet, "kv.has": (*call).kvHas, "kv.set": (*call).kvSet, "kv.delete": (*call).kvDelete,
	"kv.increment": (*call).kvIncrement, "kv.list": (*call).kvList,

	"files.create": (*call).filesCreate, "files.get": (*call).filesGet,
	"files.begin": (*call).filesBegin, "files.write": (*call).filesWrite, "files.finish": (*call).filesFinish,
	"files.head": (*call).filesHead, "files.read": (*call).filesRead, "files.delete": (*call).filesDelete, "files.list": (*call).filesList,

	"docs.create": (*call).docsCreate, "docs.get": (*call).docsGet, "docs.update": (*call).docsUpdate,
	"docs.delete": (*call).docsDelete, "docs.find": (*call).docsFind, "docs.find_one": (*call).docsFindOne,
	"docs.list": (*call).docsList, "docs.index": (*call).docsIndex,

	"secrets.delete": (*call).secretsDelete, "secrets.get": (*call).secretsGet, "secrets.list": (*call).secretsList,
	"secrets.set": (*call).secretsSet,
}

// abroad are services whose calls wait for others: they are no work here.
var abroad = map[string]bool{"http": true, "invoke": true}

// Outbox takes events, and knows whether this node may act.
type Outbox interface {
	// Append returns nil once e is safe. An error says that nothing was accepted, unless ctx ended first. Those of
	// core/outbox are told to the script in its terms.
	Append(ctx context.Context, e *outbox.Entry) error
	// AppendCaused has commit write entries that it makes in a transaction of its own, and returns its error, or an *outbox.Overloaded
	// without calling it. size is how many bytes an entry takes, roughly.
	AppendCaused(ctx context.Context, app uuid.UUID, size int, commit func(owner int64) ([]*outbox.Entry, error)) error
	// Hand runs e now, at most once and without writing it, or reports that there is no room for it.
	Hand(e *outbox.Entry) (bool, error)
	// Hold returns nil at once while the node may act for epoch. It waits while that is in doubt, and fails once it may
	// not any more, or when ctx ends.
	Hold(ctx context.Context, epoch int64) error
}

// Run is the run that a call belongs to.
type Run struct {
	// Entry is what runs: calls act for its app and its principal, and what they cause belongs to its chain.
	Entry  *outbox.Entry
	Script *tenant.Script
	// Veil hides the secrets that the run comes to know.
	Veil *secret.Veil
	// Unit takes what the run of a transactional script does; nil: it takes effect at once.
	Unit *Unit
}

// Host answers the calls of all runs of a node. Its methods are safe for concurrent use.
type Host struct {
	outbox   Outbox
	snapshot func() *tenant.Snapshot
	callees  Callees
	entries  Entries
	queues   Queues
	kv       KV
	files    Files
	contents *files.Store
	docs     Docs
	web      Web
	secrets  Secrets
	email    string
	unfit    trigger.UnfitFunc
	log      hclog.Logger
	share    *share
}

// Config is what a host works with.
type Config struct {
	Outbox   Outbox
	Snapshot func() *tenant.Snapshot // the configuration as it is now
	Callees  Callees
	Entries  Entries
	Queues   Queues
	KV       KV
	Files    Files
	Contents *files.Store
	Docs     Docs
	Web      Web
	Secrets  Secrets
	Email    string // who messages are from that do not say; empty: e-mail is not configured
	Unfit    trigger.UnfitFunc
	Log      hclog.Logger
}

// New makes a host.
func New(c Config) *Host {
	return &Host{
		outbox: c.Outbox, snapshot: c.Snapshot, callees: c.Callees, entries: c.Entries, queues: c.Queues, kv: c.KV, docs: c.Docs, files: c.Files, contents: c.Contents,
		web: c.Web, secrets: c.Secrets, email: c.Email, unfit: c.Unfit, log: c.Log.Named("service"), share: newShare(),
	}
}

// call is one call under way.
type call struct {
	*Host
	run Run
}

// Call answers a call of a script with JSON. Its errors are faults, or those of ctx. It waits while the node is in doubt
// whether it still owns the run: if it does not, the run begins anew elsewhere, and this one must change nothing any more.
func (h *Host) Call(ctx context.Context, run Run, service, method string, args []byte) (_ []byte, err error) {
	failpoint.Hit(failpoint.HostCallBefore)
	defer failpoint.Hit(failpoint.HostCallAfter)
	defer h.contain(&run, service+"."+method, &err)
	do := methods[service+"."+method]
	if do == nil {
		return nil, fault.New(fault.NotFound, fault.Script, "there is no service %s.%s", service, method)
	}
	if err := h.outbox.Hold(ctx, run.Entry.Owner); err != nil {
		return nil, err
	}
	if err := h.granted(&run, service); err != nil {
		return nil, err
	}
	c := &call{h, run}
	if run.Unit != nil {
		if do = inUnit[service+"."+method]; do == nil {
			return nil, notInUnit(service, method)
		}
		run.Unit.mu.Lock()
		run.Unit.call = c
		run.Unit.mu.Unlock()
	}
	if !abroad[service] {
		if err := h.share.enter(ctx, run.Entry.App); err != nil {
			return nil, err
		}
		defer h.share.leave(run.Entry.App)
	}
	result, err := do(c, ctx, args)
	if err != nil {
		return nil, err
	}
	if done, ok := result.(json.RawMessage); ok {
		return done, nil
	}
	b, err := encode(result)
	if err != nil {
		return nil, fmt.Errorf("%s.%s: %w", service, method, err)
	}
	return b, nil
}

// contain makes a panic an error: a defect of ours that one script has found, with which the runs of all others go on. To be deferred where
// a goroutine begins to do what a script asks for.
func (h *Host) contain(run *Run, what string, err *error) {
	if p := recover(); p != nil {
		h.log.Error("a service panicked", "service", what, "app", run.Entry.App, "run", run.Entry.ID, "panic", p, "stack", string(debug.Stack()))
		*err = fault.New(fault.Internal, fault.Platform, "%s failed by a defect of the platform, which its log tells of", what)
	}
}

// granted says why a run may not use a service: it acts for nobody, and its script, as it is now, has no grant for it. A script that is
// gone has those that it had when the run began.
func (h *Host) granted(run *Run, service string) error {
	if run.Entry.Principal != uuid.Nil {
		return nil
	}
	s := h.snapshot().Script(run.Script.ID)
	if s == nil { // it was deleted meanwhile: what it had last holds
		s = run.Script
	}
	if !s.Granted(service) {
		return fault.New(fault.Forbidden, fault.Script, "the script %q has no grant %q: picloud scripts grants %s --only ... gives it one", s.Name, service, s.Name)
	}
	return nil
}

// plain leaves what scripts have stored as it is: whether its names differ and its text is UTF-8 was decided when it came.
var plain = jsonv2.JoinOptions(
	jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true), jsontext.PreserveRawStrings(true), jsonv2.Deterministic(true),
)

// encode writes an answer.
func encode(answer any) ([]byte, error) {
	b, err := jsonv2.Marshal(answer, plain)
	if err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	return b, nil
}

// decode reads arguments strictly: a name that is misspelt would otherwise be an option without effect.
func decode(args []byte, into any) error {
	err := jsonv2.Unmarshal(args, into, plain, jsonv2.RejectUnknownMembers(true))
	var s *jsonv2.SemanticError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &s):
		return invalid("the arguments cannot be read: %v", err)
	case errors.Is(s.Err, jsonv2.ErrUnknownName):
		return invalid("there is no argument %q", s.JSONPointer.LastToken())
	case errors.Is(s.Err, strconv.ErrSyntax), errors.Is(s.Err, strconv.ErrRange):
		return invalid("%s: must be a whole number of at most 18 digits", strings.TrimPrefix(string(s.JSONPointer), "/"))
	case s.Err != nil:
		return invalid("%s: %v", strings.TrimPrefix(string(s.JSONPointer), "/"), s.Err)
	}
	return invalid("%s: must not be %s", strings.TrimPrefix(string(s.JSONPointer), "/"), kinds[s.JSONKind])
}

// kinds are the types of JSON, in the words of errors.
var kinds = map[jsontext.Kind]string{
	'n': "null", 't': "true", 'f': "false", '0': "a number", '"': "a text", '[': "a list", '{': "an object",
}

// keyText is a text by which something is known again. JSON can hold what is no Unicode, which would be read as U+FFFD: two keys would be one.
type keyText string

// UnmarshalJSON is part of json.Unmarshaler.
func (k *keyText) UnmarshalJSON(raw []byte) error {
	if jsontext.Value(raw).Kind() == 'n' {
		return nil
	}
	if jsontext.Value(raw).Kind() != '"' {
		return errors.New("must be a text")
	}
	text, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return errors.New("is not UTF-8: write bytes as text, such as in hexadecimal")
	}
	*k = keyText(text)
	return nil
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, fault.Script, format, args...)
}
