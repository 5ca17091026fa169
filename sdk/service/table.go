package service

// Services returns the table.
func Services() []Service {
	return []Service{
		{
			Name: "kv", Handle: "collection", Type: "KV", Go: "ctx.KV(collection)",
			Declares: `/** A page of a list, and the cursor of the next; empty: there is none. */
  export interface Page<T> { items: T[]; nextCursor: string }

  /** A value by key, with its version, 0 for none, and when it expires. */
  export interface Item<T> { key: string; value?: T; version: number; expiresAt?: string }`,
			Says: "Values by key, in a collection of the app. A collection needs no making.",
			Methods: []Method{
				{
					Name: "get", Go: "Get(key, &v)", Params: []Param{{Field: "key"}}, Result: "value", TS: "<T = unknown>: T | undefined",
					Says: "The value of a key; nothing if there is none.",
				},
				{
					Name: "entry", Go: "Entry(key)", Call: "get", Params: []Param{{Field: "key"}}, TS: "<T = unknown>: Item<T>",
					Says: "The value of a key with its version and when it expires. Without a value its version is 0.",
				},
				{
					Name: "has", Go: "Has(key)", Params: []Param{{Field: "key"}}, Result: "found", TS: ": boolean",
					Says: "Whether there is a value.",
				},
				{
					Name: "set", Go: "Set(key, v, options)", Params: []Param{
						{Field: "key"},
						{Field: "value", Kind: Value},
						{Field: "ttl_ms", Kind: Duration, Option: true},
						{Field: "if_version", Kind: Number, Option: true},
					}, Result: "version", TS: ": number",
					Says: "Sets the value of a key, and returns its version. With a time to live it is gone after that; with the version that it has to have, 0 for none, the call fails with conflict if it has another.",
				},
				{
					Name: "delete", Go: "Delete(key), DeleteIf(key, version)", Params: []Param{{Field: "key"}, {Field: "if_version", Kind: Number, Option: true}}, Result: "deleted",
					TS: ": boolean", Says: "Deletes a key, and says whether there was a value.",
				},
				{
					Name: "increment", Go: "Increment(key, by, options)", Params: []Param{
						{Field: "key"}, {Field: "by", Kind: Number, Option: true}, {Field: "ttl_ms", Kind: Duration, Option: true},
					}, Result: "value", TS: ": number",
					Says: "Adds to a number, 1 where nothing is said, and returns the sum. A key without a value counts from 0, and lives as long as is said then.",
				},
				{
					Name: "list", Go: "List(options)", Params: []Param{
						{Field: "prefix", Option: true}, {Field: "limit", Kind: Number, Option: true}, {Field: "cursor", Option: true},
					}, TS: "<T = unknown>: Page<Item<T>>",
					Says: "Keys with their values, in order: up to 100, at most 1,000, and the cursor of the next page.",
				},
			},
		},
		{
			Name: "http", Type: "HTTP", Go: "ctx.HTTP",
			Declares: `/** What came back, whatever its status. The body is text, or where it is none bytes in base64. Names of headers are canonical. */
  export interface HTTPResponse { status: number; headers: Record<string, string[]>; body?: string; bodyBase64?: string }`,
			Says: "Requests to the world outside: to public addresses at the ports 80 and 443, and what the instance allows. An answer of any status is no error. Headers are texts or lists of them; a body that is a text is sent as it is, any other value as JSON.",
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
						{Field: "body", Kind: Value, Option: true},
						{Field: "body_base64", Option: true},
						{Field: "timeout_ms", Kind: Duration, Option: true},
					}, TS: ": HTTPResponse", Says: "Makes a request of any method; GET where none is said.",
				},
			},
		},
		{
			Name: "secrets", Type: "Secrets", Go: "ctx.Secrets",
			Says: "Values that only scripts of the app read. What a run has read or set is masked in its logs and errors, from four bytes on.",
			Methods: []Method{
				{
					Name: "get", Go: "Get(name, &v), Text(name)", Params: []Param{{Field: "name"}}, Result: "value", TS: "<T = string>: T | undefined",
					Says: "The value of a secret; nothing if there is none.",
				},
				{
					Name: "set", Go: "Set(name, v)", Params: []Param{{Field: "name"}, {Field: "value", Kind: Value}}, Result: "nothing", TS: ": void",
					Says: "Sets a secret: up to 64 KiB of JSON.",
				},
				{
					Name: "delete", Go: "Delete(name)", Params: []Param{{Field: "name"}}, Result: "deleted", TS: ": boolean",
					Says: "Deletes a secret, and says whether there was one.",
				},
				{Name: "list", Go: "List()", Result: "names", TS: ": string[]", Says: "The names of all secrets."},
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
			{Field: "body", Kind: Value},
			{Field: "headers", Kind: Value, Option: true},
			{Field: "timeout_ms", Kind: Duration, Option: true},
		}, TS: ": HTTPResponse", Says: "Sends a body to a URL.",
	}
}
