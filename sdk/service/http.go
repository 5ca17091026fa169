package service

func httpService() Service {
	return Service{
		Name: "http", Type: "HTTP", Go: "ctx.HTTP",
		Declares: `/** What came back, whatever its status. The body is text, or where it is none, bytes. Names of headers are canonical. */
  export interface HTTPResponse { status: number; headers: Record<string, string[]>; body: string | Uint8Array }`,
		Says: "Requests to the world outside: to public addresses at the ports 80 and 443, and what the instance allows. An answer of any status is no error. Headers are texts or lists of them; a body of text or bytes is sent as it is, any other value as JSON. In JavaScript and Starlark the body of an answer is text, or where it is none, bytes.",
		Methods: []Method{
			fetched("get", "Get(url)", "Fetches a URL. Up to 5 redirects are followed, within 30 seconds or the time that is said."),
			fetched("head", "Head(url)", "Asks for the headers of a URL."),
			fetched("delete", "Delete(url)", "Asks to delete what a URL names."),
			sent("post", "Post(url, body)"), sent("put", "Put(url, body)"), sent("patch", "Patch(url, body)"),
			{
				Name: "request", Go: "Do(&HTTPRequest{Method, URL, Headers, Body, Timeout})", Params: []Param{
					{Field: "url"},
					{Field: "method", Option: true},
					{Field: "headers", Kind: Value, Option: true},
					{Field: "body", Kind: Body, Option: true},
					{Field: "body_base64", Option: true},
					{Field: "timeout_ms", Kind: Duration, Option: true},
				}, TS: ": HTTPResponse", Says: "Makes a request of any method; GET where none is said.",
			},
		},
	}
}

// fetched is a request without a body.
func fetched(name, inGo, says string) Method {
	return Method{
		Name: name, Go: inGo, Params: []Param{
			{Field: "url"}, {Field: "headers", Kind: Value, Option: true}, {Field: "timeout_ms", Kind: Duration, Option: true},
		}, TS: ": HTTPResponse", Says: says,
	}
}

// sent is a request with a body.
func sent(name, inGo string) Method {
	return Method{
		Name: name, Go: inGo, Params: []Param{
			{Field: "url"},
			{Field: "body", Kind: Body},
			{Field: "headers", Kind: Value, Option: true},
			{Field: "timeout_ms", Kind: Duration, Option: true},
		}, TS: ": HTTPResponse", Says: "Sends a body to a URL.",
	}
}
