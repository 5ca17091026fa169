package service

// invokeService is what is asked of other scripts beside events, which engines send by themselves.
func invokeService() Service {
	return Service{
		Name: "invoke", Plain: true,
		Methods: []Method{{
			Name: "call", Go: "ctx.Call(script, body, &CallOptions{Headers, Timeout})", Params: []Param{
				{Field: "script"},
				{Field: "body", Kind: Value},
				{Field: "headers", Kind: Value, Option: true},
				{Field: "timeout_ms", Kind: Duration, Option: true},
			}, TS: ": HTTPResponse",
			Says: "Has another script of the app run, at most once, and waits for its answer; an answer of any status is no error. The script sees a request with the body: a text as it is, any other value as JSON. It has its own time, or what is said, and never more than the run has left.",
		}},
	}
}
