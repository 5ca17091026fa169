package service

// invokeService is what is asked of other scripts beside events, which engines send by themselves.
func invokeService() Service {
	return Service{
		Name: "invoke", Plain: true,
		Methods: []Method{{
			Name: "call", Go: "ctx.Call(script, body, &CallOptions{Headers, Timeout})", Params: []Param{
				{Field: "script"},
				{Field: "body", Kind: Body},
				{Field: "headers", Kind: Value, Option: true},
				{Field: "timeout_ms", Kind: Duration, Option: true},
			}, TS: ": HTTPResponse",
			Says: "Has another script of the app run, at most once, and waits for its answer; an answer of any status is no error. The script sees a request with the body: text and bytes as they are, any other value as JSON. It has its own time, or what is said, and never more than the run has left.",
		}},
	}
}

// queueService is what is asked of a queue beside sending, which engines do by themselves.
func queueService() Service {
	return Service{
		Name: "queue", Handle: "queue", Sends: true, Type: "Queue",
		Methods: []Method{
			{
				Name: "depth", Go: "Depth()", TS: ": { waiting: number; running: number; oldestAgeMs: number }",
				Says: "How many messages wait and run, counted up to 10,000 of each state, and for how long the oldest has waited.",
			},
			{
				Name: "purge", Go: "Purge()", TS: ": { purged: number; more: boolean }",
				Says: "Ends messages that wait, up to 10,000, with a record that says so. Those that run are left.",
			},
		},
	}
}
