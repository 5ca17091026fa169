package trigger

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/picloud/picloud/core/docquery"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
)

// Bounds of an expression. maxCost is in CEL's own measure, about one for each step and one for ten bytes of text that are
// looked at: what comes near it has taken some milliseconds.
const (
	maxWhen  = 2000 // bytes of source
	maxCost  = 100_000
	maxCache = 1000 // programs that are kept

	maxProgram = 1000 // steps that a pattern is compiled to: thirty times x{1000} would take megabytes, kept for as long as the expression
)

// environment declares what expressions know. Each member of event is a variable of its own, so that one that is misspelt
// is found before it is used.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("event.type", cel.StringType), cel.Variable("event.subject", cel.StringType),
		cel.Variable("event.collection", cel.StringType), cel.Variable("event.key", cel.StringType),
		cel.Variable("event.id", cel.StringType), cel.Variable("event.op", cel.StringType),
		cel.Variable("event.topic", cel.StringType), cel.Variable("event.source", cel.StringType), cel.Variable("data", cel.DynType),
		cel.RegexProgramSizeLimit(maxProgram),
	)
})

// programs keeps what was compiled, by its source: it takes milliseconds.
var programs = struct {
	sync.RWMutex
	bySource map[string]cel.Program
}{bySource: map[string]cel.Program{}}

// CheckWhen says what is wrong with an expression, as a *tenant.Invalid of the field when.
func CheckWhen(source string) error {
	if len(source) > maxWhen {
		return &tenant.Invalid{Field: "when", Message: fmt.Sprintf("is longer than %d bytes: decide in the script", maxWhen)}
	}
	_, err := compile(source)
	return err
}

// program returns the program of a source that was compiled before, or compiles it.
func program(source string) (cel.Program, error) {
	programs.RLock()
	p := programs.bySource[source]
	programs.RUnlock()
	if p != nil {
		return p, nil
	}
	p, err := compile(source)
	if err != nil {
		return nil, err
	}
	programs.Lock()
	defer programs.Unlock()
	for other := range programs.bySource {
		if len(programs.bySource) < maxCache {
			break
		}
		delete(programs.bySource, other)
	}
	programs.bySource[source] = p
	return p, nil
}

// compiling is held by whoever compiles: the library completes its environment while it explains an error (v0.33.2), which another
// may be reading.
var compiling sync.Mutex

func compile(source string) (cel.Program, error) {
	compiling.Lock()
	defer compiling.Unlock()
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("make the environment of expressions: %w", err)
	}
	ast, issues := env.Compile(source)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		message, _, _ := strings.Cut(strings.ReplaceAll(first.Message, " (in container '')", ""), "\n")
		return nil, &tenant.Invalid{Field: "when", Message: fmt.Sprintf("line %d, column %d: %s", first.Location.Line(), first.Location.Column()+1, message)}
	}
	if t := ast.OutputType(); t != cel.BoolType && t != cel.DynType {
		return nil, &tenant.Invalid{Field: "when", Message: fmt.Sprintf("is of type %s, not bool: compare it with something", t)}
	}
	p, err := env.Program(ast, cel.CostLimit(maxCost), cel.CostTracking(prices{}), cel.EvalOptions(cel.OptOptimize))
	if err != nil { // such as a regular expression that cannot be
		return nil, &tenant.Invalid{Field: "when", Message: err.Error()}
	}
	return p, nil
}

// meets reports whether an expression is true of the change, or why that cannot be said.
func (c *Change) meets(source string) (bool, error) {
	if source == "" {
		return true, nil
	}
	p, err := program(source)
	if err != nil {
		return false, err
	}
	if c.variables == nil {
		c.variables = map[string]any{
			"event.type": c.Type(), "event.subject": c.Subject(), "event.collection": c.Collection, "event.key": c.Key,
			"event.id": c.Key, "event.op": c.Op, "event.topic": c.Topic, "event.source": c.Source, "data": c.value,
		}
	}
	result, _, err := p.Eval(c.variables)
	if err != nil {
		return false, err
	}
	if _, is := result.(types.Bool); !is {
		return false, fmt.Errorf("it is a %s, not a bool", result.Type().TypeName())
	}
	return result == types.True, nil
}

// value is the data of the event for an expression that looks at it: of a webhook or a source it may be no JSON, which is no matter to others.
func (c *Change) value() any {
	data, err := c.Payload()
	if err != nil {
		return types.WrapErr(err)
	}
	parsed, err := c.parsed(data)
	if err != nil {
		return types.WrapErr(fmt.Errorf("read the data of the event: %w", err))
	}
	return parsed
}

// parsed is the data of the event as an expression sees it: what JSON it is, or the fields of a form by name.
func (c *Change) parsed(data []byte) (parsed any, err error) {
	if media, _, _ := strings.Cut(c.ContentType, ";"); strings.EqualFold(strings.TrimSpace(media), "application/x-www-form-urlencoded") {
		form, err := url.ParseQuery(string(data))
		fields := make(map[string]any, len(form))
		for name := range form {
			fields[name] = form.Get(name)
		}
		return fields, err
	}
	if err := docquery.Bounded(data); err != nil {
		return nil, err
	}
	return parsed, json.Unmarshal(data, &parsed)
}

// Takes says why a trigger does not take a change of its kind, as a *tenant.Invalid; nil: it does.
func Takes(t *tenant.Trigger, c *Change, unfit UnfitFunc) error {
	if !c.fits(&t.Filter) {
		field := "collection"
		switch {
		case c.Kind == outbox.KindPubSub:
			field = "topic"
		case c.Kind == outbox.KindSource:
			field = "topic"
		case c.Kind == outbox.KindEmail:
			field = "data"
		case len(t.Filter.Ops) > 0 && t.Filter.TakesCollection(c.Collection, t.Filter.Ops[0]):
			field = "op"
		}
		return &tenant.Invalid{Field: field, Message: "the trigger does not take it, by its filter"}
	}
	is, err := c.meets(t.Filter.When)
	switch {
	case err != nil:
		if unfit != nil {
			unfit(t, c, err)
		}
		return &tenant.Invalid{Field: "data", Message: fmt.Sprintf("the trigger does not take it: %q fails: %v", t.Filter.When, err)}
	case !is:
		return &tenant.Invalid{Field: "data", Message: fmt.Sprintf("the trigger does not take it: %q is false", t.Filter.When)}
	}
	return nil
}
