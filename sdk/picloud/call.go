package picloud

import "time"

// CallOptions say more of a call of another script.
type CallOptions struct {
	Headers Headers
	Timeout time.Duration // zero: the time that the script has; never longer than the run has left
}

// Call has another script of the app run, at most once, and waits for its answer; one of any status is no error. The script sees a
// request with the body: a []byte or a string as it is, nil as nothing, anything else as JSON. While it runs, this run does not count
// as one. Errors are *Error: those of Context.Invoke, and where the script fails that failure, with the script and its execution in
// the message.
func (c *Context) Call(script string, body any, opts ...*CallOptions) (*HTTPResponse, error) {
	if len(opts) > 1 {
		return nil, &Error{Code: InvalidArgument, Message: "more than one CallOptions: a script is called in one way"}
	}
	args := struct {
		Script string `json:"script"`
		httpArgs
	}{Script: script}
	if len(opts) == 1 && opts[0] != nil {
		args.Headers, args.TimeoutMS = opts[0].Headers, milliseconds(opts[0].Timeout)
	}
	if err := args.setBody(c.runtime, body); err != nil {
		return nil, &Error{Code: InvalidArgument, Message: "the body cannot be sent: " + err.Error()}
	}
	var answer httpAnswer
	if err := call(c.runtime, "invoke", "call", args, &answer); err != nil {
		return nil, err
	}
	return answer.response(), nil
}
