package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
)

// Command is the body of a request: what the run of it does. Counts are of first attempts, -1 of all.
type Command struct {
	Nonce     string `json:"nonce"` // of one request, known to nobody but the load and the recorder
	Sync      bool   `json:"sync,omitempty"`
	Order     string `json:"order,omitempty"`  // ordering key
	Bounce    string `json:"bounce,omitempty"` // debounce key
	Limit     string `json:"limit,omitempty"`  // concurrency key
	Most      int    `json:"most,omitempty"`   // runs at one time under Limit
	Seq       int    `json:"seq,omitempty"`    // place within Order
	NotBefore int64  `json:"not_before,omitempty"`

	Sleep      int  `json:"sleep,omitempty"` // milliseconds
	Fail       int  `json:"fail,omitempty"`
	Fatal      bool `json:"fatal,omitempty"`
	RetryAfter int  `json:"retry_after,omitempty"` // milliseconds, wished by a failure
	Exit       int  `json:"exit,omitempty"`        // ends the process
	Hang       int  `json:"hang,omitempty"`        // ignores its end
	Answer     int  `json:"answer,omitempty"`      // bytes
	Logs       int  `json:"logs,omitempty"`
	// FailEntry fails until it is put back from the dead letters: for the first entry of its nonce.
	FailEntry bool `json:"fail_entry,omitempty"`
	// Child is sent to a script, ChildOnce under an idempotency key that is the same for every attempt.
	Transfer    *Transfer `json:"transfer,omitempty"`
	Child       *Command  `json:"child,omitempty"`
	ChildScript string    `json:"child_script,omitempty"`
	ChildOnce   bool      `json:"child_once,omitempty"`
}

// hits says whether a count of first attempts covers this one.
func hits(count, attempt int) bool { return count < 0 || attempt <= count }

// Answer is what a run answers.
type Answer struct {
	Nonce   string `json:"nonce"`
	ID      string `json:"id"`
	Attempt int    `json:"attempt"`
	Filling string `json:"filling,omitempty"`
	// Balances are those of the accounts of a transfer.
	Balances Balances `json:"balances,omitzero"`
}

// Engine runs commands and tells the recorder of each run, before it begins and when it has ended. What it does is
// thereby known outside of the platform, whatever becomes of that.
type Engine struct{ recorder string }

// ServeEngine is an engine process.
func ServeEngine(recorder string) {
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 64
	engine.Serve(&Engine{recorder})
}

// Info says that it runs what the platform's own engine does.
func (*Engine) Info() engine.Info {
	return engine.Info{Name: "yaegi", Version: "torture", SDKVersion: picloud.Version, Extensions: []string{".go"}}
}

// Load takes anything.
func (*Engine) Load(context.Context, engine.Bundle) (engine.Loaded, error) {
	return engine.Loaded{}, nil
}

// Unload does nothing.
func (*Engine) Unload(string) {}

// Invoke does what the body says. A run that cannot be reported does not begin.
func (e *Engine) Invoke(ctx context.Context, inv *engine.Invocation, out engine.Reply) error {
	var c Command
	if err := json.Unmarshal(inv.Body, &c); err != nil {
		return fault.New(fault.Invalid, fault.Caller, "no command: %v", err)
	}
	token, err := e.report(ctx, "start", startReport{
		Command: c, ID: inv.ExecutionID, Attempt: inv.Attempt, Engine: os.Getpid(), Node: os.Getppid(),
	})
	switch {
	case ctx.Err() != nil:
		return fault.New(fault.Cancelled, fault.Platform, "told to end before it began")
	case err != nil:
		return fmt.Errorf("report a start: %w", err)
	}
	token, entries, _ := strings.Cut(token, " ")
	if c.FailEntry && entries == "1" {
		c.Fail = -1
	}
	err = e.obey(ctx, c, inv, out)
	end := endReport{Token: token, Outcome: endOK}
	if err != nil {
		end.Outcome = endFailed
	}
	if ctx.Err() != nil {
		end.Outcome = endCancelled
	}
	_, _ = e.report(context.WithoutCancel(ctx), "end", end) // the recorder may be gone with its test
	return err
}

func (e *Engine) obey(ctx context.Context, c Command, inv *engine.Invocation, out engine.Reply) error {
	for i := range c.Logs {
		inv.Log(engine.Log{Time: time.Now(), Level: "info", Message: fmt.Sprintf("line %d of %s", i, c.Nonce)})
	}
	var balances Balances
	switch {
	case c.Transfer != nil:
		var err error
		if balances, err = e.transfer(ctx, &c, inv); err != nil {
			return err
		}
	case c.Child != nil:
		if err := e.send(ctx, c, inv); err != nil {
			return err
		}
	}
	if c.Sleep > 0 {
		timer := time.NewTimer(time.Duration(c.Sleep) * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return fault.New(fault.Cancelled, fault.Platform, "told to end")
		}
	}
	switch {
	case hits(c.Exit, inv.Attempt):
		os.Exit(3)
	case hits(c.Hang, inv.Attempt):
		select {}
	case hits(c.Fail, inv.Attempt) || c.Fatal:
		f := fault.New(fault.ScriptError, fault.Script, "told to fail")
		f.RetryAfter, f.Fatal = time.Duration(c.RetryAfter)*time.Millisecond, c.Fatal
		return f
	}
	if err := out.Head(engine.Head{Status: http.StatusOK}); err != nil {
		return err
	}
	a, err := json.Marshal(Answer{
		Nonce: c.Nonce, ID: inv.ExecutionID, Attempt: inv.Attempt, Filling: string(bytes.Repeat([]byte("x"), c.Answer)), Balances: balances,
	})
	if err != nil {
		return err
	}
	_, err = out.Write(a)
	return err
}

// send has another script run, and tells the recorder once that is sure.
func (e *Engine) send(ctx context.Context, c Command, inv *engine.Invocation) error {
	data, err := json.Marshal(c.Child)
	if err != nil {
		return err
	}
	delivery := map[string]any{}
	if c.ChildOnce {
		delivery["idempotency_key"] = inv.ExecutionID
	}
	args, err := json.Marshal(map[string]any{
		"script": c.ChildScript, "data": string(data), "content_type": "application/json", "delivery": delivery,
	})
	if err != nil {
		return err
	}
	result, err := inv.Call(ctx, "invoke", "send", args)
	if err != nil {
		return err
	}
	var sent struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(result, &sent); err != nil {
		return err
	}
	_, err = e.report(ctx, "sent", sentReport{ID: sent.ID, Child: *c.Child, Once: c.ChildOnce})
	return err
}

// report tells the recorder and returns its word.
func (e *Engine) report(ctx context.Context, what string, report any) (string, error) {
	body, err := json.Marshal(report)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.recorder+"/"+what, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	word, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("the recorder says %s: %s", res.Status, word)
	}
	return string(word), err
}
