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
	}
}
